//! What each statement costs, as Postgres counts it (`pg_stat_statements`): the table that says where the next cut is.

use serde::Serialize;
use sqlx::{PgConnection, Row as _};

/// What is written into `postgresql.conf` so that it counts.
pub(crate) const SETTINGS: &str =
    "shared_preload_libraries = 'pg_stat_statements'\npg_stat_statements.max = 1000\n";

/// One statement, by what it costs for each order.
#[derive(Debug, Clone, Serialize)]
pub struct StatementCost {
    /// Its beginning, in one line.
    pub sql: String,
    /// Executions.
    pub calls: f64,
    /// Within Postgres, without parsing the message and without the flush, microseconds.
    pub microseconds: f64,
    /// WAL that it wrote, bytes.
    pub wal_bytes: f64,
}

/// From here it counts.
pub(crate) async fn reset(connection: &mut PgConnection) -> sqlx::Result<()> {
    sqlx::raw_sql("create extension if not exists pg_stat_statements; select pg_stat_statements_reset()")
        .execute(connection)
        .await?;
    Ok(())
}

/// The dearest first.
pub(crate) async fn dearest(connection: &mut PgConnection, orders: u64) -> sqlx::Result<Vec<StatementCost>> {
    let rows = sqlx::query(
        "select regexp_replace(left(query, 110), '\\s+', ' ', 'g'), calls::float8, total_exec_time * 1000, wal_bytes::float8
         from pg_stat_statements order by total_exec_time desc limit 60",
    )
    .fetch_all(connection)
    .await?;
    let orders = orders.max(1) as f64;
    rows.iter()
        .map(|row| {
            Ok(StatementCost {
                sql: row.try_get(0)?,
                calls: row.try_get::<f64, _>(1)? / orders,
                microseconds: row.try_get::<f64, _>(2)? / orders,
                wal_bytes: row.try_get::<f64, _>(3)? / orders,
            })
        })
        .collect()
}
