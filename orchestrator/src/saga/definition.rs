//! A definition: the ordered table of a saga kind's stages. It is data; the engine knows no kind.

use types::StepName;

/// How often and how long a step is tried. The count is in the state, the sleep in the driver.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retry {
    /// Attempts at most; 0 means for ever.
    pub budget: u32,
    /// The longest wait before the second attempt, in milliseconds. Doubles from there; each wait is drawn from zero to
    /// it (full jitter).
    pub first_ms: i64,
    /// No wait is longer, in milliseconds.
    pub cap_ms: i64,
}

impl Retry {
    /// The longest wait after `attempts` failed ones, in milliseconds.
    #[must_use]
    pub fn longest_wait(&self, attempts: u32) -> i64 {
        let doubled = self.first_ms.saturating_mul(1_i64 << attempts.saturating_sub(1).min(32));
        doubled.min(self.cap_ms)
    }
}

/// What a step leaves behind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StepKind {
    /// An effect that a command takes back.
    Compensated {
        /// The command's name, as in `Release`.
        command: &'static str,
        /// The command declares the end: it goes last and needs every other one answered.
        declares_end: bool,
    },
    /// Nothing: there is nothing to take back.
    Harmless,
    /// Nothing, but it may keep somebody waiting: when the saga turns round while it is pending, or called and not
    /// answered, its participant is told once, and nobody waits for an answer.
    Withdrawn {
        /// The message's name, as in `Withdraw`.
        message: &'static str,
    },
    /// The step is itself the pivot: once called, only its stored refusal turns the saga round.
    Pivot,
    /// After the pivot: an effect that stays. It cannot refuse.
    Final,
}

/// One step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StepDef {
    /// Unique in its definition.
    pub name: StepName,
    /// Whose it is, as in `inventory`.
    pub participant: &'static str,
    /// Steps of a stage run side by side; stages count from 0.
    pub stage: usize,
    /// What it leaves behind.
    pub kind: StepKind,
    /// When to try again.
    pub retry: Retry,
    /// How long one call may take, in milliseconds.
    pub call_ms: i64,
}

impl StepDef {
    /// The command that takes it back, if any.
    #[must_use]
    pub fn command(&self) -> Option<&'static str> {
        match &self.kind {
            StepKind::Compensated { command, .. } => Some(command),
            StepKind::Harmless | StepKind::Withdrawn { .. } | StepKind::Pivot | StepKind::Final => None,
        }
    }

    /// Whether its command declares the end.
    #[must_use]
    pub fn declares_end(&self) -> bool {
        matches!(self.kind, StepKind::Compensated { declares_end: true, .. })
    }
}

/// A saga kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Definition {
    /// As in `order`.
    pub kind: &'static str,
    /// Counts up; old ones stay in the registry while a row uses them.
    pub version: u32,
    /// In the order of their stages.
    pub steps: Vec<StepDef>,
    /// Stages before this one come before the pivot.
    pub pivot: usize,
    /// How long it may go forward before the pivot, in milliseconds; time under review is not counted.
    pub deadline_ms: i64,
    /// How long a command may stay unanswered before it is sent again, in milliseconds; doubles up to ten times that.
    pub answer_ms: i64,
}

/// Why a definition cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DefinitionError {
    /// No steps, or a stage without any, or stages out of order.
    #[error("the stages are not 0, 1, 2, … in order")]
    Stages,
    /// Two steps with one name.
    #[error("step {0} is there twice")]
    Twice(StepName),
    /// An effect before the pivot that nothing takes back.
    #[error("step {0} leaves an effect before the pivot and has no compensation")]
    Uncompensated(StepName),
    /// A step after the pivot that could refuse or would be taken back.
    #[error("step {0} stands after the pivot and could refuse")]
    Refusable(StepName),
    /// A pivot step that does not stand alone in the last stage before the pivot.
    #[error("step {0} is the pivot but does not stand alone in the last stage before it")]
    Pivot(StepName),
}

impl Definition {
    /// How many stages there are.
    #[must_use]
    pub fn stages(&self) -> usize {
        self.steps.last().map_or(0, |s| s.stage + 1)
    }

    /// The position of a step.
    #[must_use]
    pub fn position(&self, name: &StepName) -> Option<usize> {
        self.steps.iter().position(|s| s.name == *name)
    }

    /// A fingerprint of everything that decides how a saga goes: stored with each saga, so that a changed table under an
    /// old version is noticed. FNV-1a over the debug form of the table.
    #[must_use]
    pub fn hash(&self) -> i64 {
        let text = format!("{}/{}/{}/{:?}", self.kind, self.version, self.pivot, self.shape());
        let hash = text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
        });
        hash.cast_signed()
    }

    fn shape(&self) -> Vec<(&StepName, &str, usize, &StepKind)> {
        // Timing may be tuned without a new version: it changes when, never what.
        self.steps.iter().map(|s| (&s.name, s.participant, s.stage, &s.kind)).collect()
    }

    /// # Errors
    /// The first rule that it breaks. A definition that breaks one does not start.
    pub fn check(&self) -> Result<(), DefinitionError> {
        let mut stage = 0;
        if self.steps.first().is_none_or(|s| s.stage != 0) {
            return Err(DefinitionError::Stages);
        }
        for (i, step) in self.steps.iter().enumerate() {
            if step.stage != stage && step.stage != stage + 1 {
                return Err(DefinitionError::Stages);
            }
            stage = step.stage;
            if self.steps[..i].iter().any(|s| s.name == step.name) {
                return Err(DefinitionError::Twice(step.name.clone()));
            }
            self.check_side(step)?;
        }
        if self.pivot > self.stages() { Err(DefinitionError::Stages) } else { Ok(()) }
    }

    fn check_side(&self, step: &StepDef) -> Result<(), DefinitionError> {
        let before = step.stage < self.pivot;
        match step.kind {
            StepKind::Compensated { .. } | StepKind::Harmless | StepKind::Withdrawn { .. } if before => {
                Ok(())
            }
            StepKind::Compensated { .. } | StepKind::Harmless | StepKind::Withdrawn { .. } => {
                Err(DefinitionError::Refusable(step.name.clone()))
            }
            StepKind::Final if before => Err(DefinitionError::Uncompensated(step.name.clone())),
            StepKind::Final => Ok(()),
            StepKind::Pivot => {
                let alone = self.steps.iter().filter(|s| s.stage == step.stage).count() == 1;
                if alone && step.stage + 1 == self.pivot {
                    Ok(())
                } else {
                    Err(DefinitionError::Pivot(step.name.clone()))
                }
            }
        }
    }
}
