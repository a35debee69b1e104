//! The orchestrators' database: fences, shards, sagas with their journals, signals, keys.
//!
//! What the statements of `orchestrator/src/journal.rs`, `shard.rs`, `signal.rs` and `store/` do to it, as functions
//! that run inside a transaction. The commit is *fence ⋈ compare-and-set* of DESIGN section 4.5: what is missing there
//! writes nothing at all.

use std::collections::{BTreeMap, BTreeSet};

use chassis::clock;
use chrono::{DateTime, Utc};
use orchestrator::{
    journal::{Recorded, Stored, Transition},
    saga::{Event, State},
    shard::{Look, ShardRow},
    signal::Signal,
};
use types::SagaId;
use uuid::Uuid;

use crate::{bug::Bug, mark::Mark, process::ProcessId, process::Room, world::World};

/// Shards in this world.
pub const SHARDS: i16 = 4;

/// A saga's row, its journal and its order.
#[derive(Debug, Clone)]
pub struct SagaRow {
    pub shard: i16,
    pub kind: String,
    pub definition_version: i32,
    pub definition_hash: i64,
    pub version: i64,
    pub commit: Uuid,
    pub epoch: i64,
    pub state: &'static str,
    pub reason: String,
    pub ended: bool,
    pub resumes: i32,
    resume_time: i64,
    create_time: DateTime<Utc>,
    /// Entry by entry, as the column says it.
    journal: Vec<String>,
    /// The journal, folded: what anybody who loads it knows.
    pub folded: State,
    pub status: &'static str,
    pub cancel_requested: bool,
}

/// A signal's row.
#[derive(Debug, Clone)]
pub struct SignalRow {
    pub signal: Signal,
    pub read: bool,
}

/// What a key stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    pub saga: SagaId,
    pub fingerprint: u64,
}

/// The database.
#[derive(Debug)]
pub struct Tables {
    /// Epochs by shard.
    fence: Vec<i64>,
    shards: Vec<ShardRow>,
    instances: BTreeMap<Uuid, (i64, Vec<String>)>,
    pub sagas: BTreeMap<SagaId, SagaRow>,
    /// In the order in which they were stored.
    pub signals: Vec<SignalRow>,
    known_signals: BTreeSet<Uuid>,
    pub unread: usize,
    pub keys: BTreeMap<String, Key>,
}

impl Default for Tables {
    fn default() -> Self {
        let row = |shard| ShardRow { shard, owner: None, released: true, epoch: 1 };
        Self {
            fence: vec![1; usize::try_from(SHARDS).unwrap_or(0)],
            shards: (0..SHARDS).map(row).collect(),
            instances: BTreeMap::new(),
            sagas: BTreeMap::new(),
            signals: Vec::new(),
            known_signals: BTreeSet::new(),
            unread: 0,
            keys: BTreeMap::new(),
        }
    }
}

fn written(events: &[Recorded]) -> String {
    serde_json::to_string(events).unwrap_or_default()
}

/// What cannot be read is not there: then the driver finds a journal without a beginning.
fn read(entry: &str) -> Vec<Recorded> {
    serde_json::from_str(entry).unwrap_or_default()
}

/// An order to be started.
#[derive(Debug, Clone)]
pub struct Start {
    pub saga: SagaId,
    pub shard: i16,
    pub epoch: i64,
    pub kind: String,
    pub definition_version: i32,
    pub definition_hash: i64,
    pub started: Recorded,
    pub key: String,
    pub fingerprint: u64,
}

impl Tables {
    /// The epoch of a shard.
    #[must_use]
    pub fn epoch(&self, shard: i16) -> i64 {
        usize::try_from(shard).ok().and_then(|at| self.fence.get(at)).copied().unwrap_or(0)
    }

    /// Who owns it, by its row.
    #[must_use]
    pub fn owner(&self, shard: i16) -> Option<Uuid> {
        self.shards.iter().find(|row| row.shard == shard).and_then(|row| row.owner)
    }

    /// Renews a lease and reads everybody's.
    pub fn renew(&mut self, me: Uuid, definitions: &[String]) -> Look {
        let row = self.instances.entry(me).or_insert_with(|| (0, Vec::new()));
        *row = (row.0 + 1, definitions.to_vec());
        let shards = self.shards.iter().map(|row| ShardRow { epoch: self.epoch(row.shard), ..row.clone() });
        Look {
            instances: self.instances.iter().map(|(id, row)| (*id, row.clone())).collect(),
            shards: shards.collect(),
        }
    }

