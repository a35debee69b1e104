//! What was measured, in numbers.

use std::fmt;

use serde::Serialize;

use crate::{
    mix::{Mix, Spread},
    put::{Load, Measured, Pace},
};

/// Where a latency curve has its points.
const SHARES: [f64; 15] =
    [0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.97, 0.99, 0.995, 0.998, 0.999, 0.9995, 0.9998, 0.9999];

/// How fast orders were answered. Latencies are in milliseconds, from when an order was sent (closed) or due (open) to its
/// end.
#[derive(Debug, Clone, Serialize)]
pub struct Answers {
    pub pace: String,
    pub mix: Mix,
    pub spread: Spread,
    pub seconds: f64,
    /// That were sent or due within the time and came to the end that was due, however late.
    pub orders: u64,
    /// That came to their end within the time.
    pub per_second: f64,
    pub p50_ms: f64,
    pub p99_ms: f64,
    pub p999_ms: f64,
    pub longest_ms: f64,
    /// Share of orders, and within how many milliseconds it was answered.
    pub curve: Vec<(f64, f64)>,
    /// Turned away because the subject was full.
    pub shed: u64,
    /// Due and never sent.
    pub dropped: u64,
}

impl Answers {
    /// Of a load.
    #[must_use]
    pub fn of(load: &Load, measured: &Measured) -> Self {
        let at = |quantile: f64| measured.latency.value_at_quantile(quantile) as f64 / 1000.0;
        Self {
            pace: match load.pace {
                Pace::Closed(places) => format!("closed, {places} in flight"),
                Pace::Open(rate) => format!("open, {rate:.0} due per second"),
            },
            mix: load.mix,
            spread: load.spread,
            seconds: measured.seconds,
            orders: measured.latency.len(),
            per_second: measured.rate(),
            p50_ms: at(0.5),
            p99_ms: at(0.99),
            p999_ms: at(0.999),
            longest_ms: measured.latency.max() as f64 / 1000.0,
            curve: SHARES.map(|share| (share, at(share))).to_vec(),
            shed: measured.shed,
            dropped: measured.dropped,
        }
    }
}

/// In one line.
impl fmt::Display for Answers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:>7.0}/s  p50 {:>6.1}  p99 {:>7.1}  p99.9 {:>7.1} ms",
            self.per_second, self.p50_ms, self.p99_ms, self.p999_ms
        )?;
        if self.shed > 0 {
            write!(f, "  shed {}", self.shed)?;
        }
        if self.dropped > 0 {
            write!(f, "  dropped {}", self.dropped)?;
        }
        Ok(())
    }
}
