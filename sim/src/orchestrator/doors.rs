//! The doors: CreateOrder, CancelOrder and the operator's verbs, and replies by message (DESIGN sections 3, 4.10, 8).
//!
//! Nothing is answered before its commit; what Postgres does not say is answered as *unknown, ask again with the same
//! key*.

use chassis::{
    bus::{Message, Verdict},
    clock,
};
use orchestrator::{
    catalog::order::Input,
    driver::{self, Fresh},
    journal::Recorded,
    saga::Event,
    signal::{Said, Signal},
};
use prost::Message as _;
use types::SagaId;

use super::{Feed, feed, ring, tables};
use crate::{
    broker::Settle,
    bug::Bug,
    disk::NoWord,
    mark::Mark,
    orchestrator::tables::{Key, SHARDS, Start},
    process::ProcessId,
    world::World,
};

/// What a door says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// The order, and whether its key was known.
    Order { saga: SagaId, replayed: bool },
    /// The key stands for something else.
    KeyReused,
    /// Accepted.
    Yes,
    /// Not in this state.
    No,
    /// Nothing is known: repeat.
    Unavailable,
}

/// Whom a door answers.
pub type Tell = Box<dyn FnOnce(&mut World, Answer)>;

/// What CreateOrder is asked.
#[derive(Debug, Clone)]
pub struct Wish {
    pub key: String,
    pub fingerprint: u64,
    pub input: Input,
}

/// CreateOrder.
pub fn create(w: &mut World, process: ProcessId, wish: Wish, tell: Tell) {
    let key = wish.key.clone();
    w.transact(
        process,
        move |w| w.tables.keys.get(&key).cloned(),
        move |w, known| match known {
            Ok(Some(known)) => replay(w, &wish, &known, tell),
            Ok(None) => start(w, process, wish, tell),
            Err(_) => tell(w, Answer::Unavailable),
        },
    );
}

fn replay(w: &mut World, wish: &Wish, known: &Key, tell: Tell) {
    if known.fingerprint == wish.fingerprint {
        w.mark(Mark::Replayed);
        tell(w, Answer::Order { saga: known.saga, replayed: true });
    } else {
        w.mark(Mark::KeyRefused);
        tell(w, Answer::KeyReused);
    }
}

fn start(w: &mut World, process: ProcessId, wish: Wish, tell: Tell) {
    let shard = w.luck.draw();
    let Some(o) = w.orchestrators.get(&process) else { return };
    let Some(kind) = o.registry.newest("order", &o.kept.listed) else {
        return tell(w, Answer::Unavailable);
    };
    // A shard of our own where there is one; else any, and its owner hears of it.
    let owned = o.kept.owned();
    let own = usize::try_from(shard % owned.len().max(1) as u64).ok().and_then(|at| owned.get(at).copied());
    let any = i16::try_from(shard % u64::from(SHARDS.unsigned_abs())).unwrap_or(0);
    let (shard, epoch) = own.unwrap_or((any, 0));
    let definition = kind.definition();
    let at = driver_now();
    let input = Input { accepted_at: at, ..wish.input.clone() };
    let started = Event::Started {
        kind: definition.kind.to_owned(),
        version: definition.version,
        hash: kind.hash(),
        steps: definition.steps.iter().map(|step| step.name.clone()).collect(),
        skipped: Vec::new(),
        deadline: at.saturating_add(definition.deadline_ms),
        input: serde_json::to_string(&input).unwrap_or_default(),
    };
    let start = Start {
        saga: SagaId::from_uuid(clock::new_uuid()),
        shard,
        epoch,
        kind: definition.kind.to_owned(),
        definition_version: i32::try_from(definition.version).unwrap_or(i32::MAX),
        definition_hash: kind.hash(),
        started: Recorded { at, trace: String::new(), event: started },
        key: wish.key.clone(),
        fingerprint: wish.fingerprint,
    };
    if w.has(Bug::OrderBeforeCommit) {
        let saga = start.saga;
        tell(w, Answer::Order { saga, replayed: false });
        return store(w, process, start, wish, Box::new(|_, _| {}));
    }
    store(w, process, start, wish, tell);
}

