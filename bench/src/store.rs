//! What Postgres says of itself: whether it is durable, and what it has done.

pub(crate) mod machinery;
pub(crate) mod ordeal;
pub mod reads;
pub mod statements;

use futures_util::future::try_join_all;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection, Row as _};

/// Counters of a server since it started. Statistics of sessions lag by up to a second.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Counters {
    pub(crate) commits: i64,
    /// Transactions that wrote: only they take a number.
    pub(crate) writes: i64,
    pub(crate) inserted: i64,
    pub(crate) updated: i64,
    pub(crate) deleted: i64,
    pub(crate) wal_bytes: i64,
    pub(crate) wal_records: i64,
    /// Rows of the outboxes in this database.
    pub(crate) messages: i64,
}

/// Over all databases of the server; template and maintenance databases do nothing meanwhile. Goods that were put on sale
/// before the load are no rows of orders: the sessions that did it tell it ten seconds later.
pub(crate) async fn counters(connection: &mut PgConnection) -> sqlx::Result<Counters> {
    let row = sqlx::query(
        "select sum(d.xact_commit)::bigint,
                (sum(d.tup_inserted) - (select coalesce(sum(n_tup_ins), 0) from pg_stat_user_tables
                    where (schemaname, relname)
                        in (('orders', 'price'), ('inventory', 'restock'), ('inventory', 'stock'))))::bigint,
                sum(d.tup_updated)::bigint,
                sum(d.tup_deleted)::bigint, (select wal_bytes::bigint from pg_stat_wal),
                (select wal_records from pg_stat_wal), pg_snapshot_xmax(pg_current_snapshot())::text::bigint,
                (select coalesce(sum(n_tup_ins), 0)::bigint from pg_stat_user_tables where relname = 'outbox')
         from pg_stat_database d",
    )
    .fetch_one(connection)
    .await?;
    Ok(Counters {
        commits: row.try_get(0)?,
        inserted: row.try_get(1)?,
        updated: row.try_get(2)?,
        deleted: row.try_get(3)?,
        wal_bytes: row.try_get(4)?,
        wal_records: row.try_get(5)?,
        writes: row.try_get(6)?,
        messages: row.try_get(7)?,
    })
}

/// # Errors
/// When a commit of this server is no promise: there is no figure then.
pub(crate) async fn ensure_durable(connection: &mut PgConnection) -> anyhow::Result<()> {
    let undurable = chassis::database::unsafe_settings(connection).await?;
    anyhow::ensure!(
        undurable.is_empty(),
        "no figure of a server whose commits are no promise: {}; set it to on (postgresql.conf, alter role, alter database)",
        undurable.join(", ")
    );
    Ok(())
}

/// `version()`, in short, and the settings that matter for speed.
pub(crate) async fn describe(connection: &mut PgConnection) -> sqlx::Result<String> {
    sqlx::query_scalar(
        "select 'PostgreSQL ' || current_setting('server_version') || ', shared_buffers '
             || current_setting('shared_buffers') || ', fsync ' || current_setting('fsync')
             || ', synchronous_commit ' || current_setting('synchronous_commit')
             || ', full_page_writes ' || current_setting('full_page_writes')",
    )
    .fetch_one(connection)
    .await
}

/// All tables of some databases.
pub(crate) struct Tables(Vec<PgConnection>);

impl Tables {
    pub(crate) async fn of(databases: &[String]) -> sqlx::Result<Self> {
        Ok(Self(try_join_all(databases.iter().map(|url| PgConnection::connect(url))).await?))
    }

    /// So that plans are not those of empty tables; in all databases at once.
    pub(crate) async fn analyze(&mut self) -> sqlx::Result<()> {
        try_join_all(self.0.iter_mut().map(analyze)).await?;
        Ok(())
    }
}

/// The same, of one database. Its catalogues are not what orders fill.
pub(crate) async fn analyze(connection: &mut PgConnection) -> sqlx::Result<()> {
    let tables: Vec<String> =
        sqlx::query_scalar("select format('%I.%I', schemaname, relname) from pg_stat_user_tables")
            .fetch_all(&mut *connection)
            .await?;
    if !tables.is_empty() {
        let analyze = format!("analyze {}", tables.join(", "));
        sqlx::raw_sql(AssertSqlSafe(analyze)).execute(connection).await?;
    }
    Ok(())
}
