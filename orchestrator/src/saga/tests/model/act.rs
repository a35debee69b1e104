//! What can happen next, and what follows from it. Everything that happens is one of these.

use std::sync::Arc;

use stateright::Property;

use super::{
    bounds::{Model, Mutation, spend},
    laws,
    owner::{Commit, Heard, Holds, Owner, Reply, Said, Wire, leaves},
    participants::Choice,
    world::{Breach, Clock, Place, Signals, World},
};
use crate::saga::{Event, Phase, State};

/// One thing that happens. Owners are positions in [`World::owners`], steps positions in the definition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Act {
    /// An owner's call reaches its participant.
    Call(usize, usize, Choice),
    /// A call that nobody waits for does.
    Stray(usize, Choice),
    /// A command does, once more perhaps.
    Command(usize),
    /// The word that a review is withdrawn does.
    Withdraw(usize),
    /// What took its time is decided.
    Settle(usize, bool),
    /// An owner hears a participant's answer; if it is *pending*, whether it will ask again soon.
    Hear(usize, usize, bool),
    /// An owner waits no longer for an answer.
    TimeOut(usize, usize),
    /// An owner's commit reaches the database, and it hears what became of it.
    Land(usize),
    /// It reaches the database, and the reply is lost.
    LandUnheard(usize),
    /// The connection breaks: nobody knows whether it will reach the database.
    Break(usize),
    /// It reads by version and commit id what became of it.
    ReadAgain(usize),
    /// A commit that somebody gave up or died over reaches the database.
    LandGhost(usize),
    /// Progress has waited long enough and is committed.
    Progress(usize),
    /// An owner reads a signal.
    Read(usize, Said),
    /// An owner sends again what was not answered.
    Resend(usize),
    /// An owner looks at the clock.
    Tick(usize),
    /// The customer cancels.
    Cancel,
    /// An operator wants it taken back.
    Force,
    /// An operator has it tried again.
    Retry,
    /// The current command of a step goes to the dead queue.
    Bury(usize),
    /// Whoever waits before the next attempt has waited long enough.
    Wait,
    /// The deadline passes.
    Deadline,
    /// A process dies.
    Crash(usize),
    /// The shard is acquired: by another process, or by this one of two again.
    TakeOver(Option<usize>),
}

impl Act {
    /// Whether it is bad luck, or somebody's wish: what a run may do without.
    pub(super) fn is_optional(self) -> bool {
        match self {
            Self::TimeOut(..)
            | Self::LandUnheard(_)
            | Self::Break(_)
            | Self::Resend(_)
            | Self::Cancel
            | Self::Force
            | Self::Retry
            | Self::Bury(_)
            | Self::Deadline
            | Self::Crash(_)
            | Self::TakeOver(_) => true,
            Self::Call(..)
            | Self::Stray(..)
            | Self::Command(_)
            | Self::Withdraw(_)
            | Self::Settle(..)
            | Self::Hear(..)
            | Self::Land(_)
            | Self::ReadAgain(_)
            | Self::LandGhost(_)
            | Self::Progress(_)
            | Self::Read(..)
            | Self::Tick(_)
            | Self::Wait => false,
        }
    }
}

impl stateright::Model for Model {
    type State = World;
    type Action = Act;

    fn init_states(&self) -> Vec<World> {
        let started = with_deadline(super::super::started(&self.definition));
        let state = State::start(&started, 0).expect("a start");
        let steps = state.steps.len();
        let signals = Signals {
            answers: vec![None; steps],
            settled: vec![None; steps],
            dead: vec![None; steps],
            ..Signals::default()
        };
        let mut world = World {
            epoch: 1,
            saga: Arc::new(state.clone()),
            version: 1,
            wrote: 1,
            journal: super::world::Unseen(Arc::new(vec![started])),
            signals: Arc::new(signals),
            commanded: 0,
            withdrawn: 0,
            places: Arc::new(vec![Place::default(); steps]),
            strays: 0,
            owners: Vec::new(),
            is_orphan: false,
            ghosts: Vec::new(),
            clock: Clock::Early,
            left: self.budget,
            breaches: 0,
        };
        let mut first = Owner::fresh(1, 1, state);
        first.advance(self, &mut world);
        world.owners.push(first);
        vec![world]
    }

