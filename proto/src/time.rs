//! Times on the wire and back. All are UTC.

use chrono::{DateTime, Utc};
use prost_types::Timestamp;

/// A time for the wire.
#[must_use]
pub fn stamp(time: DateTime<Utc>) -> Timestamp {
    // Below a second there are at most 999,999,999 nanoseconds (a leap second is folded into the one before).
    let nanos = i32::try_from(time.timestamp_subsec_nanos().min(999_999_999)).unwrap_or(0);
    Timestamp { seconds: time.timestamp(), nanos }
}

/// A time from the wire; none when it is out of range.
#[must_use]
pub fn read(stamp: &Timestamp) -> Option<DateTime<Utc>> {
    DateTime::from_timestamp(stamp.seconds, u32::try_from(stamp.nanos).ok()?)
}
