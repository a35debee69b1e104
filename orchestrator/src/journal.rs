//! The journal: group commit of transitions, starts, and loading. All SQL about sagas stands here.
//!
//! Every transition is written in one statement that first takes the fence rows of its shards at the owner's epoch, for
//! share and in shard order, then compares and sets the saga's version; journal, projection, outbox and signals are
//! written from the result. A saga whose shard was lost, or whose version moved, is missing there: it alone is dropped
//! and loaded again. After an error nothing is known: the rows are read again by (saga, version, commit id), and what
//! did not land is written again. Read next: `journal/stored.rs`.

mod group;
mod seeded;
mod stored;

use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

use chassis::{
    bus::Message,
    database::{Trouble, Warm},
    outbox::{Columns, Relay},
    seeded::{Bug, is},
    slots::slot,
    sql::{Checked, Statement},
    stop::Stop,
};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use sqlx::PgConnection;
use tokio::sync::mpsc;
use types::SagaId;
use uuid::Uuid;

pub use self::group::take_group;
pub use self::stored::{Stored, load, load_owned, open_sagas};

use crate::{catalog::Projection, metrics, saga::Event};

/// An event with the time at which it was recorded, as the journal stores it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recorded {
    /// Milliseconds since 1970.
    pub at: i64,
    /// In the first of a saga: the W3C traceparent that it is part of; left out where there is none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub trace: String,
    /// The fact.
    #[serde(flatten)]
    pub event: Event,
}

/// One commit of one saga.
#[derive(Debug, Clone)]
pub struct Transition {
    /// Which.
    pub saga: SagaId,
    /// Its shard.
    pub shard: i16,
    /// The owner's epoch there.
    pub epoch: i64,
    /// The version it was at.
    pub version: i64,
    /// Says afterwards whether it landed.
    pub commit_id: Uuid,
    /// The facts.
    pub events: Vec<Recorded>,
    /// The row's state.
    pub state: &'static str,
    /// The row's reason.
    pub reason: String,
    /// It is at its end.
    pub ended: bool,
    /// The projection, where it changed.
    pub projection: Option<Projection>,
    /// What leaves with it.
    pub messages: Vec<Message>,
    /// Signals that it answers.
    pub signals: Vec<Uuid>,
    /// Nothing has held its saga up.
    pub is_fresh: bool,
}

/// What became of a transition: its saga and its commit id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Landed {
    /// It is durable.
    Yes(SagaId, Uuid),
    /// Another owner, or another version: nothing of it was written.
    No(SagaId, Uuid),
}

/// What a transition is whose commit failed with an error, by the version and commit id that the row has now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AfterDoubt {
    /// It landed; only the answer was lost.
    Landed,
    /// It did not, and may be written again.
    Again,
    /// The version moved: another owner wrote.
    Lost,
}

impl AfterDoubt {
    /// Judges one.
    #[must_use]
    pub fn of(transition: &Transition, row: Option<(i64, Uuid)>) -> Self {
        match row {
            Some((_, commit)) if commit == transition.commit_id => Self::Landed,
            Some((version, _)) if version == transition.version => Self::Again,
            _ => Self::Lost,
        }
    }
}

static LANDED: Statement<(Vec<Uuid>,), (Uuid, i64, Uuid)> =
    Statement::new("select saga_id, version, commit_id from orchestrator.saga where saga_id = any ($1)");