    /// Raises a shard's epoch if it is still the one that was read; the new one.
    pub fn raise(&mut self, row: &ShardRow, me: Uuid, keeps_epoch: bool) -> Option<i64> {
        let fence = usize::try_from(row.shard).ok().and_then(|at| self.fence.get_mut(at))?;
        if *fence != row.epoch {
            return None;
        }
        *fence += i64::from(!keeps_epoch);
        let epoch = *fence;
        let owned = self.shards.iter_mut().find(|one| one.shard == row.shard)?;
        (owned.owner, owned.released) = (Some(me), false);
        Some(epoch)
    }

    /// Hands shards over.
    pub fn release(&mut self, shards: &[i16], me: Uuid) {
        for row in &mut self.shards {
            if shards.contains(&row.shard) && row.owner == Some(me) {
                (row.owner, row.released) = (None, true);
            }
        }
    }

    /// Leaves, or is taken off the list of the living at this counter.
    pub fn leave(&mut self, me: Uuid, counter: Option<i64>) {
        if counter.is_none_or(|counter| self.instances.get(&me).is_some_and(|(now, _)| *now == counter)) {
            self.instances.remove(&me);
        }
    }

    /// A saga as it is stored.
    #[must_use]
    pub fn load(&self, saga: SagaId) -> Option<Stored> {
        let row = self.sagas.get(&saga)?;
        Some(Stored {
            saga,
            shard: row.shard,
            kind: row.kind.clone(),
            definition_version: row.definition_version,
            definition_hash: row.definition_hash,
            version: row.version,
            epoch: row.epoch,
            create_time: row.create_time,
            events: row.journal.iter().flat_map(|entry| read(entry)).collect(),
            unreadable: None,
        })
    }

    /// The sagas of these shards that are not at their end.
    #[must_use]
    pub fn open_sagas(&self, shards: &[i16]) -> Vec<(SagaId, i16, String)> {
        let open = self.sagas.iter().filter(|(_, row)| !row.ended && shards.contains(&row.shard));
        open.map(|(saga, row)| (*saga, row.shard, row.state.to_owned())).collect()
    }

    /// Counts a resume of sagas that were taken over from the dead, where the shard is still owned.
    pub fn resume(&mut self, sagas: &[SagaId], owned: &[(i16, i64)], now: i64) -> Vec<(SagaId, i32)> {
        let mut counted = Vec::new();
        for saga in sagas {
            let epoch_of =
                |shard: i16| usize::try_from(shard).ok().and_then(|at| self.fence.get(at).copied());
            let Some(row) = self.sagas.get_mut(saga) else { continue };
            if !owned.iter().any(|(shard, epoch)| *shard == row.shard && epoch_of(*shard) == Some(*epoch)) {
                continue;
            }
            let again = row.resumes > 0 && row.resume_time > now - 30_000;
            row.resumes = if again { row.resumes + 1 } else { 1 };
            row.resume_time = now;
            counted.push((*saga, row.resumes));
        }
        counted
    }

    /// Nothing counts against the sagas of these shards.
    pub fn acquit(&mut self, shards: &[i16]) {
        for row in self.sagas.values_mut().filter(|row| shards.contains(&row.shard) && !row.ended) {
            row.resumes = 0;
        }
    }

    /// Stores a signal, once. A saga that is not there hears nothing.
    pub fn say(&mut self, signal: Signal) {
        if self.sagas.contains_key(&signal.saga) && self.known_signals.insert(signal.id) {
            self.unread += 1;
            self.signals.push(SignalRow { signal, read: false });
        }
    }

    /// The signals of these shards that were not read and are not in hand.
    #[must_use]
    pub fn unread(&self, shards: &[i16], in_hand: impl Fn(Uuid) -> bool) -> Vec<Signal> {
        if self.unread == 0 {
            return Vec::new();
        }
        let is_mine = |saga: SagaId| self.sagas.get(&saga).is_some_and(|row| shards.contains(&row.shard));
        let unread = self.signals.iter().filter(|row| !row.read);
        let mine = unread.filter(|row| is_mine(row.signal.saga) && !in_hand(row.signal.id));
        mine.map(|row| row.signal.clone()).collect()
    }

    /// Marks signals read.
    pub fn mark_read(&mut self, signals: &[Uuid]) {
        for row in self.signals.iter_mut().filter(|row| !row.read && signals.contains(&row.signal.id)) {
            row.read = true;
            self.unread -= 1;
        }
    }
}

