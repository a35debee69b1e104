//! How long, how often: the numbers that the rules are given. Settings say them; see [`crate::Settings`].

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

/// The numbers.
#[derive(Debug, Clone, Copy)]
pub struct Policy {
    /// Past this since the last stamp, a look-up that finds nothing proves that nothing is there.
    pub horizon: Duration,
    /// A key is never sent again when it is older than this.
    pub key_life: Duration,
    /// A charge is sent this often at most.
    pub sends: i32,
    /// A call to the provider is given up after this.
    pub call_timeout: Duration,
    /// The first look-up comes after this; each further one in a row after twice as long.
    pub look: Duration,
    /// What a payment method that confirms later is expected to take at most.
    pub settlement: Duration,
}

/// Look-ups in a row are never further apart than this: a person who waits for a refund may wait for it.
const LOOK_MAX: Duration = Duration::from_secs(60);

impl Policy {
    /// How long to wait before look-up number `looks` (from 0) in a row.
    pub fn pause(&self, looks: i32) -> Duration {
        let doublings = u32::try_from(looks).unwrap_or(0).min(16);
        self.look.saturating_mul(1 << doublings).min(LOOK_MAX.max(self.look))
    }
}

/// `time` plus `span`; the end of time when that is further.
pub fn after(time: DateTime<Utc>, span: Duration) -> DateTime<Utc> {
    TimeDelta::from_std(span)
        .ok()
        .and_then(|span| time.checked_add_signed(span))
        .unwrap_or(DateTime::<Utc>::MAX_UTC)
}