/// The group commit. `fence ⋈ compare-and-set`, then everything else from what was won. What the projection shows goes with
/// each transition, null where it did not change: joined to what was won, a planner that takes it for one row would look
/// through all of it for each. `ended is not true` keeps the planner from the index of a shard's open sagas, which looks cheaper
/// than the key as long as there are few, and would be read for each saga when there are a hundred thousand. Signals are mostly
/// none at all, so a join to them would read all of their key: they are found by an array that is made once.
static COMMIT: Statement<CommitParameters, (Uuid,)> = Statement::new(
    "with fence as materialized ( \
       select f.shard_id from orchestrator.fence f \
       join unnest($1::smallint[], $2::bigint[]) as o (shard_id, epoch) on o.shard_id = f.shard_id and o.epoch = f.epoch \
       order by f.shard_id for share of f), \
     won as ( \
       update orchestrator.saga s \
       set version = s.version + 1, commit_id = t.commit_id, epoch = t.epoch, state = t.state, reason = t.reason, \
           ended = t.ended, update_time = t.time \
       from unnest($3::uuid[], $4::smallint[], $5::bigint[], $6::bigint[], $7::uuid[], $8::text[], $9::text[], $10::boolean[], \
                   $11::text[], $12::timestamptz[], $13::text[], $14::text[], $15::text[], $16::boolean[]) \
            as t (saga_id, shard_id, epoch, version, commit_id, state, reason, ended, events, time, \
                  status, status_reason, status_metadata, cancel_requested), fence \
       where s.saga_id = t.saga_id and s.version = t.version and s.shard_id = t.shard_id and fence.shard_id = t.shard_id \
         and s.ended is not true \
       returning s.saga_id, s.version, t.epoch, t.commit_id, t.events, t.time, \
                 t.status, t.status_reason, t.status_metadata, t.cancel_requested), \
     journalled as ( \
       insert into orchestrator.journal (saga_id, version, epoch, commit_id, events, create_time) \
       select saga_id, version, epoch, commit_id, events, time from won), \
     projected as ( \
       update orchestrator.\"order\" o \
       set status = won.status, status_reason = won.status_reason, status_metadata = won.status_metadata, \
           cancel_requested = won.cancel_requested, version = won.version, update_time = won.time \
       from won where won.status is not null and o.order_id = won.saga_id), \
     sent as ( \
       insert into orchestrator.outbox (outbox_id, exchange, routing_key, kind, body, headers, create_time) \
       select m.outbox_id, m.exchange, m.routing_key, m.kind, m.body, m.headers, m.create_time \
       from unnest($17::uuid[], $18::uuid[], $19::text[], $20::text[], $21::text[], $22::bytea[], $23::text[], $24::timestamptz[]) \
            as m (saga_id, outbox_id, exchange, routing_key, kind, body, headers, create_time), won \
       where won.saga_id = m.saga_id), \
     answered as ( \
       update orchestrator.signal g set read_time = now() \
       where g.signal_id = any (array( \
         select r.signal_id from unnest($25::uuid[], $26::uuid[]) as r (signal_id, saga_id), won \
         where won.saga_id = r.saga_id))) \
     select saga_id from won",
);

type CommitParameters = (
    Vec<i16>,
    Vec<i64>,
    Vec<Uuid>,
    Vec<i16>,
    Vec<i64>,
    Vec<i64>,
    Vec<Uuid>,
    Vec<String>,
    Vec<String>,
    Vec<bool>,
    Vec<String>,
    Vec<DateTime<Utc>>,
    Vec<Option<String>>,
    Vec<Option<String>>,
    Vec<Option<String>>,
    Vec<Option<bool>>,
    Vec<Uuid>,
    Vec<Uuid>,
    Vec<String>,
    Vec<String>,
    Vec<String>,
    Vec<Vec<u8>>,
    Vec<String>,
    Vec<DateTime<Utc>>,
    Vec<Uuid>,
    Vec<Uuid>,
);

/// Every statement, for the SQL check.
pub(crate) fn statements() -> Vec<&'static dyn Checked> {
    let own: [&dyn Checked; 2] = [&LANDED, &COMMIT];
    own.into_iter().chain(stored::statements()).chain(seeded::statements()).collect()
}

/// The arrays of [`COMMIT`], by name.
#[derive(Default)]
struct Arrays {
    sagas: Vec<Uuid>,
    shards: Vec<i16>,
    epochs: Vec<i64>,
    versions: Vec<i64>,
    commits: Vec<Uuid>,
    states: Vec<String>,
    reasons: Vec<String>,
    ended: Vec<bool>,
    events: Vec<String>,
    times: Vec<DateTime<Utc>>,
    statuses: Vec<Option<String>>,
    status_reasons: Vec<Option<String>>,
    status_metadata: Vec<Option<String>>,
    cancels: Vec<Option<bool>>,
    message_sagas: Vec<Uuid>,
    messages: Vec<Message>,
    signals: Vec<Uuid>,
    signal_sagas: Vec<Uuid>,
}

