//! What is known of a saga, and how each fact changes it.

use std::collections::BTreeMap;

use chassis::seeded::{self, Bug};
use types::StepName;

pub use super::step::{Back, Forward, Rare, StepState, Why};
use super::{
    definition::Definition,
    event::{Event, Outcome},
    moment::Moment,
};

/// Which way it goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Phase {
    /// Towards completion.
    Forward,
    /// Back to where nothing is left.
    Back,
    /// At its end.
    Ended(Outcome),
}

/// A saga that waits for a person.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ParkedState {
    /// UPPER_SNAKE.
    pub reason: String,
    /// For people.
    pub detail: String,
}

/// All that is known.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct State {
    /// Which way it goes.
    pub phase: Phase,
    /// In the definition's order.
    pub steps: Box<[StepState]>,
    /// From here it only goes forward.
    pub pivot_passed: bool,
    /// Past it, before the pivot, it turns round.
    pub deadline: i64,
    /// Since when a person reviews it: that time does not count.
    pub review_since: Moment,
    /// Somebody wants it taken back.
    pub cancel_requested: Option<Box<str>>,
    /// A person wants it taken back.
    pub compensation_forced: bool,
    /// Why it turned round.
    pub turned: Option<Box<Why>>,
    /// It waits for a person.
    pub parked: Option<Box<ParkedState>>,
    /// When it started and when anything was last heard.
    pub times: (i64, i64),
}

/// In one word, for people and for the row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Label {
    /// Calls are made.
    Running,
    /// Waits for somebody outside.
    Waiting,
    /// Goes back.
    Compensating,
    /// At its end, all done.
    Completed,
    /// At its end, all made good.
    Compensated,
    /// Waits for a person.
    Parked,
}

impl Label {
    /// As the row stores it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Running => "RUNNING",
            Self::Waiting => "WAITING",
            Self::Compensating => "COMPENSATING",
            Self::Completed => "COMPLETED",
            Self::Compensated => "COMPENSATED",
            Self::Parked => "PARKED",
        }
    }
}

/// An event that this state cannot take.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a saga in {phase:?} cannot take {event}")]
pub struct IllegalEvent {
    /// Where it stands.
    pub phase: Phase,
    /// What came.
    pub event: String,
}

impl State {
    /// Begins with a `Started` event.
    ///
    /// # Errors
    /// `IllegalEvent` for any other.
    pub fn start(event: &Event, at: i64) -> Result<Self, IllegalEvent> {
        let Event::Started { steps, skipped, deadline, .. } = event else {
            return Err(IllegalEvent { phase: Phase::Forward, event: format!("{event:?} as its first") });
        };
        let steps = steps.iter().map(|name| StepState::new(name.clone(), skipped.contains(name))).collect();
        Ok(Self {
            phase: Phase::Forward,
            steps,
            pivot_passed: false,
            deadline: *deadline,
            review_since: Moment::NEVER,
            cancel_requested: None,
            compensation_forced: false,
            turned: None,
            parked: None,
            times: (at, at),
        })
    }

