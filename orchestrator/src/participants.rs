//! Outbound calls: one client and one dispatcher per step, the six outcomes, the breaker.
//!
//! Takes what waited as one slice, streams the replies, and says for each item which of the six outcomes it had. Retries
//! nothing: when to try again is the definition's policy and the driver's sleep. An open breaker stops dispatch and
//! spends no attempt.

mod client;
mod line;
pub mod outcome;
mod peer;
mod window;

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use chassis::{
    breaker::{self, Breaker, Permit},
    crash,
    seeded::{self, Bug},
    stop::Stop,
};
use proto::{
    inventory::v1 as inventory,
    ledger::v1 as ledger,
    order::v1 as order,
    payment::v1 as payment,
    risk::v1 as risk,
    step::{Item as _, StepHeader},
};
use tokio::sync::{Semaphore, mpsc};
use tonic::Status;
use tracing::Span;
use types::SagaId;

pub(crate) use self::line::CROWD;
use self::{
    client::Client,
    line::Line,
    outcome::classify_status,
    window::{Places, Window},
};
pub use self::{
    outcome::CallOutcome,
    peer::{Callees, Peer},
};
use crate::metrics;

/// One step's item, typed.
#[derive(Debug, Clone, PartialEq)]
pub enum Call {
    /// order-svc.
    Open(order::OpenItem),
    /// order-svc.
    Complete(order::CompleteItem),
    /// inventory-svc.
    Reserve(inventory::ReserveItem),
    /// inventory-svc.
    Commit(inventory::CommitItem),
    /// risk-svc.
    Screen(risk::ScreenItem),
    /// payment-svc.
    Charge(payment::ChargeItem),
    /// ledger-svc.
    Post(ledger::PostItem),
}

/// A call on its way.
#[derive(Debug)]
pub struct Dispatch {
    /// Which saga.
    pub saga: SagaId,
    /// Which of its steps.
    pub step: usize,
    /// What is asked.
    pub call: Call,
    /// How long it may take.
    pub time: Duration,
    /// Not the first.
    pub is_retry: bool,
    /// Nobody has turned its saga away yet, nor failed.
    pub is_fresh: bool,
    /// Ends with its outcome; none where there is no trace.
    pub span: Span,
    /// Since when it waits.
    pub queued: Instant,
}

/// A call without its outcome.
struct Open {
    saga: SagaId,
    step: usize,
    /// As its header has it.
    name: String,
    span: Span,
    queued: Instant,
}

impl Open {
    fn of(dispatch: Dispatch) -> (Self, Call) {
        let Dispatch { saga, step, call, span, queued, .. } = dispatch;
        let name = header(&call).map(|header| header.step.clone()).unwrap_or_default();
        (Self { saga, step, name, span, queued }, call)
    }

    /// Tells the driver, and whoever looks.
    fn end(self, outcome: CallOutcome, told: &Told) {
        told.calls.count(outcome.as_str(), self.queued.elapsed());
        self.span.record("step.outcome", outcome.as_str());
        if matches!(outcome, CallOutcome::InDoubt { .. } | CallOutcome::Mistake { .. }) {
            self.span.record("otel.status_code", "ERROR");
        }
        let _ = told.returned.send(Returned { saga: self.saga, step: self.step, outcome });
    }
}

/// Who hears what came of the calls of a step.
#[derive(Clone)]
struct Told {
    /// The driver.
    returned: mpsc::UnboundedSender<Returned>,
    /// Whoever looks.
    calls: metrics::Calls,
}

/// What came of it.
#[derive(Debug)]
pub struct Returned {
    /// Which saga.
    pub saga: SagaId,
    /// Which of its steps.
    pub step: usize,
    /// What it came to.
    pub outcome: CallOutcome,
}

/// Exchanges at once where the participant's work is one database batch: a second one fills the next batch, a third would only
/// make the batches smaller.
const BATCHED: usize = 2;