impl Arrays {
    fn add(&mut self, t: &Transition) -> sqlx::Result<()> {
        let json = |e: serde_json::Error| sqlx::Error::Encode(e.into());
        let id = t.saga.uuid();
        let time = t.events.last().and_then(|e| DateTime::from_timestamp_millis(e.at));
        self.sagas.push(id);
        self.shards.push(t.shard);
        self.epochs.push(t.epoch);
        self.versions.push(t.version);
        self.commits.push(t.commit_id);
        self.states.push(t.state.to_owned());
        self.reasons.push(t.reason.clone());
        self.ended.push(t.ended);
        let events = match &t.events {
            events if t.ended && is(Bug::EndWrittenTwice) => [events.as_slice(), events].concat(),
            events => events.clone(),
        };
        self.events.push(serde_json::to_string(&events).map_err(json)?);
        self.times.push(time.unwrap_or_else(chassis::clock::now));
        let shown = t.projection.as_ref();
        self.statuses.push(shown.map(|p| p.status.to_owned()));
        self.status_reasons.push(shown.map(|p| p.reason().to_owned()));
        let metadata = shown.map(|p| serde_json::to_string(&*p.metadata())).transpose();
        self.status_metadata.push(metadata.map_err(json)?);
        self.cancels.push(shown.map(|p| p.cancel_requested));
        self.message_sagas.extend(t.messages.iter().map(|_| id));
        self.messages.extend(t.messages.iter().cloned());
        self.signals.extend(&t.signals);
        self.signal_sagas.extend(t.signals.iter().map(|_| id));
        Ok(())
    }

    fn parameters(self) -> CommitParameters {
        let mut owned: Vec<(i16, i64)> =
            self.shards.iter().copied().zip(self.epochs.iter().copied()).collect();
        owned.sort_unstable();
        owned.dedup();
        let (shards, epochs) = owned.into_iter().unzip();
        let outbox = Columns::of(&self.messages);
        (
            shards,
            epochs,
            self.sagas,
            self.shards,
            self.epochs,
            self.versions,
            self.commits,
            self.states,
            self.reasons,
            self.ended,
            self.events,
            self.times,
            self.statuses,
            self.status_reasons,
            self.status_metadata,
            self.cancels,
            self.message_sagas,
            outbox.ids,
            outbox.exchanges,
            outbox.routing_keys,
            outbox.kinds,
            outbox.bodies,
            outbox.headers,
            outbox.times,
            self.signals,
            self.signal_sagas,
        )
    }
}

fn parameters(transitions: &[Transition]) -> sqlx::Result<CommitParameters> {
    let mut sorted: Vec<&Transition> = transitions.iter().collect();
    sorted.sort_by_key(|t| t.saga);
    let mut arrays = Arrays::default();
    for transition in sorted {
        arrays.add(transition)?;
    }
    Ok(arrays.parameters())
}

/// Writes transitions of different sagas in one commit; the sagas that were won.
///
/// # Errors
/// What the database said: nothing is known then.
pub async fn commit(connection: &mut PgConnection, transitions: &[Transition]) -> sqlx::Result<Vec<SagaId>> {
    let mut parameters = parameters(transitions)?;
    if is(Bug::NoEpochCheck) {
        parameters.1 = seeded::present_epochs(connection, &parameters.0).await?;
    }
    let won = COMMIT.all(connection, parameters).await?;
    if is(Bug::VersionSkipped) {
        seeded::skip_a_version(connection, won.iter().map(|(id,)| *id).collect()).await?;
    }
    Ok(won.into_iter().map(|(id,)| SagaId::from_uuid(id)).collect())
}

/// Writes what queued while the last commit was in flight; with no added latency when idle.
pub(crate) struct Writer {
    pool: Warm,
    relay: Relay,
    queue: mpsc::UnboundedReceiver<Transition>,
    landed: mpsc::UnboundedSender<Vec<Landed>>,
    stop: Stop,
}