    /// Takes a saga back from its journal. An earlier owner may have called anything, and may still: every step counts
    /// as called.
    ///
    /// # Errors
    /// `IllegalEvent` when the journal is not one.
    pub fn load<'e>(mut journal: impl Iterator<Item = (&'e Event, i64)>) -> Result<Self, IllegalEvent> {
        let none = || IllegalEvent { phase: Phase::Forward, event: "an empty journal".into() };
        let (first, at) = journal.next().ok_or_else(none)?;
        let mut state = Self::start(first, at)?;
        for (event, at) in journal {
            state.apply(event, at)?;
        }
        for step in &mut state.steps {
            step.called = step.times().is_some() || !seeded::is(Bug::StaleOwnerForgotten);
        }
        Ok(state)
    }

    /// Shares the names of its steps with its definition: those that came from a journal are its own.
    pub fn share_names(&mut self, definition: &Definition) {
        for (step, definition) in self.steps.iter_mut().zip(&definition.steps) {
            if step.name == definition.name {
                step.name = definition.name.clone();
            }
        }
    }

    /// The position of a step.
    #[must_use]
    pub fn position(&self, name: &StepName) -> Option<usize> {
        self.steps.iter().position(|s| s.name == *name)
    }

    /// Changes the state by a fact. Facts that come twice or too late change nothing and are legal; an end never
    /// changes.
    ///
    /// # Errors
    /// `IllegalEvent` for what cannot happen: a second start, a fact about a step that is not there, a decision against
    /// the phase, anything but a late answer after the end.
    pub fn apply(&mut self, event: &Event, at: i64) -> Result<(), IllegalEvent> {
        let position = event.step().map(|name| self.position(name).ok_or(()));
        let illegal = |state: &Self| IllegalEvent { phase: state.phase, event: format!("{event:?}") };
        let step = match position {
            None => None,
            Some(Ok(position)) => Some(position),
            Some(Err(())) => return Err(illegal(self)),
        };
        if let Phase::Ended(_) = self.phase {
            return if is_late_word(event) { Ok(()) } else { Err(illegal(self)) };
        }
        let taken = match step {
            Some(position) => self.apply_to_step(position, event, at),
            None => self.apply_to_saga(event),
        };
        if !taken {
            return Err(illegal(self));
        }
        self.times.1 = self.times.1.max(at);
        if let Some(step) = step.and_then(|position| self.steps.get_mut(position)) {
            step.hear(at);
        }
        Ok(())
    }

    fn apply_to_saga(&mut self, event: &Event) -> bool {
        match event {
            Event::CancelRequested { reason } => {
                self.cancel_requested.get_or_insert_with(|| reason.as_str().into());
                true
            }
            Event::CompensationForced { .. } => {
                let possible = self.phase == Phase::Forward && !self.pivot_passed;
                if possible {
                    self.compensation_forced = true;
                    self.parked = None;
                }
                possible
            }
            Event::TurnedRound { reason, metadata, take_back } => {
                self.turn_round(reason, metadata, take_back)
            }
            Event::PivotPassed => {
                let possible = self.phase == Phase::Forward && !self.pivot_passed;
                self.pivot_passed = true;
                possible
            }
            Event::Parked { reason, detail } => {
                let parked = ParkedState { reason: reason.clone(), detail: detail.clone() };
                self.parked = Some(Box::new(parked));
                true
            }
            Event::Retried { .. } => {
                self.parked = None;
                self.freshen();
                true
            }
            Event::Finished { outcome } => {
                let possible = match outcome {
                    Outcome::Completed => self.phase == Phase::Forward,
                    Outcome::Compensated => self.phase == Phase::Back,
                };
                if possible {
                    self.phase = Phase::Ended(*outcome);
                    self.parked = None;
                }
                possible
            }
            Event::Started { .. }
            | Event::AttemptFailed { .. }
            | Event::StepPending { .. }
            | Event::StepDone { .. }
            | Event::StepRefused { .. }
            | Event::StepFenced { .. }
            | Event::CommandSent { .. }
            | Event::CommandAnswered { .. }
            | Event::CommandDead { .. }
            | Event::Resolved { .. } => false,
        }
    }

    fn turn_round(
        &mut self,
        reason: &str,
        metadata: &BTreeMap<String, String>,
        take_back: &[StepName],
    ) -> bool {
        if self.phase != Phase::Forward || self.pivot_passed {
            return false;
        }
        self.phase = Phase::Back;
        self.turned = Some(Box::new(Why { reason: reason.to_owned(), metadata: metadata.clone() }));
        self.parked = None;
        for step in &mut self.steps {
            if take_back.contains(&step.name) {
                step.want_back();
            }
        }
        true
    }

    /// Gives every unfinished step and command a fresh budget.
    fn freshen(&mut self) {
        for step in &mut self.steps {
            if matches!(step.forward, Forward::Idle | Forward::Pending { .. } | Forward::Fenced) {
                step.freshen();
                if step.forward == Forward::Fenced && self.phase == Phase::Forward {
                    step.forward = Forward::Idle;
                }
            }
            if matches!(step.back(), Back::Parked { .. } | Back::Sent { .. }) {
                step.want_back();
                step.forget_sent();
            }
        }
        if self.phase == Phase::Forward && self.pivot_passed {
            // It cannot go back, so what was refused is asked for again.
            let refused = self.steps.iter_mut().filter(|step| matches!(step.forward, Forward::Refused(_)));
            refused.for_each(|step| {
                step.forward = Forward::Idle;
                step.freshen();
            });
        }
    }

    /// Whether a person may give this step's outcome, or that of its compensation: it has none yet, or, after the pivot,
    /// a refusal that leads nowhere.
    #[must_use]
    pub fn may_resolve(&self, position: usize, compensation: bool) -> bool {
        let Some(step) = self.steps.get(position) else { return false };
        if compensation {
            return *step.back() != Back::None && !step.is_taken_back();
        }
        let leads_nowhere = self.pivot_passed && matches!(step.forward, Forward::Refused(_));
        self.phase == Phase::Forward && (!step.is_final() || leads_nowhere)
    }

    /// Why it waits for a person though the saga itself is not parked: a compensation is.
    #[must_use]
    pub fn parked_back(&self) -> Option<String> {
        self.steps.iter().find_map(|step| match step.back() {
            Back::Parked { reason } => Some(format!("COMPENSATION_FAILED: {}: {reason}", step.name)),
            Back::None | Back::Wanted | Back::Sent { .. } | Back::Done | Back::NotApplied => None,
        })
    }

    fn apply_to_step(&mut self, position: usize, event: &Event, at: i64) -> bool {
        let replaces_refusal = matches!(event, Event::Resolved { compensation: false, .. })
            && self.pivot_passed
            && self.phase == Phase::Forward;
        let Some(step) = self.steps.get_mut(position) else { return false };
        if replaces_refusal && matches!(step.forward, Forward::Refused(_)) {
            step.forward = Forward::Idle;
        }
        let was_in_review = matches!(&step.forward, Forward::Pending { action, .. } if &**action == "REVIEW");
        if !step.apply(event, at) {
            return false;
        }
        let is_in_review = matches!(&step.forward, Forward::Pending { action, .. } if &**action == "REVIEW");
        match (was_in_review, is_in_review, self.review_since.get()) {
            (false, true, None) => self.review_since = Moment::at(at),
            (true, false, Some(since)) => {
                self.deadline = self.deadline.saturating_add((at - since).max(0));
                self.review_since = Moment::NEVER;
            }
            _ => {}
        }
        if matches!(event, Event::Resolved { .. }) {
            self.parked = None;
        }
        true
    }

    /// In one word.
    #[must_use]
    pub fn label(&self) -> Label {
        let waits = self.steps.iter().any(|s| matches!(s.forward, Forward::Pending { .. }));
        match (self.phase, &self.parked) {
            (Phase::Ended(Outcome::Completed), _) => Label::Completed,
            (Phase::Ended(Outcome::Compensated), _) => Label::Compensated,
            (_, Some(_)) => Label::Parked,
            (Phase::Forward, None) if waits => Label::Waiting,
            (Phase::Forward, None) => Label::Running,
            (Phase::Back, None) if self.steps.iter().any(|s| matches!(s.back(), Back::Parked { .. })) => {
                Label::Parked
            }
            (Phase::Back, None) => Label::Compensating,
        }
    }
}

/// What may still be said after the end without changing it.
fn is_late_word(event: &Event) -> bool {
    match event {
        Event::AttemptFailed { .. }
        | Event::StepPending { .. }
        | Event::StepDone { .. }
        | Event::StepRefused { .. }
        | Event::StepFenced { .. }
        | Event::CommandAnswered { .. }
        | Event::CommandDead { .. }
        | Event::CancelRequested { .. } => true,
        Event::Started { .. }
        | Event::TurnedRound { .. }
        | Event::CommandSent { .. }
        | Event::PivotPassed
        | Event::Parked { .. }
        | Event::Retried { .. }
        | Event::CompensationForced { .. }
        | Event::Resolved { .. }
        | Event::Finished { .. } => false,
    }
}