/// All dispatchers.
#[derive(Clone)]
pub struct Participants {
    lanes: Arc<HashMap<&'static str, mpsc::UnboundedSender<Dispatch>>>,
    breakers: Arc<HashMap<&'static str, Breaker>>,
}

/// How calls are dispatched.
#[derive(Debug, Clone, Copy)]
pub struct DispatchOptions {
    /// Items in one exchange at most.
    pub slice: usize,
    /// Consecutive transport failures that open a breaker.
    pub breaker_failures: u32,
    /// How long an open breaker stays so at first; grows to ten times that.
    pub breaker_cool_down: Duration,
}

/// The method that a call is for.
fn lane(call: &Call) -> &'static str {
    match call {
        Call::Open(_) => "open",
        Call::Complete(_) => "complete",
        Call::Reserve(_) => "reserve",
        Call::Commit(_) => "commit",
        Call::Screen(_) => "screen",
        Call::Charge(_) => "charge",
        Call::Post(_) => "post",
    }
}

fn header(call: &Call) -> Option<&StepHeader> {
    match call {
        Call::Open(item) => item.header(),
        Call::Complete(item) => item.header(),
        Call::Reserve(item) => item.header(),
        Call::Commit(item) => item.header(),
        Call::Screen(item) => item.header(),
        Call::Charge(item) => item.header(),
        Call::Post(item) => item.header(),
    }
}

impl Participants {
    /// Starts the dispatchers. Outcomes go to `returned`.
    pub fn start(
        callees: &Callees,
        options: DispatchOptions,
        returned: &mpsc::UnboundedSender<Returned>,
        stop: &Stop,
    ) -> Self {
        let breakers: HashMap<&'static str, Breaker> = ["order", "inventory", "risk", "payment", "ledger"]
            .into_iter()
            .map(|callee| {
                let options = chassis::breaker::Options {
                    failures: options.breaker_failures,
                    cool_down_min: options.breaker_cool_down,
                    cool_down_max: options.breaker_cool_down * 10,
                    probes: 3,
                };
                (callee, Breaker::new(callee, options))
            })
            .collect();
        let mut lanes = HashMap::new();
        let mut open = |name: &'static str, callee: &'static str, exchanges: usize, client: Client| {
            let (sender, receiver) = mpsc::unbounded_channel();
            lanes.insert(name, sender);
            let dispatcher = Dispatcher {
                client,
                breaker: breakers[callee].clone(),
                slice: options.slice,
                exchanges: Arc::new(Semaphore::new(exchanges)),
                window: (exchanges > BATCHED).then(Window::new),
                told: Told { returned: returned.clone(), calls: metrics::Calls::of(name) },
                budget: Arc::new(RetryBudget::default()),
                stop: stop.clone(),
            };
            stop.spawn(dispatcher.run(receiver));
        };
        // A charge waits for the provider, so many go side by side.
        open("open", "order", BATCHED, Client::Order(callees.order.clone()));
        open("complete", "order", BATCHED, Client::Order(callees.order.clone()));
        open("reserve", "inventory", BATCHED, Client::Inventory(callees.inventory.clone()));
        open("commit", "inventory", BATCHED, Client::Inventory(callees.inventory.clone()));
        open("screen", "risk", BATCHED, Client::Risk(callees.risk.clone()));
        open("charge", "payment", 64, Client::Payment(callees.payment.clone()));
        open("post", "ledger", BATCHED, Client::Ledger(callees.ledger.clone()));
        Self { lanes: Arc::new(lanes), breakers: Arc::new(breakers) }
    }

    /// No dispatchers: all calls go to this queue, for whoever carries them himself.
    #[must_use]
    pub fn queued(calls: &mpsc::UnboundedSender<Dispatch>) -> Self {
        let lanes = ["open", "complete", "reserve", "commit", "screen", "charge", "post"];
        let lanes = lanes.into_iter().map(|lane| (lane, calls.clone())).collect();
        Self { lanes: Arc::new(lanes), breakers: Arc::default() }
    }

