//! What others say to a saga: cancel, a decision, a settlement, an operator's verb, an answer, a dead command.
//!
//! A signal is a row, unique by its source's id, committed by any instance before it acknowledges anything. The owner
//! reads the rows of its shards and turns them into events in its next commit; that commit marks them read. Woken by a
//! notice in the process, else by a look every 50 ms.

use chassis::{
    batcher::Command,
    database::Trouble,
    sql::{Checked, Statement},
};
use serde::{Deserialize, Serialize};
use sqlx::{PgConnection, PgPool};
use tokio::sync::Notify;
use types::{SagaId, StepName};
use uuid::Uuid;

use crate::saga::Resolution;

/// What is said.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "signal")]
pub enum Said {
    /// A customer wants it taken back.
    Cancel {
        /// For people.
        reason: String,
    },
    /// A participant answered by message: the encoded `StepAnswer`.
    Answer {
        /// Its bytes.
        answer: Vec<u8>,
    },
    /// A command went to the dead queue.
    Dead {
        /// The step it takes back.
        step: StepName,
        /// The message's id.
        command_id: String,
        /// Why.
        reason: String,
    },
    /// A saga was started on a shard of another instance.
    Begin,
    /// An operator has it tried again.
    Retry {
        /// Who.
        actor: String,
        /// Why.
        reason: String,
    },
    /// An operator wants it taken back.
    ForceCompensate {
        /// Who.
        actor: String,
        /// Why.
        reason: String,
    },
    /// An operator gives an outcome.
    Resolve {
        /// Of which step.
        step: StepName,
        /// Of its compensation.
        compensation: bool,
        /// Which.
        resolution: Resolution,
        /// The step's output.
        output: String,
        /// Who.
        actor: String,
        /// Why.
        reason: String,
        /// Where the proof lies.
        evidence: String,
    },
}

impl Said {
    const fn kind(&self) -> &'static str {
        match self {
            Self::Cancel { .. } => "CANCEL",
            Self::Answer { .. } => "ANSWER",
            Self::Dead { .. } => "DEAD",
            Self::Begin => "BEGIN",
            Self::Retry { .. } => "RETRY",
            Self::ForceCompensate { .. } => "FORCE_COMPENSATE",
            Self::Resolve { .. } => "RESOLVE",
        }
    }
}

/// A signal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signal {
    /// The source's: the same thing said twice has one id.
    pub id: Uuid,
    /// To whom.
    pub saga: SagaId,
    /// What.
    pub said: Said,
}

/// Signals that changed nothing, by what the owner of their saga knew under its epoch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Discarded {
    /// Which.
    pub signals: Vec<Uuid>,
    /// Their saga's shard.
    pub shard: i16,
    /// The owner's epoch there.
    pub epoch: i64,
}

// Absorbs a message delivered again: it is one signal. A saga that does not exist hears nothing.
static STORE: Statement<(Vec<Uuid>, Vec<Uuid>, Vec<String>, Vec<Vec<u8>>)> = Statement::new(
    "insert into orchestrator.signal (signal_id, saga_id, kind, body) \
     select g.signal_id, g.saga_id, g.kind, g.body \
     from unnest($1::uuid[], $2::uuid[], $3::text[], $4::bytea[]) as g (signal_id, saga_id, kind, body) \
     join orchestrator.saga s on s.saga_id = g.saga_id \
     order by g.signal_id on conflict do nothing",
);

static UNREAD: Statement<(Vec<i16>, Vec<Uuid>, i64), (Uuid, Uuid, Vec<u8>)> = Statement::new(
    "select g.signal_id, g.saga_id, g.body from orchestrator.signal g join orchestrator.saga s on s.saga_id = g.saga_id \
     where g.read_time is null and s.shard_id = any ($1) and g.signal_id <> all ($2) order by g.create_time limit $3",
);

// Fenced as a commit is: by what a stale owner has in memory, an answer that its successor waits for says nothing new. Found by
// its key: `read_time is null` would have an index of all that is unread looked through.
static READ: Statement<(Vec<Uuid>, i16, i64)> = Statement::new(
    "with fence as materialized ( \
       select f.shard_id from orchestrator.fence f where f.shard_id = $2 and f.epoch = $3 for share of f) \
     update orchestrator.signal g set read_time = now() \
     where g.signal_id = any ($1) and coalesce(g.read_time, 'infinity') = 'infinity' and exists (select from fence)",
);

static FORGET: Statement<(i64,)> = Statement::new(
    "delete from orchestrator.signal where ctid = any (array( \
       select ctid from orchestrator.signal where read_time < now() - $1::bigint * interval '1 second' limit 5000))",
)
.by_the_clock();

pub(crate) fn statements() -> Vec<&'static dyn Checked> {
    vec![&STORE, &UNREAD, &READ, &FORGET]
}

/// Stores signals.
pub struct StoreSignals {
    /// The orchestrator's own database.
    pub pool: PgPool,
    /// Rung after each commit.
    pub bell: std::sync::Arc<Notify>,
}

impl Command for StoreSignals {
    type Item = Signal;
    type Reply = ();
    type Key = Uuid;

    const NAME: &'static str = "signal";

    fn key(item: &Signal) -> Uuid {
        item.id
    }

    async fn run(&self, items: &[Signal]) -> Result<Vec<()>, Trouble> {
        let mut columns: (Vec<Uuid>, Vec<Uuid>, Vec<String>, Vec<Vec<u8>>) = Default::default();
        for signal in items {
            columns.0.push(signal.id);
            columns.1.push(signal.saga.uuid());
            columns.2.push(signal.said.kind().to_owned());
            columns.3.push(serde_json::to_vec(&signal.said).map_err(|e| Trouble::Failed(e.to_string()))?);
        }
        let mut connection = self.pool.acquire().await?;
        STORE.run(&mut connection, columns).await?;
        self.bell.notify_one();
        Ok(vec![(); items.len()])
    }
}

/// What was read: signals, and those that this build cannot read, with why.
pub type Heard = (Vec<Signal>, Vec<(Uuid, String)>);

/// Signals of these shards that were not read, oldest first; not those in hand. One that cannot be read (a newer build
/// stored it) stands in nobody's way.
///
/// # Errors
/// What the database said.
pub async fn unread(
    connection: &mut PgConnection,
    shards: &[i16],
    in_hand: Vec<Uuid>,
) -> sqlx::Result<Heard> {
    let rows = UNREAD.all(connection, (shards.to_vec(), in_hand, 1000)).await?;
    let mut heard = Heard::default();
    for (id, saga, body) in rows {
        match serde_json::from_slice(&body) {
            Ok(said) => heard.0.push(Signal { id, saga: SagaId::from_uuid(saga), said }),
            Err(error) => heard.1.push((id, error.to_string())),
        }
    }
    Ok(heard)
}

/// Marks signals read that changed nothing, unless their shard has another owner by now.
///
/// # Errors
/// What the database said.
pub async fn mark_read(connection: &mut PgConnection, discarded: Discarded) -> sqlx::Result<()> {
    let Discarded { signals, shard, epoch } = discarded;
    READ.run(connection, (signals, shard, epoch)).await.map(|_| ())
}

/// Drops signals read longer ago than this many seconds; how many.
///
/// # Errors
/// What the database said.
pub async fn forget(connection: &mut PgConnection, older_than_seconds: i64) -> sqlx::Result<u64> {
    FORGET.run(connection, (older_than_seconds,)).await
}
