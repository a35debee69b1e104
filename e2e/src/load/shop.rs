//! A shop that sends orders until they are acknowledged, and remembers what it was told.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    path::Path,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use proto::{
    order::v1::{CancelOrderRequest, GetOrderRequest, Order, OrderStatus, orders_client::OrdersClient},
    risk::v1::{DecideReviewRequest, reviews_client::ReviewsClient},
};
use tokio::{
    sync::Semaphore,
    task::JoinSet,
    time::{Instant, MissedTickBehavior},
};
use tonic::{Code, Response, Status};

use super::{Kind, Line, Then};
use crate::{Spec, eventually_within};

/// Whatever was killed is back long before.
const PATIENCE: Duration = Duration::from_secs(300);

/// A call that takes longer is given up and made again: its server may be stopped, or the network swallows it.
const CALL: Duration = Duration::from_secs(5);

/// Between two calls, at first and at most: a crowd of customers that knocks without a pause keeps a server down.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// How fast orders are sent.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// This many at most are waiting for their acknowledgement.
    pub places: usize,
    /// At most this many a second; none: as fast as they are acknowledged.
    pub per_second: Option<u32>,
}

/// What an order came to, as the shop sees it.
pub type End = String;

/// An acknowledged order.
#[derive(Debug, Clone)]
struct Known {
    kind: Kind,
    order_id: String,
}

/// The shop. Cheap to clone.
#[derive(Clone)]
pub struct Shop {
    line: Line,
    known: Arc<Mutex<BTreeMap<String, Known>>>,
    count: Arc<AtomicUsize>,
    failed: Arc<Mutex<Vec<String>>>,
    /// From creation to end of what needed nobody, in milliseconds.
    plain: Arc<Mutex<Vec<i64>>>,
}

impl Shop {
    #[must_use]
    pub fn at(line: &Line) -> Self {
        Self {
            line: line.clone(),
            known: Arc::default(),
            count: Arc::default(),
            failed: Arc::default(),
            plain: Arc::default(),
        }
    }

    /// Orders acknowledged so far.
    #[must_use]
    pub fn acknowledged(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    /// Every acknowledged order, with its kind.
    #[must_use]
    pub fn known(&self) -> BTreeMap<String, Kind> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.values().map(|known| (known.order_id.clone(), known.kind)).collect()
    }

