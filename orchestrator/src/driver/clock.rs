//! A wall clock that was set back: what waits for a time that was near is asked again.
//!
//! Timers are wall times, because a journal outlives its process. Set ahead, they come early, which harms nobody; set
//! back by an hour, they would come an hour late.

use std::time::Duration;

use types::SagaId;

use super::{Driver, now};
use crate::saga::Moment;

/// A step back by less than this is not worth a look at every saga, in milliseconds.
const STEP: i64 = 5_000;

/// Timers that fire in one turn: others want to be heard, too.
const AT_ONCE: usize = 500;

impl Driver {
    pub(super) fn until_next_timer(&self) -> Duration {
        let Some((due, _)) = self.timers.first() else { return Duration::from_secs(1) };
        let left = due.saturating_sub(now()).clamp(0, 1000);
        Duration::from_millis(u64::try_from(left).unwrap_or(0))
    }

    pub(super) fn fire_timers(&mut self) {
        let now = now();
        for _ in 0..AT_ONCE {
            let Some((due, saga)) = self.timers.first().copied() else { return };
            if due > now {
                return;
            }
            self.timers.pop_first();
            if let Some(live) = self.live.get_mut(&saga) {
                live.timer = Moment::NEVER;
                self.advance(saga);
            }
        }
    }

    /// Every saga is asked again what follows, if time went back.
    pub(super) fn look_at_the_clock(&mut self) {
        let now = now();
        if now + STEP < self.seen {
            tracing::warn!(by_ms = self.seen - now, "the wall clock was set back");
            let mut all: Vec<SagaId> = self.live.keys().copied().collect();
            all.sort_unstable();
            all.into_iter().for_each(|saga| self.advance(saga));
            self.seen = now;
        }
        self.seen = self.seen.max(now);
    }
}
