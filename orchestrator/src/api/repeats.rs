//! Whether customers repeat their requests these days.
//!
//! Hardly anybody does, and the key decides anyway when the order is stored; so a key is looked up first only where that is
//! likely to save something. Where repeats are about (an outage just ended), those that come in a slice of new orders would
//! send all of it the long way.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use tokio::time::Instant;

/// After a repeat, others are likely for so long.
const ABOUT: Duration = Duration::from_secs(5);

/// See the module.
#[derive(Debug)]
pub(crate) struct Repeats {
    start: Instant,
    /// In milliseconds since then.
    until: AtomicU64,
}

impl Default for Repeats {
    fn default() -> Self {
        Self { start: Instant::now(), until: AtomicU64::new(0) }
    }
}

impl Repeats {
    fn millis(&self, now: Instant) -> u64 {
        u64::try_from(now.saturating_duration_since(self.start).as_millis()).unwrap_or(u64::MAX)
    }

    /// Somebody repeated a request.
    pub(crate) fn seen(&self, now: Instant) {
        self.until.store(self.millis(now + ABOUT), Ordering::Relaxed);
    }

    /// Whether the next request may well be one.
    pub(crate) fn are_about(&self, now: Instant) -> bool {
        self.millis(now) < self.until.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repeat_is_remembered_for_a_while() {
        let (repeats, now) = (Repeats::default(), Instant::now());
        assert!(!repeats.are_about(now));
        repeats.seen(now);
        assert!(repeats.are_about(now) && repeats.are_about(now + ABOUT / 2));
        assert!(!repeats.are_about(now + ABOUT));
    }
}
