//! The invariants of DESIGN section 10, looked at after every commit and every effect, and at the end.
//!
//! It sees everything at once, which no auditor can. What a run may not say at a glance is judged in [`end`]. I11 and I12
//! (secrets; the ledger's hash chain) are not of this world.

mod end;

use std::collections::{BTreeMap, BTreeSet};

use chassis::{barrier::Outcome, bus::Message};
use orchestrator::{
    journal::Transition,
    participants::Call,
    saga::{Back, Event, Outcome as End, Phase, State},
    signal::{Said, Signal},
};
use payment_svc::domain::State as Charge;
use prost::Message as _;
use proto::step::{StepAnswer, step_answer};
use types::{SagaId, StepKey};
use uuid::Uuid;

use crate::{
    mark::Mark,
    orchestrator::{doors::short, tables::Start},
    process::{ProcessId, Room},
    provider::{self, Line},
    world::World,
};

/// What it remembers.
#[derive(Debug, Clone, Default)]
pub struct Judge {
    /// What is wrong; the first one ends the run.
    pub violations: Vec<String>,
    /// How often a step took effect, and how often it was undone.
    done: BTreeMap<StepKey, u32>,
    undone: BTreeMap<StepKey, u32>,
    /// Steps that were taken back, or never can happen.
    back: BTreeSet<StepKey>,
    /// Messages whose effect is committed.
    handled: BTreeSet<Uuid>,
    /// Who acquired a shard's epoch, in which life.
    owners: BTreeMap<(i16, i64), ProcessId>,
    /// When the last fact about any saga became durable.
    pub last_fact: i64,
    /// What was acknowledged under a key.
    acknowledged: BTreeMap<String, SagaId>,
}

fn bump(counts: &mut BTreeMap<StepKey, u32>, key: &StepKey) -> u32 {
    let count = counts.entry(key.clone()).or_default();
    *count += 1;
    *count
}

impl Judge {
    /// Whether nothing is wrong.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.violations.is_empty()
    }

    /// Something is wrong.
    pub fn accuse(&mut self, what: String) {
        self.violations.push(what);
    }

    /// A step took effect.
    pub fn done(&mut self, key: &StepKey) {
        let count = bump(&mut self.done, key);
        if count > 1 {
            self.accuse(format!("I3: {} of {} took effect {count} times", key.step, key.saga));
        }
        if self.back.contains(key) {
            self.accuse(format!("I6: {} of {} took effect after its compensation", key.step, key.saga));
        }
    }

    /// The effect of a step was undone.
    pub fn undone(&mut self, key: &StepKey) {
        let count = bump(&mut self.undone, key);
        if count > 1 {
            self.accuse(format!("I3: {} of {} was undone {count} times", key.step, key.saga));
        }
    }

    /// A compensation came to its end.
    pub fn taken_back(&mut self, key: &StepKey) {
        self.back.insert(key.clone());
    }

    /// The effect of a message is committed.
    pub fn handled(&mut self, message: Uuid) {
        self.handled.insert(message);
    }

    /// A shard was acquired at an epoch.
    pub fn acquired(&mut self, process: ProcessId, shard: i16, epoch: i64) {
        if self.owners.insert((shard, epoch), process).is_some() {
            self.accuse(format!("I10: epoch {epoch} of shard {shard} was acquired twice"));
        }
    }
}

/// Whether a signal says something new to a saga, as far as it can be told without asking the driver.
fn says_something(said: &Said, state: &State) -> bool {
    let is_open = state.phase == Phase::Forward && !state.pivot_passed;
    if matches!(state.phase, Phase::Ended(_)) {
        return false;
    }
    match said {
        Said::Cancel { .. } => is_open && state.cancel_requested.is_none(),
        Said::ForceCompensate { .. } => is_open && !state.compensation_forced,
        Said::Answer { answer } => {
            let Ok(answer) = StepAnswer::decode(answer.as_slice()) else { return false };
            let step = state.steps.iter().find(|step| step.name.as_str() == answer.step);
            step.is_some_and(|step| match answer.direction() {
                step_answer::Direction::Compensation => {
                    matches!(step.back(), Back::Sent { .. } | Back::Wanted)
                }
                _ => !step.is_final(),
            })
        }
        Said::Dead { .. } | Said::Begin | Said::Retry { .. } | Said::Resolve { .. } => false,
    }
}

