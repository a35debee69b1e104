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
    fn now(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Somebody repeated a request.
    pub(crate) fn seen(&self) {
        let about = u64::try_from(ABOUT.as_millis()).unwrap_or(u64::MAX);
        self.until.store(self.now().saturating_add(about), Ordering::Relaxed);
    }

    /// Whether the next request may well be one.
    pub(crate) fn are_about(&self) -> bool {
        self.now() < self.until.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_repeat_is_remembered_for_a_while() {
        let repeats = Repeats::default();
        assert!(!repeats.are_about());
        repeats.seen();
        assert!(repeats.are_about());
        tokio::time::advance(ABOUT).await;
        assert!(!repeats.are_about());
    }
}
