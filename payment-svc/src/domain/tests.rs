//! Tables and properties of the rules: every state against every event, and a model of a provider, a bad network and
//! dying processes around them.

use std::time::Duration;

use chassis::barrier::Outcome;
use chrono::{DateTime, Utc};
use proptest::prelude::*;
use types::{Money, SagaId, StepKey};

use super::*;

mod model;

const POLICY: Policy = Policy {
    horizon: Duration::from_secs(45),
    key_life: Duration::from_secs(24 * 3600),
    sends: 3,
    call_timeout: Duration::from_secs(10),
    look: Duration::from_secs(1),
    settlement: Duration::from_secs(900),
};

fn at(seconds: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(1_000_000 + seconds, 0).unwrap()
}

/// A charge as its begin leaves it: one send, stamped at 0.
fn started() -> Attempt {
    let saga: SagaId = "saga_01h2xcejqtf2nbrexx3vqjhp41".parse().unwrap();
    let business = Business {
        order: saga.order(),
        customer: "c".parse().unwrap(),
        merchant: "m".parse().unwrap(),
        amount: Money::new(100, "EUR".parse().unwrap()),
        token: Some("tok_x".parse().unwrap()),
    };
    let key = StepKey { saga, step: "charge".parse().unwrap() };
    Attempt::begun(key, vec![1], business, String::new(), (at(0), at(11)))
}

fn done() -> Said {
    Said::Done { reference: "ref".into() }
}

fn declined() -> Said {
    Said::Declined(Decline { code: "CARD_DECLINED".into(), category: Category::Hard })
}

fn charged(result: Result<Said, Fault>) -> Event {
    Event::Charged { send: 1, result }
}

fn found(seconds: i64, result: Result<Option<Said>, Fault>) -> Event {
    Event::ChargeFound { at: at(seconds), result }
}

fn not_sent() -> Fault {
    Fault::NotSent("x".into())
}

fn unknown() -> Fault {
    Fault::Unknown("x".into())
}

/// An attempt in this state, with a send of charge or refund under way or last stamped at 0.
fn in_state(state: State) -> Attempt {
    let mut attempt = started();
    let mut go = |event: Event, second| attempt.apply(&event, &POLICY, true, at(second));
    match state {
        State::Started => {}
        State::Pending => drop(go(charged(Ok(Said::Pending)), 0)),
        State::InDoubt => drop(go(charged(Err(unknown())), 0)),
        State::Succeeded => drop(go(charged(Ok(done())), 0)),
        State::Declined => {
            attempt.sends = POLICY.sends;
            attempt.apply(&found(45, Ok(None)), &POLICY, true, at(45));
        }
        State::Refunding => {
            go(charged(Ok(done())), 0);
            attempt.take_back(&POLICY, true, false, at(0));
        }
        State::Refunded => {
            attempt = in_state(State::Refunding);
            attempt.apply(&Event::Refunded { send: 1, result: Ok(done()) }, &POLICY, true, at(0));
        }
        State::Blocked => {
            attempt.take_back(&POLICY, true, false, at(0));
            attempt.apply(&found(45, Ok(None)), &POLICY, true, at(45));
        }
    }
    assert_eq!(attempt.state, state);
    attempt
}

/// `>` sends, `~` comes back soon.
fn shown(state: State, next: Next) -> String {
    let next = match next {
        Next::Charge | Next::Refund => ">",
        Next::Wait(_) => "~",
        Next::Rest => "",
    };
    format!("{}{next}", state.as_str())
}

#[test]
fn every_state_meets_every_event() {
    let refunded = |result| Event::Refunded { send: 1, result };
    let refund_found = |second, result| Event::RefundFound { at: at(second), result };
    let same = "STARTED PENDING IN_DOUBT SUCCEEDED DECLINED REFUNDING REFUNDED BLOCKED";
    let table = [
        (
            charged(Ok(done())),
            "SUCCEEDED SUCCEEDED SUCCEEDED SUCCEEDED REFUNDING> REFUNDING REFUNDED REFUNDING>",
        ),
        (charged(Ok(declined())), "DECLINED DECLINED DECLINED SUCCEEDED DECLINED REFUNDING REFUNDED BLOCKED"),
        (charged(Ok(Said::Pending)), "PENDING PENDING PENDING SUCCEEDED DECLINED REFUNDING REFUNDED BLOCKED"),
        (
            charged(Err(not_sent())),
            "STARTED~ PENDING IN_DOUBT~ SUCCEEDED DECLINED REFUNDING REFUNDED BLOCKED",
        ),
        (charged(Err(unknown())), "IN_DOUBT PENDING IN_DOUBT SUCCEEDED DECLINED REFUNDING REFUNDED BLOCKED"),
        (Event::Charged { send: 0, result: Err(not_sent()) }, same),
        (
            found(60, Ok(Some(done()))),
            "SUCCEEDED SUCCEEDED SUCCEEDED SUCCEEDED REFUNDING> REFUNDING REFUNDED REFUNDING>",
        ),
        (
            found(60, Ok(Some(declined()))),
            "DECLINED DECLINED DECLINED SUCCEEDED DECLINED REFUNDING REFUNDED BLOCKED",
        ),
        (
            found(60, Ok(Some(Said::Pending))),
            "PENDING PENDING PENDING SUCCEEDED DECLINED REFUNDING REFUNDED BLOCKED",
        ),
        (found(44, Ok(None)), same),
        (found(45, Ok(None)), "STARTED> STARTED> STARTED> SUCCEEDED DECLINED REFUNDING REFUNDED BLOCKED"),
        (found(60, Err(unknown())), same),
        (refunded(Ok(done())), "STARTED PENDING IN_DOUBT SUCCEEDED DECLINED REFUNDED REFUNDED BLOCKED"),
        (refunded(Ok(declined())), same),
        (refunded(Ok(Said::Pending)), same),
        (refunded(Err(not_sent())), same),
        (refunded(Err(unknown())), same),
        (
            refund_found(60, Ok(Some(done()))),
            "STARTED PENDING IN_DOUBT SUCCEEDED DECLINED REFUNDED REFUNDED BLOCKED",
        ),
        (refund_found(44, Ok(None)), same),
        (
            refund_found(45, Ok(None)),
            "STARTED PENDING IN_DOUBT SUCCEEDED DECLINED REFUNDING> REFUNDED BLOCKED",
        ),
        (refund_found(60, Err(unknown())), same),
        (Event::Due, same),
        (Event::Tell, same),
    ];
    for (event, expected) in table {
        let met: Vec<_> = State::ALL
            .into_iter()
            .map(|state| {
                let mut attempt = in_state(state);
                let next = attempt.apply(&event, &POLICY, true, at(60));
                shown(attempt.state, next)
            })
            .collect();
        assert_eq!(met.join(" "), expected, "{event:?}");
    }
}

