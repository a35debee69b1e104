//! Who waits for a saga in this process: told after each commit, never before.
//!
//! A hint only. A saga of another instance says nothing here; whoever waits also looks at the database now and then.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::sync::watch;
use types::SagaId;

type Waiting = HashMap<SagaId, watch::Sender<i64>>;

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
    version: watch::Receiver<i64>,
}

impl Hub {
    fn lock(&self) -> std::sync::MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins to wait. What is committed after this is not missed.
    #[must_use]
    pub fn wait_for(&self, saga: SagaId) -> Place {
        let version = self.lock().entry(saga).or_insert_with(|| watch::channel(0).0).subscribe();
        Place { hub: self.clone(), saga, version }
    }

    /// A version is committed.
    pub fn tell(&self, saga: SagaId, version: i64) {
        if let Some(sender) = self.lock().get(&saga) {
            sender.send_replace(version);
        }
    }
}

impl Place {
    /// Until something was committed since the last look.
    pub async fn changed(&mut self) {
        if self.version.changed().await.is_err() {
            // The sender lives as long as this place; a closed one never changes.
            std::future::pending::<()>().await;
        }
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
