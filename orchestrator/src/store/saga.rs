//! Sagas and journals, read for people.

use chassis::sql::{Checked, Statement};
use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use types::SagaId;
use uuid::Uuid;

/// The owner of a saga and what waits for it.
#[derive(Debug, Clone)]
pub struct Ownership {
    /// The shard's owner, if it has one.
    pub owner: Option<Uuid>,
    /// The shard's epoch.
    pub epoch: i64,
    /// Signals stored and not yet read.
    pub unread: i64,
}

/// A journal row.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Counts from 1.
    pub version: i64,
    /// The owner's epoch.
    pub epoch: i64,
    /// The events, a JSON array.
    pub events: String,
    /// When it was committed.
    pub create_time: DateTime<Utc>,
}

type Listed = Statement<(Option<String>, Option<String>, Option<Uuid>, i64), (Uuid,)>;

/// Of every state, or of one that most are in.
static LIST: Listed = Statement::new(
    "select saga_id from orchestrator.saga \
     where ($1::text is null or state = $1) and ($2::text is null or kind = $2) and ($3::uuid is null or saga_id < $3) \
     order by saga_id desc limit $4",
);

/// Under way: few among all that ever were.
static LIST_RUNNING: Listed = Statement::new(
    "select saga_id from orchestrator.saga \
     where not ended and state = $1 and ($2::text is null or kind = $2) and ($3::uuid is null or saga_id < $3) \
     order by saga_id desc limit $4",
);

/// Under way and not RUNNING: an index has these alone.
static LIST_ASIDE: Listed = Statement::new(
    "select saga_id from orchestrator.saga \
     where not ended and state <> 'RUNNING' and state = $1 and ($2::text is null or kind = $2) \
       and ($3::uuid is null or saga_id < $3) \
     order by saga_id desc limit $4",
);

static OWNERSHIP: Statement<(Uuid,), (Option<Uuid>, i64, i64)> = Statement::new(
    "select h.owner_id, f.epoch, \
            (select count(*) from orchestrator.signal g where g.saga_id = s.saga_id and g.read_time is null) \
     from orchestrator.saga s join orchestrator.shard h on h.shard_id = s.shard_id \
     join orchestrator.fence f on f.shard_id = s.shard_id \
     where s.saga_id = $1",
);

static ENTRIES: Statement<(Uuid, i64, i64), (i64, i64, String, DateTime<Utc>)> = Statement::new(
    "select version, epoch, events, create_time from orchestrator.journal \
     where saga_id = $1 and version > $2 order by version limit $3",
);

pub(super) fn statements() -> Vec<&'static dyn Checked> {
    vec![&LIST, &LIST_RUNNING, &LIST_ASIDE, &OWNERSHIP, &ENTRIES]
}

/// A page of sagas, newest first.
///
/// # Errors
/// What the database said.
pub async fn list(
    connection: &mut PgConnection,
    state: Option<String>,
    kind: Option<String>,
    before: Option<SagaId>,
    limit: i64,
) -> sqlx::Result<Vec<SagaId>> {
    let list = match state.as_deref() {
        None | Some("COMPLETED" | "COMPENSATED") => &LIST,
        Some("RUNNING") => &LIST_RUNNING,
        Some(_) => &LIST_ASIDE,
    };
    let rows = list.all(connection, (state, kind, before.map(SagaId::uuid), limit)).await?;
    Ok(rows.into_iter().map(|(id,)| SagaId::from_uuid(id)).collect())
}

/// Whose it is.
///
/// # Errors
/// What the database said.
pub async fn ownership(connection: &mut PgConnection, saga: SagaId) -> sqlx::Result<Option<Ownership>> {
    let row = OWNERSHIP.maybe(connection, (saga.uuid(),)).await?;
    Ok(row.map(|(owner, epoch, unread)| Ownership { owner, epoch, unread }))
}

/// A page of its journal, oldest first.
///
/// # Errors
/// What the database said.
pub async fn entries(
    connection: &mut PgConnection,
    saga: SagaId,
    after: i64,
    limit: i64,
) -> sqlx::Result<Vec<Entry>> {
    let rows = ENTRIES.all(connection, (saga.uuid(), after, limit)).await?;
    Ok(rows
        .into_iter()
        .map(|(version, epoch, events, create_time)| Entry { version, epoch, events, create_time })
        .collect())
}
