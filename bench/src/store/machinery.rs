//! Whether an order left behind what it cannot be made good without: a figure of an Amends without it would be no figure.

use std::time::Duration;

use anyhow::ensure;
use sqlx::PgConnection;
use tokio::time::Instant;

/// Journal, key and outbox, and where the first two participants keep what their barrier asks.
const LEFT: [&str; 5] = [
    "orchestrator.journal",
    "orchestrator.idempotency_key",
    "orchestrator.outbox",
    "orders.document",
    "inventory.reservation",
];

/// Sessions tell what they wrote up to a second late, or ten when nothing comes any more.
const PATIENCE: Duration = Duration::from_secs(15);

/// Rows written into each of them since the server started, of those that are in this database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Left(Vec<(String, i64)>);

impl Left {
    pub(crate) async fn so_far(connection: &mut PgConnection) -> sqlx::Result<Self> {
        let rows = sqlx::query_as(
            "select schemaname || '.' || relname, n_tup_ins from pg_stat_user_tables
             where schemaname || '.' || relname = any($1) order by 1",
        )
        .bind(&LEFT[..])
        .fetch_all(connection)
        .await?;
        Ok(Self(rows))
    }

    /// Waits until sessions have told that so many orders left their rows.
    ///
    /// # Errors
    /// When they do not: something is off, or it is not the database of what was loaded.
    pub(crate) async fn ensure(&self, connection: &mut PgConnection, orders: u64) -> anyhow::Result<()> {
        let until = Instant::now() + PATIENCE;
        loop {
            match Self::so_far(connection).await?.ensure_since(self, orders) {
                Err(_) if Instant::now() < until => tokio::time::sleep(Duration::from_millis(250)).await,
                verdict => return verdict,
            }
        }
    }

    /// # Errors
    /// When fewer than four in five left a row in one of them.
    fn ensure_since(&self, before: &Self, orders: u64) -> anyhow::Result<()> {
        ensure!(
            self.0.iter().any(|(table, _)| table == LEFT[0]),
            "the run is void: its database has no orchestrator.journal; is it the database of what was loaded?"
        );
        for (table, now) in &self.0 {
            let then = before.0.iter().find(|(known, _)| known == table).map_or(0, |(_, rows)| *rows);
            let written = u64::try_from(now - then).unwrap_or(0);
            ensure!(
                written * 5 >= orders * 4,
                "the run is void: {orders} orders came to their end and {table} got {written} rows; no figure is made without \
                 journal, keys, outbox and barrier"
            );
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn left(journal: i64, outbox: i64) -> Left {
        Left(vec![("orchestrator.journal".into(), journal), ("orchestrator.outbox".into(), outbox)])
    }

    #[test]
    fn a_run_that_left_nothing_behind_is_void() {
        assert!(left(310, 110).ensure_since(&left(10, 10), 100).is_ok());
        assert!(left(310, 95).ensure_since(&left(10, 10), 100).is_ok());
        let error = left(310, 10).ensure_since(&left(10, 10), 100).unwrap_err().to_string();
        assert!(error.contains("orchestrator.outbox got 0 rows"), "{error}");
        let error = Left(Vec::new()).ensure_since(&Left(Vec::new()), 100).unwrap_err().to_string();
        assert!(error.contains("no orchestrator.journal"), "{error}");
    }
}