impl World {
    /// I10 and I5: one chain of versions under rising epochs, of facts that fit; and what leaves with it.
    pub fn judge_a_transition(&mut self, by: ProcessId, transition: &Transition) {
        let saga = transition.saga;
        let fence = self.tables.epoch(transition.shard);
        let owner = self.judge.owners.get(&(transition.shard, transition.epoch)).copied();
        let Some(row) = self.tables.sagas.get_mut(&saga) else { return };
        let mut wrong = Vec::new();
        if row.version != transition.version {
            wrong.push(format!("I10: {saga} forks at version {}", transition.version + 1));
        }
        if transition.epoch < row.epoch || transition.epoch != fence {
            let (epoch, version) = (transition.epoch, transition.version + 1);
            wrong.push(format!(
                "I10: {saga} version {version} is written under epoch {epoch}, and {fence} holds"
            ));
        }
        if owner != Some(by) {
            wrong.push(format!("I10: {saga} is written by who never acquired epoch {}", transition.epoch));
        }
        if row.ended {
            wrong.push(format!("I5: {saga} goes on after its end"));
        }
        for recorded in &transition.events {
            if let Err(error) = row.folded.apply(&recorded.event, recorded.at) {
                wrong.push(format!("I10: the journal of {saga} cannot be read: {error}"));
            }
        }
        if matches!(row.folded.phase, Phase::Ended(_)) != transition.ended {
            wrong.push(format!("I5: the row of {saga} and its journal do not agree about its end"));
        }
        for recorded in &transition.events {
            if let Event::CommandSent { step, message_id } = &recorded.event
                && !transition.messages.iter().any(|message| message.id.to_string() == *message_id)
            {
                wrong.push(format!(
                    "I9: the command that takes {step} of {saga} back does not leave with its commit"
                ));
            }
        }
        self.judge.last_fact = self.now;
        let commands: u32 = row.folded.steps.iter().map(|step| step.commands()).max().unwrap_or(0);
        wrong.into_iter().for_each(|what| self.judge.accuse(what));
        if commands > 1 {
            self.mark(Mark::CommandRepeated);
        }
        self.mark_events(transition);
    }

    fn mark_events(&mut self, transition: &Transition) {
        for recorded in &transition.events {
            let mark = match &recorded.event {
                Event::TurnedRound { reason, .. } => match reason.as_str() {
                    "CANCEL_REQUESTED" => Mark::TurnedByCancel,
                    "DEADLINE_EXCEEDED" => Mark::TurnedByDeadline,
                    "STEP_FAILED" => Mark::TurnedByBudget,
                    "FORCED" => Mark::TurnedByForce,
                    _ => Mark::TurnedByRefusal,
                },
                Event::Parked { reason, .. } if reason == "QUARANTINED" => Mark::Quarantined,
                Event::Parked { .. } => Mark::Parked,
                Event::CommandDead { .. } => Mark::CommandDead,
                Event::StepDone { step, .. }
                    if step.as_str() == "charge" && !transition.signals.is_empty() =>
                {
                    Mark::SettlementByMessage
                }
                Event::Finished { outcome: End::Completed } => Mark::Completed,
                Event::Finished { outcome: End::Compensated } => Mark::Compensated,
                _ => continue,
            };
            self.mark(mark);
            if matches!(recorded.event, Event::CommandDead { .. }) {
                self.mark(Mark::ParkedBack);
            }
            if matches!(recorded.event, Event::Finished { .. }) {
                let version = self.tables.sagas.get(&transition.saga).map(|row| row.definition_version);
                self.mark(if version == Some(1) { Mark::Version1 } else { Mark::Version2 });
            }
        }
    }

    /// DESIGN 4.10: a signal is durable until a commit answers it. One that says nothing new is put aside, but only when
    /// that is so by what is durable: memory may be lost.
    pub fn judge_moot_signals(&mut self, signals: &[Uuid]) {
        let unread = self.tables.signals.iter().filter(|row| !row.read && signals.contains(&row.signal.id));
        let mut wrong = Vec::new();
        for Signal { saga, said, .. } in unread.map(|row| &row.signal) {
            let Some(row) = self.tables.sagas.get(saga) else { continue };
            if says_something(said, &row.folded) {
                wrong.push(format!(
                    "I5: {} to {saga} was put aside, and nothing durable says why",
                    short(said)
                ));
            }
        }
        wrong.into_iter().for_each(|what| self.judge.accuse(what));
    }

    /// A saga begins.
    pub fn judge_a_start(&mut self, start: &Start) {
        let twice = self.people.customers.iter().any(|customer| {
            customer.wish.key == start.key && customer.order.is_some_and(|order| order != start.saga)
        });
        if twice {
            self.judge.accuse(format!("I8: {} is started again", start.key));
        }
    }

    /// DESIGN 4.3: what comes after the pivot is called when the pivot is durable.
    pub fn judge_a_call(&mut self, process: ProcessId, saga: SagaId, call: &Call) {
        let Some(row) = self.tables.sagas.get(&saga) else {
            return self.judge.accuse(format!("I7: {saga} is driven and was never committed"));
        };
        let (shard, passed) = (row.shard, row.folded.pivot_passed);
        let owns =
            self.orchestrators.get(&process).is_some_and(|o| o.kept.owns(shard, self.tables.epoch(shard)));
        if !owns {
            self.mark(Mark::StaleCall);
        }
        if matches!(call, Call::Commit(_) | Call::Complete(_)) && !passed {
            self.judge.accuse(format!("I6: {saga} goes past its pivot before that is durable"));
        }
    }