#[test]
fn with_nothing_under_way_what_is_due_is_sent() {
    let mut attempt = started();
    assert!(matches!(attempt.apply(&charged(Err(not_sent())), &POLICY, true, at(1)), Next::Wait(_)));
    assert_eq!(attempt.apply(&Event::Due, &POLICY, true, at(2)), Next::Charge);
    assert_eq!((attempt.sends, attempt.sent), (2, Some(at(2))));
    assert_eq!(attempt.apply(&Event::Due, &POLICY, true, at(2)), Next::Rest, "one at a time");
}

#[test]
fn what_is_wanted_back_is_not_sent_again() {
    for back_first in [true, false] {
        let mut attempt = started();
        if back_first {
            assert_eq!(attempt.take_back(&POLICY, true, false, at(1)), TakeBack::Later(Next::Rest));
            attempt.apply(&charged(Err(not_sent())), &POLICY, true, at(2));
        } else {
            attempt.apply(&charged(Err(not_sent())), &POLICY, true, at(1));
            assert_eq!(attempt.take_back(&POLICY, true, false, at(2)), TakeBack::Answered);
        }
        assert_eq!((attempt.state, attempt.back), (State::Blocked, Some(Outcome::Blocked)));
        assert_eq!(attempt.apply(&Event::Due, &POLICY, true, at(3)), Next::Rest);
        assert_eq!(attempt.asked(&[1]), Asked::Fenced);
    }
}

#[test]
fn a_key_that_the_provider_forgot_is_not_sent_again() {
    let day = 24 * 3600;
    let mut attempt = in_state(State::InDoubt);
    assert_eq!(attempt.apply(&found(day, Ok(None)), &POLICY, true, at(day)), Next::Rest);
    assert_eq!((attempt.state, attempt.forward), (State::Declined, Outcome::Refused));
    let mut attempt = in_state(State::Refunding);
    let old = attempt.refund_key();
    let proven = Event::RefundFound { at: at(day), result: Ok(None) };
    assert_eq!(attempt.apply(&proven, &POLICY, true, at(day)), Next::Refund);
    assert_ne!(attempt.refund_key(), old, "the money is owed: under a key that is not too old");
}

#[test]
fn a_compensation_meets_each_state() {
    for (state, told, answer, end) in [
        (State::Started, false, TakeBack::Later(Next::Rest), State::Started),
        (State::Pending, true, TakeBack::Later(Next::Rest), State::Pending),
        (State::InDoubt, false, TakeBack::Later(Next::Rest), State::InDoubt),
        (State::Succeeded, false, TakeBack::Later(Next::Refund), State::Refunding),
        (State::Declined, false, TakeBack::Answered, State::Declined),
        (State::Refunding, true, TakeBack::Later(Next::Rest), State::Refunding),
        (State::Refunded, false, TakeBack::Answered, State::Refunded),
        (State::Blocked, false, TakeBack::Answered, State::Blocked),
    ] {
        let mut attempt = in_state(state);
        assert_eq!(attempt.take_back(&POLICY, true, told, at(60)), answer, "{state:?}");
        assert_eq!(attempt.state, end);
        let waits = matches!(answer, TakeBack::Later(_));
        assert_eq!(waits && told, attempt.back == Some(Outcome::Pending));
        let first = attempt.clone();
        attempt.take_back(&POLICY, true, told, at(61));
        assert_eq!(attempt, first, "asked again, nothing moves");
    }
}

#[test]
fn pauses_double_up_to_a_minute() {
    let seconds: Vec<_> = (0..9).map(|looks| POLICY.pause(looks).as_secs()).collect();
    assert_eq!(seconds, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
    assert_eq!(POLICY.pause(i32::MAX).as_secs(), 60);
}
