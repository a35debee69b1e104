//! How a database is waited for: what may pass is waited for and named in the log, what needs a person ends the wait.
//!
//! It must never print a URL, which may hold a password: only the address.

use std::{future::Future, time::Duration};

use sqlx::postgres::PgConnectOptions;
use tokio::time::{Instant, timeout};

use super::{Error, is_lost};
use crate::stop::Stop;

const PAUSE: Duration = Duration::from_millis(300);
/// One try.
const PATIENCE: Duration = Duration::from_secs(5);
/// Between two lines in the log.
const REMINDER: Duration = Duration::from_secs(5);
/// A role or a database that is not there may still be being made, by whoever sets the server up; but not for ever.
const BEING_MADE: Duration = Duration::from_secs(60);

/// What a failed try means.
#[derive(Debug, PartialEq, Eq)]
enum Meaning {
    /// It passes: not there, not answering, starting up, no place.
    Passes,
    /// It may still be being made.
    NotMade,
    /// A person has to do something.
    Final,
}

fn meaning(error: &sqlx::Error) -> Meaning {
    match error {
        sqlx::Error::Database(e) => match e.code().as_deref() {
            // A wrong password; and, with passwords, a role that is not there.
            Some("28P01") => Meaning::Final,
            // No such role (without passwords), no such database.
            Some("28000" | "3D000") => Meaning::NotMade,
            _ if is_lost(error) => Meaning::Passes,
            _ => Meaning::Final,
        },
        error if is_lost(error) => Meaning::Passes,
        _ => Meaning::Final,
    }
}

/// Does what needs the server at `options`, again and again while the server is not there, until `stop`. The work must
/// hold nothing that may not be dropped.
///
/// # Errors
/// What does not pass.
pub async fn patiently<T>(
    options: &PgConnectOptions,
    stop: &Stop,
    work: impl AsyncFn() -> sqlx::Result<T>,
) -> Result<T, Error> {
    patiently_for(BEING_MADE, options, stop, work).await
}

async fn patiently_for<T>(
    being_made: Duration,
    options: &PgConnectOptions,
    stop: &Stop,
    work: impl AsyncFn() -> sqlx::Result<T>,
) -> Result<T, Error> {
    let began = Instant::now();
    let mut said: Option<Instant> = None;
    loop {
        let error = match until_stopped(stop, work()).await {
            Ok(done) => {
                if said.is_some() {
                    tracing::info!(address = address(options), "the database is there");
                }
                return Ok(done);
            }
            Err(error) => error,
        };
        let hopeless = match meaning(&error) {
            Meaning::Passes => false,
            Meaning::NotMade => began.elapsed() > being_made,
            Meaning::Final => true,
        };
        if hopeless || stop.is_wanted() {
            return Err(Error::Refused { address: address(options), source: error });
        }
        if said.is_none_or(|said| said.elapsed() >= REMINDER) {
            tracing::warn!(address = address(options), %error, "waiting for the database");
            said = Some(Instant::now());
        }
        stop.sleep(PAUSE).await;
    }
}

async fn until_stopped<T>(stop: &Stop, work: impl Future<Output = sqlx::Result<T>>) -> sqlx::Result<T> {
    let late = || sqlx::Error::Io(std::io::ErrorKind::TimedOut.into());
    tokio::select! {
        () = stop.wanted() => Err(late()),
        done = timeout(PATIENCE, work) => done.unwrap_or_else(|_| Err(late())),
    }
}

/// For people: where, and which database.
fn address(options: &PgConnectOptions) -> String {
    let database = options.get_database().unwrap_or_default();
    format!("{}:{}/{database}", options.get_host(), options.get_port())
}

#[cfg(test)]
mod tests {
    use std::{str::FromStr as _, sync::atomic::AtomicU32};

    use super::*;

    fn nowhere() -> PgConnectOptions {
        PgConnectOptions::from_str("postgres://ada:hunter2@127.0.0.1:1/books").unwrap()
    }

    #[test]
    fn an_address_has_no_password() {
        assert_eq!(address(&nowhere()), "127.0.0.1:1/books");
    }

    #[tokio::test]
    async fn what_passes_is_waited_for_and_what_does_not_ends_the_wait() {
        let tries = AtomicU32::new(0);
        let refused = || sqlx::Error::Io(std::io::ErrorKind::ConnectionRefused.into());
        let (nowhere, stop) = (nowhere(), Stop::new());
        let done = patiently(&nowhere, &stop, async || {
            match tries.fetch_add(1, std::sync::atomic::Ordering::SeqCst) {
                0..2 => Err(refused()),
                _ => Ok(7),
            }
        });
        assert_eq!(done.await.unwrap(), 7);
        let failed =
            patiently(&nowhere, &stop, async || Err::<(), _>(sqlx::Error::Configuration("no".into())));
        assert!(matches!(failed.await, Err(Error::Refused { .. })));
    }

    #[tokio::test]
    async fn a_stop_ends_the_wait_at_once_even_where_nothing_answers() {
        let stop = Stop::new();
        let asked = stop.clone();
        stop.spawn(async move {
            tokio::time::sleep(Duration::from_millis(100)).await;
            asked.request();
        });
        let began = Instant::now();
        let nowhere = nowhere();
        let waiting = patiently(&nowhere, &stop, async || std::future::pending::<sqlx::Result<()>>().await);
        assert!(waiting.await.is_err());
        assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    }
}
