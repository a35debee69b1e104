//! Sends what is due, again and again until somebody takes it or its attempts are used up.
//!
//! Letters come claimed from whoever stored them, or are claimed when they are found due; they are given to the sink with no
//! connection held, and what came of each is stored under the claim's name; a slow one holds up no other. Nothing is
//! claimed while the breaker is open, so no attempt is spent on a sink that is away. A crash between sending and storing sends again: told twice is better than not at all. Read next:
//! [`store::claim`], [`crate::hands`], [`crate::sink`].

use std::{panic::AssertUnwindSafe, sync::Arc, time::Duration};

use chassis::{
    breaker::Outcome,
    crash,
    database::{Trouble, Warm},
    slots::slot,
    stop::Stop,
    telemetry,
};
use futures_util::{FutureExt as _, StreamExt as _, future::BoxFuture, stream::FuturesUnordered};
use tokio::{sync::mpsc, time::Instant};
use tracing::{Instrument as _, Span};

use crate::{
    Settings,
    domain::{Next, Policy},
    hands::{Hands, InHand, Place},
    sink::{Sink, Unsent},
    store::{self, Due, Settled},
};

/// Due deliveries are looked for this often when nobody says that there are some.
const LOOK: Duration = Duration::from_secs(1);
/// Deliveries that one look takes at most.
const CLAIM: usize = 256;
/// What came of a letter is stored together with what ends within this time: nothing waits for it, and a statement costs more
/// than a row. A crash sends again what it finds unsettled, so this is also how many letters may be told twice.
const LINGER: Duration = Duration::from_millis(50);
/// Characters of a sink's words that are kept.
const WORDS: usize = 500;

/// See the module.
pub(crate) struct Sender {
    pool: Warm,
    sink: Arc<dyn Sink>,
    policy: Policy,
    hands: Hands,
    stored: mpsc::UnboundedReceiver<InHand>,
    stop: Stop,
}

type OnItsWay = FuturesUnordered<BoxFuture<'static, Settled>>;

impl Sender {
    pub(crate) fn new(
        settings: &Settings,
        pool: Warm,
        sink: Arc<dyn Sink>,
        (hands, stored): (Hands, mpsc::UnboundedReceiver<InHand>),
        stop: Stop,
    ) -> Self {
        let policy =
            Policy { attempts: settings.notification_attempts, backoff: settings.notification_backoff };
        Self { pool, sink, policy, hands, stored, stop }
    }

    /// Until the process stops; what is on its way then still arrives.
    pub(crate) async fn run(mut self) {
        let mut on_its_way = OnItsWay::new();
        let mut settled = Vec::new();
        let mut more = true;
        let mut look = Instant::now() + LOOK;
        let mut settle_at = look;
        loop {
            let stopping = self.stop.is_wanted();
            if stopping && on_its_way.is_empty() && self.hands.are_empty() {
                self.settle(&mut settled).await;
                return;
            }
            if more && !stopping {
                more = self.take(&mut on_its_way).await;
            }
            self.hands.hold(more || stopping);
            let was_empty = settled.is_empty();
            tokio::select! {
                Some(one) = on_its_way.next(), if !on_its_way.is_empty() => settled.push(one),
                () = tokio::time::sleep_until(settle_at), if !was_empty => {}
                Some((due, place)) = self.stored.recv() => on_its_way.push(self.send(due, place)),
                () = self.hands.woken(), if !stopping => more = true,
                () = tokio::time::sleep_until(look) => {
                    more = true;
                    look = Instant::now() + LOOK;
                }
                () = self.stop.wanted(), if !stopping => {}
            }
            while let Ok((due, place)) = self.stored.try_recv() {
                on_its_way.push(self.send(due, place));
            }
            while let Some(Some(one)) = on_its_way.next().now_or_never() {
                settled.push(one);
            }
            if was_empty {
                settle_at = Instant::now() + LINGER;
            }
            if !settled.is_empty() && (settled.len() >= CLAIM || Instant::now() >= settle_at) {
                let _slot = slot().await;
                self.settle(&mut settled).await;
                // What could not be stored is tried again when the next look is.
                settle_at = Instant::now() + LOOK;
            }
        }
    }