    /// Every acknowledged order with its kind.
    #[must_use]
    pub fn orders(&self) -> Vec<(Kind, String)> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.values().map(|known| (known.kind, known.order_id.clone())).collect()
    }

    /// Calls that failed, and were sent again.
    #[must_use]
    pub fn failed(&self) -> Vec<String> {
        self.failed.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Sends `count` orders of the mix and does to each what its kind says.
    pub async fn sell(&self, count: usize, pace: Pace) {
        self.sell_until(count, pace, std::future::pending()).await;
    }

    /// As [`Shop::sell`], but begins no order any more once it is `closed`; returns when everybody was served.
    pub async fn sell_until(&self, count: usize, pace: Pace, closed: impl Future<Output = ()>) {
        let places = Arc::new(Semaphore::new(pace.places));
        let mut closed = std::pin::pin!(closed);
        let mut clock = pace.per_second.map(|rate| {
            let mut clock = tokio::time::interval(Duration::from_secs(1) / rate.max(1));
            clock.set_missed_tick_behavior(MissedTickBehavior::Burst);
            clock
        });
        let mut customers = JoinSet::new();
        for i in 0..count {
            let turn = async {
                if let Some(clock) = &mut clock {
                    clock.tick().await;
                }
                Arc::clone(&places).acquire_owned().await.unwrap()
            };
            let place = tokio::select! {
                () = &mut closed => break,
                place = turn => place,
            };
            let shop = self.clone();
            customers.spawn(async move {
                let kind = Kind::of(i);
                let order = shop.order(kind, &kind.spec(i)).await;
                drop(place);
                shop.then(kind, &order).await;
            });
            while let Some(done) = customers.try_join_next() {
                done.unwrap();
            }
        }
        while let Some(done) = customers.join_next().await {
            done.unwrap();
        }
    }

    /// Sends one order of a kind and does to it what the kind says.
    pub async fn sell_one(&self, kind: Kind, i: usize) {
        let order = self.order(kind, &kind.spec(i)).await;
        self.then(kind, &order).await;
    }

    fn note(&self, call: &str, status: &Status) {
        let text = format!("{call}: {:?}: {}", status.code(), status.message());
        self.failed.lock().unwrap_or_else(PoisonError::into_inner).push(text);
    }

    /// Sends one order until it is acknowledged.
    async fn order(&self, kind: Kind, spec: &Spec) -> Order {
        let order = self
            .until_heard(
                "CreateOrder",
                |_| false,
                || async {
                    let answer =
                        OrdersClient::new(self.line.orchestrator()).create_order(spec.request()).await;
                    answer.map(Response::into_inner)
                },
            )
            .await
            .expect("it is repeated until it is acknowledged");
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let order_id = order.order_id.clone();
        let before = known.insert(spec.key.clone(), Known { kind, order_id });
        assert!(before.is_none_or(|before| before.order_id == order.order_id), "one key, one order");
        self.count.store(known.len(), Ordering::Relaxed);
        drop(known);
        order
    }

    /// Calls until it is answered; none when the answer is one that ends it.
    async fn until_heard<T, F>(
        &self,
        name: &str,
        ends: impl Fn(&Status) -> bool,
        mut call: impl FnMut() -> F,
    ) -> Option<T>
    where
        F: Future<Output = Result<T, Status>>,
    {
        let until = Instant::now() + PATIENCE;
        let mut pause = FIRST_PAUSE;
        loop {
            let answer = tokio::time::timeout(CALL, call()).await;
            match answer.unwrap_or_else(|_| Err(Status::deadline_exceeded("no answer in time"))) {
                Ok(answer) => return Some(answer),
                Err(status) if ends(&status) => return None,
                // What it is about is on its way still.
                Err(status) if status.code() == Code::NotFound => {}
                Err(status) => self.note(name, &status),
            }
            assert!(Instant::now() < until, "{name} was not heard within {PATIENCE:?}");
            tokio::time::sleep(pause.mul_f64(rand::random_range(0.5..=1.0))).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    async fn then(&self, kind: Kind, order: &Order) {
        match kind.then() {
            Then::Nothing => {}
            Then::Decide { approve } => self.decide(order, approve).await,
            Then::Cancel => self.cancel(order).await,
        }
    }

    /// Says it until somebody heard it. What comes too late was heard too.
    async fn say<F>(&self, name: &str, say: impl FnMut() -> F)
    where
        F: Future<Output = Result<(), Status>>,
    {
        let _ = self.until_heard(name, |status| status.code() == Code::FailedPrecondition, say).await;
    }

    async fn decide(&self, order: &Order, approve: bool) {
        self.say("DecideReview", || async {
            let decision = DecideReviewRequest {
                saga_id: order.saga_id.clone(),
                approve,
                reviewer: "ada".into(),
                reason: "looked".into(),
            };
            match ReviewsClient::new(self.line.doors().risk).decide_review(decision).await {
                Ok(_) => Ok(()),
                // It ended otherwise before anybody screened it: there will be no review.
                Err(status) if status.code() == Code::NotFound && self.is_ended(order).await => Ok(()),
                Err(status) => Err(status),
            }
        })
        .await;
    }

    async fn is_ended(&self, order: &Order) -> bool {
        let request = GetOrderRequest { order_id: order.order_id.clone() };
        let order = OrdersClient::new(self.line.orchestrator()).get_order(request).await;
        order.is_ok_and(|order| {
            matches!(order.get_ref().status(), OrderStatus::Completed | OrderStatus::Cancelled)
        })
    }

    async fn cancel(&self, order: &Order) {
        self.say("CancelOrder", || async {
            let cancel =
                CancelOrderRequest { order_id: order.order_id.clone(), reason: "changed my mind".into() };
            OrdersClient::new(self.line.orchestrator()).cancel_order(cancel).await.map(|_| ())
        })
        .await;
    }

    /// Waits for the end of every order; what each came to is judged by its kind, and nothing has to have been seen.
    ///
    /// # Panics
    /// When an order does not end within `limit`, or as its kind never may.
    pub async fn all_end(&self, limit: Duration) -> BTreeMap<(Kind, End), usize> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let until = Instant::now() + limit;
        let mut seen: BTreeMap<(Kind, End), usize> = BTreeMap::new();
        for Known { kind, order_id } in known.values() {
            let (end, time) = self.end(order_id, until).await;
            if *kind == Kind::Plain {
                self.plain.lock().unwrap_or_else(PoisonError::into_inner).push(time);
            }
            assert!(kind.allows(&end), "{order_id}, {kind:?}, ended as {end}");
            *seen.entry((*kind, end)).or_default() += 1;
        }
        seen
    }

    /// Waits for the end of every order and judges it by its kind: how often which kind came to which end.
    ///
    /// # Panics
    /// When an order does not end within `limit`, or as its kind never may; and, as the run is then void, when the
    /// end that a kind is there for was not seen.
    pub async fn ends(&self, limit: Duration) -> BTreeMap<(Kind, End), usize> {
        let seen = self.all_end(limit).await;
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let sent: BTreeSet<Kind> = known.values().map(|known| known.kind).collect();
        for kind in Kind::ALL {
            assert!(
                sent.contains(&kind) && seen.contains_key(&(kind, kind.needed().to_owned())),
                "the run is void: {kind:?} was not seen to end as {} in {seen:?}",
                kind.needed()
            );
        }
        seen
    }

    /// The end of an order, and how long it took in milliseconds.
    async fn end(&self, order_id: &str, until: Instant) -> (End, i64) {
        let left = until.saturating_duration_since(Instant::now());
        let what = format!("{order_id} ends");
        eventually_within(left, &what, || async {
            let request = GetOrderRequest { order_id: order_id.to_owned() };
            let order =
                OrdersClient::new(self.line.orchestrator()).get_order(request).await.ok()?.into_inner();
            let end = match order.status() {
                OrderStatus::Completed => "COMPLETED".to_owned(),
                OrderStatus::Cancelled => order.status_reason,
                _ => return None,
            };
            let ms = |time: Option<prost_types::Timestamp>| {
                time.map_or(0, |t| t.seconds * 1000 + i64::from(t.nanos) / 1_000_000)
            };
            Some((end, ms(order.update_time) - ms(order.create_time)))
        })
        .await
    }

    /// From creation to end of the plain orders, in milliseconds: median, 99 of 100, longest.
    #[must_use]
    pub fn plain_times(&self) -> (i64, i64, i64) {
        let mut times = self.plain.lock().unwrap_or_else(PoisonError::into_inner).clone();
        times.sort_unstable();
        let at = |part: usize| times.get((times.len() * part / 100).min(times.len().saturating_sub(1)));
        let at = |part| at(part).copied().unwrap_or_default();
        (at(50), at(99), at(100))
    }

    /// What this shop knows, for `amends audit --acknowledged`.
    pub fn write_acknowledged(&self, file: &Path) {
        std::fs::write(file, self.acknowledgements()).unwrap();
    }

    /// The same, as text.
    #[must_use]
    pub fn acknowledgements(&self) -> String {
        let mut lines = String::new();
        for (key, Known { order_id, .. }) in self.known.lock().unwrap_or_else(PoisonError::into_inner).iter()
        {
            let line = format!("{{\"key\":\"{key}\",\"fingerprint\":\"{key}\",\"order_id\":\"{order_id}\"}}");
            writeln!(lines, "{line}").unwrap();
        }
        lines
    }
}
