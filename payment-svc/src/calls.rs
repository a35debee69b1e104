//! The provider is called here, and nowhere else; no transaction is open meanwhile.
//!
//! A charge is three commits apart: begun and stamped ([`commands::begin`]), called, recorded ([`commands::record`]).
//! [`Calls::carry`] walks from errand to errand until there is nothing to do now; doors and the resolver use the same
//! walk. Everything runs in tracked tasks: a caller that hangs up stops nothing. A caller whose patience ends is told
//! to wait only after a commit that says so, because whoever was told is owed a message. It must never send a stamp
//! that is old: the horizon counts from the stamp.

use std::{
    pin::pin,
    sync::Arc,
    time::{Duration, Instant},
};

use chassis::{
    batcher::{Batcher, Command as _, Limits},
    breaker::{self, Breaker, Permit},
    crash,
    keyring::Keyring,
    stop::Stop,
    telemetry,
};
use proto::{
    payment::v1::{ChargeDone, RefundDone},
    step::{Answer, BackAnswer},
};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, oneshot},
    time::timeout,
};
use tracing::{Instrument as _, Span};
use types::{NoAnswer, StepKey};

use crate::{
    answers,
    commands::{
        Desk, Errand,
        begin::{Begin, Begun, Charge},
        record::{self, Happened, Record, Standing},
        take_back::{Ask, Refund, Taken},
    },
    domain::{Event, Fault, Policy, State, Token, charge_key, payment_of, refund_key},
    provider::{ChargeOrder, Provider},
    store::Due,
};

/// A pause within an errand that is not worth the resolver's attention.
const SHORT_PAUSE: Duration = Duration::from_secs(2);

/// How often an outcome is recorded again while the database is away, before the resolver has to find it out.
const RECORD_TRIES: u32 = 6;

/// How many calls may be under way.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    /// Charges.
    pub(crate) charges: usize,
    /// Refunds and look-ups: a lane of their own, so that charges never hold up what takes them back.
    pub(crate) others: usize,
    /// How long a caller waits for an answer before it is told to wait.
    pub(crate) patience: Duration,
}

/// The caller of the provider.
pub(crate) struct Calls {
    provider: Arc<dyn Provider>,
    keys: Keyring,
    breaker: Breaker,
    begin: Batcher<Begin>,
    refund: Batcher<Refund>,
    record: Batcher<Record>,
    /// The same command, for the last outcomes of a process that stops.
    last_record: Record,
    charges: Arc<Semaphore>,
    others: Arc<Semaphore>,
    policy: Policy,
    patience: Duration,
    stop: Stop,
}

type Told<A> = oneshot::Sender<Result<A, NoAnswer>>;

/// A right to call, and since when.
struct Leave {
    permit: Option<Permit>,
    /// Before the stamp was asked for, so that its age is never underestimated.
    since: Instant,
}

impl Calls {
    pub(crate) fn new(
        (provider, keys): (Arc<dyn Provider>, Keyring),
        desk: Arc<Desk>,
        bounds: Bounds,
        stop: &Stop,
    ) -> Arc<Self> {
        Arc::new(Self {
            breaker: Breaker::new("provider", breaker::Options::default()),
            provider,
            keys,
            policy: desk.policy,
            begin: Batcher::new(Arc::new(Begin::at(Arc::clone(&desk))), Limits::default(), stop),
            refund: Batcher::new(Arc::new(Refund(Arc::clone(&desk))), Limits::default(), stop),
            record: Batcher::new(Arc::new(Record::at(Arc::clone(&desk))), Limits::default(), stop),
            last_record: Record::at(desk),
            charges: Arc::new(Semaphore::new(bounds.charges.max(1))),
            others: Arc::new(Semaphore::new(bounds.others.max(1))),
            patience: bounds.patience,
            stop: stop.clone(),
        })
    }

    /// Charges. It is under way when this returns; the future only waits.
    pub(crate) fn charge(
        self: &Arc<Self>,
        charge: Charge,
        remaining: Option<Duration>,
    ) -> impl Future<Output = Result<Answer<ChargeDone>, NoAnswer>> + use<> {
        let (tell, told) = oneshot::channel();
        let calls = Arc::clone(self);
        let work = async move { calls.begin_charge(charge, remaining, tell).await };
        self.stop.spawn(work.instrument(Span::current()));
        waited_for(told)
    }

