//! Whatever is due is looked after, whoever began it and whoever died. Mirrors `payment-svc/src/resolver.rs`.

use payment_svc::domain::{Attempt, Event, State, after};
use types::StepKey;

use super::{time, walk};
use crate::{
    mark::Mark,
    process::{ProcessId, Room},
    provider,
    world::World,
};

/// Between two looks of the resolver, in milliseconds.
const POLL: i64 = 250;

/// The next time at which something is due: only looks that find something are made.
pub fn plan(w: &mut World) {
    let desk = &w.services.payment;
    let due = desk.attempts.values().filter_map(|attempt| attempt.next_look).min();
    let Some(due) = due else { return };
    let at = due.timestamp_millis().max(w.now) + w.luck.between(0, POLL);
    if desk.alarm.is_some_and(|planned| planned <= at && planned >= w.now) {
        return;
    }
    w.services.payment.alarm = Some(at);
    let delay = at - w.now;
    let looks_for_late_money = w.services.payment.attempts.values().all(|attempt| {
        attempt.next_look.is_none() || matches!(attempt.state, State::Declined | State::Blocked)
    });
    let alarm = move |w: &mut World| {
        if w.services.payment.alarm == Some(at) {
            w.services.payment.alarm = None;
            round(w);
        }
    };
    // Late money is looked for as long as the provider knows the key, which is a day: that is no work left to do.
    if looks_for_late_money && !w.storm && delay > 1_200_000 {
        w.idle_after(delay, alarm);
    } else {
        w.after(delay, alarm);
    }
}

fn round(w: &mut World) {
    let now = w.now;
    let able: Vec<_> =
        w.running(Room::Payment).into_iter().filter(|one| w.processes[*one].paused_until <= now).collect();
    if able.is_empty() {
        w.services.payment.alarm = Some(now + 1_000);
        return w.after(1_000, |w| {
            w.services.payment.alarm = None;
            plan(w);
        });
    }
    let process = w.luck.pick(&able);
    w.transact(process, claim, move |w, due| {
        for attempt in due.unwrap_or_default() {
            look_after(w, process, attempt);
        }
        plan(w);
    });
}

/// Claims what is due by putting its next look off.
fn claim(w: &mut World) -> Vec<Attempt> {
    let now = time(w);
    let policy = w.services.payment.policy;
    let lease = policy.call_timeout * 2 + policy.look;
    let mut claimed = Vec::new();
    for attempt in w.services.payment.attempts.values_mut() {
        if attempt.next_look.is_some_and(|at| at <= now) {
            attempt.next_look = Some(after(now, lease));
            claimed.push(attempt.clone());
        }
    }
    claimed
}

fn look_after(w: &mut World, process: ProcessId, due: Attempt) {
    let key = due.key.clone();
    let at = time(w);
    if due.sent.is_none() && (due.state.is_open() || due.state == State::Refunding) {
        return record(w, process, key, Event::Due);
    }
    w.mark(Mark::ChargeLookedUp);
    if due.state == State::Refunding {
        provider::look_up(w, process, due.refund_key(), move |w, result| {
            record(w, process, key, Event::RefundFound { at, result });
        });
    } else {
        provider::look_up(w, process, due.charge_key(), move |w, result| {
            record(w, process, key, Event::ChargeFound { at, result });
        });
    }
}

fn record(w: &mut World, process: ProcessId, key: StepKey, event: Event) {
    walk::advance(w, process, key, event, Box::new(|_, _| {}));
}
