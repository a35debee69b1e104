//! A process that drives the saga, or believes so: what `driver.rs` and `driver/live.rs` do, without clocks and ids.
//!
//! It decides by [`next`] alone, applies by [`State`] alone, and keeps the driver's rules: at most one commit in flight,
//! decisions go at once with all facts before them, and nothing is called while a decision is not durable.

use std::{collections::BTreeMap, sync::Arc};

use super::{
    bounds::{Model, Mutation},
    world::{Breach, Clock, Unseen, World},
};
use crate::saga::{Back, Event, Forward, Move, Phase, State, next, waits_for_facts, withdrawals};

/// Later than anything.
pub(super) const FAR: i64 = i64::MAX / 4;

/// What a participant answered to a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Reply {
    Done,
    Refused,
    Pending,
    Fenced,
    /// It found nothing to close.
    Impossible,
}

/// Where a commit is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Wire {
    /// Sent.
    Sent,
    /// Its reply is lost: it is to be read again.
    Lost,
}

/// A commit on its way.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Commit {
    pub(super) epoch: u8,
    /// The version that it was decided at.
    pub(super) version: u8,
    pub(super) decision: bool,
    /// The state with it; the events that lead there are told by it and the journal.
    pub(super) after: Arc<State>,
    pub(super) events: Unseen<Arc<Vec<Event>>>,
}

/// What is recorded and not committed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Holds {
    Nothing,
    Progress,
    Decision,
}

/// A process that drives the saga, or believes so.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Owner {
    pub(super) epoch: u8,
    pub(super) version: u8,
    pub(super) state: Arc<State>,
    pub(super) holds: Holds,
    pub(super) events: Unseen<Vec<Event>>,
    pub(super) flight: Option<(Commit, Wire)>,
    /// Per step: the answer of the call under way, once the participant has given it.
    pub(super) replies: Vec<Option<Reply>>,
}

impl Owner {
    pub(super) fn fresh(epoch: u8, version: u8, state: State) -> Self {
        let replies = vec![None; state.steps.len()];
        Self {
            epoch,
            version,
            state: Arc::new(state),
            holds: Holds::Nothing,
            events: Unseen(Vec::new()),
            flight: None,
            replies,
        }
    }

    /// Takes a saga from its journal.
    pub(super) fn load(model: &Model, world: &World, epoch: u8) -> Self {
        let journal = world.journal.0.iter().map(|event| (event, 0));
        let mut state = State::load(journal).expect("what was written was legal");
        if model.is(Mutation::ForgetsCalls) {
            state.steps.iter_mut().for_each(|step| step.called = false);
        }
        Self::fresh(epoch, world.version, state)
    }

    /// Calls that left with this owner and that nobody has answered: they may still arrive.
    pub(super) fn under_way(&self) -> u8 {
        let steps = self.state.steps.iter().zip(&self.replies).enumerate();
        steps
            .filter(|(_, (step, reply))| step.calling && reply.is_none())
            .fold(0, |bits, (position, _)| bits | 1 << position)
    }

    pub(super) fn record(&mut self, world: &mut World, event: Event) {
        if Arc::make_mut(&mut self.state).apply(&event, 0).is_err() {
            return world.breach(Breach::Illegal);
        }
        let holds = if event.is_critical() { Holds::Decision } else { Holds::Progress };
        self.holds = self.holds.max(holds);
        self.events.0.push(event);
    }

    fn step_mut(&mut self, step: usize) -> &mut crate::saga::StepState {
        &mut Arc::make_mut(&mut self.state).steps[step]
    }

