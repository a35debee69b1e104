//! Who owns which sagas: shards, leases, epochs, fences.
//!
//! An instance renews its lease (a counter) and reads everybody's once a second, on a connection of its own, so that
//! overload never loses a lease. A lease has lapsed when its counter did not change over the lease time of successful
//! reads, by the observer's monotonic clock; no clock is compared with another. Every acquisition raises the shard's
//! epoch by updating its fence row, which every commit of the old owner takes for share: whoever comes second sees the
//! other. A holder that hangs is terminated. Who takes what is decided in [`plan`], what is taken alone in [`Reach`].

mod plan;
mod reach;

use std::{collections::HashMap, time::Duration};

use chassis::{
    crash,
    sql::{Checked, Statement},
};
use sqlx::{
    Connection as _, PgConnection, Postgres, Transaction,
    postgres::{PgDatabaseError, PgSeverity},
};
use tokio::time::Instant;
use uuid::Uuid;

pub use self::{
    plan::{Plan, plan},
    reach::{Reach, Reached},
};

static RENEW: Statement<(Uuid, String, String)> = Statement::new(
    // Absorbs the first renewal and a restart under the same id.
    "insert into orchestrator.instance (instance_id, counter, definitions, address) values ($1, 1, $2, $3) \
     on conflict (instance_id) do update set counter = orchestrator.instance.counter + 1, definitions = excluded.definitions, \
       address = excluded.address",
)
.by_the_clock();

// Instances (without a shard) and shards by one statement, so that both are of one moment: a newcomer that takes shards
// between two would own them without being on the list, as the dead do.
static LOOK: Statement<(), (Option<i16>, Option<Uuid>, i64, String, bool)> = Statement::new(
    "select null::smallint as shard_id, instance_id, counter, definitions, false from orchestrator.instance \
     union all \
     select h.shard_id, h.owner_id, f.epoch, '', h.released from orchestrator.shard h \
     join orchestrator.fence f on f.shard_id = h.shard_id order by shard_id",
);

// Whatever anybody keeps locked is passed over, so that it waits for nobody, and nobody for it in a circle.
static RAISE_FREE: Statement<(Vec<i16>, Vec<i64>, Uuid), (i16, i64)> = Statement::new(
    "with free as materialized ( \
       select f.shard_id from unnest($1::smallint[], $2::bigint[]) as seen (shard_id, epoch) \
       join orchestrator.fence f on f.shard_id = seen.shard_id and f.epoch = seen.epoch \
       join orchestrator.shard h on h.shard_id = f.shard_id for update of f, h skip locked), \
     raised as ( \
       update orchestrator.fence f set epoch = f.epoch + 1 from free where f.shard_id = free.shard_id \
       returning f.shard_id, f.epoch), \
     owned as ( \
       update orchestrator.shard h set owner_id = $3, released = false from raised where h.shard_id = raised.shard_id) \
     select shard_id, epoch from raised order by shard_id",
);

static RAISE: Statement<(i16, i64), (i64,)> = Statement::new(
    "update orchestrator.fence set epoch = epoch + 1 where shard_id = $1 and epoch = $2 returning epoch",
);

static OWN: Statement<(i16, Uuid)> =
    Statement::new("update orchestrator.shard set owner_id = $2, released = false where shard_id = $1");

static RELEASE: Statement<(Vec<i16>, Uuid)> = Statement::new(
    "update orchestrator.shard set owner_id = null, released = true where shard_id = any ($1) and owner_id = $2",
)
.by_the_clock();

static LEAVE: Statement<(Uuid,)> =
    Statement::new("delete from orchestrator.instance where instance_id = $1").by_the_clock();

// The counter is compared: one that was given up and has come back meanwhile stays.
static BURY: Statement<(Uuid, i64)> =
    Statement::new("delete from orchestrator.instance where instance_id = $1 and counter = $2")
        .by_the_clock();

static BACKEND: Statement<(), (i32,)> = Statement::new("select pg_backend_pid()");

static HOLDERS: Statement<(i32,), (i32,)> = Statement::new("select distinct unnest(pg_blocking_pids($1))");

static TERMINATE: Statement<(i32,), (bool,)> = Statement::new("select pg_terminate_backend($1)");

