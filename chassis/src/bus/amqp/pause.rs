//! A consumer's pause while its handler can do nothing: everyone waits, one at a time tries.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::sync::{Mutex, MutexGuard};

const FIRST: Duration = Duration::from_millis(100);

/// The longest delay is this part of the time a message may be in hand, or it would never get to try.
const PART: u32 = 300;

/// See the module.
pub(super) struct Pause {
    queue: Arc<str>,
    longest: Duration,
    paused: AtomicBool,
    /// The delay before the next try. Who holds it tries; the lock is fair, so everybody's turn comes.
    delay: Mutex<Duration>,
}

/// The right to try while paused; none when nobody needs one.
pub(super) type Probe<'a> = Option<MutexGuard<'a, Duration>>;

impl Pause {
    pub(super) fn new(queue: Arc<str>, hold: Duration) -> Self {
        Self {
            queue,
            longest: (hold / PART).max(FIRST),
            paused: AtomicBool::new(false),
            delay: Mutex::new(FIRST),
        }
    }

    /// Waits for the right to ask the handler.
    pub(super) async fn turn(&self) -> Probe<'_> {
        if !self.paused.load(Ordering::Acquire) {
            return None;
        }
        let delay = self.delay.lock().await;
        if !self.paused.load(Ordering::Acquire) {
            return None;
        }
        tokio::time::sleep(delay.mul_f64(rand::random_range(0.5..=1.0))).await;
        Some(delay)
    }

    /// The handler can do nothing.
    pub(super) fn begin(&self, why: &str, probe: Probe<'_>) {
        if let Some(mut delay) = probe {
            *delay = (*delay * 2).min(self.longest);
        }
        if !self.paused.swap(true, Ordering::AcqRel) {
            tracing::warn!(queue = &*self.queue, why, "consuming pauses");
            self.show(true);
        }
    }

    /// The handler answered. Only who tried may say so: an answer that was on its way when the pause began proves
    /// nothing.
    pub(super) fn end(&self, probe: Probe<'_>) {
        if let Some(mut delay) = probe {
            *delay = FIRST;
            if self.paused.swap(false, Ordering::AcqRel) {
                tracing::info!(queue = &*self.queue, "consuming goes on");
                self.show(false);
            }
        }
    }

    fn show(&self, paused: bool) {
        metrics::gauge!("amends_bus_paused", "queue" => self.queue.to_string()).set(u8::from(paused));
    }
}