    /// Claims as many as may go now and sends them on their way. Whether there may be more.
    async fn take(&self, on_its_way: &mut OnItsWay) -> bool {
        let places: Vec<_> = self.hands.places(CLAIM).collect();
        if places.is_empty() {
            // Without a free place there may be more; with an open breaker the next look asks again.
            return self.hands.are_taken();
        }
        let limit = i64::try_from(places.len()).unwrap_or(i64::MAX);
        let claimed = match self.pool.connection().await {
            Ok(mut connection) => {
                store::claim(&mut connection, self.hands.lease, limit).await.map_err(Trouble::from)
            }
            Err(trouble) => Err(trouble),
        };
        match claimed {
            Ok(claimed) => {
                let full = claimed.len() == places.len();
                on_its_way.extend(claimed.into_iter().zip(places).map(|(due, place)| self.send(due, place)));
                full
            }
            Err(error) => {
                tracing::warn!(%error, "cannot look for letters that are due");
                false
            }
        }
    }

    fn send(&self, due: Due, mut place: Place) -> BoxFuture<'static, Settled> {
        let (sink, policy) = (Arc::clone(&self.sink), self.policy);
        let span = telemetry::resumed_span("send letter", "client", &due.trace);
        let sending = async move {
            // A letter over which the sink panics must not end the loop that all the others need.
            crash::point("before", "letter");
            let sent = AssertUnwindSafe(sink.send(&due)).catch_unwind().await;
            crash::point("after", "letter");
            let sent = sent.unwrap_or_else(|_| Err(Unsent::Never("the sink panicked".into())));
            match &sent {
                Err(Unsent::Away(_)) => place.permit.transport_failure(),
                Ok(()) | Err(Unsent::NotNow(_) | Unsent::Never(_)) => place.permit.item(Outcome::Ok),
            }
            let (state, wait) = judge(&sent, &policy, due.attempt);
            report(sink.name(), &due, &sent, state);
            let error = sent.err().map(words);
            Settled { id: due.delivery_id, attempt: due.attempt, until: due.until, state, wait, error }
        };
        Box::pin(sending.instrument(span))
    }

    /// Stores what came of letters. What cannot be stored now is kept, and stored with what ends next, or at the next look.
    async fn settle(&self, settled: &mut Vec<Settled>) {
        if settled.is_empty() {
            return;
        }
        let stored = match self.pool.connection().await {
            Ok(mut connection) => store::settle(&mut connection, settled).await.map_err(Trouble::from),
            Err(trouble) => Err(trouble),
        };
        match stored {
            Ok(()) => settled.clear(),
            Err(error) => tracing::warn!(%error, letters = settled.len(), "cannot store what was sent"),
        }
    }
}

/// The delivery's new state, and the wait before the next attempt.
fn judge(sent: &Result<(), Unsent>, policy: &Policy, attempt: i32) -> (&'static str, Duration) {
    match sent {
        Ok(()) => ("SENT", Duration::ZERO),
        Err(Unsent::Never(_)) => ("FAILED", Duration::ZERO),
        Err(Unsent::Away(_) | Unsent::NotNow(_)) => {
            match policy.after_failure(attempt, rand::random_range(0.0..=1.0)) {
                Next::Again(wait) => ("QUEUED", wait),
                Next::GiveUp => ("FAILED", Duration::ZERO),
            }
        }
    }
}

/// Says what came of an attempt. What a server says about a letter may name its recipient: it stands in the row only.
fn report(sink: &'static str, due: &Due, sent: &Result<(), Unsent>, state: &'static str) {
    let (outcome, why) = match sent {
        Ok(()) => ("sent", ""),
        Err(Unsent::Away(why)) => ("away", why.as_str()),
        Err(Unsent::NotNow(_)) => ("not_now", "refused for now"),
        Err(Unsent::Never(_)) => ("never", "refused for good"),
    };
    Span::current().record("outcome", outcome);
    metrics::counter!("amends_notification_sent_total", "sink" => sink, "outcome" => outcome).increment(1);
    let (delivery, template, attempt) = (due.delivery_id, due.template.as_str(), due.attempt);
    if state == "FAILED" {
        tracing::error!(delivery.id = %delivery, template, attempt, sink, why, "a letter failed");
    } else if sent.is_err() {
        tracing::warn!(delivery.id = %delivery, template, attempt, sink, why, "a letter was not taken");
    }
}

/// As a row keeps them: short, and without what a database or a screen could stumble over.
fn words(unsent: Unsent) -> String {
    let (Unsent::Away(why) | Unsent::NotNow(why) | Unsent::Never(why)) = unsent;
    why.chars().map(|c| if c.is_control() { ' ' } else { c }).take(WORDS).collect()
}
