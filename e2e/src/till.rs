//! A client with the addresses of several orchestrators, and a till that sells through it.
//!
//! The client does what a plain gRPC channel over several addresses does and no more: it takes them in turn, and goes to
//! the next one only when a call surely never reached a server (gRPC calls that a transparent retry).

use std::{
    error::Error as _,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use chassis::grpc::Callee;
use proto::order::v1::{
    CancelOrderRequest, GetOrderRequest, Order, OrderStatus, orders_client::OrdersClient,
};
use tokio::{task::JoinSet, time::Instant};
use tonic::{Response, Status};

use crate::{Spec, eventually_within};

/// A client with several addresses.
#[derive(Clone)]
pub struct Client {
    doors: Arc<Vec<Callee>>,
    next: Arc<AtomicUsize>,
}

impl Client {
    #[must_use]
    pub fn of(doors: Vec<Callee>) -> Self {
        Self { doors: Arc::new(doors), next: Arc::default() }
    }

    /// One call.
    ///
    /// # Errors
    /// What the server said, or the last of the errors when none could be reached.
    pub async fn call<T, F>(&self, call: impl Fn(OrdersClient<Callee>) -> F) -> Result<T, Status>
    where
        F: Future<Output = Result<Response<T>, Status>>,
    {
        let first = self.next.fetch_add(1, Ordering::Relaxed);
        let mut last = Status::unavailable("no address");
        // Each once, and the first once more: it may have closed an idle connection and be well.
        for n in 0..=self.doors.len() {
            let door = self.doors[(first + n) % self.doors.len()].clone();
            match call(OrdersClient::new(door)).await {
                Ok(response) => return Ok(response.into_inner()),
                Err(status) if never_reached(&status) => last = status,
                Err(status) => return Err(status),
            }
        }
        Err(last)
    }
}

/// Whether a call surely never reached a server: no connection could be made, the request was still here when the
/// connection was closed, or the server said by GOAWAY or REFUSED_STREAM that it did not look at it.
fn never_reached(status: &Status) -> bool {
    let mut source = status.source();
    while let Some(error) = source {
        let text = error.to_string();
        if error.is::<tonic::ConnectError>()
            || text.contains("operation was canceled")
            || text.contains("REFUSED_STREAM")
            || text.contains("refused stream")
            || (text.contains("connection error received") && text.contains("not a result of an error"))
        {
            return true;
        }
        source = error.source();
    }
    false
}

/// Every source of an error in a line.
fn words(status: &Status) -> String {
    let mut text = format!("{:?}: {}", status.code(), status.message());
    let mut source = status.source();
    while let Some(error) = source {
        text.push_str(" <- ");
        text.push_str(&error.to_string());
        source = error.source();
    }
    text
}

/// Sells, and remembers what it was told. Cheap to clone.
#[derive(Clone)]
pub struct Till {
    client: Client,
    sold: Arc<Mutex<Vec<String>>>,
    failed: Arc<Mutex<Vec<String>>>,
}

impl Till {
    #[must_use]
    pub fn with(client: &Client) -> Self {
        Self { client: client.clone(), sold: Arc::default(), failed: Arc::default() }
    }

    /// Acknowledged orders.
    #[must_use]
    pub fn sold(&self) -> Vec<String> {
        self.sold.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Calls that failed; each was repeated with the same key.
    #[must_use]
    pub fn failed(&self) -> Vec<String> {
        self.failed.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn note(&self, call: &str, began: Instant, status: &Status) {
        let text = format!("{call} after {:?}: {}", began.elapsed(), words(status));
        self.failed.lock().unwrap_or_else(PoisonError::into_inner).push(text);
    }

    /// Sends one order until it is acknowledged.
    pub async fn sell(&self, spec: &Spec) -> Order {
        let order = eventually_within(Duration::from_secs(120), "the order is acknowledged", || async {
            let began = Instant::now();
            let answer =
                self.client.call(|mut orders| async move { orders.create_order(spec.request()).await });
            answer.await.map_err(|status| self.note("CreateOrder", began, &status)).ok()
        })
        .await;
        self.sold.lock().unwrap_or_else(PoisonError::into_inner).push(order.order_id.clone());
        order
    }

    /// Reads an order.
    ///
    /// # Errors
    /// What the server said.
    pub async fn get(&self, order_id: &str) -> Result<Order, Status> {
        let request = || GetOrderRequest { order_id: order_id.to_owned() };
        self.client.call(|mut orders| async move { orders.get_order(request()).await }).await
    }

    async fn cancel(&self, order_id: &str) {
        let request =
            || CancelOrderRequest { order_id: order_id.to_owned(), reason: "changed my mind".into() };
        let began = Instant::now();
        let answer = self.client.call(|mut orders| async move { orders.cancel_order(request()).await }).await;
        if let Err(status) = answer
            && status.code() != tonic::Code::FailedPrecondition
        {
            self.note("CancelOrder", began, &status);
        }
    }

    /// One of the mix, and what its customer does afterwards.
    async fn one(&self, n: usize) {
        let spec = Spec::of(1).customer(&format!("c_{}", n % 20));
        let spec = match n % 6 {
            0 => spec.token("tok_decline"),
            1 => spec.token("tok_timeout_after"),
            2 => spec.token("tok_slow"),
            3 => spec.wait(10),
            _ => spec,
        };
        let order = self.sell(&spec).await;
        if n % 6 == 4 {
            self.cancel(&order.order_id).await;
        }
        let began = Instant::now();
        if let Err(status) = self.get(&order.order_id).await {
            self.note("GetOrder", began, &status);
        }
    }

    /// Sells until it is told to stop.
    pub fn open(&self, per_second: u32) -> Open {
        let (close, mut closed) = tokio::sync::oneshot::channel::<()>();
        let till = self.clone();
        let selling = tokio::spawn(async move {
            let mut clock = tokio::time::interval(Duration::from_secs(1) / per_second);
            clock.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
            let mut customers = JoinSet::new();
            for n in 0.. {
                tokio::select! {
                    _ = &mut closed => break,
                    _ = clock.tick() => {}
                }
                let till = till.clone();
                customers.spawn(async move { till.one(n).await });
                while let Some(done) = customers.try_join_next() {
                    done.unwrap();
                }
            }
            while let Some(done) = customers.join_next().await {
                done.unwrap();
            }
        });
        Open { close, selling }
    }

    /// Waits for the end of every order that was acknowledged; how many completed.
    pub async fn ends(&self, limit: Duration) -> usize {
        let until = Instant::now() + limit;
        let mut completed = 0;
        for order_id in self.sold() {
            let left = until.saturating_duration_since(Instant::now());
            let end = eventually_within(left, &format!("{order_id} ends"), || async {
                let order = self.get(&order_id).await.ok()?;
                matches!(order.status(), OrderStatus::Completed | OrderStatus::Cancelled)
                    .then_some(order.status())
            })
            .await;
            completed += usize::from(end == OrderStatus::Completed);
        }
        completed
    }
}

/// A till that sells.
pub struct Open {
    close: tokio::sync::oneshot::Sender<()>,
    selling: tokio::task::JoinHandle<()>,
}

impl Open {
    /// Sells no more; returns when every customer was answered.
    pub async fn close(self) {
        let _ = self.close.send(());
        self.selling.await.unwrap();
    }
}