    /// Takes a charge back. It is under way when this returns; the future only waits. With a command id the answer
    /// goes out as a message, so nobody waits for it here.
    pub(crate) fn take_back(
        self: &Arc<Self>,
        ask: Ask,
        remaining: Option<Duration>,
    ) -> impl Future<Output = Result<BackAnswer<RefundDone>, NoAnswer>> + use<> {
        let (tell, told) = oneshot::channel();
        let calls = Arc::clone(self);
        let work = async move { calls.begin_refund(ask, remaining, tell).await };
        self.stop.spawn(work.instrument(Span::current()));
        waited_for(told)
    }

    /// Time to look after an attempt, with a slot in the lane.
    pub(crate) fn look_after(self: &Arc<Self>, due: Due, slot: OwnedSemaphorePermit) {
        let calls = Arc::clone(self);
        let span = telemetry::resumed_span("look after charge", "internal", &due.trace);
        let work = async move {
            let event = calls.look(&due).await;
            match calls.advance(&due.key, event, None).await {
                Ok((standing, leave)) => calls.carry(&due.key, standing, leave).await,
                Err(none) => Err(none),
            }
            .map_or_else(|none| tracing::warn!(step = %due.key.step, saga.id = %due.key.saga, error = %none, "cannot record a look"), drop);
            drop(slot);
        };
        self.stop.spawn(work.instrument(span));
    }

    /// The lane of refunds and look-ups.
    pub(crate) fn lane(&self) -> Arc<Semaphore> {
        Arc::clone(&self.others)
    }

    /// How long the provider is left alone.
    pub(crate) fn closed_for(&self) -> Duration {
        self.breaker.retry_after()
    }

    async fn begin_charge(
        &self,
        charge: Charge,
        remaining: Option<Duration>,
        tell: Told<Answer<ChargeDone>>,
    ) {
        let came = Instant::now();
        // The last fifth of the caller's time is for the way back.
        let patience = remaining.map_or(self.patience, |left| self.patience.min(left / 5 * 4));
        // A slot first: a stamp must be followed by its send, not by a queue.
        let Ok(Ok(slot)) = timeout(patience, Arc::clone(&self.charges).acquire_owned()).await else {
            let _ = tell.send(Err(NoAnswer::Overloaded { retry_after: self.patience }));
            return;
        };
        let key = charge.key.clone();
        let since = Instant::now();
        let (permit, closed_for) = match self.breaker.permit(1) {
            Ok(permit) => (Some(permit), None),
            Err(open) => (None, Some(open.retry_after)),
        };
        let left = remaining.map(|left| left.saturating_sub(came.elapsed()));
        let (errand, attempt) = match self.begin.submit(Charge { closed_for, ..charge }, left).await {
            Ok(Begun::Send(errand, attempt)) => (errand, attempt),
            Ok(Begun::Answer(answer)) => return drop(tell.send(Ok(answer))),
            Err(none) => return drop(tell.send(Err(none))),
        };
        let begun = record::Begun { attempt: Arc::from(attempt), since };
        let mut carried = pin!(self.carry_errand(&key, errand, Leave { permit, since }, Some(begun)));
        match timeout(patience.saturating_sub(came.elapsed()), &mut carried).await {
            Ok(Ok(Some(Standing { forward: Some(answer), .. }))) => drop(tell.send(Ok(answer))),
            Ok(Ok(_)) => drop(tell.send(self.tell(&key).await)),
            Ok(Err(none)) => drop(tell.send(Err(none))),
            Err(_) => {
                let telling = async { drop(tell.send(self.tell(&key).await)) };
                drop(tokio::join!(telling, carried));
            }
        }
        drop(slot);
    }

    /// Records that the caller is told to wait; or the answer that came first.
    async fn tell(&self, key: &StepKey) -> Result<Answer<ChargeDone>, NoAnswer> {
        let standing = self.happened(key, Event::Tell, false, None).await?;
        Ok(standing.forward.unwrap_or(Answer::Pending(standing.pending)))
    }