    /// Hears what a call came to.
    pub(super) fn returned(&mut self, model: &Model, world: &mut World, step: usize, heard: Heard) {
        self.replies[step] = None;
        let was = &self.state.steps[step];
        if was.is_final() {
            // As the driver: a settlement came first and ended the call.
            self.step_mut(step).calling = false;
            return;
        }
        let name = was.name.clone();
        let failed = |doubt| Event::AttemptFailed {
            step: name.clone(),
            doubt,
            spent: true,
            reason: String::new(),
            not_before: Clock::Waited.now(),
        };
        let event = match heard {
            Heard::Reply(Reply::Done, _) => Event::StepDone { step: name, output: String::new() },
            Heard::Reply(Reply::Refused, _) => refused(name),
            Heard::Reply(Reply::Pending, soon) => Event::StepPending {
                step: name,
                until: if soon { Clock::Waited.now() } else { FAR },
                action: "SETTLEMENT".into(),
            },
            Heard::Reply(Reply::Fenced, _) => Event::StepFenced { step: name },
            Heard::Reply(Reply::Impossible, _) => failed(false),
            Heard::Nothing => failed(true),
        };
        let goes_on = self.state.phase == Phase::Forward;
        if !goes_on && matches!(event, Event::AttemptFailed { .. } | Event::StepPending { .. }) {
            self.step_mut(step).calling = false;
            return;
        }
        self.record(world, event);
        if heard == Heard::Nothing && model.is(Mutation::ForgetsDoubt) {
            self.step_mut(step).called = false;
        }
    }

    /// Asks what follows, decides, commits, calls.
    pub(super) fn advance(&mut self, model: &Model, world: &mut World) {
        let calls = self.decide(model, world);
        self.commit();
        for step in calls {
            let is_behind = self.holds != Holds::Nothing || self.flight.is_some();
            if is_behind && waits_for_facts(&model.definition, step) && !model.is(Mutation::HastyPivot) {
                self.commit_progress();
            } else if self.may_call(model) {
                let step = self.step_mut(step);
                (step.called, step.calling) = (true, true);
            }
        }
    }

    fn may_call(&self, model: &Model) -> bool {
        let in_flight = self.flight.as_ref().is_some_and(|(commit, _)| commit.decision);
        model.is(Mutation::HastyCalls) || !(in_flight || self.holds == Holds::Decision)
    }

    fn decide(&mut self, model: &Model, world: &mut World) -> Vec<usize> {
        for _ in 0..16 {
            let mut calls = Vec::new();
            let before = self.events.0.len();
            for one in self.moves(model, world.clock.now()) {
                match one {
                    Move::Call(step) => calls.push(step),
                    Move::WaitUntil(_) => {}
                    other => self.perform(model, world, other),
                }
            }
            if self.events.0.len() == before {
                return calls;
            }
        }
        panic!("decides without end: {self:?}")
    }

    fn moves(&self, model: &Model, now: i64) -> Vec<Move> {
        let sent = self.state.steps.iter().all(|step| *step.back() != Back::Wanted);
        if model.is(Mutation::EndsUnanswered) && self.state.phase == Phase::Back && sent {
            return vec![Move::Finish(crate::saga::Outcome::Compensated)];
        }
        next(&model.definition, &self.state, now)
    }

    fn perform(&mut self, model: &Model, world: &mut World, one: Move) {
        let steps = &model.definition.steps;
        match one {
            Move::Call(_) | Move::WaitUntil(_) => {}
            Move::PassPivot => self.record(world, Event::PivotPassed),
            Move::TurnRound { reason, metadata, take_back } => {
                let take_back = take_back.into_iter().map(|step| steps[step].name.clone()).collect();
                self.record(world, Event::TurnedRound { reason, metadata, take_back });
            }
            Move::Finish(outcome) => self.record(world, Event::Finished { outcome }),
            Move::Park { reason, detail } => {
                self.record(world, Event::Parked { reason: reason.to_owned(), detail });
            }
            Move::Compensate(step) => {
                let number = self.state.steps[step].commands() + 1;
                let step_name = steps[step].name.clone();
                self.record(world, Event::CommandSent { step: step_name, message_id: number.to_string() });
                if model.is(Mutation::HastyCommands) {
                    world.commanded |= 1 << step;
                }
            }
        }
    }

    /// Sends every command that is not answered once more.
    pub(super) fn resend(&mut self, model: &Model, world: &mut World) {
        for one in next(&model.definition, &self.state, FAR) {
            if let Move::Compensate(_) = one {
                self.perform(model, world, one);
            }
        }
    }

    fn commit(&mut self) {
        if self.holds == Holds::Decision {
            self.commit_progress();
        }
    }

