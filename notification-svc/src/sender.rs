//! Sends what is due, again and again until somebody takes it.
//!
//! A round claims some deliveries, gives them to the sink with no connection held, and stores what came of it. An
//! answer of the mail server counts as an attempt; a server that is away does not, and the breaker keeps it from being
//! asked. A crash between sending and storing sends again: told twice is better than not at all.

use std::{sync::Arc, time::Duration};

use chassis::{
    breaker::{self, Breaker, Outcome},
    clock,
    stop::Stop,
};
use chrono::{DateTime, TimeDelta, Utc};
use futures_util::future::join_all;
use sqlx::PgPool;
use tokio::sync::Notify;

use crate::{
    domain,
    sink::{Sink, Unsent},
    store::{self, Due, Settled},
};

/// Deliveries of a round.
const WINDOW: usize = 16;
/// For one letter, all of the conversation.
const PATIENCE: Duration = Duration::from_secs(60);
/// A claim outlives the round it is for.
const CLAIM: TimeDelta = TimeDelta::minutes(3);
/// Due deliveries are looked for this often when nobody says that there are some.
const LOOK: Duration = Duration::from_secs(1);
/// After the mail server was away, by when the breaker lets a letter through again, or soon after.
const AWAY: TimeDelta = TimeDelta::seconds(2);

/// See the module.
pub(crate) struct Sender {
    pool: PgPool,
    sink: Arc<dyn Sink>,
    breaker: Breaker,
    due: Arc<Notify>,
    stop: Stop,
}

impl Sender {
    pub(crate) fn new(pool: PgPool, sink: Arc<dyn Sink>, due: Arc<Notify>, stop: Stop) -> Self {
        let breaker = Breaker::new(sink.name(), breaker::Options::default());
        Self { pool, sink, breaker, due, stop }
    }

    /// Until the process stops.
    pub(crate) async fn run(self) {
        let mut database_is_away = false;
        while !self.stop.is_wanted() {
            let wait = match self.round().await {
                Ok(wait) => {
                    database_is_away = false;
                    wait
                }
                Err(error) => {
                    if !database_is_away {
                        tracing::warn!(%error, "cannot send: the database is away");
                    }
                    database_is_away = true;
                    LOOK
                }
            };
            tokio::select! {
                () = self.stop.wanted() => {}
                () = self.due.notified(), if !wait.is_zero() && !database_is_away => {}
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    /// Sends what is due now; how long to wait for the next round.
    async fn round(&self) -> sqlx::Result<Duration> {
        let mut permit = match self.breaker.permit(WINDOW) {
            Ok(permit) => permit,
            Err(open) => return Ok(open.retry_after.max(Duration::from_millis(50))),
        };
        let now = clock::now();
        let limit = i64::try_from(permit.granted()).unwrap_or(1);
        let mut connection = self.pool.acquire().await?;
        let due = store::claim(&mut connection, now, now + CLAIM, limit).await?;
        drop(connection);
        if due.is_empty() {
            return Ok(LOOK);
        }
        let full = due.len() == permit.granted();
        let sent = join_all(due.iter().map(|due| self.send(due))).await;
        let now = clock::now();
        let mut rows = Vec::with_capacity(due.len());
        for (due, sent) in due.iter().zip(sent) {
            permit.item(if matches!(sent, Err(Unsent::Away(_))) { Outcome::Failed } else { Outcome::Ok });
            rows.push(settled(due, sent, now));
        }
        let mut connection = self.pool.acquire().await?;
        store::settle(&mut connection, rows).await?;
        Ok(if full { Duration::ZERO } else { LOOK })
    }

    async fn send(&self, due: &Due) -> Result<(), Unsent> {
        let sent = tokio::time::timeout(PATIENCE, self.sink.send(due))
            .await
            .unwrap_or_else(|_| Err(Unsent::Away("no answer in time".into())));
        let outcome = match &sent {
            Ok(()) => "sent",
            Err(Unsent::Away(_)) => "away",
            Err(Unsent::NotNow(_)) => "not_now",
            Err(Unsent::Never(_)) => "never",
        };
        if let Err(why) = &sent {
            tracing::warn!(delivery.id = %due.delivery_id, due.template, ?why, "a letter was not taken");
        }
        metrics::counter!("amends_notification_sent_total", "sink" => self.sink.name(), "outcome" => outcome)
            .increment(1);
        sent
    }
}

/// What is stored about a delivery that was tried.
fn settled(due: &Due, sent: Result<(), Unsent>, now: DateTime<Utc>) -> Settled {
    let answered = due.attempts.saturating_add(1);
    let row = |state, attempts, next_time, error: Option<String>| Settled {
        id: due.delivery_id,
        state,
        attempts,
        next_time,
        error: error.map(|error| error.chars().take(500).collect()),
        send_time: None,
    };
    match sent {
        Ok(()) => Settled { send_time: Some(now), ..row("SENT", answered, None, None) },
        Err(Unsent::Away(why)) => row("QUEUED", due.attempts, Some(now + AWAY), Some(why)),
        Err(Unsent::Never(why)) => row("FAILED", answered, None, Some(why)),
        Err(Unsent::NotNow(why)) => match domain::wait_after(answered) {
            Some(wait) => row("QUEUED", answered, Some(now + wait), Some(why)),
            None => row("FAILED", answered, None, Some(why)),
        },
    }
}
