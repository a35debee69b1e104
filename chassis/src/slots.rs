//! How many batches this process has under way in its databases, all commands together.
//!
//! More at once than the cores can serve makes each batch smaller and none sooner, and a statement costs more than a row.
//! So a batch takes a place before it drains its queue, and what comes meanwhile goes with it. It is a courtesy and no
//! lock: whoever waited for a moment goes without one, so that a database that hangs holds up nobody else's.

use std::{sync::OnceLock, time::Duration};

use tokio::sync::{Semaphore, SemaphorePermit};

/// After this long it is better to go than to wait.
const PATIENCE: Duration = Duration::from_millis(50);

/// A place, given up when dropped; or none, when there was none to be had.
#[derive(Debug)]
#[must_use = "a place is held for as long as this lives"]
pub struct Slot<'a> {
    _place: Option<SemaphorePermit<'a>>,
}

/// Commands that write the same rows take turns: in the database they would wait for each other's commits all the same, each
/// with a connection and one of the few places meanwhile. A courtesy as well.
#[derive(Debug)]
pub struct Turns(Semaphore);

impl Default for Turns {
    fn default() -> Self {
        Self(Semaphore::new(1))
    }
}

impl Turns {
    /// Waits for its turn, a moment at most.
    pub async fn turn(&self) -> Slot<'_> {
        of(&self.0).await
    }
}

fn places() -> &'static Semaphore {
    static PLACES: OnceLock<Semaphore> = OnceLock::new();
    PLACES.get_or_init(|| {
        let cores = std::thread::available_parallelism().map_or(2, usize::from);
        Semaphore::new((2 * cores).max(4))
    })
}

/// Waits for a place, a moment at most.
pub async fn slot() -> Slot<'static> {
    of(places()).await
}

async fn of(places: &Semaphore) -> Slot<'_> {
    let place = tokio::time::timeout(PATIENCE, places.acquire()).await;
    Slot { _place: place.ok().and_then(Result::ok) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn whoever_waited_long_enough_goes_without_a_place() {
        static ONE: Semaphore = Semaphore::const_new(1);
        let held = of(&ONE).await;
        assert!(held._place.is_some());
        let began = std::time::Instant::now();
        let without = of(&ONE).await;
        assert!(without._place.is_none() && began.elapsed() >= PATIENCE);
        drop(held);
        assert!(of(&ONE).await._place.is_some());
    }
}
