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
    subject::Embedded,
};

/// How much is measured.
#[derive(Debug, Clone, Copy)]
pub struct Size {
    /// Finished orders with which the tables are filled.
    pub orders: i64,
    /// Measurements on either, of which the middle counts.
    pub times: usize,
}

/// What it came to.
#[derive(Debug, Clone, Serialize)]
pub struct Growth {
    /// Finished orders in the tables with few, in the end.
    pub first: i64,
    /// Finished orders in those with many, before the first measurement.
    pub orders: i64,
    /// Orders per second and p99 in milliseconds, on both; the middle of each by itself.
    pub empty: (f64, f64),
    pub full: (f64, f64),
    /// KB of WAL for each order, on both.
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
            "up to {first} finished orders: {:.0}/s, p99 {:.0} ms; from {orders} on: {:.0}/s ({:.2} ×), p99 {:.0} ms ({:.2} ×); \
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

/// Measures on tables with few orders and on tables that were filled, in turn: minutes differ by more than what is looked for.
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
    let mut many = Tables::begin(program, load, flags).await?;
    let disk_kb = many.fill(size.orders, &say).await?;
    let orders = look::orders(&mut many.connection).await?;
    let mut few = Tables::begin(program, load, flags).await?;
    for time in 1..=size.times {
        for (what, tables) in [("few", &mut few), ("many", &mut many)] {
            tables.measure().await?;
            say(&format!("{time} of {}: {:.0}/s with {what}", size.times, tables.rate()));
        }
    }
    let first = look::orders(&mut few.connection).await?;
    let growth = Growth {
        first,
        orders,
        empty: (few.rate(), few.p99_ms()),
        full: (many.rate(), many.p99_ms()),
        wal_kb: (few.wal_kb(), many.wal_kb()),
        disk_kb,
    };
    few.subject.end().await?;
    many.subject.end().await?;
    Ok(growth)
}

/// A process and its databases; the other one has nothing to do meanwhile.
struct Tables {
    subject: Embedded,
    doors: Arc<Doors>,
    connection: PgConnection,
    /// Of the next measurement; no two have the same orders.
    load: Load,
    runs: Vec<Measured>,
    /// Bytes of WAL, and orders, of all measurements.
    written: (f64, f64),
}

impl Tables {
    async fn begin(program: &Path, load: Load, flags: &[String]) -> anyhow::Result<Self> {
        let (subject, doors, connection) = ordeal::begin(program, flags).await?;
        let mut tables = Self { subject, doors, connection, load, runs: Vec::new(), written: (0.0, 0.0) };
        // So that plans are not those of empty tables, as in every other run.
        tables.run(Load { time: load.warm_up, warm_up: Duration::ZERO, ..load }).await?;
        store::analyze(&mut tables.connection).await?;
        Ok(tables)
    }

    async fn run(&mut self, load: Load) -> anyhow::Result<Measured> {
        self.load.seed += 1;
        let measured = load::put(Arc::clone(&self.doors), Load { seed: self.load.seed, ..load }, ()).await;
        ensure_answered(&measured)?;
        Ok(measured)
    }

    async fn measure(&mut self) -> anyhow::Result<()> {
        let before = self.wal_and_orders().await?;
        let run = self.run(self.load).await?;
        self.runs.push(run);
        let after = self.wal_and_orders().await?;
        self.written.0 += after.0 - before.0;
        self.written.1 += after.1 - before.1;
        Ok(())
    }

    fn rate(&self) -> f64 {
        range(&self.runs, Measured::rate).1
    }

    fn p99_ms(&self) -> f64 {
        range(&self.runs, |run| run.latency.value_at_quantile(0.99) as f64 / 1000.0).1
    }

    fn wal_kb(&self) -> f64 {
        self.written.0 / 1024.0 / self.written.1.max(1.0)
    }

    /// Bytes of WAL so far, and orders.
    async fn wal_and_orders(&mut self) -> anyhow::Result<(f64, f64)> {
        let wal = store::counters(&mut self.connection).await?.wal_bytes;
        Ok((wal as f64, look::orders(&mut self.connection).await? as f64))
    }

    /// With so many orders more; what each takes on disk, in KB.
    async fn fill(&mut self, orders: i64, say: impl Fn(&str)) -> anyhow::Result<f64> {
        let first = look::orders(&mut self.connection).await?;
        let bytes = look::size(&mut self.connection).await?;
        let there = loop {
            let there = look::orders(&mut self.connection).await?;
            if there >= first + orders {
                break there;
            }
            say(&format!("{there} of {} orders", first + orders));
            let left = first + orders - there;
            let time = Duration::from_secs_f64((left as f64 / 2_500.0).clamp(2.0, 30.0));
            self.run(Load { pace: Pace::Closed(512), time, warm_up: Duration::ZERO, ..self.load }).await?;
        };
        store::analyze(&mut self.connection).await?;
        let bytes = look::size(&mut self.connection).await? - bytes;
        Ok(bytes as f64 / 1024.0 / (there - first).max(1) as f64)
    }
}
