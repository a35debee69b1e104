//! The only place that reads the clock or draws an id.

use std::sync::atomic::{AtomicI64, Ordering};

use chrono::{DateTime, TimeDelta, Utc};
use uuid::{NoContext, Timestamp, Uuid};

/// How far the wall clock of this process is ahead of the machine's, in milliseconds. 0 but in trials.
static AHEAD: AtomicI64 = AtomicI64::new(0);

/// The wall clock, UTC. For what is stored and shown; waits use `tokio::time`.
#[must_use]
pub fn now() -> DateTime<Utc> {
    read(AHEAD.load(Ordering::Relaxed))
}

/// A new UUIDv7: sorts by the time it was drawn.
#[must_use]
pub fn new_uuid() -> Uuid {
    match AHEAD.load(Ordering::Relaxed) {
        0 => Uuid::now_v7(),
        ahead => drawn_at(read(ahead)),
    }
}

/// For trials: from now on the wall clock of this process is this far ahead of the machine's (behind, if negative), as
/// if somebody had set it. What time passes, the process goes on knowing: waits are measured by another clock.
pub fn jump(ahead: TimeDelta) {
    AHEAD.store(ahead.num_milliseconds(), Ordering::SeqCst);
}

#[expect(clippy::disallowed_methods, reason = "the one place that reads the wall clock")]
fn read(ahead: i64) -> DateTime<Utc> {
    let now = Utc::now();
    now.checked_add_signed(TimeDelta::milliseconds(ahead)).unwrap_or(now)
}

fn drawn_at(time: DateTime<Utc>) -> Uuid {
    let seconds = u64::try_from(time.timestamp()).unwrap_or(0);
    Uuid::new_v7(Timestamp::from_unix(NoContext, seconds, time.timestamp_subsec_nanos()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_is_ahead_reads_later_and_its_ids_sort_later() {
        let hour = TimeDelta::hours(1);
        let (before, ahead) = (read(0), read(hour.num_milliseconds()));
        assert!(ahead - before >= hour && ahead - before < hour + TimeDelta::minutes(1));
        assert!(drawn_at(before) < drawn_at(ahead));
        assert!(drawn_at(ahead) > Uuid::now_v7());
        assert!(read(-hour.num_milliseconds()) < before);
    }
}
