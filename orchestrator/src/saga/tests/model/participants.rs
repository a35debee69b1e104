//! The participants: they ask `chassis::barrier` what follows, do it, and answer. Nothing else decides here.

use std::sync::Arc;

use chassis::barrier::{self, Closed, Outcome, Record};

use super::{
    bounds::{Model, Mutation, spend},
    owner::Reply,
    world::{Breach, Place, World},
};
use crate::saga::StepKind;

/// Of what every call asks.
const HASH: [u8; 1] = [1];

/// What a participant does with what it was asked for the first time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Choice {
    Do,
    Refuse,
    /// It needs time: a provider or a person.
    Begin,
}

impl World {
    fn place(&mut self, step: usize) -> &mut Place {
        &mut Arc::make_mut(&mut self.places)[step]
    }

    /// What a participant may do with a call that it sees for the first time; the first alone for any other.
    pub(super) fn choices(&self, model: &Model, step: usize) -> Vec<Choice> {
        let mut choices = vec![Choice::Do];
        let is_fresh = barrier::forward(self.places[step].record.as_ref(), &HASH) == barrier::Forward::Fresh;
        if !is_fresh || model.closes.iter().any(|(closing, _)| *closing == step) {
            return choices;
        }
        if self.left.refusals > 0 && model.definition.steps[step].kind != StepKind::Final {
            choices.push(Choice::Refuse);
        }
        if self.left.pendings > 0 && model.may_pend.contains(&step) {
            choices.push(Choice::Begin);
        }
        choices
    }

    /// A call arrives.
    pub(super) fn call(&mut self, model: &Model, step: usize, choice: Choice) -> Reply {
        if let Some((_, closed)) = model.closes.iter().find(|(closing, _)| *closing == step) {
            return self.close(model, step, *closed);
        }
        let found = self.places[step].record.clone();
        let mut follows = barrier::forward(found.as_ref(), &HASH);
        if model.is(Mutation::BarrierOff) {
            follows = barrier::Forward::Fresh;
        }
        match follows {
            barrier::Forward::Fresh => self.first(step, choice),
            barrier::Forward::Done => Reply::Done,
            barrier::Forward::Refused => Reply::Refused,
            barrier::Forward::InProgress => Reply::Pending,
            barrier::Forward::Fenced => Reply::Fenced,
            barrier::Forward::Mismatch => unreachable!("every call asks the same"),
        }
    }

    fn first(&mut self, step: usize, choice: Choice) -> Reply {
        let back = self.places[step].record.as_ref().and_then(|record| record.back);
        let (forward, reply) = match choice {
            Choice::Do => (Outcome::Done, Reply::Done),
            Choice::Refuse => (Outcome::Refused, Reply::Refused),
            Choice::Begin => (Outcome::Pending, Reply::Pending),
        };
        match choice {
            Choice::Do => self.make(step),
            Choice::Refuse => assert!(spend(&mut self.left.refusals), "offered within its bound"),
            Choice::Begin => assert!(spend(&mut self.left.pendings), "offered within its bound"),
        }
        self.place(step).record = Some(Record { forward, forward_hash: HASH.into(), back });
        reply
    }

    fn close(&mut self, model: &Model, step: usize, of: usize) -> Reply {
        let name = &model.definition.steps[step].name;
        let there = &self.places[of];
        match barrier::close(there.record.as_ref(), there.closed.as_ref(), name, &HASH) {
            barrier::Close::Fresh => {
                self.place(of).closed = Some(Closed { step: name.clone(), hash: HASH.into() });
                self.make(step);
                Reply::Done
            }
            barrier::Close::Done => Reply::Done,
            barrier::Close::Mismatch => unreachable!("every call asks the same"),
            barrier::Close::Impossible(_) => {
                self.breach(Breach::NothingToClose);
                Reply::Impossible
            }
        }
    }

    fn make(&mut self, step: usize) {
        let record = self.places[step].record.as_ref();
        if record.is_some_and(|record| matches!(record.back, Some(Outcome::Done | Outcome::Blocked))) {
            self.breach(Breach::AfterItsCompensation);
        }
        let place = self.place(step);
        place.made = (place.made + 1).min(2);
    }

    fn take_back(&mut self, step: usize) {
        let place = self.place(step);
        place.taken_back = (place.taken_back + 1).min(2);
    }

    fn answer(&mut self, step: usize, applied: bool) {
        Arc::make_mut(&mut self.signals).answers[step] = Some(applied);
    }

    /// A command arrives; its answer is a message of its own.
    pub(super) fn compensate(&mut self, model: &Model, step: usize) {
        let blocked = Some(Outcome::Blocked);
        if self.places[step].closed.is_some() {
            // As inventory-svc and order-svc: what was closed is not taken back, and a person sees it.
            return self.breach(Breach::NothingToClose);
        }
        match barrier::back(self.places[step].record.as_ref()) {
            barrier::Back::Tombstone if model.is(Mutation::NoTombstone) => self.answer(step, false),
            barrier::Back::Tombstone => {
                let record = Record { forward: Outcome::Blocked, forward_hash: vec![], back: blocked };
                self.place(step).record = Some(record);
                self.answer(step, false);
            }
            barrier::Back::TakeBack => {
                self.take_back(step);
                self.mark(step, Outcome::Done);
                self.answer(step, true);
            }
            barrier::Back::Block => {
                self.mark(step, Outcome::Blocked);
                self.answer(step, false);
            }
            barrier::Back::WantBack => self.mark(step, Outcome::Started),
            barrier::Back::Done => self.answer(step, true),
            barrier::Back::NotApplied => self.answer(step, false),
            barrier::Back::InProgress => {}
        }
    }

    fn mark(&mut self, step: usize, back: Outcome) {
        if let Some(record) = &mut self.place(step).record {
            record.back = Some(back);
        }
    }

    /// What took its time is decided: the outcome is a message, and what was wanted back meanwhile is taken back at once.
    pub(super) fn settle(&mut self, step: usize, done: bool) {
        let Some(record) = self.places[step].record.clone() else { return };
        if record.forward != Outcome::Pending {
            return;
        }
        let forward = if done { Outcome::Done } else { Outcome::Refused };
        self.place(step).record = Some(Record { forward, ..record.clone() });
        if done {
            self.make(step);
        }
        if record.back.is_none() {
            Arc::make_mut(&mut self.signals).settled[step] = Some(done);
            return;
        }
        if done {
            self.take_back(step);
        }
        self.mark(step, if done { Outcome::Done } else { Outcome::Blocked });
        self.answer(step, done);
    }

    /// Nobody need decide any more.
    pub(super) fn withdraw(&mut self, step: usize) {
        self.settle(step, false);
    }
}
