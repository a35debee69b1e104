//! The only place that reads the clock or draws an id.

use chrono::{DateTime, Utc};
use uuid::Uuid;

/// The wall clock, UTC. For what is stored and shown; waits use `tokio::time`.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "the one place that reads the wall clock")]
pub fn now() -> DateTime<Utc> {
    Utc::now()
}

/// A new UUIDv7: sorts by the time it was drawn.
#[must_use]
pub fn new_uuid() -> Uuid {
    Uuid::now_v7()
}
