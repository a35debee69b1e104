//! How often a mail is tried, and how long after a failure the next attempt comes.

use std::time::Duration;

/// No wait is longer: half an hour between attempts is what RFC 5321, 4.5.4.1, asks for.
const LONGEST: Duration = Duration::from_secs(30 * 60);

/// What an operator decided.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Policy {
    /// At least 1.
    pub(crate) attempts: i32,
    /// After the first attempt that failed.
    pub(crate) backoff: Duration,
}

/// What follows from an attempt that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Next {
    /// Again after this.
    Again(Duration),
    /// Never, unless a person asks for it.
    GiveUp,
}

impl Policy {
    /// After the `attempt`th failed; the first is 1. `jitter` is 0 to 1: between half of the wait and all of it.
    pub(crate) fn after_failure(&self, attempt: i32, jitter: f64) -> Next {
        if attempt >= self.attempts {
            return Next::GiveUp;
        }
        let before = attempt.saturating_sub(1).clamp(0, 31);
        let doubled = self.backoff.saturating_mul(1_u32 << before.unsigned_abs());
        let wait = doubled.min(LONGEST.max(self.backoff));
        Next::Again(wait.mul_f64(jitter.clamp(0.0, 1.0).mul_add(0.5, 0.5)))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn waits_double_up_to_the_longest_until_nothing_is_left() {
        let policy = Policy { attempts: 14, backoff: Duration::from_secs(1) };
        for (attempt, seconds) in [(1, 1), (2, 2), (3, 4), (11, 1024), (12, 1800), (13, 1800)] {
            let all = Duration::from_secs(seconds);
            assert_eq!(policy.after_failure(attempt, 1.0), Next::Again(all), "{attempt}");
            assert_eq!(policy.after_failure(attempt, 0.0), Next::Again(all / 2), "{attempt}");
        }
        assert_eq!(policy.after_failure(14, 0.5), Next::GiveUp);
    }

    proptest! {
        #[test]
        fn any_wait_is_within_bounds(attempts in 1..i32::MAX, attempt in any::<i32>(), jitter in any::<f64>()) {
            let policy = Policy { attempts, backoff: Duration::from_millis(100) };
            match policy.after_failure(attempt, jitter) {
                Next::GiveUp => prop_assert!(attempt >= attempts),
                Next::Again(wait) => prop_assert!(wait >= Duration::from_millis(50) && wait <= LONGEST),
            }
        }
    }
}
