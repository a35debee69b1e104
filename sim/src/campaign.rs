//! Many seeds side by side, one thread each at a time; what they came to, and a report.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use serde::Serialize;

use crate::{
    bug::Bug,
    mark::{Mark, Marks},
    world,
};

/// A seed that failed, and how.
#[derive(Debug, Clone, Serialize)]
pub struct Failure {
    /// Which.
    pub seed: u64,
    /// The violation.
    pub violation: String,
}

/// What a campaign came to.
#[derive(Debug)]
pub struct Campaign {
    /// Seeds that were run.
    pub seeds: u64,
    /// Those that failed, the lowest first.
    pub failures: Vec<Failure>,
    /// What occurred.
    pub marks: Marks,
    /// Deeds in all runs together.
    pub deeds: u64,
    /// Simulated time of all runs together, in milliseconds.
    pub lasted: i64,
    /// The run that took longest to settle: milliseconds after its storm, and its seed.
    pub slowest: (i64, u64),
    /// How many runs were settled within so many milliseconds after their storm.
    pub settled: [u64; SETTLED.len()],
    /// Real time.
    pub took: Duration,
}

/// After this many failures nothing more is learned.
const ENOUGH_FAILURES: usize = 20;

/// Within what time runs are settled, in milliseconds: a minute, five, half an hour, and whatever it takes.
pub const SETTLED: [i64; 4] = [60_000, 300_000, 1_800_000, i64::MAX];

struct Sum {
    seeds: u64,
    failures: Vec<Failure>,
    marks: Marks,
    deeds: u64,
    lasted: i64,
    settled: [u64; SETTLED.len()],
    slowest: (i64, u64),
}

/// Runs `seeds` seeds from `from`. `progress` is told now and then how many are done.
#[must_use]
pub fn run(
    from: u64,
    seeds: u64,
    threads: usize,
    bug: Option<Bug>,
    progress: impl Fn(u64) + Sync,
) -> Campaign {
    let began = Instant::now();
    let next = AtomicU64::new(0);
    let sum = Mutex::new(Sum {
        seeds: 0,
        failures: Vec::new(),
        marks: Marks::default(),
        deeds: 0,
        lasted: 0,
        settled: [0; SETTLED.len()],
        slowest: (0, 0),
    });
    std::thread::scope(|scope| {
        for _ in 0..threads.max(1) {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= seeds {
                        return;
                    }
                    let seed = from + number;
                    let outcome = world::run(seed, bug, false);
                    let mut sum = sum.lock().unwrap_or_else(PoisonError::into_inner);
                    sum.seeds += 1;
                    sum.marks.add(&outcome.marks);
                    sum.deeds += outcome.deeds;
                    sum.lasted += outcome.lasted;
                    sum.slowest = sum.slowest.max((outcome.settled, seed));
                    for (count, limit) in sum.settled.iter_mut().zip(SETTLED) {
                        *count += u64::from(outcome.settled <= limit);
                    }
                    if let Some(violation) = outcome.violation {
                        sum.failures.push(Failure { seed, violation });
                        if sum.failures.len() >= ENOUGH_FAILURES || bug.is_some() {
                            next.store(seeds, Ordering::Relaxed);
                        }
                    }
                    let done = sum.seeds;
                    drop(sum);
                    progress(done);
                }
            });
        }
    });
    let mut sum = sum.into_inner().unwrap_or_else(PoisonError::into_inner);
    sum.failures.sort_by_key(|failure| failure.seed);
    Campaign {
        seeds: sum.seeds,
        failures: sum.failures,
        marks: sum.marks,
        deeds: sum.deeds,
        lasted: sum.lasted,
        settled: sum.settled,
        slowest: sum.slowest,
        took: began.elapsed(),
    }
}

/// Fewer seeds than this need not show everything.
const WHOLE: u64 = 2_000;

impl Campaign {
    /// What should have occurred and did not; nothing is missed in a campaign that is too short to tell.
    #[must_use]
    pub fn missing(&self) -> Vec<Mark> {
        if self.seeds < WHOLE { Vec::new() } else { self.marks.missing() }
    }

    /// The report.
    #[must_use]
    pub fn report(&self, from: u64, version: &str) -> serde_json::Value {
        let occurred: serde_json::Map<String, serde_json::Value> =
            Mark::ALL.iter().map(|mark| (mark.as_str().to_owned(), self.marks.count(*mark).into())).collect();
        let per_seed = self.took.as_secs_f64() * 1000.0 / (self.seeds.max(1) as f64);
        serde_json::json!({
            "version": version,
            "from": from,
            "seeds": self.seeds,
            "failures": self.failures,
            "never_occurred": self.missing().iter().map(|mark| mark.as_str()).collect::<Vec<_>>(),
            "occurred": occurred,
            "deeds": self.deeds,
            "settled_after_the_storm": {
                "within 1 min": self.settled[0],
                "within 5 min": self.settled[1],
                "within 30 min": self.settled[2],
                "slowest_seconds": self.slowest.0 / 1000,
                "slowest_seed": self.slowest.1,
            },
            "simulated_hours": self.lasted / 3_600_000,
            "took_seconds": self.took.as_secs_f64(),
            "milliseconds_per_seed": per_seed,
        })
    }
}