    async fn begin_refund(&self, ask: Ask, remaining: Option<Duration>, tell: Told<BackAnswer<RefundDone>>) {
        // Without a slot or the breaker's leave it is recorded all the same; the resolver sends it.
        let slot = Arc::clone(&self.others).try_acquire_owned().ok();
        let since = Instant::now();
        let permit = slot.as_ref().and_then(|_| self.breaker.permit(1).ok());
        let (key, command) = (ask.key.clone(), ask.command);
        let ask = Ask { may_send: permit.is_some(), ..ask };
        let errand = match self.refund.submit(ask, remaining).await {
            Ok(Taken { answer: Some(answer), .. }) => return drop(tell.send(Ok(answer))),
            Ok(Taken { answer: None, errand }) => errand,
            Err(none) => return drop(tell.send(Err(none))),
        };
        let pending =
            || BackAnswer::Pending(answers::refund_in_progress(&self.policy, chassis::clock::now()));
        let patience = if command.is_some() {
            Duration::ZERO
        } else {
            remaining.map_or(self.patience, |left| self.patience.min(left / 5 * 4))
        };
        let mut carried = pin!(self.carry_errand(&key, errand, Leave { permit, since }, None));
        match timeout(patience, &mut carried).await {
            Ok(Ok(Some(Standing { back: Some(answer), .. }))) => drop(tell.send(Ok(answer))),
            // Whoever came without a command id is owed a message since the command's own commit.
            Ok(_) => drop(tell.send(Ok(pending()))),
            Err(_) => {
                let _ = tell.send(Ok(pending()));
                drop(carried.await);
            }
        }
        drop(slot);
    }

    /// Runs an errand and those that follow from it. None when there was nothing to run.
    async fn carry_errand(
        &self,
        key: &StepKey,
        errand: Errand,
        leave: Leave,
        begun: Option<record::Begun>,
    ) -> Result<Option<Standing>, NoAnswer> {
        match self.run(errand, leave).await {
            None => Ok(None),
            Some(event) => {
                let (standing, leave) = self.advance(key, event, begun).await?;
                self.carry(key, standing, leave).await.map(Some)
            }
        }
    }

    /// Goes on from a standing until there is nothing to do now.
    async fn carry(
        &self,
        key: &StepKey,
        mut standing: Standing,
        mut leave: Leave,
    ) -> Result<Standing, NoAnswer> {
        loop {
            let errand = std::mem::replace(&mut standing.errand, Errand::Rest);
            let Some(event) = self.run(errand, leave).await else { return Ok(standing) };
            (standing, leave) = self.advance(key, event, None).await?;
        }
    }

    /// Records an event, with leave to call if something is to be sent next.
    async fn advance(
        &self,
        key: &StepKey,
        event: Event,
        begun: Option<record::Begun>,
    ) -> Result<(Standing, Leave), NoAnswer> {
        let since = Instant::now();
        let permit = self.breaker.permit(1).ok();
        let standing = self.happened(key, event, permit.is_some(), begun).await?;
        Ok((standing, Leave { permit, since }))
    }

    async fn run(&self, errand: Errand, leave: Leave) -> Option<Event> {
        match errand {
            Errand::Charge(order) => {
                let send = order.send;
                let result = match self.opened(order) {
                    Ok(order) => self.call("charge", leave, true, self.provider.charge(&order)).await,
                    Err(fault) => Err(fault),
                };
                Some(Event::Charged { send, result })
            }
            Errand::Refund(order) => {
                let result = self.call("refund", leave, true, self.provider.refund(&order)).await;
                Some(Event::Refunded { send: order.send, result })
            }
            Errand::Wait(pause) if pause <= SHORT_PAUSE => self.stop.sleep(pause).await.then_some(Event::Due),
            Errand::Wait(_) | Errand::Rest => None,
        }
    }

    /// With its token in the plain: for the provider, and only as long as it is called.
    fn opened(&self, mut order: ChargeOrder) -> Result<ChargeOrder, Fault> {
        let text = order.token.reveal();
        // An attempt that the release before began.
        if !Keyring::is_encrypted(text) {
            return Ok(order);
        }
        let unreadable = |why: String| {
            tracing::error!(order.id = %order.order, why, "a payment token cannot be opened; nothing was sent");
            Fault::NotSent("its token cannot be opened".into())
        };
        let plain = self.keys.decrypt(order.order.uuid().as_bytes(), text);
        let token = plain.map_err(|error| error.to_string());
        let token = token.and_then(|plain| plain.parse::<Token>().map_err(|error| error.to_string()));
        let token = token.map_err(unreadable)?;
        order.token = token;
        Ok(order)
    }

