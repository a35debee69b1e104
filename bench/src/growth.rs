//! What finished orders cost those that come after them.

use std::{path::Path, sync::Arc, time::Duration};

use anyhow::ensure;
use load::{Doors, Load, Measured, Pace};
use serde::Serialize;
use sqlx::PgConnection;

use crate::{
    ordeal,
    plan::ensure_answered,
    report::range,
    store::{self, ordeal as look},
};

/// How much is measured.
#[derive(Debug, Clone, Copy)]
pub struct Size {
    /// Finished orders that are added before the second half of the measurements.
    pub orders: i64,
    /// Measurements of each half, of which the middle counts.
    pub times: usize,
}

/// What it came to.
#[derive(Debug, Clone, Serialize)]
pub struct Growth {
    /// Finished orders at the end of the first half of the measurements, which begins with hardly any.
    pub first: i64,
    /// Finished orders before the second half.
    pub orders: i64,
    /// Orders per second and p99 in milliseconds, in both halves; the middle of each by itself.
    pub empty: (f64, f64),
    pub full: (f64, f64),
    /// KB of WAL for each order, in the same two halves.
    pub wal_kb: (f64, f64),
    /// Of all databases, for each order: KB on disk, indexes included.
    pub disk_kb: f64,
}

impl Growth {
    /// For people.
    #[must_use]
    pub fn line(&self) -> String {
        let Self { first, orders, empty, full, wal_kb, disk_kb } = self;
        format!(
            "up to {first} finished orders: {:.0}/s, p99 {:.0} ms; after {orders} finished orders: {:.0}/s ({:.2} ×), p99 {:.0} ms ({:.2} ×); \
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

/// Measures on a new folder, fills its tables with finished orders, and measures again.
///
/// # Errors
/// When it cannot be run, or is void: a violation, a wrong end.
pub async fn measure(
    program: &Path,
    size: Size,
    load: Load,
    flags: &[String],
    say: impl Fn(&str),
) -> anyhow::Result<Growth> {
    ensure!((1..=100_000_000).contains(&size.orders), "orders: 1 to 100000000");
    ensure!(size.times > 0, "times: 1 or more");
    let (subject, doors, connection) = ordeal::begin(program, flags).await?;
    let mut growing = Growing { doors, connection, load };
    // So that plans are not those of empty tables, as in every other run.
    growing.run(Load { time: load.warm_up, warm_up: Duration::ZERO, ..load }).await?;
    store::analyze(&mut growing.connection).await?;
    let empty = growing.half(size.times).await?;
    let bytes = look::size(&mut growing.connection).await?;
    let first = look::orders(&mut growing.connection).await?;
    let orders = growing.fill(first + size.orders, say).await?;
    let bytes = look::size(&mut growing.connection).await? - bytes;
    let full = growing.half(size.times).await?;
    subject.end().await?;
    Ok(Growth {
        first,
        orders,
        empty: (empty.rate, empty.p99_ms),
        full: (full.rate, full.p99_ms),
        wal_kb: (empty.wal_kb, full.wal_kb),
        disk_kb: bytes as f64 / 1024.0 / (orders - first).max(1) as f64,
    })
}

/// The middle of some measurements.
struct Half {
    rate: f64,
    p99_ms: f64,
    wal_kb: f64,
}

struct Growing {
    doors: Arc<Doors>,
    connection: PgConnection,
    /// Of the next measurement; no two have the same orders.
    load: Load,
}

impl Growing {
    async fn run(&mut self, load: Load) -> anyhow::Result<Measured> {
        self.load.seed += 1;
        let measured = load::put(Arc::clone(&self.doors), Load { seed: self.load.seed, ..load }, ()).await;
        ensure_answered(&measured)?;
        Ok(measured)
    }

    async fn half(&mut self, times: usize) -> anyhow::Result<Half> {
        let before = self.wal_and_orders().await?;
        let mut runs = Vec::with_capacity(times);
        for _ in 0..times {
            runs.push(self.run(self.load).await?);
        }
        let after = self.wal_and_orders().await?;
        let middle = |what: fn(&Measured) -> f64| range(&runs, what).1;
        Ok(Half {
            rate: middle(Measured::rate),
            p99_ms: middle(|run| run.latency.value_at_quantile(0.99) as f64 / 1000.0),
            wal_kb: (after.0 - before.0) / 1024.0 / (after.1 - before.1).max(1.0),
        })
    }

    /// Bytes of WAL so far, and orders.
    async fn wal_and_orders(&mut self) -> anyhow::Result<(f64, f64)> {
        let wal = store::counters(&mut self.connection).await?.wal_bytes;
        Ok((wal as f64, look::orders(&mut self.connection).await? as f64))
    }

    /// Until there are so many orders; how many there are then.
    async fn fill(&mut self, orders: i64, say: impl Fn(&str)) -> anyhow::Result<i64> {
        loop {
            let there = look::orders(&mut self.connection).await?;
            if there >= orders {
                break;
            }
            say(&format!("{there} of {orders} orders"));
            let time = Duration::from_secs_f64(((orders - there) as f64 / 2_500.0).clamp(2.0, 30.0));
            self.run(Load { pace: Pace::Closed(512), time, warm_up: Duration::ZERO, ..self.load }).await?;
        }
        store::analyze(&mut self.connection).await?;
        let there = look::orders(&mut self.connection).await?;
        say(&format!("{there} orders; once more"));
        Ok(there)
    }
}
