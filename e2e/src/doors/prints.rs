//! What is stored, as one fingerprint per table: two that are equal say that nothing was written in between.

use std::{collections::BTreeMap, fmt::Write as _, time::Duration};

use sqlx::{AssertSqlSafe, PgConnection};
use tokio::time::Instant;

/// What is written by time passing, not by anybody's request: leases, who is alive, and the seal on what was booked before.
const BY_THE_CLOCK: [&str; 3] = ["orchestrator.instance", "orchestrator.shard", "ledger.block"];

/// Rows and contents of every table.
pub type Prints = BTreeMap<String, (i64, String)>;

/// Takes them.
pub struct Camera {
    connection: PgConnection,
    query: String,
}

impl Camera {
    /// Of every table of every schema of this world.
    pub async fn of(world: &crate::World) -> Self {
        let mut connection = world.ground.database.connect().await;
        let tables: Vec<(String, String)> = sqlx::query_as(
            "select schemaname::text, tablename::text from pg_tables \
             where schemaname not in ('pg_catalog', 'information_schema', 'public') \
             and tablename not like '\\_sqlx%' order by 1, 2",
        )
        .fetch_all(&mut connection)
        .await
        .unwrap();
        assert!(tables.len() > 20, "{tables:?}");
        let mut query = String::new();
        for (schema, table) in tables {
            let name = format!("{schema}.{table}");
            if BY_THE_CLOCK.contains(&name.as_str()) {
                continue;
            }
            if !query.is_empty() {
                query.push_str(" union all ");
            }
            write!(
                query,
                "select '{name}', count(*), coalesce(md5(string_agg(t::text, '|' order by t::text)), '') \
                 from {schema}.\"{table}\" t"
            )
            .unwrap();
        }
        Self { connection, query }
    }

    pub async fn take(&mut self) -> Prints {
        let rows: Vec<(String, i64, String)> =
            sqlx::query_as(AssertSqlSafe(self.query.clone())).fetch_all(&mut self.connection).await.unwrap();
        rows.into_iter().map(|(name, rows, print)| (name, (rows, print))).collect()
    }

    /// When nothing moves by itself any more: every order at its end or waiting, every message sent and read, every letter
    /// told.
    pub async fn at_rest(&mut self) -> Prints {
        let until = Instant::now() + Duration::from_secs(60);
        loop {
            let (moving,): (i64,) = sqlx::query_as(MOVING).fetch_one(&mut self.connection).await.unwrap();
            if moving == 0 {
                return self.take().await;
            }
            assert!(Instant::now() < until, "it never comes to rest: {moving} move");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

const MOVING: &str = "\
    select (select count(*) from orchestrator.saga where state in ('RUNNING', 'COMPENSATING')) \
    + (select count(*) from orchestrator.outbox where dead_time is null) \
    + (select count(*) from orchestrator.signal where read_time is null) \
    + (select count(*) from orders.outbox where dead_time is null) \
    + (select count(*) from inventory.outbox where dead_time is null) \
    + (select count(*) from risk.outbox where dead_time is null) \
    + (select count(*) from payments.outbox where dead_time is null) \
    + (select count(*) from payments.attempt where next_look_time is not null) \
    + (select count(*) from ledger.outbox where dead_time is null) \
    + (select count(*) from notifications.delivery where state = 'QUEUED')";

/// The tables that differ.
#[must_use]
pub fn changed(before: &Prints, after: &Prints) -> Vec<String> {
    before
        .iter()
        .filter(|(name, print)| after.get(*name) != Some(*print))
        .map(|(name, _)| name.clone())
        .collect()
}
