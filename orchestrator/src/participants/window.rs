//! How many items a lane may have with its participant at once: fewer after it was too busy, more while it keeps up.
//!
//! After an outage everything that waited comes at once. A participant that takes what it can and turns the rest away is
//! asked again by those, and again: work that comes to nothing. So what it cannot take waits here, where it costs nobody
//! anything. Grows by a part of what went well, and halves when anything was turned away (additive increase,
//! multiplicative decrease), at most once for each window's worth of answers.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

/// At first: more than one slice.
const FIRST: f64 = 512.0;
/// Never fewer: those that hang must not keep the others out.
const LEAST: f64 = 128.0;
/// Turned away were at least this part of an exchange: fewer say that an item is odd, not that there is too much to do.
const PART: usize = 4;
/// Never more.
const MOST: f64 = 16_384.0;

/// A lane's window. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Window {
    inner: Arc<(Mutex<Inner>, Notify)>,
}

#[derive(Debug)]
struct Inner {
    limit: f64,
    taken: usize,
    /// Answers until it may halve again: those on their way were sent under the window before.
    deaf: usize,
}

/// Places for the items of one exchange; what came of them is told with [`Places::end`].
#[derive(Debug)]
pub(super) struct Places {
    window: Window,
    count: usize,
}

impl Window {
    pub(super) fn new() -> Self {
        let inner = Inner { limit: FIRST, taken: 0, deaf: 0 };
        Self { inner: Arc::new((Mutex::new(inner), Notify::new())) }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until there is a place; how many there are then. Only one may wait.
    pub(super) async fn free(&self) -> usize {
        loop {
            let told = self.inner.1.notified();
            {
                let inner = self.lock();
                let free = (inner.limit as usize).saturating_sub(inner.taken);
                if free > 0 {
                    return free;
                }
            }
            told.await;
        }
    }

    /// Takes places that were free.
    pub(super) fn take(&self, count: usize) -> Places {
        self.lock().taken += count;
        Places { window: self.clone(), count }
    }
}

impl Places {
    /// The items are answered; so many of them were turned away because there was too much to do.
    pub(super) fn end(self, busy: usize) {
        let mut inner = self.window.lock();
        if busy * PART >= self.count.max(1) {
            if inner.deaf == 0 {
                inner.limit = (inner.limit / 2.0).max(LEAST);
                inner.deaf = inner.taken;
            }
        } else if busy == 0 && inner.taken * 2 > inner.limit as usize {
            inner.limit = (inner.limit + self.count as f64 / 8.0).min(MOST);
        }
        inner.deaf = inner.deaf.saturating_sub(self.count);
    }
}

impl Drop for Places {
    fn drop(&mut self) {
        self.window.lock().taken -= self.count;
        self.window.inner.1.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn limit(window: &Window) -> usize {
        window.lock().limit as usize
    }

    #[tokio::test]
    async fn it_halves_once_for_what_was_on_its_way_and_grows_while_it_is_used() {
        let window = Window::new();
        assert_eq!(window.free().await, 512);
        let (first, second) = (window.take(256), window.take(256));
        assert!(tokio::time::timeout(Duration::from_millis(20), window.free()).await.is_err(), "it is full");
        first.end(64);
        assert_eq!(limit(&window), 256);
        second.end(200);
        assert_eq!(limit(&window), 256, "sent under the window before");
        assert_eq!(window.free().await, 256);
        window.take(200).end(40);
        assert_eq!(limit(&window), 256, "a few odd ones");
        window.take(200).end(50);
        assert_eq!(limit(&window), 128);
        for _ in 0..4 {
            window.take(100).end(0);
        }
        assert!(limit(&window) > 150, "{}", limit(&window));
        let before = limit(&window);
        window.take(1).end(0);
        assert_eq!(limit(&window), before, "nobody wanted more");
        for _ in 0..20 {
            window.take(limit(&window)).end(limit(&window));
        }
        assert_eq!(limit(&window), 128, "never fewer");
    }

    #[tokio::test]
    async fn whoever_waits_goes_on_when_a_place_is_given_back() {
        let window = Window::new();
        let all = window.take(512);
        let waiting = tokio::time::timeout(Duration::from_secs(5), window.free());
        let giving = async {
            tokio::time::sleep(Duration::from_millis(20)).await;
            drop(all);
        };
        assert_eq!(tokio::join!(waiting, giving).0.unwrap(), 512);
    }
}
