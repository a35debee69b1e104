//! Sagas as they are stored, and how they are loaded.

use chassis::sql::{Checked, Statement};
use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use types::SagaId;
use uuid::Uuid;

use super::Recorded;

/// A saga as it is stored.
#[derive(Debug, Clone)]
pub struct Stored {
    /// Which.
    pub saga: SagaId,
    /// Its shard.
    pub shard: i16,
    /// Its kind.
    pub kind: String,
    /// Its definition's version.
    pub definition_version: i32,
    /// Its definition's hash.
    pub definition_hash: i64,
    /// Its version.
    pub version: i64,
    /// The epoch of its last commit.
    pub epoch: i64,
    /// When it started.
    pub create_time: DateTime<Utc>,
    /// Its whole journal, in order; none of it where this build cannot read all of it.
    pub events: Vec<Recorded>,
    /// Why not: most likely a newer build wrote it.
    pub unreadable: Option<String>,
}

impl Stored {
    /// Takes the next row of its journal.
    fn read(&mut self, events: &str) {
        match serde_json::from_str::<Vec<Recorded>>(events) {
            Ok(events) if self.unreadable.is_none() => self.events.extend(events),
            Ok(_) => {}
            Err(error) => {
                self.events.clear();
                self.unreadable.get_or_insert_with(|| error.to_string());
            }
        }
    }
}

/// A saga with one row of its journal.
type LoadRow = (Uuid, i16, String, i32, i64, i64, i64, DateTime<Utc>, String);

/// One statement, so one snapshot: a commit between two would show a version without its events. And no transaction:
/// doors load, too, and a caller that hangs up drops its load wherever it waits.
static LOAD: Statement<(Vec<Uuid>,), LoadRow> = Statement::new(
    "select s.saga_id, s.shard_id, s.kind, s.definition_version, s.definition_hash, s.version, s.epoch, s.create_time, \
       j.events \
     from orchestrator.saga s join orchestrator.journal j on j.saga_id = s.saga_id \
     where s.saga_id = any ($1) order by s.saga_id, j.version",
);

/// The same, of shards that are still owned. Whoever lost a shard must not learn of a saga that came to it since: its owner
/// has it in memory, and takes back only what it has called itself.
static LOAD_OWNED: Statement<(Vec<Uuid>, Vec<i16>, Vec<i64>), LoadRow> = Statement::new(
    "select s.saga_id, s.shard_id, s.kind, s.definition_version, s.definition_hash, s.version, s.epoch, s.create_time, \
       j.events \
     from orchestrator.saga s \
     join orchestrator.fence f on f.shard_id = s.shard_id \
     join unnest($2::smallint[], $3::bigint[]) as o (shard_id, epoch) on o.shard_id = f.shard_id and o.epoch = f.epoch \
     join orchestrator.journal j on j.saga_id = s.saga_id \
     where s.saga_id = any ($1) order by s.saga_id, j.version",
);

static OPEN_SAGAS: Statement<(Vec<i16>,), (Uuid, i16, String)> = Statement::new(
    "select saga_id, shard_id, state from orchestrator.saga where shard_id = any ($1) and not ended",
);

/// For the SQL check.
pub(super) fn statements() -> [&'static dyn Checked; 3] {
    [&LOAD, &LOAD_OWNED, &OPEN_SAGAS]
}

/// Loads sagas with their journals. Those that are not there are left out; one whose journal cannot be read stands in
/// nobody's way.
///
/// # Errors
/// What the database said.
pub async fn load(connection: &mut PgConnection, sagas: &[SagaId]) -> sqlx::Result<Vec<Stored>> {
    Ok(gather(LOAD.all(connection, (ids(sagas),)).await?))
}

/// Loads sagas to be driven: those whose shard is owned at one of these epochs (shard, epoch). The others are left out, like
/// those that are not there.
///
/// # Errors
/// What the database said.
pub async fn load_owned(
    connection: &mut PgConnection,
    sagas: &[SagaId],
    owned: &[(i16, i64)],
) -> sqlx::Result<Vec<Stored>> {
    let (shards, epochs) = owned.iter().copied().unzip();
    Ok(gather(LOAD_OWNED.all(connection, (ids(sagas), shards, epochs)).await?))
}

fn ids(sagas: &[SagaId]) -> Vec<Uuid> {
    sagas.iter().map(|saga| saga.uuid()).collect()
}

fn gather(rows: Vec<LoadRow>) -> Vec<Stored> {
    let mut all: Vec<Stored> = Vec::new();
    for (id, shard, kind, definition_version, definition_hash, version, epoch, create_time, events) in rows {
        let saga = SagaId::from_uuid(id);
        if all.last().is_none_or(|last| last.saga != saga) {
            all.push(Stored {
                saga,
                shard,
                kind,
                definition_version,
                definition_hash,
                version,
                epoch,
                create_time,
                events: Vec::new(),
                unreadable: None,
            });
        }
        if let Some(last) = all.last_mut() {
            last.read(&events);
        }
    }
    all
}

/// The sagas of these shards that are not at their end: id, shard, state.
///
/// # Errors
/// What the database said.
pub async fn open_sagas(
    connection: &mut PgConnection,
    shards: &[i16],
) -> sqlx::Result<Vec<(SagaId, i16, String)>> {
    let rows = OPEN_SAGAS.all(connection, (shards.to_vec(),)).await?;
    Ok(rows.into_iter().map(|(id, shard, state)| (SagaId::from_uuid(id), shard, state)).collect())
}
