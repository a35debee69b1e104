//! payment-svc: charges and what takes them back, with the real [`Attempt`]. Mirrors `payment-svc/src/commands` and
//! `calls.rs`.
//!
//! DESIGN 5.3: begun and stamped in one commit, called with no transaction open, recorded in another; a caller whose
//! patience ends is told to wait only after a commit that says so. Read next: [`walk`].

pub mod commands;
pub mod resolver;
mod walk;

use std::{cell::RefCell, collections::BTreeMap, rc::Rc, time::Duration};

use chassis::{barrier::Outcome, bus::Message};
use chrono::{DateTime, Utc};
use payment_svc::{
    answers,
    domain::{Asked, Attempt, Business, Event, Next, Policy, State, after},
};
use proto::{
    payment::v1::{ChargeDone, ChargeItem, charge_item::Method},
    step::{Answer, Pending, TurnedAway, turned_away},
};
use types::{Money, StepKey};

use super::{header, turn_away};
use crate::{
    bug::Bug,
    mark::Mark,
    network::{Reply, answered},
    process::{ProcessId, Room},
    provider::{ChargeOrder, RefundOrder},
    weather::Weather,
    world::World,
};

/// How long a caller waits before it is told to wait, in milliseconds.
const PATIENCE: i64 = 2_000;

/// The database.
#[derive(Clone)]
pub struct Desk {
    pub attempts: BTreeMap<StepKey, Attempt>,
    pub policy: Policy,
    alarm: Option<i64>,
}

impl Desk {
    /// With the defaults of the product.
    #[must_use]
    pub fn new(weather: &Weather) -> Self {
        let settlement = Duration::from_millis(weather.slow.unsigned_abs() * 2);
        let policy = Policy {
            horizon: Duration::from_secs(45),
            key_life: Duration::from_secs(24 * 60 * 60),
            sends: 3,
            call_timeout: Duration::from_secs(10),
            look: Duration::from_secs(1),
            settlement,
        };
        Self { attempts: BTreeMap::new(), policy, alarm: None }
    }
}

/// What is to do after a commit.
#[derive(Debug, Clone)]
pub enum Errand {
    /// Send this charge; the commit was its stamp.
    Charge(ChargeOrder),
    /// Send this refund; the commit was its stamp.
    Refund(RefundOrder),
    /// Come back after this many milliseconds.
    Wait(i64),
    /// Nothing.
    Rest,
}

impl Errand {
    fn of(next: Next, attempt: &Attempt) -> Self {
        let business = attempt.business.as_ref();
        match (next, business) {
            (Next::Wait(pause), _) => Self::Wait(i64::try_from(pause.as_millis()).unwrap_or(i64::MAX)),
            (Next::Charge, Some(business)) => Self::Charge(ChargeOrder {
                of: attempt.key.clone(),
                key: attempt.charge_key(),
                send: attempt.sends,
                amount: business.amount.minor,
                token: business.token.as_ref().map(|token| token.reveal().to_owned()).unwrap_or_default(),
            }),
            (Next::Refund, Some(business)) => Self::Refund(RefundOrder {
                of: attempt.key.clone(),
                key: attempt.refund_key(),
                send: attempt.refund_sends,
                amount: business.amount.minor,
                charge: attempt.provider_reference.clone().unwrap_or_default(),
            }),
            (Next::Rest | Next::Charge | Next::Refund, _) => Self::Rest,
        }
    }
}

/// Where an attempt stands after a commit.
#[derive(Debug, Clone)]
pub struct Standing {
    forward: Option<Answer<ChargeDone>>,
    pending: Pending,
    errand: Errand,
    messages: Vec<Message>,
}

/// The time by the database's clock, which is the true one.
fn time(w: &World) -> DateTime<Utc> {
    DateTime::from_timestamp_millis(w.now).unwrap_or(DateTime::<Utc>::UNIX_EPOCH)
}

/// Something happened to an attempt: moves its record and says what it owes. Inside a transaction.
fn happened(w: &mut World, key: &StepKey, event: &Event, may_send: bool) -> Option<Standing> {
    let now = time(w);
    let policy = w.services.payment.policy;
    let attempt = w.services.payment.attempts.get_mut(key)?;
    let before = attempt.clone();
    let next = attempt.apply(event, &policy, may_send, now);
    answers::seal(attempt);
    let messages = answers::messages(&before, attempt, now).unwrap_or_default();
    let standing = Standing {
        forward: answers::forward(attempt).ok().flatten(),
        pending: answers::settlement(attempt, &policy, now),
        errand: Errand::of(next, attempt),
        messages: messages.clone(),
    };
    let moved = (before.state, attempt.state, attempt.sends > before.sends);
    note(w, key, moved);
    w.insert_outbox(Room::Payment, &messages);
    w.judge_an_attempt(key);
    resolver::plan(w);
    Some(standing)
}

fn note(w: &mut World, key: &StepKey, (before, after, sent): (State, State, bool)) {
    if matches!(before, State::Declined | State::Blocked) && after == State::Refunding {
        w.mark(Mark::LateMoney);
    }
    if sent {
        w.mark(Mark::ChargeSentAgain);
    }
    if before != after && w.is_traced() {
        let name = w.name(key.saga);
        w.tell(None, || format!("{name}: {} is {}, was {}", key.step, after.as_str(), before.as_str()));
    }
}

/// What somebody waits for, until it is told once.
type Waiting = Rc<RefCell<Option<Reply>>>;

/// What is asked of the desk.
#[derive(Debug, Clone)]
struct Charge {
    key: StepKey,
    hash: Vec<u8>,
    business: Business,
}