    fn actions(&self, world: &World, acts: &mut Vec<Act>) {
        let steps = 0..self.definition.steps.len();
        for (position, owner) in world.owners.iter().enumerate() {
            self.of_owner(world, position, owner, acts);
        }
        for step in steps {
            if world.is_astray(step) {
                acts.extend(world.choices(self, step).into_iter().map(|choice| Act::Stray(step, choice)));
            }
            if world.is_commanded(step) {
                acts.push(Act::Command(step));
                if world.left.deaths > 0 {
                    acts.push(Act::Bury(step));
                }
            }
            if world.is_withdrawn(step) {
                acts.push(Act::Withdraw(step));
            }
            if laws::is_pending(world, step) {
                acts.extend([Act::Settle(step, true), Act::Settle(step, false)]);
            }
        }
        acts.extend((0..world.ghosts.len()).map(Act::LandGhost));
        self.of_people(world, acts);
    }

    fn next_state(&self, world: &World, act: Act) -> Option<World> {
        let mut after = world.clone();
        after.happens(self, act);
        after.forget_idle_strays(self);
        (after != *world).then_some(after)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        laws::all(self)
    }
}

/// With the model's own deadline.
fn with_deadline(started: Event) -> Event {
    match started {
        Event::Started { kind, version, hash, steps, skipped, input, .. } => {
            Event::Started { kind, version, hash, steps, skipped, deadline: Clock::Late.now(), input }
        }
        other => other,
    }
}

impl Model {
    fn of_owner(&self, world: &World, position: usize, owner: &Owner, acts: &mut Vec<Act>) {
        for (step, state) in owner.state.steps.iter().enumerate() {
            match owner.replies[step] {
                Some(Reply::Pending) if world.left.reminders > 0 => {
                    acts.extend([Act::Hear(position, step, false), Act::Hear(position, step, true)]);
                }
                Some(_) => acts.push(Act::Hear(position, step, false)),
                None if state.calling => {
                    acts.extend(world.choices(self, step).into_iter().map(|c| Act::Call(position, step, c)));
                }
                None => {}
            }
            if state.calling && world.left.timeouts > 0 {
                acts.push(Act::TimeOut(position, step));
            }
        }
        match owner.flight.as_ref().map(|(_, wire)| wire) {
            None => acts.extend([Act::Progress(position), Act::Tick(position)]),
            Some(Wire::Sent) => {
                acts.push(Act::Land(position));
                if world.left.lost_commits > 0 {
                    acts.extend([Act::LandUnheard(position), Act::Break(position)]);
                }
            }
            Some(Wire::Lost) => acts.push(Act::ReadAgain(position)),
        }
        if world.left.resends > 0 && owner.state.phase == Phase::Back {
            acts.push(Act::Resend(position));
        }
        if world.left.crashes > 0 {
            acts.push(Act::Crash(position));
        }
        // A stale owner that hears a wish or an answer writes what is refused. Only a settlement lets it call more.
        let is_stale = owner.epoch < world.epoch;
        let said = said(world).into_iter().filter(|said| !is_stale || matches!(said, Said::Settled(..)));
        let said = said.filter(|said| owner.fact(self, *said).is_some());
        acts.extend(said.map(|said| Act::Read(position, said)));
    }

    fn of_people(&self, world: &World, acts: &mut Vec<Act>) {
        let left = &world.left;
        let people = [
            (left.cancels, Act::Cancel),
            (left.forces, Act::Force),
            (left.retries, Act::Retry),
            (left.deadlines, Act::Deadline),
        ];
        acts.extend(people.into_iter().filter(|(left, _)| *left > 0).map(|(_, act)| act));
        if world.clock == Clock::Early && world.owners.iter().any(|owner| owner.is_patient(0)) {
            acts.push(Act::Wait);
        }
        if left.takeovers > 0 {
            match world.owners.len() {
                0 => acts.push(Act::TakeOver(None)),
                // By another process; or by the same one, which has lost its connection and forgot all.
                1 => acts.extend([Act::TakeOver(None), Act::TakeOver(Some(0))]),
                _ => acts.extend([Act::TakeOver(Some(0)), Act::TakeOver(Some(1))]),
            }
        }
    }
}

