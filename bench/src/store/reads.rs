//! By which indexes much was read for little: what a plan that was made for a small table looks like once the table has grown.

use std::collections::HashMap;

use serde::Serialize;
use sqlx::PgConnection;

/// A look that gives this many entries is for few rows no longer.
const MANY: f64 = 50.0;

/// An index of which many entries were read for each look, and at least one for each order.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Read {
    /// With its schema.
    pub index: String,
    /// Looks for each order.
    pub looks: f64,
    /// Entries for each look.
    pub entries: f64,
}

/// Looks and entries of each index since the server started. Sessions tell them up to a second late.
#[derive(Debug, Clone, Default)]
pub(crate) struct Reads(HashMap<String, (i64, i64)>);

impl Reads {
    /// Of the indexes in this database.
    pub(crate) async fn of(connection: &mut PgConnection) -> sqlx::Result<Self> {
        let rows: Vec<(String, i64, i64)> = sqlx::query_as(
            "select schemaname || '.' || indexrelname, idx_scan, idx_tup_read from pg_stat_user_indexes",
        )
        .fetch_all(connection)
        .await?;
        Ok(Self(rows.into_iter().map(|(index, looks, entries)| (index, (looks, entries))).collect()))
    }

    /// What much was read of since then, the most first.
    pub(crate) fn since(&self, before: &Self, orders: u64) -> Vec<Read> {
        let orders = orders.max(1) as f64;
        let mut reads: Vec<Read> = self
            .0
            .iter()
            .map(|(index, now)| {
                let then = before.0.get(index).copied().unwrap_or_default();
                let (looks, entries) = ((now.0 - then.0).max(1) as f64, (now.1 - then.1) as f64);
                Read { index: index.clone(), looks: looks / orders, entries: entries / looks }
            })
            .filter(|read| read.entries >= MANY && read.entries * read.looks >= 1.0)
            .collect();
        reads.sort_by(|a, b| (b.entries * b.looks).total_cmp(&(a.entries * a.looks)));
        reads
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reads(rows: &[(&str, i64, i64)]) -> Reads {
        Reads(rows.iter().map(|(index, looks, entries)| ((*index).to_owned(), (*looks, *entries))).collect())
    }

    #[test]
    fn only_what_was_read_meanwhile_and_only_where_it_was_much() {
        let before = reads(&[("a.scanned", 10, 1_000_000), ("a.key", 500, 500)]);
        let after = reads(&[
            ("a.scanned", 30, 1_040_000),
            ("a.key", 90_500, 90_500),
            ("a.rare", 2, 300),
            ("a.new", 10, 9000),
        ]);
        let found = after.since(&before, 1000);
        let expected = [("a.scanned", 0.02, 2000.0), ("a.new", 0.01, 900.0)];
        let expected = expected.map(|(index, looks, entries)| Read { index: index.into(), looks, entries });
        assert_eq!(found, expected, "`rare` is less than one for an order");
    }
}
