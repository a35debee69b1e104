//! The only place that reads the clock, draws an id, or draws lots for a wait.
//!
//! A simulation chooses all three for the thread that it runs in: see [`Simulated`].

use std::{
    cell::Cell,
    sync::atomic::{AtomicI64, Ordering},
};

use chrono::{DateTime, TimeDelta, Utc};
use uuid::{NoContext, Timestamp, Uuid};

/// How far the wall clock of this process is ahead of the machine's, in milliseconds. 0 but in trials.
static AHEAD: AtomicI64 = AtomicI64::new(0);

thread_local! {
    /// Nothing, in every thread but a simulation's.
    static SIMULATED: Cell<Option<Simulated>> = const { Cell::new(None) };
}

/// Time, ids and lots of one thread, all from a seed.
#[derive(Debug, Clone, Copy)]
pub struct Simulated {
    now: DateTime<Utc>,
    lots: u64,
}

impl Simulated {
    /// From here on this thread's ids and lots follow from `seed`; its time stands until it is set.
    pub fn begin(seed: u64) {
        SIMULATED.set(Some(Self { now: DateTime::<Utc>::UNIX_EPOCH, lots: seed }));
    }

    /// This thread's time, milliseconds since 1970. Nothing where no simulation has begun.
    pub fn set_time(ms: i64) {
        if let (Some(simulated), Some(now)) = (SIMULATED.get(), DateTime::from_timestamp_millis(ms)) {
            SIMULATED.set(Some(Self { now, ..simulated }));
        }
    }

    /// This thread has the real time again.
    pub fn end() {
        SIMULATED.set(None);
    }

    /// A lot: splitmix64, small and good enough for choosing.
    fn draw(mut self) -> u64 {
        self.lots = self.lots.wrapping_add(0x9e37_79b9_7f4a_7c15);
        SIMULATED.set(Some(self));
        let mixed = (self.lots ^ (self.lots >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

/// The wall clock, UTC. For what is stored and shown; waits use `tokio::time`.
#[must_use]
pub fn now() -> DateTime<Utc> {
    SIMULATED.get().map_or_else(|| read(AHEAD.load(Ordering::Relaxed)), |simulated| simulated.now)
}

/// The wall clock of somebody else, UTC, who lives in this process for trials only: this one's jumps are not his.
#[must_use]
pub fn elsewhere() -> DateTime<Utc> {
    SIMULATED.get().map_or_else(|| read(0), |simulated| simulated.now)
}

/// A new UUIDv7: sorts by the time it was drawn.
#[must_use]
pub fn new_uuid() -> Uuid {
    if let Some(simulated) = SIMULATED.get() {
        let mut random = [0; 10];
        random[..8].copy_from_slice(&simulated.draw().to_be_bytes());
        let ms = u64::try_from(simulated.now.timestamp_millis()).unwrap_or(0);
        return uuid::Builder::from_unix_timestamp_millis(ms, &random).into_uuid();
    }
    match AHEAD.load(Ordering::Relaxed) {
        0 => Uuid::now_v7(),
        ahead => drawn_at(read(ahead)),
    }
}

/// A lot from zero to `longest`, for waits that must not come all at once.
#[must_use]
pub fn up_to(longest: i64) -> i64 {
    let Some(simulated) = SIMULATED.get() else { return rand::random_range(0..=longest.max(0)) };
    let range = u64::try_from(longest).unwrap_or(0).saturating_add(1);
    i64::try_from(simulated.draw() % range).unwrap_or(0)
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
    fn a_simulation_chooses_time_ids_and_lots_and_only_in_its_thread() {
        let run = || {
            Simulated::begin(7);
            Simulated::set_time(1_000);
            let drawn = (now(), new_uuid(), new_uuid(), up_to(1_000_000));
            Simulated::end();
            drawn
        };
        let (first, again) = (run(), std::thread::spawn(run).join().unwrap());
        assert_eq!(first, again);
        assert_ne!(first.1, first.2);
        assert_eq!((first.0.timestamp_millis(), first.1.get_version_num()), (1_000, 7));
        assert!(now().timestamp_millis() > 1_000_000_000_000 && (0..=5).contains(&up_to(5)));
    }

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