/// Everything that an owner may read now.
fn said(world: &World) -> Vec<Said> {
    let signals = &world.signals;
    let mut said = Vec::new();
    said.extend(signals.cancel.then_some(Said::Cancel));
    said.extend(signals.forced.then_some(Said::Force));
    said.extend((signals.retries > 0).then_some(Said::Retry));
    for step in 0..signals.answers.len() {
        said.extend(signals.answers[step].map(|applied| Said::Answered(step, applied)));
        said.extend(signals.settled[step].map(|done| Said::Settled(step, done)));
        said.extend(signals.dead[step].map(|number| Said::Dead(step, number)));
    }
    said
}

impl World {
    fn happens(&mut self, model: &Model, act: Act) {
        match act {
            Act::Call(owner, step, choice) => {
                let reply = self.call(model, step, choice);
                self.owners[owner].replies[step] = Some(reply);
            }
            Act::Stray(step, choice) => {
                self.call(model, step, choice);
            }
            Act::Command(step) => self.compensate(model, step),
            Act::Withdraw(step) => self.withdraw(step),
            Act::Settle(step, done) => self.settle(step, done),
            Act::LandGhost(ghost) => {
                let commit = self.ghosts.remove(ghost);
                self.land(model, &commit);
            }
            Act::Cancel => {
                self.left.cancels -= 1;
                Arc::make_mut(&mut self.signals).cancel = true;
            }
            Act::Force => {
                self.left.forces -= 1;
                Arc::make_mut(&mut self.signals).forced = true;
            }
            Act::Retry => {
                self.left.retries -= 1;
                Arc::make_mut(&mut self.signals).retries += 1;
            }
            Act::Bury(step) => {
                let number = self.saga.steps[step].commands();
                if spend(&mut self.left.deaths) {
                    Arc::make_mut(&mut self.signals).dead[step] = Some(number);
                }
            }
            Act::Wait => self.clock = Clock::Waited,
            Act::Deadline => {
                self.left.deadlines -= 1;
                self.clock = Clock::Late;
            }
            Act::TakeOver(again) => self.take_over(model, again),
            Act::Crash(owner) => {
                self.left.crashes -= 1;
                self.is_orphan |= self.owners[owner].epoch == self.epoch;
                self.lose_owner(owner);
            }
            Act::Hear(owner, ..)
            | Act::TimeOut(owner, _)
            | Act::Land(owner)
            | Act::LandUnheard(owner)
            | Act::Break(owner)
            | Act::ReadAgain(owner)
            | Act::Progress(owner)
            | Act::Read(owner, _)
            | Act::Resend(owner)
            | Act::Tick(owner) => {
                let it = self.owners.remove(owner);
                if let Some(it) = self.happens_to(model, it, act) {
                    self.owners.insert(owner, it);
                }
            }
        }
    }

    /// Something reaches one owner; none when it drives the saga no longer.
    fn happens_to(&mut self, model: &Model, mut it: Owner, act: Act) -> Option<Owner> {
        match act {
            Act::Hear(_, step, soon) => {
                let reply = it.replies[step]?;
                if soon {
                    self.left.reminders -= 1;
                }
                it.returned(model, self, step, Heard::Reply(reply, soon));
            }
            Act::TimeOut(_, step) => {
                self.left.timeouts -= 1;
                if it.replies[step].is_none() {
                    self.strays |= 1 << step;
                }
                it.returned(model, self, step, Heard::Nothing);
            }
            Act::LandUnheard(_) | Act::Break(_) => {
                self.left.lost_commits -= 1;
                let (commit, _) = it.flight.take()?;
                if matches!(act, Act::Break(_)) {
                    self.ghosts.push(commit.clone());
                } else {
                    self.land(model, &commit);
                }
                it.flight = Some((commit, Wire::Lost));
                return Some(it);
            }
            Act::Land(_) => {
                let (commit, _) = it.flight.take()?;
                let landed = self.land(model, &commit);
                return self.hear_commit(model, it, landed);
            }
            Act::ReadAgain(_) => return self.read_again(model, it),
            Act::Progress(_) => {
                it.commit_progress();
                return Some(it);
            }
            Act::Read(_, said) => {
                if let Some(event) = it.fact(model, said) {
                    it.record(self, event);
                }
            }
            Act::Resend(_) => {
                self.left.resends -= 1;
                it.resend(model, self);
            }
            _ => {}
        }
        it.advance(model, self);
        Some(it)
    }

