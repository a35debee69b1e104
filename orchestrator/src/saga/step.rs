//! What is known of one step, and how each fact about it changes that.

use std::{collections::BTreeMap, fmt, ops::Deref};

use types::StepName;

use super::{
    event::{Event, Resolution},
    moment::Moment,
};

/// Why something went the other way.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Why {
    /// UPPER_SNAKE.
    pub reason: String,
    /// Details.
    pub metadata: BTreeMap<String, String>,
}

/// A text that hardly any step has: one pointer wide.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Rare(Box<Box<str>>);

impl From<&str> for Rare {
    fn from(text: &str) -> Self {
        Self(Box::new(text.into()))
    }
}

impl Deref for Rare {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Rare {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self)
    }
}

/// What is known of a step's forward action. A hundred thousand sagas may wait in memory with seven of these: what is rare is
/// boxed.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Forward {
    /// No answer yet.
    Idle,
    /// The participant needs time.
    Pending {
        /// To be asked again then.
        until: i64,
        /// Whom it waits for.
        action: Rare,
    },
    /// Done.
    Done {
        /// What it gave.
        output: Box<str>,
    },
    /// Refused for ever.
    Refused(Box<Why>),
    /// Its compensation came first.
    Fenced,
    /// Not part of this saga.
    Skipped,
}

/// What is known of a step's compensation.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub enum Back {
    /// Not wanted.
    #[default]
    None,
    /// Wanted, and not sent yet.
    Wanted,
    /// Sent, not answered.
    Sent {
        /// When it left.
        at: i64,
    },
    /// Taken back.
    Done,
    /// There was nothing to take back.
    NotApplied,
    /// Waits for a person; the others go on.
    Parked {
        /// Why.
        reason: Rare,
    },
}

impl Back {
    /// When the command left that is not answered yet.
    #[must_use]
    pub fn sent_at(&self) -> Option<i64> {
        match self {
            Self::Sent { at } => Some(*at),
            Self::None | Self::Wanted | Self::Done | Self::NotApplied | Self::Parked { .. } => None,
        }
    }
}

/// One step.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct StepState {
    /// Its name.
    pub name: StepName,
    /// Its action.
    pub forward: Forward,
    /// Attempts spent.
    pub attempts: u32,
    /// One attempt may have happened without an answer; only a final outcome clears it.
    pub doubt: bool,
    /// What most steps never have.
    trouble: Option<Box<Trouble>>,
    /// First and last time anything was heard of it.
    heard: (Moment, Moment),
    /// Memory only: it may have been called. True for every step of a saga that was loaded.
    pub called: bool,
    /// Memory only: a call is under way.
    pub calling: bool,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
struct Trouble {
    /// Why the last attempt brought nothing.
    last_failure: Box<str>,
    /// Not to be called before.
    not_before: i64,
    /// Its compensation.
    back: Back,
    /// The message ids of the commands sent since it last had a fresh budget.
    sent: Vec<String>,
    /// Commands sent, ever.
    commands: u32,
}

impl StepState {
    /// A step of which nothing was heard.
    pub(super) fn new(name: StepName, is_skipped: bool) -> Self {
        Self {
            name,
            forward: if is_skipped { Forward::Skipped } else { Forward::Idle },
            attempts: 0,
            doubt: false,
            trouble: None,
            heard: (Moment::NEVER, Moment::NEVER),
            called: false,
            calling: false,
        }
    }

    /// First and last time anything was heard of it.
    #[must_use]
    pub fn times(&self) -> Option<(i64, i64)> {
        self.heard.0.get().zip(self.heard.1.get())
    }

    /// Something was heard of it.
    pub(super) fn hear(&mut self, at: i64) {
        let first = self.heard.0.get().unwrap_or(at);
        self.heard = (Moment::at(first), Moment::at(at));
    }

    /// What is known of its compensation.
    #[must_use]
    pub fn back(&self) -> &Back {
        self.trouble.as_ref().map_or(&Back::None, |trouble| &trouble.back)
    }

    /// Its compensation is wanted, and not sent yet.
    pub(super) fn want_back(&mut self) {
        self.trouble().back = Back::Wanted;
    }

    /// Not to be called before; 0 where nothing says so.
    #[must_use]
    pub fn not_before(&self) -> i64 {
        self.trouble.as_ref().map_or(0, |trouble| trouble.not_before)
    }

    /// Has a fresh budget, and may be called at once.
    pub(super) fn freshen(&mut self) {
        self.attempts = 0;
        if let Some(trouble) = &mut self.trouble {
            trouble.not_before = 0;
        }
        self.forget_nothing();
    }

    /// Why the last attempt brought nothing; empty when none did.
    #[must_use]
    pub fn last_failure(&self) -> &str {
        self.trouble.as_ref().map_or("", |trouble| &trouble.last_failure)
    }

    /// Commands sent.
    #[must_use]
    pub fn commands(&self) -> u32 {
        self.trouble.as_ref().map_or(0, |trouble| trouble.commands)
    }

    /// The message id of the command that was sent last.
    #[must_use]
    pub fn last_sent(&self) -> Option<&str> {
        self.trouble.as_ref()?.sent.last().map(String::as_str)
    }

