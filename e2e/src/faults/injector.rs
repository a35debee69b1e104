//! What is planned for whom, and what was really done.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use futures_util::future::BoxFuture;
use tokio::sync::Notify;

use super::fault::{Direction, Fault};

/// Whoever waits for something that is done waits this long.
const LIMIT: Duration = Duration::from_secs(300);

/// One step of one saga, one way.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Spot {
    pub saga: String,
    pub step: String,
    pub direction: Direction,
}

/// What is to be done there, and how often; the times after that nothing is.
#[derive(Debug, Clone)]
pub struct Plan {
    pub step: String,
    pub direction: Direction,
    pub fault: Fault,
    pub times: u32,
}

/// What was done there.
#[derive(Debug, Clone, Default)]
pub struct Count {
    /// Calls or commands that came.
    pub arrivals: u32,
    /// Commands that took effect as they should.
    pub handled: u32,
    /// Answers by message that came.
    pub answers: u32,
    /// Those that met the fault.
    pub injected: u32,
    /// What the participant said to calls and commands that it got late.
    pub late: Vec<String>,
    /// All of it, in order, with milliseconds since 1970.
    pub story: Vec<(i64, &'static str)>,
}

impl Count {
    fn tell(&mut self, what: &'static str) {
        self.story.push((chassis::clock::now().timestamp_millis(), what));
    }
}

#[derive(Default)]
struct Entry {
    fault: Option<Fault>,
    left: u32,
    count: Count,
}

#[derive(Default)]
struct Books {
    known: HashSet<String>,
    entries: HashMap<Spot, Entry>,
    /// Participants whose doors let nobody in.
    down: HashSet<&'static str>,
    /// What is delivered when somebody says so.
    kept: HashMap<String, Vec<BoxFuture<'static, ()>>>,
}

/// See [`faults`](super). Cheap to clone; clones are the same injector.
#[derive(Clone, Default)]
pub struct Injector {
    books: Arc<Mutex<Books>>,
    changed: Arc<Notify>,
}

impl Injector {
    fn lock(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap()
    }

    /// From now on this saga's calls go on, to what is planned for them.
    pub fn expect(&self, saga: &str, plans: Vec<Plan>) {
        let mut books = self.lock();
        for Plan { step, direction, fault, times } in plans {
            let spot = Spot { saga: saga.to_owned(), step, direction };
            let entry = books.entries.entry(spot).or_default();
            (entry.fault, entry.left) = (Some(fault), times);
        }
        books.known.insert(saga.to_owned());
        drop(books);
        self.changed.notify_waiters();
    }

    /// From now on nothing is done there any more.
    pub fn heal(&self, spot: &Spot) {
        if let Some(entry) = self.lock().entries.get_mut(spot) {
            entry.fault = None;
        }
    }

    /// What was done there so far.
    #[must_use]
    pub fn count(&self, spot: &Spot) -> Count {
        self.lock().entries.get(spot).map(|entry| entry.count.clone()).unwrap_or_default()
    }

    /// Waits until something was done there this often.
    pub async fn injected(&self, spot: &Spot, times: u32) {
        self.until(&format!("{times} times at {spot:?}"), |books| {
            books.entries.get(spot).is_some_and(|entry| entry.count.injected >= times)
        })
        .await;
    }

    /// Waits until one came there.
    pub async fn came(&self, spot: &Spot) {
        self.until(&format!("one at {spot:?}"), |books| {
            books.entries.get(spot).is_some_and(|entry| entry.count.arrivals > 0)
        })
        .await;
    }

    /// Waits until a command took effect there.
    pub async fn handled(&self, spot: &Spot) {
        self.until(&format!("one is handled at {spot:?}"), |books| {
            books.entries.get(spot).is_some_and(|entry| entry.count.handled > 0)
        })
        .await;
    }

    /// Waits until that many late ones were answered there.
    pub async fn answered_late(&self, spot: &Spot, times: usize) {
        self.until(&format!("{times} late answers at {spot:?}"), |books| {
            books.entries.get(spot).is_some_and(|entry| entry.count.late.len() >= times)
        })
        .await;
    }

