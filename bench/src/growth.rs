//! What finished orders cost those that come after them.

use std::{path::Path, sync::Arc, time::Duration};

use anyhow::ensure;
use load::{Load, Measured, Pace};
use serde::Serialize;
use sqlx::PgConnection;

use crate::{
    ordeal,
    plan::ensure_answered,
    store::{self, ordeal as look},
};

/// What it came to.
#[derive(Debug, Clone, Serialize)]
pub struct Growth {
    /// Finished orders before the second measurement.
    pub orders: i64,
    /// Orders per second and p99 in milliseconds, on empty tables and on full ones.
    pub empty: (f64, f64),
    pub full: (f64, f64),
    /// KB of WAL for each order, in the same two measurements.
    pub wal_kb: (f64, f64),
    /// Of all databases, for each order: KB on disk, indexes included.
    pub disk_kb: f64,
}

impl Growth {
    /// For people.
    #[must_use]
    pub fn line(&self) -> String {
        let Self { orders, empty, full, wal_kb, disk_kb } = self;
        format!(
            "empty: {:.0}/s, p99 {:.0} ms; after {orders} finished orders: {:.0}/s ({:.2} ×), p99 {:.0} ms ({:.2} ×); \
             {:.1} and {:.1} KB of WAL, {disk_kb:.1} KB on disk for each",
            empty.0,
            empty.1,
            full.0,
            full.0 / empty.0.max(f64::EPSILON),
            full.1,
            full.1 / empty.1.max(f64::EPSILON),
            wal_kb.0,
            wal_kb.1
        )
    }
}

/// Measures, fills the tables with finished orders, and measures again.
///
/// # Errors
/// When it cannot be run, or is void: a violation, a wrong end.
pub async fn measure(
    program: &Path,
    orders: i64,
    load: Load,
    flags: &[String],
    say: impl Fn(&str),
) -> anyhow::Result<Growth> {
    ensure!((1..=100_000_000).contains(&orders), "--orders: 1 to 100000000");
    let (subject, doors, mut connection) = ordeal::begin(program, flags).await?;
    let run = async |load: Load| -> anyhow::Result<Measured> {
        let measured = load::put(Arc::clone(&doors), load, ()).await;
        ensure_answered(&measured)?;
        Ok(measured)
    };
    // So that plans are not those of empty tables, as in every other run.
    run(Load { time: load.warm_up, warm_up: Duration::ZERO, ..load }).await?;
    store::analyze(&mut connection).await?;
    let (empty, empty_wal) = with_wal(&mut connection, run(load)).await?;
    let size = look::size(&mut connection).await?;
    let first = look::orders(&mut connection).await?;
    let mut seed = load.seed;
    loop {
        let there = look::orders(&mut connection).await?;
        if there >= orders {
            break;
        }
        say(&format!("{there} of {orders} orders"));
        seed += 1;
        let time = Duration::from_secs_f64(((orders - there) as f64 / 2_500.0).clamp(2.0, 30.0));
        run(Load { pace: Pace::Closed(512), time, warm_up: Duration::ZERO, seed, ..load }).await?;
    }
    store::analyze(&mut connection).await?;
    let there = look::orders(&mut connection).await?;
    let disk_kb = (look::size(&mut connection).await? - size) as f64 / 1024.0 / (there - first).max(1) as f64;
    say(&format!("{there} orders; once more"));
    let (full, full_wal) = with_wal(&mut connection, run(Load { seed: seed + 1, ..load })).await?;
    subject.end().await?;
    let of =
        |measured: &Measured| (measured.rate(), measured.latency.value_at_quantile(0.99) as f64 / 1000.0);
    let wal_kb = (empty_wal, full_wal);
    Ok(Growth { orders: there, empty: of(&empty), full: of(&full), wal_kb, disk_kb })
}

/// With how many KB of WAL each order took meanwhile, warm-up included.
async fn with_wal(
    connection: &mut PgConnection,
    run: impl Future<Output = anyhow::Result<Measured>>,
) -> anyhow::Result<(Measured, f64)> {
    let mut look = async || -> anyhow::Result<(f64, f64)> {
        let wal = store::counters(connection).await?.wal_bytes;
        Ok((wal as f64, look::orders(connection).await? as f64))
    };
    let before = look().await?;
    let measured = run.await?;
    let after = look().await?;
    Ok((measured, (after.0 - before.0) / 1024.0 / (after.1 - before.1).max(1.0)))
}