    /// I7 and I8: what is acknowledged is there, and a key stands for one order.
    pub fn judge_an_order(&mut self, key: &str, saga: SagaId) {
        if !self.tables.sagas.contains_key(&saga) {
            self.judge.accuse(format!("I7: {key} is acknowledged and its order is not there"));
        }
        let before = self.judge.acknowledged.insert(key.to_owned(), saga);
        if before.is_some_and(|before| before != saga) {
            self.judge.accuse(format!("I8: {key} was acknowledged with two orders"));
        }
    }

    /// I9: what is acknowledged had its effect.
    pub fn judge_an_acknowledgement(&mut self, message: &Message) {
        if !self.judge.handled.contains(&message.id) {
            self.judge.accuse(format!("I9: {} is acknowledged and has no effect", message.kind));
        }
    }

    /// I9: what left the outbox is with the broker.
    pub fn judge_a_sent_row(&mut self, message: &Message) {
        if !self.broker.accepted.contains(&message.id) {
            self.judge.accuse(format!("I9: {} left the outbox and was never confirmed", message.kind));
        }
    }

    /// I1 and I4 after a commit at a service.
    pub fn judge_a_commit(&mut self, room: Room) {
        match room {
            Room::Inventory => self.judge_stock(),
            Room::Ledger => self.judge_books(),
            Room::Orchestrator | Room::Order | Room::Risk | Room::Payment => {}
        }
    }

    fn judge_stock(&mut self) {
        let stock = &self.services.inventory;
        let mut wrong = Vec::new();
        for (sku, level) in &stock.levels {
            let (mut held, mut sold) = (0, 0);
            for row in stock.reservations.values().filter(|row| row.record.back.is_none()) {
                let lines = row.lines.iter().flat_map(|lines| lines.iter()).filter(|(one, _)| one == sku);
                let quantity: i64 = lines.map(|(_, quantity)| quantity).sum();
                if row.closed.is_some() {
                    sold += quantity;
                } else if row.record.forward == Outcome::Done {
                    held += quantity;
                }
            }
            if level.total() != stock.put_in.get(sku).copied() {
                wrong.push(format!(
                    "I4: stock of {sku} is {level:?}, and {:?} was put in",
                    stock.put_in.get(sku)
                ));
            }
            if (level.reserved, level.sold) != (held, sold) || level.available < 0 {
                wrong.push(format!(
                    "I4: stock of {sku} is {level:?}; reservations hold {held} and sold {sold}"
                ));
            }
        }
        wrong.into_iter().for_each(|what| self.judge.accuse(what));
    }

    fn judge_books(&mut self) {
        for ((key, kind), row) in &self.services.ledger.rows {
            let sum: i64 = row.entries.iter().map(|entry| entry.amount).sum();
            if sum != 0 {
                let what = format!("I1: {kind:?} of {} sums to {sum}", key.saga);
                self.judge.violations.push(what);
            }
        }
    }

    /// I3 and I6 at the provider, after a charge or a refund came there.
    pub fn judge_a_charge(&mut self, of: &StepKey, was: Line) {
        let line = self.provider.line(of, provider::time(self));
        if line == was {
            return;
        }
        if line.charges > 1 || line.refunds > 1 {
            self.judge.accuse(format!("I3: {} of {}: {line:?}", of.step, of.saga));
        }
        if line.refunded > line.charged {
            self.judge
                .accuse(format!("I2: {} of {}: more is given back than taken: {line:?}", of.step, of.saga));
        }
        let back = self.services.payment.attempts.get(of).and_then(|attempt| attempt.back);
        let is_over = self.judge.back.contains(of) || matches!(back, Some(Outcome::Done | Outcome::Blocked));
        if line.charges > was.charges && is_over && !self.weather.provider_breaks_promise {
            self.judge.accuse(format!("I6: {} of {} takes money after it was taken back", of.step, of.saga));
        }
    }

    /// A compensation found no charge.
    pub fn judge_taken_back_charge(&mut self, key: &StepKey) {
        self.judge.taken_back(key);
    }

    /// I2: what payment-svc says against the provider's book, after a commit of its own.
    pub fn judge_an_attempt(&mut self, key: &StepKey) {
        let Some(attempt) = self.services.payment.attempts.get(key) else { return };
        let line = self.provider.line(key, provider::time(self));
        let net = line.charged - line.refunded;
        let amount = attempt.business.as_ref().map_or(0, |business| business.amount.minor);
        let late = self.weather.provider_breaks_promise;
        let is_right = match attempt.state {
            Charge::Succeeded => net == amount,
            Charge::Refunded => net == 0 && line.charged == amount,
            Charge::Started | Charge::Pending | Charge::InDoubt | Charge::Refunding => true,
            Charge::Declined | Charge::Blocked => net == 0 || late,
        };
        let answered = matches!(attempt.back, Some(Outcome::Done | Outcome::Blocked));
        let state = attempt.state;
        if !is_right || (answered && net != 0 && !late) {
            let what = format!(
                "I2: {} of {} is {} and the provider has {line:?}",
                key.step,
                key.saga,
                state.as_str()
            );
            self.judge.accuse(what);
        }
    }
}
