//! The payment provider: the product's own simulator rules over a book, at the end of a bad line.
//!
//! It is honest about its keys and deaf to whoever gives up waiting. A request is under way for less than the horizon
//! since its stamp, which is what payment-svc is promised (DESIGN 5.3).

use std::{cell::RefCell, collections::BTreeMap, rc::Rc, time::Duration};

use chrono::{DateTime, Utc};
use payment_svc::{
    Category, Decline,
    domain::{Fault, Said},
    simulator::rules::{self, Manner, Reply, Standing},
};
use types::StepKey;

use crate::{bug::Bug, mark::Mark, process::ProcessId, world::World};

/// A call is given up after this, in milliseconds: payment-svc's default.
const TIMEOUT: i64 = 10_000;
/// How long a request is held up: with the oldest stamp that is sent, 17.5 s, still short of the horizon, 45 s.
const HELD: [i64; 3] = [3_000, 12_000, 25_000];

/// A charge to be sent.
#[derive(Debug, Clone)]
pub struct ChargeOrder {
    pub of: StepKey,
    pub key: String,
    pub send: i32,
    pub amount: i64,
    pub token: String,
}

/// A refund to be sent.
#[derive(Debug, Clone)]
pub struct RefundOrder {
    pub of: StepKey,
    pub key: String,
    pub send: i32,
    pub amount: i64,
    /// The charge's reference.
    pub charge: String,
}

/// What stands in the book under a key.
#[derive(Debug, Clone)]
pub struct Entry {
    pub of: StepKey,
    standing: Standing,
    manner: Manner,
    reference: String,
    charge: String,
    sends: i32,
    pub amount: i64,
}

impl Entry {
    /// Whether it has taken effect by then.
    #[must_use]
    pub fn is_effective(&self, now: DateTime<Utc>) -> bool {
        matches!(self.standing.as_of(now), Standing::Effective(_))
    }
}

/// The book.
#[derive(Debug, Default)]
pub struct Book {
    pub charges: BTreeMap<String, Entry>,
    pub refunds: BTreeMap<String, Entry>,
    references: u64,
}

/// What was charged and given back for a step: how often, and how much.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Line {
    pub charges: usize,
    pub charged: i64,
    pub refunds: usize,
    pub refunded: i64,
}

impl Book {
    fn reference(&mut self, prefix: &str) -> String {
        self.references += 1;
        format!("{prefix}_{}", self.references)
    }

    /// By a step.
    #[must_use]
    pub fn line(&self, of: &StepKey, now: DateTime<Utc>) -> Line {
        let sum = |entries: &BTreeMap<String, Entry>| {
            let effective = entries.values().filter(|entry| entry.of == *of && entry.is_effective(now));
            effective.fold((0, 0), |(count, sum), entry| (count + 1, sum + entry.amount))
        };
        let ((charges, charged), (refunds, refunded)) = (sum(&self.charges), sum(&self.refunds));
        Line { charges, charged, refunds, refunded }
    }

    fn charge(&mut self, order: &ChargeOrder, slow: Duration, now: DateTime<Utc>) -> Reply {
        let reference = self.reference("ch");
        let entry = self.charges.entry(order.key.clone()).or_insert_with(|| Entry {
            of: order.of.clone(),
            standing: Standing::Received,
            manner: Manner::of_token(&order.token),
            reference: reference.clone(),
            charge: reference,
            sends: 0,
            amount: order.amount,
        });
        if entry.amount != order.amount {
            return Reply::Wrong("this idempotency key was used with another body");
        }
        entry.sends += 1;
        let (standing, reply) =
            rules::charge(entry.manner, entry.sends, entry.standing, &entry.reference, slow, now);
        entry.standing = standing;
        reply
    }

    /// Never more than was charged; see `payment-svc/src/simulator/book.rs`.
    fn refund(&mut self, order: &RefundOrder, now: DateTime<Utc>) -> Reply {
        let refused = |code: &str| {
            Reply::Says(Said::Declined(Decline { code: code.to_owned(), category: Category::Data }))
        };
        let charge = self.charges.values().find(|entry| entry.reference == order.charge).cloned();
        let Some(charge) = charge else { return refused("UNKNOWN_CHARGE") };
        let others = self.refunds.iter().filter(|(key, entry)| {
            **key != order.key && entry.charge == order.charge && entry.is_effective(now)
        });
        let given_back: i64 = others.map(|(_, entry)| entry.amount).sum();
        let left = if charge.is_effective(now) { charge.amount - given_back } else { 0 };
        if left < order.amount {
            return refused("MORE_THAN_CHARGED");
        }
        let reference = self.reference("re");
        let entry = self.refunds.entry(order.key.clone()).or_insert_with(|| Entry {
            of: order.of.clone(),
            standing: Standing::Received,
            manner: charge.manner,
            reference,
            charge: order.charge.clone(),
            sends: 0,
            amount: order.amount,
        });
        entry.sends += 1;
        let (standing, reply) =
            rules::refund(entry.manner, entry.sends, entry.standing, &entry.reference, now);
        entry.standing = standing;
        reply
    }

    fn look_up(&self, key: &str, now: DateTime<Utc>) -> Option<Said> {
        let entry = self.charges.get(key).or_else(|| self.refunds.get(key))?;
        entry.standing.as_of(now).found(entry.manner, &entry.reference)
    }
}

