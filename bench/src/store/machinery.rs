//! Whether an order left behind what it cannot be made good without: a figure of an Amends without it would be no figure.

use anyhow::ensure;
use sqlx::PgConnection;

/// Journal, key and outbox, and where the first two participants keep what their barrier asks.
const LEFT: [&str; 5] = [
    "orchestrator.journal",
    "orchestrator.idempotency_key",
    "orchestrator.outbox",
    "orders.document",
    "inventory.reservation",
];

/// Rows written into each of them since the server started, of those that are in this database. Sessions tell it up to a second
/// late.
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

    /// # Errors
    /// When fewer orders than half left a row in one of them: it is off, or is not the database of what was loaded.
    pub(crate) fn ensure_by(&self, before: &Self, orders: u64) -> anyhow::Result<()> {
        ensure!(
            self.0.iter().any(|(table, _)| table == LEFT[0]),
            "the run is void: its database has no orchestrator.journal; is it the database of what was loaded?"
        );
        for (table, now) in &self.0 {
            let then = before.0.iter().find(|(known, _)| known == table).map_or(0, |(_, rows)| *rows);
            let written = u64::try_from(now - then).unwrap_or(0);
            ensure!(
                written >= orders / 2,
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
        assert!(left(310, 110).ensure_by(&left(10, 10), 100).is_ok());
        // What sessions have not told yet.
        assert!(left(310, 70).ensure_by(&left(10, 10), 100).is_ok());
        let error = left(310, 10).ensure_by(&left(10, 10), 100).unwrap_err().to_string();
        assert!(error.contains("orchestrator.outbox got 0 rows"), "{error}");
        let error = Left(Vec::new()).ensure_by(&Left(Vec::new()), 100).unwrap_err().to_string();
        assert!(error.contains("no orchestrator.journal"), "{error}");
    }
}