    /// As `journal.rs` after an error: it landed, it goes again, or it is lost.
    fn read_again(&mut self, model: &Model, mut it: Owner) -> Option<Owner> {
        let (commit, _) = it.flight.take()?;
        let is_mine = self.wrote == commit.epoch && self.version == commit.version + 1;
        if !is_mine && (self.version == commit.version || model.is(Mutation::NoCompare)) {
            it.flight = Some((commit, Wire::Sent));
            return Some(it);
        }
        self.hear_commit(model, it, is_mine)
    }

    /// As `driver.rs`: it goes on, or what it knew is dropped, and whoever believes to be the owner loads it again.
    fn hear_commit(&mut self, model: &Model, mut it: Owner, landed: bool) -> Option<Owner> {
        if landed {
            it.version += 1;
        } else {
            self.strays |= it.under_way();
            if it.epoch < self.epoch && !spend(&mut self.left.reloads) {
                return None;
            }
            it = Owner::load(model, self, it.epoch);
        }
        let is_durable = it.holds != Holds::Decision || model.is(Mutation::LeavesEarly);
        if matches!(it.state.phase, Phase::Ended(_)) && is_durable {
            return None;
        }
        it.advance(model, self);
        Some(it)
    }

    /// The statement of a commit: fence ⋈ compare-and-set.
    fn land(&mut self, model: &Model, commit: &Commit) -> bool {
        let fence = commit.epoch == self.epoch || model.is(Mutation::NoFence);
        let compare = commit.version == self.version || model.is(Mutation::NoCompare);
        let ended = matches!(self.saga.phase, Phase::Ended(_));
        if !fence || !compare || (ended && !model.is(Mutation::NoCompare)) {
            return false;
        }
        if ended {
            self.breach(Breach::AfterTheEnd);
        }
        if commit.version != self.version {
            self.breach(Breach::Version);
        }
        if commit.epoch < self.wrote {
            self.breach(Breach::Epoch);
        }
        let events = &commit.events.0;
        let (commands, words) = leaves(model, &self.saga, events);
        self.commanded |= commands;
        self.withdrawn |= words;
        for event in events.iter() {
            if Arc::make_mut(&mut self.saga).apply(event, 0).is_err() {
                self.breach(Breach::Illegal);
            }
            if matches!(event, Event::Retried { .. }) {
                spend(&mut Arc::make_mut(&mut self.signals).retries);
            }
        }
        Arc::make_mut(&mut self.journal.0).extend(events.iter().cloned());
        (self.version, self.wrote) = (commit.version + 1, commit.epoch);
        true
    }

    fn take_over(&mut self, model: &Model, again: Option<usize>) {
        self.left.takeovers -= 1;
        if let Some(again) = again {
            self.lose_owner(again);
        }
        self.epoch += 1;
        self.is_orphan = false;
        let mut owner = Owner::load(model, self, self.epoch);
        if matches!(owner.state.phase, Phase::Ended(_)) {
            return;
        }
        owner.advance(model, self);
        self.owners.push(owner);
    }

    /// A call that can change nothing any more is as good as none.
    fn forget_idle_strays(&mut self, model: &Model) {
        for step in 0..self.places.len() {
            let record = match model.closes.iter().find(|(closing, _)| *closing == step) {
                Some((_, of)) => self.places[*of].closed.is_some(),
                None => self.places[step].record.is_some(),
            };
            if record && !model.is(Mutation::BarrierOff) {
                self.strays &= !(1 << step);
            }
        }
    }

    /// What it knew is gone; what it sent is not.
    fn lose_owner(&mut self, position: usize) {
        let owner = self.owners.remove(position);
        self.strays |= owner.under_way();
        if let Some((commit, Wire::Sent)) = owner.flight {
            self.ghosts.push(commit);
        }
    }
}
