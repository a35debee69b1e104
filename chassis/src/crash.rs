//! Crash points: places, before and after everything that lasts, where a process can be made to die.
//!
//! For the proof that it may die anywhere. Each pass of a point counts; at the one that was asked for the process aborts,
//! without unwinding and without a last word to anybody but standard error. Nothing is counted until a number is armed,
//! and then a point costs one atomic load.

use std::sync::atomic::{AtomicU64, Ordering};

/// Passes left; 0: not armed, or past it.
static LEFT: AtomicU64 = AtomicU64::new(0);

/// From now on passes count; at the `at`-th, from 1, the process aborts.
pub fn arm(at: u64) {
    LEFT.store(at, Ordering::SeqCst);
}

/// A place to die, named as in `before commit`.
#[inline]
pub fn point(name: &str) {
    if LEFT.load(Ordering::Relaxed) != 0 {
        pass(name);
    }
}

#[cold]
#[expect(
    clippy::print_stderr,
    reason = "the last word of the process: whoever asked for it must know that it came to it"
)]
fn pass(name: &str) {
    if is_last(&LEFT) {
        eprintln!("crash point: {name}");
        std::process::abort();
    }
}

/// Counts one pass; whether it is the one.
fn is_last(left: &AtomicU64) -> bool {
    left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)) == Ok(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_pass_is_the_last_and_none_after_it() {
        let left = AtomicU64::new(3);
        let passes: Vec<_> = (0..5).map(|_| is_last(&left)).collect();
        assert_eq!(passes, [false, false, true, false, false]);
    }
}
