//! A load as the command line names it.

use std::time::Duration;

use anyhow::ensure;
use clap::Args;

use crate::{
    mix::{Mix, Spread},
    put::{Load, Pace},
};

/// The flags.
#[derive(Debug, Clone, Args)]
pub struct Flags {
    /// Closed loop: so many orders in flight
    #[arg(long, default_value_t = 512, value_name = "N")]
    in_flight: usize,
    /// Open loop instead: so many orders due per second
    #[arg(long, value_name = "N", conflicts_with = "in_flight")]
    rate: Option<f64>,
    /// How long is measured, in seconds
    #[arg(long, default_value_t = 10.0, value_name = "S")]
    seconds: f64,
    /// How long it warms up before, in seconds
    #[arg(long, default_value_t = 4.0, value_name = "S")]
    warm_up: f64,
    /// Which orders
    #[arg(long, value_enum, default_value = "standard")]
    mix: Mix,
    /// How they spread over goods and merchants: uniform, hot, zipf:1.0
    #[arg(long, default_value = "uniform")]
    spread: Spread,
    /// Draws the orders
    #[arg(long, default_value_t = 1, value_name = "N")]
    seed: u64,
}

impl Flags {
    /// The load.
    ///
    /// # Errors
    /// When a number is out of its range.
    pub fn load(&self) -> anyhow::Result<Load> {
        ensure!((1..=20_000).contains(&self.in_flight), "--in-flight: 1 to 20000");
        ensure!((0.5..=3600.0).contains(&self.seconds), "--seconds: 0.5 to 3600");
        ensure!((0.0..=600.0).contains(&self.warm_up), "--warm-up: 0 to 600");
        ensure!(self.rate.is_none_or(|rate| (0.1..=1e6).contains(&rate)), "--rate: 0.1 to 1000000");
        Ok(Load {
            pace: self.rate.map_or(Pace::Closed(self.in_flight), Pace::Open),
            mix: self.mix,
            spread: self.spread,
            warm_up: Duration::from_secs_f64(self.warm_up),
            time: Duration::from_secs_f64(self.seconds),
            seed: self.seed,
        })
    }
}