    async fn until(&self, what: &str, is_so: impl Fn(&Books) -> bool) {
        let look = async {
            loop {
                let changed = self.changed.notified();
                tokio::pin!(changed);
                // Heard from here on, so that nothing is missed between the look and the wait.
                changed.as_mut().enable();
                if is_so(&self.lock()) {
                    return;
                }
                changed.await;
            }
        };
        let waited = tokio::time::timeout(LIMIT, look).await;
        assert!(waited.is_ok(), "not within {LIMIT:?}: {what}");
    }

    /// Lets nobody in at a participant's doors, or everybody again.
    pub fn set_down(&self, participant: &'static str, down: bool) {
        let mut books = self.lock();
        if down {
            books.down.insert(participant);
        } else {
            books.down.remove(participant);
        }
    }

    pub(super) fn is_down(&self, participant: &str) -> bool {
        self.lock().down.contains(participant)
    }

    /// Delivers everything that was kept of this saga; how much.
    pub async fn deliver_kept(&self, saga: &str) -> usize {
        let kept = self.lock().kept.remove(saga).unwrap_or_default();
        let count = kept.len();
        futures_util::future::join_all(kept).await;
        count
    }

    pub(super) fn keep(&self, saga: &str, delivery: BoxFuture<'static, ()>) {
        self.lock().kept.entry(saga.to_owned()).or_default().push(delivery);
    }

    /// One comes; it goes on when somebody knows its saga.
    pub(super) async fn comes(&self, spot: &Spot) {
        self.until(&format!("somebody knows {}", spot.saga), |books| books.known.contains(&spot.saga)).await;
        let mut books = self.lock();
        let count = &mut books.entries.entry(spot.clone()).or_default().count;
        count.arrivals += 1;
        count.tell("came");
        drop(books);
        self.changed.notify_waiters();
    }

    /// A command took effect.
    pub(super) fn took_effect(&self, spot: &Spot) {
        self.lock().entries.entry(spot.clone()).or_default().count.handled += 1;
        self.changed.notify_waiters();
    }

    /// An answer came.
    pub(super) fn answered(&self, spot: &Spot) {
        self.lock().entries.entry(spot.clone()).or_default().count.answers += 1;
    }

    /// Takes from the plan what is to be done there, if it is one of these: it counts by [`Self::done`], or is given
    /// back.
    pub(super) fn take(&self, spot: &Spot, faults: fn(Fault) -> bool) -> Option<Fault> {
        let mut books = self.lock();
        let entry = books.entries.get_mut(spot)?;
        let fault = entry.fault.filter(|fault| entry.left > 0 && faults(*fault))?;
        entry.left -= 1;
        entry.count.tell("taken");
        Some(fault)
    }

    /// It was taken, and was not done.
    pub(super) fn give_back(&self, spot: &Spot) {
        if let Some(entry) = self.lock().entries.get_mut(spot) {
            entry.left = entry.left.saturating_add(1);
            entry.count.tell("given back");
        }
    }

    /// Whether this was done there.
    pub(super) fn was(&self, spot: &Spot, fault: Fault) -> bool {
        let books = self.lock();
        books.entries.get(spot).is_some_and(|entry| entry.fault == Some(fault) && entry.count.injected > 0)
    }

    /// Whether nobody hears in time what comes of calls there.
    pub(super) fn is_mute(&self, spot: &Spot) -> bool {
        let books = self.lock();
        let planned = books.entries.get(spot).filter(|entry| entry.left > 0).and_then(|entry| entry.fault);
        planned.is_some_and(|fault| !matches!(fault, Fault::Duplicate | Fault::Hold | Fault::Unable))
    }

    /// It was done.
    pub(super) fn done(&self, spot: &Spot) {
        if let Some(entry) = self.lock().entries.get_mut(spot) {
            entry.count.injected += 1;
            entry.count.tell("done");
        }
        self.changed.notify_waiters();
    }

    pub(super) fn late(&self, spot: &Spot, says: String) {
        if let Some(entry) = self.lock().entries.get_mut(spot) {
            entry.count.late.push(says);
        }
        self.changed.notify_waiters();
    }
}