/// Starts an order and takes its key, or says what the key stands for.
pub fn start(w: &mut World, start: &Start) -> Result<(), Key> {
    if !w.has(Bug::KeyNotTaken)
        && let Some(known) = w.tables.keys.get(&start.key)
    {
        return Err(known.clone());
    }
    let Ok(folded) = State::start(&start.started.event, start.started.at) else { return Ok(()) };
    let key = Key { saga: start.saga, fingerprint: start.fingerprint };
    w.tables.keys.insert(start.key.clone(), key);
    let row = SagaRow {
        shard: start.shard,
        kind: start.kind.clone(),
        definition_version: start.definition_version,
        definition_hash: start.definition_hash,
        version: 1,
        commit: start.saga.uuid(),
        epoch: start.epoch,
        state: "RUNNING",
        reason: String::new(),
        ended: false,
        resumes: 0,
        resume_time: 0,
        create_time: clock::now(),
        journal: vec![written(std::slice::from_ref(&start.started))],
        folded,
        status: "CREATED",
        cancel_requested: false,
    };
    w.tables.sagas.insert(start.saga, row);
    w.judge_a_start(start);
    Ok(())
}

/// The group commit; the sagas that were won.
pub fn commit(w: &mut World, by: ProcessId, transitions: &[Transition]) -> Vec<SagaId> {
    let mut won = Vec::new();
    for transition in transitions {
        let fence = w.tables.epoch(transition.shard) == transition.epoch || w.has(Bug::NoFence);
        let ignores_version = w.has(Bug::NoCompare) || w.has(Bug::LostCommitAssumedFailed);
        let Some(row) = w.tables.sagas.get(&transition.saga) else { continue };
        let compare = row.shard == transition.shard
            && !row.ended
            && (row.version == transition.version || ignores_version);
        if !fence || !compare {
            w.mark(if fence { Mark::CompareHolds } else { Mark::FenceHolds });
            w.tell_of(by, transition.saga, || {
                format!("version {} is not taken (fence {fence}, compare {compare})", transition.version + 1)
            });
            continue;
        }
        w.judge_a_transition(by, transition);
        write(w, by, transition);
        won.push(transition.saga);
    }
    won
}

fn write(w: &mut World, by: ProcessId, transition: &Transition) {
    if let Some(row) = w.tables.sagas.get_mut(&transition.saga) {
        row.version += 1;
        row.commit = transition.commit_id;
        row.epoch = transition.epoch;
        row.state = transition.state;
        row.reason.clone_from(&transition.reason);
        row.ended = transition.ended;
        row.journal.push(written(&transition.events));
        if let Some(projection) = &transition.projection {
            row.status = projection.status;
            row.cancel_requested = projection.cancel_requested;
        }
    }
    w.tables.mark_read(&transition.signals);
    w.insert_outbox(Room::Orchestrator, &transition.messages);
    w.tell_of(by, transition.saga, || {
        let events: Vec<_> = transition.events.iter().map(|recorded| describe(&recorded.event)).collect();
        format!("version {} {}: {}", transition.version + 1, transition.state, events.join(" · "))
    });
}

/// An event in a line of a trace.
#[must_use]
pub fn describe(event: &Event) -> String {
    let step = event.step().map(|step| format!(" {step}")).unwrap_or_default();
    let more = match event {
        Event::TurnedRound { reason, take_back, .. } => {
            let steps: Vec<_> = take_back.iter().map(ToString::to_string).collect();
            format!(" {reason}, back: {}", steps.join(" "))
        }
        Event::StepRefused { reason, .. }
        | Event::Parked { reason, .. }
        | Event::CommandDead { reason, .. } => format!(" {reason}"),
        Event::AttemptFailed { reason, spent, .. } => format!(" (spent {spent}: {reason})"),
        Event::StepPending { action, .. } => format!(" {action}"),
        Event::CommandAnswered { applied, .. } => format!(" applied {applied}"),
        Event::Resolved { resolution, .. } => format!(" {resolution:?}"),
        Event::Finished { outcome } => format!(" {outcome:?}"),
        Event::Started { .. }
        | Event::StepDone { .. }
        | Event::StepFenced { .. }
        | Event::CancelRequested { .. }
        | Event::CommandSent { .. }
        | Event::PivotPassed
        | Event::Retried { .. }
        | Event::CompensationForced { .. } => String::new(),
    };
    format!("{}{step}{more}", event.name())
}
