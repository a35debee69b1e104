//! Nothing waits for a database for ever, and no connection is used again that may be as dead as one that just broke.
//!
//! A server that is alive ends a statement itself (`statement_timeout`); what is bounded here is a network that swallows
//! everything. Dropping a statement's future leaves its connection in a state that nobody knows, so this is the only
//! place where that happens, and such a connection never goes back to its pool: every connection of this process that is
//! older than the last failure is closed when it is given back, or before it is handed out. That is also how the idle
//! connections of a server that was restarted go: after the first that fails, not one by one.

use std::{
    future::Future,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use sqlx::{Connection as _, PgConnection, pool::PoolConnectionMetadata};
use tokio::time::{Instant, timeout};

/// Above the server's own limit, so that a server that lives answers first.
const LONGEST: Duration = Duration::from_secs(25);

/// A connection that was idle for longer is asked whether it lives, and has this long to say so.
const COLD: Duration = Duration::from_secs(1);
const SIGN_OF_LIFE: Duration = Duration::from_secs(1);

static LAST_FAILURE: Mutex<Option<Instant>> = Mutex::new(None);

fn note_failure() {
    *LAST_FAILURE.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
}

/// Whether a connection of this age was made after the last failure.
pub(super) fn is_trusted(age: Duration) -> bool {
    let last = *LAST_FAILURE.lock().unwrap_or_else(PoisonError::into_inner);
    last.is_none_or(|failure| age < failure.elapsed())
}

/// Runs what asks the database something, but not for ever.
///
/// # Errors
/// What the work said, or `TimedOut`; then it is not known whether it happened.
pub async fn in_time<T>(work: impl Future<Output = sqlx::Result<T>>) -> sqlx::Result<T> {
    within(LONGEST, work).await
}

pub(super) async fn within<T>(
    limit: Duration,
    work: impl Future<Output = sqlx::Result<T>>,
) -> sqlx::Result<T> {
    let done = timeout(limit, work).await;
    let done = done.unwrap_or_else(|_| Err(sqlx::Error::Io(std::io::ErrorKind::TimedOut.into())));
    // A pool that is busy says nothing about its connections.
    let is_busy = matches!(done, Err(sqlx::Error::PoolTimedOut));
    if !is_busy && done.as_ref().is_err_and(super::is_lost) {
        note_failure();
    }
    done
}

/// A BEGIN, which must not be left in the middle: sqlx (0.9.0) counts a transaction when BEGIN is answered, so one that is
/// dropped before would go back to its pool with the transaction open, and whoever gets it next commits nothing. Then that
/// connection, and every other of its age, is closed instead.
pub(super) async fn to_its_end<T>(begin: impl Future<Output = sqlx::Result<T>>) -> sqlx::Result<T> {
    struct Midway(bool);

    impl Drop for Midway {
        fn drop(&mut self) {
            if self.0 {
                note_failure();
            }
        }
    }

    let mut midway = Midway(true);
    let begun = begin.await;
    midway.0 = false;
    begun
}

/// For `before_acquire`: whether an idle connection may be used.
pub(super) async fn is_usable(
    connection: &mut PgConnection,
    meta: PoolConnectionMetadata,
) -> sqlx::Result<bool> {
    if !is_trusted(meta.age) {
        return Ok(false);
    }
    Ok(meta.idle_for < COLD || within(SIGN_OF_LIFE, connection.ping()).await.is_ok())
}

/// For `after_release`: whether a connection may be kept. sqlx asks it for a sign of life next, without a limit and with
/// its place in the pool taken meanwhile; so it is asked here first, with one.
pub(super) async fn is_worth_keeping(connection: &mut PgConnection, age: Duration) -> sqlx::Result<bool> {
    may_be_kept(age)?;
    within(SIGN_OF_LIFE, connection.ping()).await.map(|()| true)
}

fn may_be_kept(age: Duration) -> sqlx::Result<()> {
    if is_trusted(age) {
        return Ok(());
    }
    // An error closes it without a word: a word could hang.
    Err(sqlx::Error::Io(std::io::Error::other("older than a connection that broke")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_hangs_is_given_up_and_connections_older_than_it_are_trusted_no_more() {
        let made = Instant::now();
        let hangs = within(Duration::from_millis(20), std::future::pending::<sqlx::Result<()>>()).await;
        assert!(matches!(hangs, Err(sqlx::Error::Io(error)) if error.kind() == std::io::ErrorKind::TimedOut));
        let age = made.elapsed();
        assert!(!is_trusted(age));
        assert!(may_be_kept(age).is_err());
        tokio::time::sleep(Duration::from_millis(5)).await;
        assert!(is_trusted(Duration::ZERO), "one that was made after it");
        // A refusal says nothing about the connection.
        let before = Instant::now();
        let refused = within(Duration::from_secs(1), async { Err::<(), _>(sqlx::Error::RowNotFound) }).await;
        assert!(refused.is_err());
        assert!(is_trusted(before.elapsed()));
    }
}
