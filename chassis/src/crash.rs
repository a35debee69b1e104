//! Crash points: places, before and after everything that lasts, where a process can be made to die.
//!
//! For the proof that it may die anywhere. Each pass of a point counts; at the one that was asked for the process aborts,
//! without unwinding and without a last word to anybody but standard error. What goes by the *clock* whether there is work
//! or not (a lease renewed every second, a shard taken at the start) is counted apart, so that the k-th point of an order
//! is the same whenever it is counted. Nothing is counted until a number is armed, and until then a point costs one atomic
//! load. Statements and commits pass theirs by themselves (`sql.rs`, `database.rs`); whoever calls a remote place passes
//! its own.

use std::{
    io::BufRead as _,
    sync::atomic::{AtomicU8, AtomicU64, Ordering},
};

/// What counts; 0: nothing.
static COUNTED: AtomicU8 = AtomicU8::new(0);
static COUNT: Count = Count::new();

/// Which points count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Among {
    /// Those that are passed because of an order.
    Work = 1,
    /// Of these, those after which something has just become lasting. What a process leaves when it dies before something
    /// is what it left after the thing before, so the others add nothing but order.
    Lasting = 2,
    /// Those that are passed all the time.
    Clock = 3,
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

/// From now on passes of these count; at the `at`-th, from 1, the process aborts. At 0 it never does.
pub fn arm(among: Among, at: u64) {
    COUNT.arm(at);
    COUNTED.store(among as u8, Ordering::SeqCst);
}

/// A place to die, named as in `before publish`, `inventory`.
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
    COUNTED.load(Ordering::Relaxed) != 0
}

/// A pass of a point that belongs to work or to the clock.
#[cold]
#[expect(
    clippy::print_stderr,
    reason = "the last word of the process: whoever asked for it must know that it came to it"
)]
pub(crate) fn pass(of: Among, when: &str, what: &str) {
    if counts(COUNTED.load(Ordering::SeqCst), of, when) && COUNT.is_last() {
        eprintln!("crash point: {when} {what}");
        std::process::abort();
    }
}

fn counts(counted: u8, of: Among, when: &str) -> bool {
    counted == of as u8 || (counted == Among::Lasting as u8 && of == Among::Work && lasts(when))
}

/// What was called or published has points of its own where it becomes lasting; the caller only hears of it.
fn lasts(when: &str) -> bool {
    when.starts_with("after") && !["after call", "after publish", "after provider"].contains(&when)
}

/// What the process is to do, as in `7`, `lasting 7`, `clock 7` or `0`.
///
/// # Errors
/// That it is not that.
pub fn parse(text: &str) -> Result<(Among, u64), String> {
    let (among, number) = match text.trim().split_once(' ') {
        Some(("lasting", number)) => (Among::Lasting, number),
        Some(("clock", number)) => (Among::Clock, number),
        Some(_) => return Err(format!("`{text}` is not `N`, `lasting N` or `clock N`")),
        None => (Among::Work, text.trim()),
    };
    number.parse().map(|at| (among, at)).map_err(|_| format!("`{number}` is not a number"))
}

/// Arms what is given, and then whatever is read from standard input, a line each; says on standard error that it did,
/// and how many passes there were since the time before.
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
    let passed = COUNT.passed.load(Ordering::SeqCst);
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
    fn each_counts_its_own() {
        let counts = |counted: Among, of, when| counts(counted as u8, of, when);
        assert!(counts(Among::Work, Among::Work, "before commit"));
        assert!(!counts(Among::Work, Among::Clock, "before commit"));
        assert!(!counts(Among::Clock, Among::Work, "before commit"));
        assert!(counts(Among::Lasting, Among::Work, "after commit"));
        assert!(!counts(Among::Lasting, Among::Work, "before commit"));
        assert!(!counts(Among::Lasting, Among::Work, "after publish"));
        assert!(!counts(Among::Lasting, Among::Clock, "after update"));
        assert!(!super::counts(0, Among::Work, "before commit"), "nothing is armed");
    }

    #[test]
    fn what_is_asked_for_is_a_number_of_one_count() {
        assert_eq!(parse("12\n"), Ok((Among::Work, 12)));
        assert_eq!(parse("clock 3"), Ok((Among::Clock, 3)));
        assert_eq!(parse("lasting 3"), Ok((Among::Lasting, 3)));
        assert!(parse("clock").is_err());
        assert!(parse("work 3").is_err());
        assert!(parse("").is_err());
    }
}