/// The time by the provider's clock, which is the true one.
#[must_use]
pub fn time(w: &World) -> DateTime<Utc> {
    DateTime::from_timestamp_millis(w.now).unwrap_or(DateTime::<Utc>::UNIX_EPOCH)
}

type Then<T> = Rc<RefCell<Option<Box<dyn FnOnce(&mut World, Result<T, Fault>)>>>>;

fn come_back<T: 'static>(w: &mut World, then: &Then<T>, result: Result<T, Fault>) {
    let waits = then.borrow_mut().take();
    if let Some(then) = waits {
        then(w, result);
    }
}

/// There and back again. `act` is what the provider does; none: no answer will come.
fn exchange<T: 'static>(
    w: &mut World,
    process: ProcessId,
    act: impl FnOnce(&mut World) -> Option<Result<T, Fault>> + 'static,
    then: impl FnOnce(&mut World, Result<T, Fault>) + 'static,
) {
    let then: Then<T> = Rc::new(RefCell::new(Some(Box::new(then))));
    let unknown = |why: &str| Err(Fault::Unknown(why.to_owned()));
    let is_lost = w.luck.chance(w.weather.provider_lost);
    let lost_there = is_lost && w.luck.flip();
    if is_lost {
        w.mark(Mark::ProviderLost);
    }
    if lost_there && w.luck.flip() {
        return w.of(process, 5, move |w| {
            come_back(w, &then, Err(Fault::NotSent("connection refused".into())));
        });
    }
    let gives_up = Rc::clone(&then);
    let is_held = w.luck.chance(w.weather.provider_held);
    let delay = match (is_held, w.weather.provider_breaks_promise) {
        (true, true) => w.luck.pick(&[60_000, 150_000]),
        (true, false) => w.luck.pick(&HELD),
        (false, _) => w.luck.between(3, 20),
    };
    if lost_there || is_held {
        w.of(process, TIMEOUT, move |w| come_back(w, &gives_up, unknown("no answer in time")));
    }
    if lost_there {
        return;
    }
    let (life, began) = (w.processes[process].life, w.now);
    w.after(delay, move |w| {
        if then.borrow().is_none() {
            w.mark(Mark::ProviderHeld);
        }
        let answer = act(w).filter(|_| !is_lost);
        if w.processes[process].life != life {
            return;
        }
        let back = w.luck.between(3, 10);
        match answer {
            Some(result) => w.of(process, back, move |w| come_back(w, &then, result)),
            None => {
                let left = (TIMEOUT - (w.now - began)).max(0);
                w.of(process, left, move |w| come_back(w, &then, unknown("no answer in time")));
            }
        }
    });
}

fn said(reply: Reply) -> Option<Result<Said, Fault>> {
    match reply {
        Reply::Says(said) => Some(Ok(said)),
        Reply::Error(why) => Some(Err(Fault::NotSent(why.to_owned()))),
        Reply::Wrong(why) => Some(Err(Fault::Unknown(why.to_owned()))),
        Reply::Silence => None,
    }
}

/// Sends a charge.
pub fn charge(
    w: &mut World,
    process: ProcessId,
    order: ChargeOrder,
    then: impl FnOnce(&mut World, Result<Said, Fault>) + 'static,
) {
    let mut order = order;
    if w.has(Bug::KeyPerSend) {
        order.key = format!("{}:{}", order.key, order.send);
    }
    w.tell_of(process, order.of.saga, || format!("sends charge {} to the provider", order.send));
    exchange(
        w,
        process,
        move |w| {
            let (now, slow) = (time(w), Duration::from_millis(w.weather.slow.unsigned_abs()));
            let was = w.provider.line(&order.of, now);
            let reply = w.provider.charge(&order, slow, now);
            w.tell_of(process, order.of.saga, || {
                format!("the provider takes charge {}: {reply:?}", order.send)
            });
            match &reply {
                Reply::Says(Said::Declined(_)) => w.mark(Mark::ProviderRefuses),
                Reply::Says(Said::Pending) => w.mark(Mark::ProviderSettles),
                _ => {}
            }
            w.judge_a_charge(&order.of, was);
            said(reply)
        },
        then,
    );
}

/// Sends a refund.
pub fn refund(
    w: &mut World,
    process: ProcessId,
    order: RefundOrder,
    then: impl FnOnce(&mut World, Result<Said, Fault>) + 'static,
) {
    w.tell_of(process, order.of.saga, || format!("sends refund {} to the provider", order.send));
    w.mark(Mark::RefundSent);
    exchange(
        w,
        process,
        move |w| {
            let now = time(w);
            let was = w.provider.line(&order.of, now);
            let reply = w.provider.refund(&order, now);
            w.tell_of(process, order.of.saga, || {
                format!("the provider takes refund {}: {reply:?}", order.send)
            });
            w.judge_a_charge(&order.of, was);
            said(reply)
        },
        then,
    );
}

/// Looks a key up.
pub fn look_up(
    w: &mut World,
    process: ProcessId,
    key: String,
    then: impl FnOnce(&mut World, Result<Option<Said>, Fault>) + 'static,
) {
    exchange(
        w,
        process,
        move |w| {
            let now = time(w);
            Some(Ok(w.provider.look_up(&key, now)))
        },
        then,
    );
}
