//! What is asked of the orchestrators' database.

use std::{future::Future, pin::Pin};

use sqlx::PgConnection;
use uuid::Uuid;

/// An answer on its way.
pub(super) type Asked<'c, T> = Pin<Box<dyn Future<Output = sqlx::Result<T>> + Send + 'c>>;

/// As many as tell something.
const MANY: i64 = 500;

/// The sagas that whoever serves at `address` has in hand, and their versions.
pub(super) async fn in_hand(connection: &mut PgConnection, address: &str) -> sqlx::Result<Vec<(Uuid, i64)>> {
    sqlx::query_as(
        "select s.saga_id, s.version from orchestrator.saga s \
         join orchestrator.shard h on h.shard_id = s.shard_id \
         join orchestrator.instance i on i.instance_id = h.owner_id \
         where i.address = $1 and not s.ended and s.state in ('RUNNING', 'COMPENSATING')",
    )
    .bind(address)
    .fetch_all(connection)
    .await
}

/// Those of them that are at a later version.
pub(super) async fn moved(connection: &mut PgConnection, waiting: &[(Uuid, i64)]) -> sqlx::Result<Vec<Uuid>> {
    let (sagas, versions): (Vec<Uuid>, Vec<i64>) = waiting.iter().copied().unzip();
    sqlx::query_scalar(
        "select s.saga_id from unnest($1::uuid[], $2::bigint[]) w (saga_id, version) \
         join orchestrator.saga s on s.saga_id = w.saga_id where s.version > w.version",
    )
    .bind(sagas)
    .bind(versions)
    .fetch_all(connection)
    .await
}

/// Sagas with work in hand.
pub(super) async fn open_sagas(connection: &mut PgConnection) -> sqlx::Result<Vec<Uuid>> {
    sqlx::query_scalar(
        "select saga_id from orchestrator.saga where not ended and state in ('RUNNING', 'COMPENSATING') limit $1",
    )
    .bind(MANY)
    .fetch_all(connection)
    .await
}

pub(super) async fn any_ended(connection: &mut PgConnection, sagas: Vec<Uuid>) -> sqlx::Result<bool> {
    sqlx::query_scalar("select exists (select 1 from orchestrator.saga where saga_id = any ($1) and ended)")
        .bind(sagas)
        .fetch_one(connection)
        .await
}

/// Messages that the orchestrators have not sent yet.
pub(super) async fn unsent(connection: &mut PgConnection) -> sqlx::Result<Vec<Uuid>> {
    sqlx::query_scalar(
        "select outbox_id from orchestrator.outbox where dead_time is null order by create_time limit $1",
    )
    .bind(MANY)
    .fetch_all(connection)
    .await
}

pub(super) async fn any_sent(connection: &mut PgConnection, messages: Vec<Uuid>) -> sqlx::Result<bool> {
    let many = i64::try_from(messages.len()).unwrap_or(i64::MAX);
    sqlx::query_scalar("select count(*) < $2 from orchestrator.outbox where outbox_id = any ($1)")
        .bind(messages)
        .bind(many)
        .fetch_one(connection)
        .await
}

/// How many sagas are open, and how many of them are parked.
pub(super) async fn open_and_parked(connection: &mut PgConnection) -> sqlx::Result<(usize, usize)> {
    let (open, parked): (i64, i64) = sqlx::query_as(
        "select count(*), count(*) filter (where state = 'PARKED') from orchestrator.saga where not ended",
    )
    .fetch_one(connection)
    .await?;
    let count = |n: i64| usize::try_from(n).unwrap_or(0);
    Ok((count(open), count(parked)))
}

/// Sagas that are neither at their end nor parked.
pub(super) async fn unparked(connection: &mut PgConnection) -> sqlx::Result<Vec<Uuid>> {
    sqlx::query_scalar("select saga_id from orchestrator.saga where not ended and state <> 'PARKED'")
        .fetch_all(connection)
        .await
}

/// Why sagas are parked, each with an example.
pub(super) async fn parked(connection: &mut PgConnection) -> sqlx::Result<Vec<(String, i64, Uuid)>> {
    sqlx::query_as(
        "select reason, count(*), (array_agg(saga_id))[1] from orchestrator.saga where state = 'PARKED' group by reason",
    )
    .fetch_all(connection)
    .await
}

/// What every order came to: its end, and how long it took in milliseconds by the orchestrators' clocks.
pub(super) async fn ends(connection: &mut PgConnection) -> sqlx::Result<Vec<(Uuid, String, String, i64)>> {
    sqlx::query_as(
        "select order_id, status, status_reason, \
           (extract(epoch from update_time - create_time) * 1000)::bigint from orchestrator.\"order\"",
    )
    .fetch_all(connection)
    .await
}

/// The server's own name for its version.
pub(super) async fn version(connection: &mut PgConnection) -> sqlx::Result<String> {
    sqlx::query_scalar("show server_version").fetch_one(connection).await
}
