//! How a process stops: one token says that it should, one tracker knows who is still at work.
//!
//! `main` owns the signal; everything else is given a [`Stop`]. Killing the process at any line must be safe; stopping
//! this way is only faster.

use std::{future::Future, time::Duration};

use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// The stop token and the tracker of all tasks.
#[derive(Debug, Clone, Default)]
pub struct Stop {
    token: CancellationToken,
    tasks: TaskTracker,
}

impl Stop {
    /// Nobody wants to stop yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Starts a task that [`Stop::finish`] waits for. It must end soon after [`Stop::wanted`].
    pub fn spawn<F>(&self, task: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.tasks.spawn(task);
    }

    /// Resolves when somebody wants to stop.
    pub async fn wanted(&self) {
        self.token.cancelled().await;
    }

    /// Whether somebody wants to stop.
    #[must_use]
    pub fn is_wanted(&self) -> bool {
        self.token.is_cancelled()
    }

    /// Sleeps; false when it was woken by the wish to stop.
    pub async fn sleep(&self, duration: Duration) -> bool {
        tokio::select! {
            () = self.token.cancelled() => false,
            () = tokio::time::sleep(duration) => true,
        }
    }

    /// Says that all should stop.
    pub fn request(&self) {
        self.token.cancel();
    }

    /// Waits for all tasks, at most `grace`. False when some were still at work.
    pub async fn finish(&self, grace: Duration) -> bool {
        self.tasks.close();
        tokio::time::timeout(grace, self.tasks.wait()).await.is_ok()
    }
}

/// Whether whoever started the process wanted it to outlive the terminal. Where that cannot be seen, not. A SIGHUP that it was
/// started to ignore (`nohup`) stays ignored.
#[must_use]
pub fn ignores_hang_up() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or_default();
    // Signal 1 is the lowest bit.
    mask & 1 == 1
}
