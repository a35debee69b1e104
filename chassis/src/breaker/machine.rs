//! What failsafe's state machine is given: when it opens and for how long, and whom it tells where it went.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU8, AtomicU64, Ordering},
    },
    time::Duration,
};

use failsafe::{FailurePolicy, Instrument, failure_policy};

use super::{Options, State};

/// Where the machine last went. It is called outside the machine's own lock, hence an atomic.
#[derive(Clone)]
pub(super) struct Watch(Arc<AtomicU8>);

impl Watch {
    pub(super) fn closed() -> Self {
        Self(Arc::new(AtomicU8::new(State::Closed.number())))
    }

    pub(super) fn state(&self) -> State {
        State::from_number(self.0.load(Ordering::Acquire))
    }

    fn set(&self, state: State) {
        self.0.store(state.number(), Ordering::Release);
    }
}

impl Instrument for Watch {
    fn on_call_rejected(&self) {}

    fn on_open(&self) {
        self.set(State::Open);
    }

    fn on_half_open(&self) {
        self.set(State::HalfOpen);
    }

    fn on_closed(&self) {
        self.set(State::Closed);
    }
}

/// Failures in a row, and a note of the cool-down that was drawn, which the machine keeps to itself.
pub(super) struct Policy {
    failures: failure_policy::ConsecutiveFailures<Backoff>,
    cool_down: Arc<AtomicU64>,
}

impl Policy {
    /// Every cool-down it draws is noted, in nanoseconds.
    pub(super) fn new(options: Options, cool_down: Arc<AtomicU64>) -> Self {
        let backoff = Backoff { next: options.cool_down_min, max: options.cool_down_max };
        Self { failures: failure_policy::consecutive_failures(options.failures.max(1), backoff), cool_down }
    }
}

impl FailurePolicy for Policy {
    fn record_success(&mut self) {
        self.failures.record_success();
    }

    fn mark_dead_on_failure(&mut self) -> Option<Duration> {
        let cool_down = self.failures.mark_dead_on_failure()?;
        self.cool_down.store(u64::try_from(cool_down.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
        Some(cool_down)
    }

    fn revived(&mut self) {
        self.failures.revived();
    }
}

/// Doubling with equal jitter. failsafe's own counts in whole seconds, too coarse for a callee in the same rack.
#[derive(Clone)]
struct Backoff {
    next: Duration,
    max: Duration,
}

impl Iterator for Backoff {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        let now = self.next;
        self.next = (now * 2).min(self.max);
        Some(now.mul_f64(rand::random_range(0.5..=1.0)))
    }
}