pub(crate) fn statements() -> Vec<&'static dyn Checked> {
    vec![&RENEW, &LOOK, &RAISE_FREE, &RAISE, &OWN, &RELEASE, &LEAVE, &BURY, &BACKEND, &HOLDERS, &TERMINATE]
}

/// A shard as it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShardRow {
    /// Which.
    pub shard: i16,
    /// Whose.
    pub owner: Option<Uuid>,
    /// Its last owner handed it over; false after a death.
    pub released: bool,
    /// The epoch of its last acquisition.
    pub epoch: i64,
}

/// What was read in one look: all of one moment.
#[derive(Debug, Clone, Default)]
pub struct Look {
    /// Everybody's counter and definitions.
    pub instances: HashMap<Uuid, (i64, Vec<String>)>,
    /// All shards.
    pub shards: Vec<ShardRow>,
}

/// What an observer remembers: since when each counter has not changed.
#[derive(Debug, Default)]
pub struct Watch {
    seen: HashMap<Uuid, (i64, Duration)>,
    last: Option<Instant>,
}

impl Watch {
    /// Takes a successful read. Time counts only between successful reads, and at most two seconds of each gap: an
    /// observer that slept knows nothing of the time it slept.
    pub fn observe(&mut self, look: &Look, at: Instant) {
        let passed = self.last.map_or(Duration::ZERO, |last| (at - last).min(Duration::from_secs(2)));
        self.last = Some(at);
        let seen = std::mem::take(&mut self.seen);
        for (id, (counter, _)) in &look.instances {
            let unchanged = match seen.get(id) {
                Some((before, unchanged)) if before == counter => *unchanged + passed,
                _ => Duration::ZERO,
            };
            self.seen.insert(*id, (*counter, unchanged));
        }
    }

    /// Those whose lease lapsed long ago and who own nothing, with the counter that they were last seen at.
    #[must_use]
    pub fn gone(&self, look: &Look, lease: Duration) -> Vec<(Uuid, i64)> {
        let owns = |id: Uuid| look.shards.iter().any(|row| row.owner == Some(id));
        let is_gone =
            |(id, (_, unchanged)): &(&Uuid, &(i64, Duration))| *unchanged > lease * 6 && !owns(**id);
        self.seen.iter().filter(is_gone).map(|(id, (counter, _))| (*id, *counter)).collect()
    }

    /// Whether the instance's lease holds, as far as this observer knows. An id without a row has none.
    #[must_use]
    pub fn is_alive(&self, id: Uuid, lease: Duration) -> bool {
        self.seen.get(&id).is_some_and(|(_, unchanged)| *unchanged < lease)
    }
}

/// Renews the lease and reads everybody's.
///
/// # Errors
/// What the database said.
pub async fn renew(
    connection: &mut PgConnection,
    me: Uuid,
    definitions: &[String],
    address: &str,
) -> sqlx::Result<Look> {
    RENEW.run(connection, (me, definitions.join(","), address.to_owned())).await?;
    let mut look = Look::default();
    for (shard, id, number, definitions, released) in LOOK.all(connection, ()).await? {
        match (shard, id) {
            (Some(shard), owner) => look.shards.push(ShardRow { shard, owner, released, epoch: number }),
            (None, Some(id)) => {
                let listed = definitions.split(',').map(str::to_owned).collect();
                look.instances.insert(id, (number, listed));
            }
            (None, None) => {}
        }
    }
    Ok(look)
}

/// Acquires those of these shards that nobody has acquired since they were read and that nobody keeps locked, all by one
/// commit: a take-over lasts as long for many as for one. What they are now at; [`Reach`] says which of the others are for
/// [`acquire`].
///
/// # Errors
/// What the database said.
pub async fn acquire_free(
    connection: &mut PgConnection,
    rows: &[ShardRow],
    me: Uuid,
) -> sqlx::Result<Vec<(i16, i64)>> {
    let (shards, epochs) = rows.iter().map(|row| (row.shard, row.epoch)).unzip();
    let mut transaction = connection.begin().await?;
    let raised = RAISE_FREE.all(&mut transaction, (shards, epochs, me)).await?;
    settle(transaction).await?;
    Ok(raised)
}

