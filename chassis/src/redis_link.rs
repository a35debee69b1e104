//! The way to Redis that [`cache`](crate::cache) and [`limiter`](crate::limiter) share.
//!
//! Nothing here may wait for long or be trusted: every call has 100 ms where nobody says otherwise, a breaker stops asking
//! a Redis that is away, and whoever asks must have an answer of its own for `None`. It never fails towards the caller.

use std::{
    fmt,
    future::Future,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use ::redis::{
    Client, RedisResult,
    aio::{ConnectionManager, ConnectionManagerConfig},
};
use tokio::time::Instant;

use crate::breaker::{Breaker, Options, Outcome, State};

/// A call that takes longer is worth less than doing without.
const PATIENCE: Duration = Duration::from_millis(100);

/// Between two lines in the log about a Redis that is away.
const QUIET: Duration = Duration::from_secs(10);

/// Why there is no link.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The URL is not one. It is not repeated here: it may hold a password.
    #[error("not a Redis URL of the form redis://[user:password@]host:port/[database]")]
    Url,
}

/// A connection that comes back by itself. Cheap to clone; clones share the connection and the breaker.
#[derive(Clone)]
pub struct RedisLink {
    inner: Arc<Inner>,
}

struct Inner {
    client: Client,
    patience: Duration,
    connection: Mutex<ConnectionManager>,
    prefix: String,
    breaker: Breaker,
    said: Mutex<Option<Instant>>,
}

/// Connects when first used. Few tries at once: the next call tries again, and until then callers must not wait.
fn connect(client: &Client, patience: Duration) -> RedisResult<ConnectionManager> {
    let config = ConnectionManagerConfig::new()
        .set_connection_timeout(Some(patience.max(Duration::from_secs(1))))
        .set_response_timeout(Some(patience))
        .set_number_of_retries(1);
    ConnectionManager::new_lazy_with_config(client.clone(), config)
}

impl RedisLink {
    /// A link to `url`; every key starts with `prefix`. Connects when first asked, so that a Redis that is not there
    /// keeps nobody from starting. Must be called inside a tokio runtime.
    ///
    /// # Errors
    /// When the URL is not one.
    pub fn open(url: &str, prefix: &str) -> Result<Self, Error> {
        Self::with_patience(url, prefix, PATIENCE)
    }

    /// As [`open`](Self::open), with another limit for each call: for those who would rather wait than do without.
    ///
    /// # Errors
    /// When the URL is not one.
    pub fn with_patience(url: &str, prefix: &str, patience: Duration) -> Result<Self, Error> {
        let client = Client::open(url).map_err(|_| Error::Url)?;
        let connection = Mutex::new(connect(&client, patience).map_err(|_| Error::Url)?);
        let breaker = Breaker::new(
            "redis",
            Options {
                failures: 3,
                cool_down_min: Duration::from_millis(200),
                cool_down_max: Duration::from_secs(5),
                probes: 3,
            },
        );
        let prefix = prefix.to_owned();
        let inner = Inner { client, patience, connection, prefix, breaker, said: Mutex::new(None) };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// The key as Redis knows it.
    pub(crate) fn key(&self, key: &str) -> String {
        format!("{}{key}", self.inner.prefix)
    }

    /// Asks Redis; none when it is away, slow, or answered with an error. `user` is for the metric.
    pub(crate) async fn ask<T, F>(
        &self,
        user: &'static str,
        call: impl FnOnce(ConnectionManager) -> F,
    ) -> Option<T>
    where
        F: Future<Output = RedisResult<T>>,
    {
        let Ok(mut permit) = self.inner.breaker.permit(1) else {
            metrics::counter!("amends_redis_failed_total", "user" => user).increment(1);
            return None;
        };
        // The manager's own time-out starts when it is connected; this one holds while it connects, too.
        let why = match tokio::time::timeout(self.inner.patience, call(self.connection())).await {
            Ok(Ok(value)) => {
                permit.item(Outcome::Ok);
                return Some(value);
            }
            Ok(Err(error)) => error.to_string(),
            Err(_) => "no answer in time".to_owned(),
        };
        permit.transport_failure();
        if self.inner.breaker.state() == State::Open {
            self.reconnect();
        }
        metrics::counter!("amends_redis_failed_total", "user" => user).increment(1);
        if self.may_say() {
            tracing::warn!(user, error = why, "Redis cannot be used; going on without it");
        }
        None
    }

    fn connection(&self) -> ConnectionManager {
        self.inner.connection.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The manager replaces a connection that broke, but keeps one that only went silent (the machine behind it is
    /// gone): that one is replaced here.
    fn reconnect(&self) {
        if let Ok(fresh) = connect(&self.inner.client, self.inner.patience) {
            *self.inner.connection.lock().unwrap_or_else(PoisonError::into_inner) = fresh;
        }
    }

    fn may_say(&self) -> bool {
        let now = Instant::now();
        let mut said = self.inner.said.lock().unwrap_or_else(PoisonError::into_inner);
        if said.is_some_and(|then| now.duration_since(then) < QUIET) {
            return false;
        }
        *said = Some(now);
        true
    }
}

impl fmt::Debug for RedisLink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisLink")
            .field("prefix", &self.inner.prefix)
            .field("breaker", &self.inner.breaker)
            .finish_non_exhaustive()
    }
}