    async fn look(&self, due: &Due) -> Event {
        if !due.sent && (due.state.is_open() || due.state == State::Refunding) {
            return Event::Due;
        }
        let payment = payment_of(&due.key);
        let leave = Leave { permit: self.breaker.permit(1).ok(), since: Instant::now() };
        let look = |key: String| async move {
            self.call("look_up", leave, false, self.provider.look_up(&key)).await
        };
        if due.state == State::Refunding {
            let result = look(refund_key(payment, due.refund_keys)).await;
            Event::RefundFound { at: due.at, result }
        } else {
            Event::ChargeFound { at: due.at, result: look(charge_key(payment)).await }
        }
    }

    /// One call, in its time, behind the breaker.
    async fn call<T>(
        &self,
        what: &'static str,
        leave: Leave,
        stamped: bool,
        call: impl Future<Output = Result<T, Fault>>,
    ) -> Result<T, Fault> {
        let Some(mut permit) = leave.permit else { return Err(Fault::NotSent("the breaker is open".into())) };
        let fresh = self.policy.horizon.saturating_sub(self.policy.call_timeout) / 2;
        if stamped && leave.since.elapsed() > fresh {
            return Err(Fault::NotSent("its stamp was too old to send".into()));
        }
        let began = Instant::now();
        let span = telemetry::part_span(format_args!("provider {what}"), "client");
        crash::point("before provider", what);
        let result = timeout(self.policy.call_timeout, call)
            .instrument(span.clone())
            .await
            .unwrap_or_else(|_| Err(Fault::Unknown("no answer in time".into())));
        crash::point("after provider", what);
        permit.item(if result.is_ok() { breaker::Outcome::Ok } else { breaker::Outcome::Failed });
        metrics::histogram!("amends_payment_call_seconds", "call" => what).record(began.elapsed());
        if let Err(fault) = &result {
            let kind = match fault {
                Fault::NotSent(_) => "not_sent",
                Fault::Unknown(_) => "unknown",
            };
            span.record("outcome", kind);
            metrics::counter!("amends_payment_faults_total", "call" => what, "kind" => kind).increment(1);
            tracing::info!(call = what, %fault, "the provider did not answer");
        }
        result
    }

    /// Records an event; while the database is away, again for a while. What is lost in the end is looked up: it is in
    /// doubt whatever kept it from being recorded, because the send that it tells of was not kept from anything.
    async fn happened(
        &self,
        key: &StepKey,
        event: Event,
        may_send: bool,
        begun: Option<record::Begun>,
    ) -> Result<Standing, NoAnswer> {
        let happened = Happened { key: key.clone(), event, may_send, begun };
        let mut tries = 1;
        loop {
            let none = match self.record.submit(happened.clone(), None).await {
                Ok(standing) => return Ok(standing),
                Err(none) => none,
            };
            if self.stop.is_wanted() {
                return self.happened_last(Happened { may_send: false, ..happened }).await;
            }
            let again =
                matches!(none, NoAnswer::Away(_) | NoAnswer::Unavailable(_) | NoAnswer::Overloaded { .. });
            if !again || tries >= RECORD_TRIES {
                return Err(NoAnswer::Unavailable(none.to_string()));
            }
            self.stop.sleep(Duration::from_millis(100 << tries)).await;
            tries += 1;
        }
    }

    /// The queue takes no more because the process stops: an outcome that is known is recorded all the same, alone.
    async fn happened_last(&self, happened: Happened) -> Result<Standing, NoAnswer> {
        // On the heap: it is large, rarely run, and would be a part of every charge.
        let recorded = Box::pin(self.last_record.run(std::slice::from_ref(&happened))).await;
        let standing = recorded.map(|mut standings| standings.pop());
        match standing {
            Ok(Some(standing)) => Ok(standing),
            Ok(None) => Err(NoAnswer::Unavailable("the service is stopping".into())),
            Err(trouble) => Err(NoAnswer::Unavailable(trouble.to_string())),
        }
    }
}

async fn waited_for<A>(told: oneshot::Receiver<Result<A, NoAnswer>>) -> Result<A, NoAnswer> {
    told.await.unwrap_or_else(|_| Err(NoAnswer::Unavailable("the service is stopping".into())))
}
