//! From errand to errand until there is nothing to do now. Mirrors `payment-svc/src/calls.rs`.

use payment_svc::domain::{Event, Fault, Said};
use types::StepKey;

use super::{Errand, Standing, happened};
use crate::{
    bug::Bug,
    disk::NoWord,
    process::{ProcessId, Room},
    provider,
    world::World,
};

/// A pause within an errand that is not worth the resolver's attention, in milliseconds.
const SHORT_PAUSE: i64 = 2_000;
/// How often an outcome is recorded again while the database is away.
const RECORD_TRIES: u32 = 6;

type Then = Box<dyn FnOnce(&mut World, Option<Standing>)>;

/// Runs an errand and those that follow from it; then says where the attempt stands, none when nothing was recorded.
/// `since` is before the stamp was asked for, so that its age is never underestimated.
pub(super) fn carry(
    w: &mut World,
    process: ProcessId,
    key: StepKey,
    errand: Errand,
    since: i64,
    then: impl FnOnce(&mut World, Option<Standing>) + 'static,
) {
    step(w, process, key, errand, since, None, Box::new(then));
}

fn step(
    w: &mut World,
    process: ProcessId,
    key: StepKey,
    errand: Errand,
    since: i64,
    last: Option<Standing>,
    then: Then,
) {
    // DESIGN 5.3, and `Calls::call`: a stamp that is old is not sent, because the horizon counts from it.
    let policy = w.services.payment.policy;
    let fresh = i64::try_from((policy.horizon - policy.call_timeout).as_millis()).unwrap_or(0) / 2;
    let is_old = w.now - since > fresh;
    let too_old = || Err(Fault::NotSent("its stamp was too old to send".into()));
    match errand {
        Errand::Charge(order) => {
            let send = order.send;
            let came = move |w: &mut World, result: Result<Said, Fault>| {
                advance(w, process, key, Event::Charged { send, result }, then);
            };
            if is_old { came(w, too_old()) } else { provider::charge(w, process, order, came) }
        }
        Errand::Refund(order) => {
            let send = order.send;
            let came = move |w: &mut World, result: Result<Said, Fault>| {
                advance(w, process, key, Event::Refunded { send, result }, then);
            };
            if is_old { came(w, too_old()) } else { provider::refund(w, process, order, came) }
        }
        Errand::Wait(pause) if pause <= SHORT_PAUSE => {
            w.of(process, pause, move |w| advance(w, process, key, Event::Due, then));
        }
        Errand::Wait(_) | Errand::Rest => then(w, last),
    }
}

/// Records an event, with leave to call if something is to be sent next.
pub(super) fn advance(w: &mut World, process: ProcessId, key: StepKey, event: Event, then: Then) {
    record(w, process, key, event, 1, then);
}

fn record(w: &mut World, process: ProcessId, key: StepKey, event: Event, tries: u32, then: Then) {
    let may_send = !w.luck.chance(w.weather.breaker);
    let since = w.now;
    let (at, recorded) = (key.clone(), spoilt(w, event.clone()));
    w.transact(
        process,
        move |w| happened(w, &at, &recorded, may_send),
        move |w, standing| match standing {
            Ok(Some(standing)) => {
                w.hand(process, Room::Payment, &standing.messages);
                let errand = standing.errand.clone();
                step(w, process, key, errand, since, Some(standing), then);
            }
            Ok(None) => then(w, None),
            Err(NoWord::Away | NoWord::Unknown) if tries < RECORD_TRIES => {
                w.of(process, 100 << tries, move |w| record(w, process, key, event, tries + 1, then));
            }
            // The resolver has to find it out.
            Err(_) => then(w, None),
        },
    );
}

/// The bug that takes *unknown* for *surely not sent*: it is sent again at once.
fn spoilt(w: &World, event: Event) -> Event {
    match event {
        Event::Charged { send, result: Err(Fault::Unknown(why)) } if w.has(Bug::ChargeAgain) => {
            Event::Charged { send, result: Err(Fault::NotSent(why)) }
        }
        other => other,
    }
}