impl Writer {
    /// Starts it; transitions go in, what became of them comes out.
    pub(crate) fn start(
        pool: Warm,
        relay: Relay,
        landed: mpsc::UnboundedSender<Vec<Landed>>,
        stop: &Stop,
    ) -> mpsc::UnboundedSender<Transition> {
        let (sender, queue) = mpsc::unbounded_channel();
        let writer = Self { pool, relay, queue, landed, stop: stop.clone() };
        stop.spawn(writer.run());
        sender
    }

    async fn run(mut self) {
        let mut waiting = VecDeque::new();
        loop {
            if waiting.is_empty() {
                let Some(first) = self.queue.recv().await else { return };
                waiting.push_back(first);
            }
            let _slot = slot().await;
            while let Ok(more) = self.queue.try_recv() {
                waiting.push_back(more);
            }
            let mut group = take_group(&mut waiting);
            group.iter_mut().for_each(|transition| self.relay.keep_wanted(&mut transition.messages));
            metrics::group(group.len());
            let landed = self.write(group).await;
            if self.landed.send(landed).is_err() {
                return;
            }
        }
    }

    /// Until it is known what became of each.
    async fn write(&self, mut group: Vec<Transition>) -> Vec<Landed> {
        let mut known = Vec::new();
        let mut wait = Duration::from_millis(20);
        while !group.is_empty() {
            match self.attempt(&group).await {
                Ok(won) => {
                    self.conclude(group, &won, &mut known);
                    return known;
                }
                Err(error) => {
                    tracing::warn!(sagas = group.len(), %error, "a group commit failed; reading it again")
                }
            }
            // Stopping with an unknown commit is as a crash here: the next owner reads what landed.
            if !self.stop.sleep(wait).await {
                known.extend(group.iter().map(|t| Landed::No(t.saga, t.commit_id)));
                return known;
            }
            wait = (wait * 2).min(Duration::from_secs(1));
            group = self.sort_out(group, &mut known).await;
        }
        known
    }

    async fn attempt(&self, group: &[Transition]) -> Result<Vec<SagaId>, Trouble> {
        let mut connection = self.pool.connection().await?;
        let began = std::time::Instant::now();
        let won = commit(&mut connection, group).await?;
        metrics::commit(began.elapsed());
        Ok(won)
    }

    fn conclude(&self, group: Vec<Transition>, won: &[SagaId], known: &mut Vec<Landed>) {
        let won: std::collections::HashSet<_> = won.iter().collect();
        for transition in group {
            if won.contains(&transition.saga) {
                self.relay.hand(transition.messages);
                known.push(Landed::Yes(transition.saga, transition.commit_id));
            } else {
                known.push(Landed::No(transition.saga, transition.commit_id));
            }
        }
    }

    /// After an error: what [`AfterDoubt`] says of each.
    async fn sort_out(&self, group: Vec<Transition>, known: &mut Vec<Landed>) -> Vec<Transition> {
        let ids = group.iter().map(|t| t.saga.uuid()).collect();
        let found = match self.pool.acquire().await {
            Ok(mut connection) => LANDED.all(&mut connection, (ids,)).await,
            Err(error) => Err(error),
        };
        let Ok(found) = found else { return group };
        let found: HashMap<Uuid, (i64, Uuid)> =
            found.into_iter().map(|(id, v, commit)| (id, (v, commit))).collect();
        let mut again = Vec::new();
        for transition in group {
            let row = found.get(&transition.saga.uuid()).copied();
            if let Some((version, commit)) = row
                && is(Bug::CommitWrittenAgain)
                && commit == transition.commit_id
            {
                let commit_id = chassis::clock::new_uuid();
                again.push(Transition { version, commit_id, ..transition });
                continue;
            }
            match AfterDoubt::of(&transition, row) {
                AfterDoubt::Landed => {
                    self.relay.hand(transition.messages.clone());
                    known.push(Landed::Yes(transition.saga, transition.commit_id));
                }
                AfterDoubt::Again => again.push(transition),
                AfterDoubt::Lost => known.push(Landed::No(transition.saga, transition.commit_id)),
            }
        }
        again
    }
}