fn read(item: &ChargeItem) -> Result<Charge, String> {
    let header = header(item.header.as_ref())?;
    let amount = item.amount.as_ref().ok_or("amount is missing")?;
    let Some(Method::Card(card)) = &item.method else { return Err("method is missing: card".into()) };
    let business = Business {
        order: item.order_id.parse().map_err(|e| format!("order_id: {e}"))?,
        customer: item.customer_id.parse().map_err(|e| format!("customer_id: {e}"))?,
        merchant: item.merchant_id.parse().map_err(|e| format!("merchant_id: {e}"))?,
        amount: Money::try_from(amount).map_err(|e| format!("amount: {e}"))?,
        token: Some(card.token.parse().map_err(|e| format!("card.token: {e}"))?),
    };
    Ok(Charge { key: header.key, hash: business.hash(&card.token), business })
}

enum Begun {
    Answer(Answer<ChargeDone>),
    Send(Errand),
}

/// Charge.
pub fn charge(w: &mut World, process: ProcessId, item: &ChargeItem, remaining: i64, reply: Reply) {
    let charge = match read(item) {
        Ok(charge) => charge,
        Err(why) => return turn_away(w, reply, why),
    };
    let patience = PATIENCE.min(remaining / 5 * 4);
    let key = charge.key.clone();
    let is_closed = w.luck.chance(w.weather.breaker);
    let since = w.now;
    w.transact(
        process,
        move |w| begin(w, charge, is_closed),
        move |w, begun| match begun {
            Ok(Begun::Answer(answer)) => reply(w, answered(Ok(answer))),
            Err(trouble) => reply(w, answered::<ChargeDone>(Err(trouble))),
            Ok(Begun::Send(errand)) => {
                let waiting: Waiting = Rc::new(RefCell::new(Some(reply)));
                let impatient = Rc::clone(&waiting);
                let left = (patience - (w.now - since)).max(0);
                let told = key.clone();
                w.of(process, left, move |w| tell(w, process, told, &impatient));
                walk::carry(w, process, key.clone(), errand, since, move |w, standing| match standing {
                    Some(Standing { forward: Some(answer), .. }) => {
                        let waits = waiting.borrow_mut().take();
                        if let Some(reply) = waits {
                            reply(w, answered(Ok(answer)));
                        }
                    }
                    _ => tell(w, process, key, &waiting),
                });
            }
        },
    );
}

fn begin(w: &mut World, charge: Charge, is_closed: bool) -> Begun {
    let now = time(w);
    let policy = w.services.payment.policy;
    let ignores = w.has(Bug::NoBarrier);
    if let Some(attempt) = w.services.payment.attempts.get_mut(&charge.key).filter(|_| !ignores) {
        return Begun::Answer(match attempt.asked(&charge.hash) {
            Asked::Answered => answers::forward(attempt).ok().flatten().unwrap_or(Answer::Fenced),
            Asked::InProgress => Answer::Pending(answers::settlement(attempt, &policy, now)),
            Asked::Fenced => Answer::Fenced,
            Asked::Mismatch => Answer::TurnedAway(TurnedAway::mismatch(&charge.key)),
        });
    }
    if is_closed {
        w.mark(Mark::BreakerOpen);
        return Begun::Answer(Answer::TurnedAway(TurnedAway {
            code: turned_away::Code::Overloaded.into(),
            retry_after_ms: 500,
            message: "the payment provider cannot be called now; nothing was begun".into(),
        }));
    }
    let attempt = Attempt {
        state: State::Started,
        forward: Outcome::Started,
        sends: 1,
        sent: Some(now),
        next_look: Some(after(now, policy.call_timeout + policy.look)),
        ..blank(charge.key, charge.hash, Some(charge.business), now)
    };
    let errand = Errand::of(Next::Charge, &attempt);
    let key = attempt.key.clone();
    w.services.payment.attempts.insert(attempt.key.clone(), attempt);
    w.judge_an_attempt(&key);
    resolver::plan(w);
    Begun::Send(errand)
}

/// A record of nothing: a tombstone, until it is said what it is.
fn blank(key: StepKey, hash: Vec<u8>, business: Option<Business>, now: DateTime<Utc>) -> Attempt {
    Attempt {
        key,
        state: State::Blocked,
        forward: Outcome::Blocked,
        forward_hash: hash,
        forward_reply: None,
        back: None,
        back_reply: None,
        commands: Vec::new(),
        business,
        provider_reference: None,
        refund_reference: None,
        decline: None,
        sends: 0,
        refund_sends: 0,
        refund_keys: 1,
        sent: None,
        refund_begun: None,
        created: now,
        next_look: None,
        looks: 0,
        trace: String::new(),
    }
}

/// Records that the caller is told to wait; or the answer that came first.
fn tell(w: &mut World, process: ProcessId, key: StepKey, waiting: &Waiting) {
    let Some(reply) = waiting.borrow_mut().take() else { return };
    w.transact(
        process,
        move |w| happened(w, &key, &Event::Tell, false),
        move |w, standing| match standing {
            Ok(Some(standing)) => {
                w.hand(process, Room::Payment, &standing.messages);
                let answer = standing.forward.unwrap_or(Answer::Pending(standing.pending));
                reply(w, answered(Ok(answer)));
            }
            Ok(None) => reply(w, answered::<ChargeDone>(Err(crate::disk::NoWord::Unknown))),
            Err(trouble) => reply(w, answered::<ChargeDone>(Err(trouble))),
        },
    );
}