fn store(w: &mut World, process: ProcessId, start: Start, wish: Wish, tell: Tell) {
    let stored = start.clone();
    w.transact(
        process,
        move |w| tables::start(w, &stored),
        move |w, begun| match begun {
            Ok(Ok(())) => begun_here(w, process, &start, tell),
            Ok(Err(key)) => replay(w, &wish, &key, tell),
            Err(_) => tell(w, Answer::Unavailable),
        },
    );
}

fn begun_here(w: &mut World, process: ProcessId, start: &Start, tell: Tell) {
    let saga = start.saga;
    w.tell_of(process, saga, || format!("is started on shard {}", start.shard));
    let Some(o) = w.orchestrators.get(&process) else { return };
    // Still ours after the commit: else its new owner may have looked before it was there.
    if o.kept.owns(start.shard, start.epoch) {
        let fresh = Fresh {
            saga,
            shard: start.shard,
            epoch: start.epoch,
            kind: start.kind.clone(),
            definition_version: start.definition_version,
            definition_hash: start.definition_hash,
            started: start.started.clone(),
        };
        feed(w, process, Feed::Input(driver::Input::Fresh(Box::new(fresh))));
        tell(w, Answer::Order { saga, replayed: false });
    } else {
        // The order is durable and its owner's sweep finds it; only the hint may be missing.
        say(
            w,
            process,
            saga,
            Said::Begin,
            Box::new(move |w, _| {
                tell(w, Answer::Order { saga, replayed: false });
            }),
        );
    }
}

/// Stores a signal durably, then answers.
fn say(w: &mut World, process: ProcessId, saga: SagaId, said: Said, tell: Tell) {
    let signal = Signal { id: clock::new_uuid(), saga, said };
    w.transact(
        process,
        move |w| w.tables.say(signal),
        move |w, word| {
            ring(w);
            tell(w, if word.is_ok() { Answer::Yes } else { Answer::Unavailable });
        },
    );
}

/// CancelOrder.
pub fn cancel(w: &mut World, process: ProcessId, saga: SagaId, tell: Tell) {
    w.transact(
        process,
        move |w| w.tables.sagas.get(&saga).map(|row| (row.ended, row.cancel_requested)),
        move |w, row| match row {
            Ok(Some((false, false))) => {
                say(w, process, saga, Said::Cancel { reason: "changed my mind".into() }, tell);
            }
            Ok(_) => {
                w.mark(Mark::CancelTooLate);
                tell(w, Answer::No);
            }
            Err(_) => tell(w, Answer::Unavailable),
        },
    );
}

/// An operator's verb; whether the saga's state allows it was looked at before.
pub fn verb(w: &mut World, process: ProcessId, saga: SagaId, said: Said) {
    w.tell_of(process, saga, || format!("an operator says {}", short(&said)));
    say(w, process, saga, said, Box::new(|_, _| {}));
}

/// What is said, in a line of a trace.
#[must_use]
pub fn short(said: &Said) -> String {
    match said {
        Said::Retry { .. } => "Retry".into(),
        Said::ForceCompensate { .. } => "ForceCompensate".into(),
        Said::Resolve { step, resolution, .. } => format!("Resolve {step} {resolution:?}"),
        Said::Cancel { .. } => "Cancel".into(),
        Said::Begin => "Begin".into(),
        Said::Dead { step, reason, .. } => format!("that the command of {step} is dead: {reason}"),
        Said::Answer { answer } => proto::step::StepAnswer::decode(answer.as_slice())
            .map(|answer| format!("an answer of {}, {:?}", answer.step, answer.direction()))
            .unwrap_or_default(),
    }
}

/// A message of `orchestrator.replies`: stored as a signal by any instance, then acknowledged.
pub fn message(w: &mut World, process: ProcessId, message: &Message, settle: Settle) {
    let signal = match orchestrator::compensation::read(message) {
        Ok(signal) => signal,
        Err(why) => return settle(w, Verdict::Dead(why)),
    };
    let id = message.id;
    w.transact(
        process,
        move |w| {
            w.tables.say(signal);
            w.judge.handled(id);
        },
        move |w, word| {
            ring(w);
            settle(w, verdict(word.err()));
        },
    );
}

/// What a handler says when its transaction had this word.
#[must_use]
pub fn verdict(trouble: Option<NoWord>) -> Verdict {
    trouble.map_or(Verdict::Done, |_| Verdict::Unavailable("the database".into()))
}

fn driver_now() -> i64 {
    clock::now().timestamp_millis()
}
