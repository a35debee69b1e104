//! Who waits for a saga in this process: told after each commit, never before.
//!
//! A saga of another instance says nothing here, so whoever waits also looks at the database now and then. What this
//! instance has just committed need not be read again: it is told with it.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::sync::watch;
use types::SagaId;

use crate::catalog::Projection;

/// What the projection shows of a saga.
#[derive(Debug, Clone)]
pub struct Told {
    /// Since which version.
    pub version: i64,
    /// What.
    pub shown: Arc<Projection>,
    /// Since when, milliseconds since 1970.
    pub time: i64,
}

type Waiting = HashMap<SagaId, watch::Sender<Option<Told>>>;

/// Who waits for what. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Hub {
    waiting: Arc<Mutex<Waiting>>,
}

/// A place in the hub; given up when dropped.
#[derive(Debug)]
pub struct Place {
    hub: Hub,
    saga: SagaId,
    told: watch::Receiver<Option<Told>>,
}

impl Hub {
    fn lock(&self) -> std::sync::MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins to wait. What is committed after this is not missed.
    #[must_use]
    pub fn wait_for(&self, saga: SagaId) -> Place {
        let told = self.lock().entry(saga).or_insert_with(|| watch::channel(None).0).subscribe();
        Place { hub: self.clone(), saga, told }
    }

    /// A version is committed; what is told is made only where somebody waits.
    pub fn tell(&self, saga: SagaId, what: impl FnOnce() -> Option<Told>) {
        if let Some(sender) = self.lock().get(&saga) {
            sender.send_replace(what());
        }
    }
}

impl Place {
    /// Until something was committed since the last look.
    pub async fn changed(&mut self) {
        if self.told.changed().await.is_err() {
            // The sender lives as long as this place; a closed one never changes.
            std::future::pending::<()>().await;
        }
    }

    /// What was committed last, if it was told.
    #[must_use]
    pub fn told(&self) -> Option<Told> {
        self.told.borrow().clone()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut waiting = self.hub.lock();
        if waiting.get(&self.saga).is_some_and(|sender| sender.receiver_count() <= 1) {
            waiting.remove(&self.saga);
        }
    }
}