/// Acquires a shard that may be locked: raises its epoch. None when somebody else did. A session that keeps it locked for
/// longer than half a second is terminated through `second`.
///
/// # Errors
/// What the database said. Whatever became of the terminating, what was acquired is.
pub async fn acquire(
    first: &mut PgConnection,
    second: &mut PgConnection,
    row: &ShardRow,
    me: Uuid,
) -> sqlx::Result<Option<i64>> {
    let (pid,) = BACKEND.one(first, ()).await?;
    let done = tokio_util::sync::CancellationToken::new();
    let take = async {
        let taken = raise(first, row, me).await;
        done.cancel();
        taken
    };
    let clear = async {
        while tokio::time::timeout(Duration::from_millis(500), done.cancelled()).await.is_err() {
            terminate_holders(second, pid).await?;
        }
        Ok::<(), sqlx::Error>(())
    };
    let (taken, cleared) = tokio::join!(take, clear);
    let Err(error) = cleared else { return taken };
    tracing::warn!(shard = row.shard, %error, "could not terminate who keeps a shard locked");
    match taken {
        // It waited too long: this is why, and the one that tells whether `second` is lost.
        Err(waited) if is_refusal(&waited) => Err(error),
        taken => taken,
    }
}

/// Whether the database refused what was asked, and goes on listening: nothing was done, and the connection is as good as
/// before.
pub(crate) fn is_refusal(error: &sqlx::Error) -> bool {
    let refused = error.as_database_error().and_then(|e| e.try_downcast_ref::<PgDatabaseError>());
    refused.is_some_and(|e| e.severity() == PgSeverity::Error)
}

async fn raise(connection: &mut PgConnection, row: &ShardRow, me: Uuid) -> sqlx::Result<Option<i64>> {
    let mut transaction = connection.begin().await?;
    let raised = RAISE.maybe(&mut transaction, (row.shard, row.epoch)).await?;
    if raised.is_some() {
        OWN.run(&mut transaction, (row.shard, me)).await?;
    }
    settle(transaction).await?;
    Ok(raised.map(|(epoch,)| epoch))
}

/// By hand, and not by `database::commit`: no bound stands around a lease's connection (see `ownership.rs`).
async fn settle(transaction: Transaction<'_, Postgres>) -> sqlx::Result<()> {
    crash::tick("before commit", "shard");
    transaction.commit().await?;
    crash::tick("after commit", "shard");
    Ok(())
}

async fn terminate_holders(connection: &mut PgConnection, waiting: i32) -> sqlx::Result<()> {
    for (pid,) in HOLDERS.all(connection, (waiting,)).await? {
        tracing::warn!(pid, "terminating a session that keeps a fence row locked");
        TERMINATE.one(connection, (pid,)).await?;
    }
    Ok(())
}

/// Hands shards over.
///
/// # Errors
/// What the database said.
pub async fn release(connection: &mut PgConnection, shards: &[i16], me: Uuid) -> sqlx::Result<()> {
    RELEASE.run(connection, (shards.to_vec(), me)).await.map(|_| ())
}

/// Leaves: the others need not wait for the lease to lapse.
///
/// # Errors
/// What the database said.
pub async fn leave(connection: &mut PgConnection, me: Uuid) -> sqlx::Result<()> {
    LEAVE.run(connection, (me,)).await.map(|_| ())
}

/// Takes the dead off the list, once nothing is theirs any more: a restart without a data folder has a new id each time.
///
/// # Errors
/// What the database said.
pub async fn bury(connection: &mut PgConnection, dead: &[(Uuid, i64)]) -> sqlx::Result<()> {
    for (id, counter) in dead {
        BURY.run(connection, (*id, *counter)).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{
        plan::tests::{id, look},
        *,
    };

    #[test]
    fn a_lease_lapses_only_by_time_that_was_watched() {
        let lease = Duration::from_secs(10);
        let mut watch = Watch::default();
        let mut now = Instant::now();
        let seen = look(&[], &[1]);
        watch.observe(&seen, now);
        // An observer that slept for a minute saw two seconds of it.
        now += Duration::from_secs(60);
        watch.observe(&seen, now);
        assert!(watch.is_alive(id(1), lease));
        for _ in 0..8 {
            now += Duration::from_secs(1);
            watch.observe(&seen, now);
        }
        assert!(!watch.is_alive(id(1), lease));
        assert!(!watch.is_alive(id(2), lease));
    }
}