    /// Queues a call. Its outcome comes back on the channel, always.
    pub fn dispatch(&self, dispatch: Dispatch) {
        if let Some(lane) = self.lanes.get(lane(&dispatch.call)) {
            // A closed lane means that the process stops; the next owner calls again.
            let _ = lane.send(dispatch);
        }
    }

    /// The breaker of a callee, as in `inventory`.
    #[must_use]
    pub fn breaker(&self, callee: &str) -> Option<&Breaker> {
        self.breakers.get(callee)
    }
}

/// Retries may not outgrow the work: a failure takes a token, a success gives a tenth back, and below half only first
/// attempts go out (gRPC's rule, proposal A6). Ten tokens a second come back by themselves: where nothing but retries is
/// left, they go on at that rate.
#[derive(Debug)]
struct RetryBudget(std::sync::Mutex<(f64, tokio::time::Instant)>);

impl RetryBudget {
    const FULL: f64 = 100.0;
    const PER_SECOND: f64 = 10.0;

    fn lock(&self) -> std::sync::MutexGuard<'_, (f64, tokio::time::Instant)> {
        let mut budget = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let now = tokio::time::Instant::now();
        let refill = (now - budget.1).as_secs_f64() * Self::PER_SECOND;
        *budget = ((budget.0 + refill).min(Self::FULL), now);
        budget
    }

    fn count(&self, success: bool) {
        let mut budget = self.lock();
        let change = if success { 0.1 } else { -1.0 };
        budget.0 = (budget.0 + change).clamp(0.0, Self::FULL);
    }

    fn allows_retries(&self) -> bool {
        self.lock().0 > Self::FULL / 2.0
    }
}

impl Default for RetryBudget {
    fn default() -> Self {
        Self(std::sync::Mutex::new((Self::FULL, tokio::time::Instant::now())))
    }
}

struct Dispatcher {
    client: Client,
    breaker: Breaker,
    slice: usize,
    exchanges: Arc<Semaphore>,
    /// None where so few exchanges limit it by themselves.
    window: Option<Window>,
    told: Told,
    budget: Arc<RetryBudget>,
    stop: Stop,
}

impl Dispatcher {
    async fn run(self, queue: mpsc::UnboundedReceiver<Dispatch>) {
        let mut line = Line::new(queue);
        loop {
            let is_waited_in = tokio::select! {
                biased;
                () = self.stop.wanted() => return,
                is_waited_in = line.is_waited_in() => is_waited_in,
            };
            if !is_waited_in {
                return;
            }
            // The place is taken before the queue is drained, so that what waits for a place grows the slice.
            let Ok(place) = Arc::clone(&self.exchanges).acquire_owned().await else { return };
            let free = tokio::select! {
                () = self.stop.wanted() => return,
                free = free(self.window.as_ref()) => free,
            };
            let mut slice = line.take(self.slice.min(free).max(1));
            if !self.budget.allows_retries() {
                let (retries, fresh) = slice.into_iter().partition(|d| d.is_retry);
                self.give_back(retries, "the retry budget is spent", Duration::from_secs(1));
                slice = fresh;
            }
            if slice.is_empty() {
                continue;
            }
            match self.breaker.permit(slice.len()) {
                Ok(permit) => {
                    let over = slice.split_off(permit.granted().min(slice.len()));
                    self.give_back(over, "the breaker is half open", Duration::from_millis(250));
                    let exchange = Exchange {
                        places: self.window.as_ref().map(|window| window.take(slice.len())),
                        busy: 0,
                        client: self.client.clone(),
                        told: self.told.clone(),
                        budget: Arc::clone(&self.budget),
                    };
                    self.stop.spawn(async move {
                        exchange.run(slice, permit).await;
                        drop(place);
                    });
                }
                Err(open) => self.give_back(slice, "the breaker is open", open.retry_after),
            }
        }
    }

