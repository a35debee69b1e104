//! The short way of a command: a slice whose items are all new and all possible, in one statement.
//!
//! The statement holds its own guards: keys that must be free, CHECKs, and a count of the rows that it touched (it divides
//! by zero when one is missing). When a guard says no, nothing was written, and the command goes its long way: load, rules,
//! write. The long way is right for every slice; the short one only says sooner what it would say.

use std::sync::atomic::{AtomicU32, Ordering};

use crate::database::Trouble;

/// Whether a command's next slice is likely to go the short way: one that did not costs a statement for nothing, so after
/// one the next is not tried, after two in a row the next three are not, and so on up to 31.
#[derive(Debug, Default)]
pub struct Hunch {
    misses: AtomicU32,
    pause: AtomicU32,
}

impl Hunch {
    /// Goes the short way if that is likely to succeed. None: nothing was written, go the long way.
    ///
    /// # Errors
    /// What the database said that was no guard's no.
    pub async fn try_it<T>(
        &self,
        short: impl Future<Output = Result<Option<T>, Trouble>>,
    ) -> Result<Option<T>, Trouble> {
        if is_closed() {
            return Ok(None);
        }
        if self.pause.load(Ordering::Relaxed) > 0 {
            self.pause.fetch_sub(1, Ordering::Relaxed);
            return Ok(None);
        }
        let done = short.await?;
        if done.is_some() {
            count();
            self.misses.store(0, Ordering::Relaxed);
        } else {
            let misses = (self.misses.load(Ordering::Relaxed) + 1).min(5);
            self.misses.store(misses, Ordering::Relaxed);
            self.pause.store((1 << misses) - 1, Ordering::Relaxed);
        }
        Ok(done)
    }
}

/// For the proof that both ways come to the same, with the feature that only `e2e` turns on.
#[cfg(feature = "seeded-bugs")]
pub mod proof {
    use std::sync::atomic::{AtomicBool, AtomicU64};

    /// Every command goes its long way.
    pub static CLOSED: AtomicBool = AtomicBool::new(false);
    /// How many slices went a short one.
    pub static GONE: AtomicU64 = AtomicU64::new(0);
}

#[cfg(feature = "seeded-bugs")]
fn is_closed() -> bool {
    proof::CLOSED.load(Ordering::Relaxed)
}

#[cfg(feature = "seeded-bugs")]
fn count() {
    proof::GONE.fetch_add(1, Ordering::Relaxed);
}

#[cfg(not(feature = "seeded-bugs"))]
const fn is_closed() -> bool {
    false
}

#[cfg(not(feature = "seeded-bugs"))]
const fn count() {}

/// What a guarded statement came to: none when a guard said no (a key that is taken, a CHECK, a sum that does not fit, a count
/// that divided by zero).
///
/// # Errors
/// Everything else.
pub fn guarded<T>(done: sqlx::Result<T>) -> Result<Option<T>, Trouble> {
    match done {
        Ok(done) => Ok(Some(done)),
        Err(sqlx::Error::Database(error))
            if error.code().is_some_and(|code| ["23505", "23514", "22003", "22012"].contains(&&*code)) =>
        {
            Ok(None)
        }
        Err(error) => Err(error.into()),
    }
}

/// The same of a plain insert, whose only guard is its keys.
///
/// # Errors
/// As [`guarded`].
pub fn nothing_there<T>(done: Result<T, Trouble>) -> Result<Option<T>, Trouble> {
    match done {
        Ok(done) => Ok(Some(done)),
        Err(Trouble::Again(_)) => Ok(None),
        Err(trouble) => Err(trouble),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_missed_is_tried_less_often_until_it_succeeds() {
        let hunch = Hunch::default();
        let mut tried = Vec::new();
        for _ in 0..12 {
            let mut was_tried = false;
            let done = hunch.try_it(async {
                was_tried = true;
                Ok::<Option<()>, Trouble>(None)
            });
            assert!(done.await.unwrap().is_none());
            tried.push(was_tried);
        }
        let at: Vec<_> = (0..12).filter(|n| tried[*n]).collect();
        assert_eq!(at, [0, 2, 6], "then with a pause of 1, 3, 7, …");
        let hunch = Hunch::default();
        assert!(hunch.try_it(async { Ok::<_, Trouble>(None::<()>) }).await.unwrap().is_none());
        assert!(hunch.try_it(async { Ok(Some(())) }).await.unwrap().is_none(), "not tried");
        assert!(hunch.try_it(async { Ok(Some(())) }).await.unwrap().is_some());
        assert!(hunch.try_it(async { Ok(Some(())) }).await.unwrap().is_some(), "no pause after a success");
    }
}
