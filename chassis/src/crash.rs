//! Crash points: places, before and after everything that lasts, where a process can be made to die.
//!
//! For the proof that it may die anywhere. Each pass of a point counts; at the one that was asked for the process aborts,
//! without unwinding and without a last word to anybody but standard error. There are two counts: one of *work*, and one
//! of what goes by the *clock* whether there is work or not (a lease renewed every second, a shard taken at the start),
//! so that the k-th point of an order is the same whenever it is counted. Nothing is counted until a number is armed, and
//! until then a point costs one atomic load. Statements and commits pass theirs by themselves (`sql.rs`, `database.rs`);
//! whoever calls a remote place passes its own.

use std::{
    io::BufRead as _,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
};

/// Something is armed.
static ARMED: AtomicBool = AtomicBool::new(false);
static WORK: Count = Count::new();
static CLOCK: Count = Count::new();

/// What a pass is counted among.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Among {
    /// What happens because of an order.
    Work,
    /// What happens all the time.
    Clock,
}

impl Among {
    const fn count(self) -> &'static Count {
        match self {
            Self::Work => &WORK,
            Self::Clock => &CLOCK,
        }
    }
}

/// Passes since it was armed, and the one that is the last.
struct Count {
    passed: AtomicU64,
    last: AtomicU64,
}

impl Count {
    const fn new() -> Self {
        Self { passed: AtomicU64::new(0), last: AtomicU64::new(0) }
    }

    fn arm(&self, at: u64) {
        self.passed.store(0, Ordering::SeqCst);
        self.last.store(at, Ordering::SeqCst);
    }

    /// Counts one pass; whether it is the one.
    fn is_last(&self) -> bool {
        let last = self.last.load(Ordering::SeqCst);
        self.passed.fetch_add(1, Ordering::SeqCst) + 1 == last
    }
}

/// From now on passes count; at the `at`-th of these, from 1, the process aborts. At 0 it never does.
pub fn arm(among: Among, at: u64) {
    WORK.arm(if among == Among::Work { at } else { 0 });
    CLOCK.arm(if among == Among::Clock { at } else { 0 });
    ARMED.store(true, Ordering::SeqCst);
}

/// A place to die, named as in `before`, `publish`.
#[inline]
pub fn point(when: &str, what: &str) {
    if is_armed() {
        pass(Among::Work, when, what);
    }
}

/// A place to die in what goes by the clock.
#[inline]
pub fn tick(when: &str, what: &str) {
    if is_armed() {
        pass(Among::Clock, when, what);
    }
}

/// Whether passes count.
#[inline]
#[must_use]
pub fn is_armed() -> bool {
    ARMED.load(Ordering::Relaxed)
}

#[cold]
#[expect(
    clippy::print_stderr,
    reason = "the last word of the process: whoever asked for it must know that it came to it"
)]
pub(crate) fn pass(among: Among, when: &str, what: &str) {
    if among.count().is_last() {
        eprintln!("crash point: {when} {what}");
        std::process::abort();
    }
}

/// What the process is to do, as in `7`, `clock 7` or `0`.
///
/// # Errors
/// That it is not that.
pub fn parse(text: &str) -> Result<(Among, u64), String> {
    let (among, number) = match text.trim().split_once(' ') {
        Some(("clock", number)) => (Among::Clock, number),
        Some(_) => return Err(format!("`{text}` is not `N` or `clock N`")),
        None => (Among::Work, text.trim()),
    };
    number.parse().map(|at| (among, at)).map_err(|_| format!("`{number}` is not a number"))
}

/// Arms what is given, and then whatever is read from standard input, a line each; says on standard error that it did,
/// and how many passes of work there were since the time before.
pub fn obey(first: (Among, u64)) {
    arm(first.0, first.1);
    // A thread of its own: standard input blocks, and this dies with the process, which is what it is for.
    std::thread::spawn(|| {
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            hear(&line);
        }
    });
}

#[expect(clippy::print_stderr, reason = "whoever wrote to standard input waits for it")]
fn hear(line: &str) {
    let passed = WORK.passed.load(Ordering::SeqCst);
    match parse(line) {
        Ok((among, at)) => {
            arm(among, at);
            eprintln!("crash points: armed {line}, passed {passed}");
        }
        Err(why) => eprintln!("crash points: {why}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_pass_is_the_last_and_none_after_it() {
        let count = Count::new();
        count.arm(3);
        let passes: Vec<_> = (0..5).map(|_| count.is_last()).collect();
        assert_eq!(passes, [false, false, true, false, false]);
        assert_eq!(count.passed.load(Ordering::SeqCst), 5);
        count.arm(1);
        assert!(count.is_last());
        count.arm(0);
        assert!(!count.is_last());
    }

    #[test]
    fn what_is_asked_for_is_a_number_of_one_count() {
        assert_eq!(parse("12\n"), Ok((Among::Work, 12)));
        assert_eq!(parse("clock 3"), Ok((Among::Clock, 3)));
        assert!(parse("clock").is_err());
        assert!(parse("work 3").is_err());
        assert!(parse("").is_err());
    }
}