    fn trouble(&mut self) -> &mut Trouble {
        self.trouble.get_or_insert_default()
    }

    /// The death of a command that was sent until now says nothing any more.
    pub(super) fn forget_sent(&mut self) {
        if let Some(trouble) = &mut self.trouble {
            trouble.sent.clear();
        }
    }

    /// So that states that say the same are the same.
    fn forget_nothing(&mut self) {
        self.trouble.take_if(|trouble| **trouble == Trouble::default());
    }

    /// Whether the action has a final outcome.
    #[must_use]
    pub fn is_final(&self) -> bool {
        matches!(self.forward, Forward::Done { .. } | Forward::Refused(_) | Forward::Skipped)
    }

    /// Whether its compensation was answered.
    #[must_use]
    pub fn is_taken_back(&self) -> bool {
        matches!(self.back(), Back::Done | Back::NotApplied)
    }

    /// Whether the death of this command says that the compensation fails. It may have been sent again meanwhile, and the
    /// ladder of a message outlasts that: the death of any command since the last fresh budget counts while none is
    /// answered.
    #[must_use]
    pub fn is_failed_by(&self, command: &str) -> bool {
        let was_sent = |trouble: &Trouble| trouble.sent.iter().any(|sent| sent == command);
        matches!(self.back(), Back::Sent { .. }) && self.trouble.as_deref().is_some_and(was_sent)
    }

    /// Changes it by a fact about it. False for a fact that it cannot take.
    pub(super) fn apply(&mut self, event: &Event, at: i64) -> bool {
        if self.forward == Forward::Skipped {
            return false;
        }
        match event {
            Event::AttemptFailed { doubt, spent, reason, not_before, .. } => {
                self.calling = false;
                self.doubt |= doubt & !self.is_final();
                self.attempts += u32::from(*spent);
                let trouble = self.trouble();
                trouble.not_before = *not_before;
                trouble.last_failure = reason.as_str().into();
                self.forget_nothing();
            }
            Event::StepPending { until, action, .. } => {
                self.wait(Forward::Pending { until: *until, action: action.as_str().into() })
            }
            Event::StepFenced { .. } => self.wait(Forward::Fenced),
            Event::StepDone { output, .. } => self.conclude(Forward::Done { output: output.as_str().into() }),
            Event::StepRefused { reason, metadata, .. } => {
                let why = Why { reason: reason.clone(), metadata: metadata.clone() };
                self.conclude(Forward::Refused(Box::new(why)));
            }
            Event::CommandSent { message_id, .. } => {
                if !self.is_taken_back() {
                    let trouble = self.trouble();
                    trouble.back = Back::Sent { at };
                    trouble.commands += 1;
                    trouble.sent.push(message_id.clone());
                }
            }
            Event::CommandAnswered { applied, .. } => {
                if *self.back() != Back::None && !self.is_taken_back() {
                    self.trouble().back = if *applied { Back::Done } else { Back::NotApplied };
                }
            }
            // A death counts only while the step is unanswered.
            Event::CommandDead { reason, .. } => {
                if matches!(self.back(), Back::Sent { .. } | Back::Wanted) {
                    self.trouble().back = Back::Parked { reason: reason.as_str().into() };
                }
            }
            Event::Resolved { compensation, resolution, output, actor, reason, .. } => {
                return self.resolve(*compensation, *resolution, output, (actor, reason));
            }
            Event::Started { .. }
            | Event::CancelRequested { .. }
            | Event::TurnedRound { .. }
            | Event::PivotPassed
            | Event::Parked { .. }
            | Event::Retried { .. }
            | Event::CompensationForced { .. }
            | Event::Finished { .. } => return false,
        }
        true
    }

    fn wait(&mut self, forward: Forward) {
        self.calling = false;
        if !self.is_final() {
            self.forward = forward;
        }
    }

    /// The first final outcome stays.
    fn conclude(&mut self, outcome: Forward) {
        self.calling = false;
        if !self.is_final() {
            self.doubt = false;
            self.forward = outcome;
        }
    }

    fn resolve(
        &mut self,
        compensation: bool,
        resolution: Resolution,
        output: &str,
        said: (&String, &String),
    ) -> bool {
        match (compensation, resolution) {
            (false, Resolution::Done) => self.conclude(Forward::Done { output: output.into() }),
            (false, Resolution::Refused) => {
                let (actor, why) = said;
                let metadata =
                    BTreeMap::from([("actor".to_owned(), actor.clone()), ("why".to_owned(), why.clone())]);
                self.conclude(Forward::Refused(Box::new(Why { reason: "RESOLVED".into(), metadata })));
            }
            (true, Resolution::Done) => return self.resolve_back(Back::Done),
            (true, Resolution::NotApplied) => return self.resolve_back(Back::NotApplied),
            (false, Resolution::NotApplied) | (true, Resolution::Refused) => return false,
        }
        true
    }

    fn resolve_back(&mut self, outcome: Back) -> bool {
        let possible = *self.back() != Back::None && !self.is_taken_back();
        if possible {
            self.trouble().back = outcome;
        }
        possible
    }
}