    fn give_back(&self, slice: Vec<Dispatch>, why: &str, retry_after: Duration) {
        for dispatch in slice {
            let outcome = CallOutcome::NotSent { reason: why.to_owned(), spent: false, retry_after };
            Open::of(dispatch).0.end(outcome, &self.told);
        }
    }
}

async fn free(window: Option<&Window>) -> usize {
    match window {
        Some(window) => window.free().await,
        None => usize::MAX,
    }
}

struct Exchange {
    places: Option<Places>,
    /// Items that were turned away because there was too much to do.
    busy: usize,
    client: Client,
    told: Told,
    budget: Arc<RetryBudget>,
}

impl Exchange {
    /// Sends one slice. The exchange has the time of the latest item (in another process as its grpc-timeout); each item
    /// carries its own.
    async fn run(mut self, slice: Vec<Dispatch>, mut permit: Permit) {
        let time = slice.iter().map(|d| d.time).max().unwrap_or_default();
        metrics::slice(slice.len());
        let mut open = HashMap::with_capacity(slice.len());
        let mut calls = Vec::with_capacity(slice.len());
        for dispatch in slice {
            let (one, call) = Open::of(dispatch);
            let saga_id = header(&call).map(|header| header.saga_id.clone()).unwrap_or_default();
            open.insert(saga_id, one);
            calls.push(call);
        }
        // A little longer than what the callee was told, so that its own answer comes first.
        let lane = calls.first().map_or("nobody", lane);
        crash::point("before call", lane);
        let outcome = tokio::time::timeout(time + Duration::from_millis(500), async {
            let client = self.client.clone();
            client
                .exchange(calls, time, |saga_id, step, outcome| {
                    crash::point("after call", lane);
                    self.one(&mut open, &mut permit, (&saga_id, &step), outcome);
                })
                .await
        })
        .await
        .unwrap_or_else(|_| Err(Status::deadline_exceeded("no answer in time")));
        match &outcome {
            Ok(()) => self.places.into_iter().for_each(|places| places.end(self.busy)),
            Err(_) => drop(self.places),
        }
        let rest = open;
        let status = match outcome {
            // The stream ended well, but somebody was left out: as unknown as a broken stream.
            Ok(()) if rest.is_empty() => return,
            Ok(()) => Status::unknown("the stream ended without an answer for this item"),
            Err(status) => status,
        };
        let outcome = classify_status(&status);
        if matches!(outcome, CallOutcome::InDoubt { .. } | CallOutcome::NotSent { .. }) {
            permit.transport_failure();
        }
        for (_, one) in rest {
            self.budget.count(false);
            one.end(outcome.clone(), &self.told);
        }
    }

    fn one(
        &mut self,
        open: &mut HashMap<String, Open>,
        permit: &mut Permit,
        (saga_id, step): (&str, &str),
        outcome: CallOutcome,
    ) {
        let other = seeded::is(Bug::ReplyToTheWrongSaga)
            .then(|| open.keys().find(|waiting| *waiting != saga_id).cloned())
            .flatten();
        let of = other.as_deref().unwrap_or(saga_id);
        // A duplicate, or an answer nobody asked for: the first one counts.
        if open.get(of).is_some_and(|one| one.name != step) {
            return tracing::warn!(saga.id = saga_id, step.name = step, "an answer to what was not asked");
        }
        let Some(one) = open.remove(of) else { return };
        // One item that cannot be processed says nothing about its participant; being too busy does.
        let busy = matches!(outcome, CallOutcome::NotSent { spent: false, .. });
        self.busy += usize::from(busy);
        permit.item(if busy { breaker::Outcome::Failed } else { breaker::Outcome::Ok });
        self.budget.count(!matches!(outcome, CallOutcome::NotSent { .. } | CallOutcome::InDoubt { .. }));
        one.end(outcome, &self.told);
    }
}

#[cfg(test)]
mod tests;
