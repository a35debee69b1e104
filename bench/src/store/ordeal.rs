//! What ordeals do to a database and see in it, as its owner.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;

pub(crate) use super::analyze;

/// The ledger's database has none of it any more.
pub(crate) async fn shut(connection: &mut PgConnection) -> sqlx::Result<()> {
    sqlx::raw_sql(
        "alter role amends_ledger nologin;
         select pg_terminate_backend(pid) from pg_stat_activity where usename = 'amends_ledger'",
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// And takes it back.
pub(crate) async fn open(connection: &mut PgConnection) -> sqlx::Result<()> {
    sqlx::raw_sql("alter role amends_ledger login").execute(connection).await?;
    Ok(())
}

pub(crate) async fn open_sagas(connection: &mut PgConnection) -> sqlx::Result<i64> {
    sqlx::query_scalar("select count(*) from orchestrator.saga where not ended").fetch_one(connection).await
}

pub(crate) async fn not_completed(connection: &mut PgConnection) -> sqlx::Result<i64> {
    sqlx::query_scalar("select count(*) from orchestrator.\"order\" where status <> 'COMPLETED'")
        .fetch_one(connection)
        .await
}

pub(crate) async fn orders(connection: &mut PgConnection) -> sqlx::Result<i64> {
    sqlx::query_scalar("select count(*) from orchestrator.saga where ended").fetch_one(connection).await
}

/// Bytes of the database.
pub(crate) async fn size(connection: &mut PgConnection) -> sqlx::Result<i64> {
    sqlx::query_scalar("select pg_database_size(current_database())").fetch_one(connection).await
}

pub(crate) async fn now(connection: &mut PgConnection) -> sqlx::Result<DateTime<Utc>> {
    sqlx::query_scalar("select clock_timestamp()").fetch_one(connection).await
}

/// How many sagas were taken over since; the first and the last, in seconds after that time.
pub(crate) async fn taken_over(
    connection: &mut PgConnection,
    since: DateTime<Utc>,
) -> sqlx::Result<(i64, f64, f64)> {
    sqlx::query_as(
        "select count(*), coalesce(extract(epoch from min(resume_time) - $1), 0)::float8,
                coalesce(extract(epoch from max(resume_time) - $1), 0)::float8
         from orchestrator.saga where resume_time > $1",
    )
    .bind(since)
    .fetch_one(connection)
    .await
}