    /// What waited for a commit has waited long enough.
    pub(super) fn commit_progress(&mut self) {
        if self.flight.is_some() || self.holds == Holds::Nothing {
            return;
        }
        let commit = Commit {
            epoch: self.epoch,
            version: self.version,
            decision: self.holds == Holds::Decision,
            after: Arc::clone(&self.state),
            events: Unseen(Arc::new(std::mem::take(&mut self.events.0))),
        };
        self.holds = Holds::Nothing;
        self.flight = Some((commit, Wire::Sent));
    }

    /// What a signal says to it, as a fact; none when it says nothing new.
    pub(super) fn fact(&self, model: &Model, said: Said) -> Option<Event> {
        let may_turn = self.state.phase == Phase::Forward && !self.state.pivot_passed;
        let name = |step: usize| model.definition.steps[step].name.clone();
        match said {
            Said::Cancel => (may_turn && self.state.cancel_requested.is_none())
                .then(|| Event::CancelRequested { reason: String::new() }),
            Said::Force => (may_turn && !self.state.compensation_forced)
                .then(|| Event::CompensationForced { actor: String::new(), reason: String::new() }),
            Said::Retry => {
                let held = self.events.0.iter().any(|event| matches!(event, Event::Retried { .. }));
                let is_parked = self.state.label() == crate::saga::Label::Parked && !held;
                is_parked.then(|| Event::Retried { actor: String::new(), reason: String::new() })
            }
            Said::Answered(step, applied) => {
                let state = &self.state.steps[step];
                let open = *state.back() != Back::None && !state.is_taken_back();
                open.then(|| Event::CommandAnswered { step: name(step), applied })
            }
            Said::Settled(step, done) => {
                let open = !self.state.steps[step].is_final();
                open.then(|| {
                    if done {
                        Event::StepDone { step: name(step), output: String::new() }
                    } else {
                        refused(name(step))
                    }
                })
            }
            Said::Dead(step, number) => {
                let state = &self.state.steps[step];
                let is_current = matches!(state.back(), Back::Sent { .. })
                    && state.last_sent().is_some_and(|sent| *sent == number.to_string());
                is_current.then(|| Event::CommandDead { step: name(step), reason: String::new() })
            }
        }
    }

    /// Whether somebody stands before it that will not go on without a person, or at the end.
    pub(super) fn waits_for_a_person(&self) -> bool {
        self.state.parked.is_some()
            || self.state.steps.iter().any(|s| matches!(s.back(), Back::Parked { .. }))
    }

    /// Whether it waits before it asks again.
    pub(super) fn is_patient(&self, now: i64) -> bool {
        self.state.steps.iter().any(|step| {
            let until = match step.forward {
                Forward::Pending { until, .. } => until,
                _ => step.not_before(),
            };
            now < until.max(step.not_before()) && until != FAR
        })
    }

    /// Whether a step waits for somebody outside.
    pub(super) fn is_pending(&self, step: usize) -> bool {
        matches!(self.state.steps[step].forward, Forward::Pending { .. })
    }
}

/// What an owner hears of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Heard {
    /// An answer; where it is *pending*, whether to ask again soon.
    Reply(Reply, bool),
    /// Nothing, for too long.
    Nothing,
}

/// What an owner reads of what others said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Said {
    Cancel,
    Force,
    Retry,
    Answered(usize, bool),
    Settled(usize, bool),
    Dead(usize, u32),
}

fn refused(step: types::StepName) -> Event {
    Event::StepRefused { step, reason: "NO".into(), metadata: BTreeMap::new() }
}

/// What leaves with a commit: commands, and words that a review is withdrawn.
pub(super) fn leaves(model: &Model, before: &State, events: &[Event]) -> (u8, u8) {
    let (mut commands, mut words) = (0, 0);
    let mut state = before.clone();
    for event in events {
        if state.apply(event, 0).is_err() {
            break;
        }
        if let Event::CommandSent { step, .. } = event {
            commands |= 1 << state.position(step).expect("its own step");
        }
        if let Event::TurnedRound { .. } = event {
            words =
                withdrawals(&model.definition, &state).into_iter().fold(words, |bits, step| bits | 1 << step);
        }
    }
    (commands, words)
}
