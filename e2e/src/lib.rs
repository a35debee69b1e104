//! The harness: a world of Amends in one test, with private databases, private queues and ports of its own.
//!
//! Scenarios are in `tests/it`. A [`World`] starts every service on its own listener, lets any of them be stopped and
//! started again, and ends with the auditor. Nothing depends on this crate.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    missing_docs,
    clippy::disallowed_methods,
    reason = "a harness fails by panicking, and speaks of things by their names"
)]

mod clients;
mod collector;
pub mod crash;
pub mod doors;
pub mod faults;
pub mod golden;
pub mod house;
pub mod infra;
pub mod load;
mod meddle;
mod node;
pub mod process;
pub mod proxy;
pub mod seeded;
pub mod soak;
pub mod stack;
pub mod till;
mod world;

use std::{future::Future, time::Duration};

pub use clients::{Line, Spec};
pub use collector::{Collector, Span};
pub use meddle::{Meddling, Record};
pub use node::{Kind, Node};
pub use world::{Builder, BusKind, Ground, World};

/// Asks again until it is so, for at most `limit`.
pub async fn eventually_within<T, F>(limit: Duration, what: &str, mut ask: impl FnMut() -> F) -> T
where
    F: Future<Output = Option<T>>,
{
    let until = tokio::time::Instant::now() + limit;
    loop {
        if let Some(found) = ask().await {
            return found;
        }
        assert!(tokio::time::Instant::now() < until, "not within {limit:?}: {what}");
        tokio::time::sleep(Duration::from_millis(30)).await;
    }
}

/// Asks again until it is so, for at most 30 s.
pub async fn eventually<T, F>(what: &str, ask: impl FnMut() -> F) -> T
where
    F: Future<Output = Option<T>>,
{
    eventually_within(Duration::from_secs(30), what, ask).await
}
