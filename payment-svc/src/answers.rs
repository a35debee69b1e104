//! From the record to the wire: stored replies, answers, and the messages that a change owes.
//!
//! What must be said follows from what changed: [`messages`] compares the record before and after. Nothing here reads or
//! writes a database; the commands put the messages in the commit of the change.

use chassis::{
    barrier::Outcome,
    bus::{Exchange, Message, header},
    database::Trouble,
    seeded::{self, Bug},
};
use chrono::{DateTime, Utc};
use prost::{Message as _, Name as _};
use proto::{
    payment::v1::{ChargeDone, PaymentRefunded, RefundDone},
    step::{Answer, BackAnswer, Pending, Refused, STEP_ANSWER, StepAnswer, step_answer},
};
use types::StepKey;
use uuid::Uuid;

use crate::{
    SERVICE,
    commands::take_back::Ask,
    domain::{Attempt, Decline, Policy, State},
};

/// Topic of the event that money went back.
pub const PAYMENT_REFUNDED: &str = "payment.refunded";

type Time = DateTime<Utc>;

/// Stores the replies of what has just ended: from now on they are said as they are.
pub fn seal(attempt: &mut Attempt) {
    if attempt.forward_reply.is_none() {
        attempt.forward_reply = match attempt.forward {
            Outcome::Done => Some(charge_done(attempt).encode_to_vec()),
            Outcome::Refused => attempt.decline.as_ref().map(|decline| refused(decline).encode_to_vec()),
            Outcome::Started | Outcome::Pending | Outcome::Blocked => None,
        };
    }
    if attempt.back == Some(Outcome::Done) && attempt.back_reply.is_none() {
        let refund_reference = attempt.refund_reference.clone().unwrap_or_default();
        let done = RefundDone { payment_id: attempt.payment().to_string(), refund_reference };
        attempt.back_reply = Some(done.encode_to_vec());
    }
}

fn charge_done(attempt: &Attempt) -> ChargeDone {
    ChargeDone {
        payment_id: attempt.payment().to_string(),
        provider_reference: attempt.provider_reference.clone().unwrap_or_default(),
    }
}

/// The provider's word is the reason where it can be one.
fn refused(decline: &Decline) -> Refused {
    let allowed = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_';
    let fits = (1..=63).contains(&decline.code.len()) && decline.code.chars().all(allowed);
    let reason = if fits { decline.code.clone() } else { "CARD_DECLINED".to_owned() };
    Refused { reason, metadata: [("category".to_owned(), decline.category.as_str().to_owned())].into() }
}

fn unreadable(error: prost::DecodeError) -> Trouble {
    Trouble::Failed(format!("a stored reply cannot be read: {error}"))
}

fn reply<D: prost::Message + Default>(stored: Option<&Vec<u8>>) -> Result<D, Trouble> {
    D::decode(stored.map_or(&[][..], Vec::as_slice)).map_err(unreadable)
}

/// What the charge answers; none while it is not known.
pub fn forward(attempt: &Attempt) -> Result<Option<Answer<ChargeDone>>, Trouble> {
    if attempt.back.is_some() {
        return Ok(Some(Answer::Fenced));
    }
    Ok(match attempt.forward {
        Outcome::Done => Some(Answer::Done(reply(attempt.forward_reply.as_ref())?)),
        Outcome::Refused => Some(Answer::Refused(reply(attempt.forward_reply.as_ref())?)),
        Outcome::Blocked => Some(Answer::Fenced),
        Outcome::Started | Outcome::Pending => None,
    })
}

/// What the compensation answers; none while it is under way or was not asked for.
pub fn back(attempt: &Attempt) -> Result<Option<BackAnswer<RefundDone>>, Trouble> {
    Ok(match attempt.back {
        Some(Outcome::Done) => Some(BackAnswer::Done(reply(attempt.back_reply.as_ref())?)),
        Some(Outcome::Blocked) => Some(BackAnswer::NotApplied),
        Some(Outcome::Started | Outcome::Pending | Outcome::Refused) | None => None,
    })
}

/// *Wait for the settlement.*
pub fn settlement(attempt: &Attempt, policy: &Policy, now: Time) -> Pending {
    let until = attempt.until(policy, now);
    Pending { until: Some(proto::time::stamp(until)), action: "SETTLEMENT".to_owned() }
}

/// *Wait for the refund.*
pub(crate) fn refund_in_progress(policy: &Policy, now: Time) -> Pending {
    let until = crate::domain::after(now, policy.horizon + policy.call_timeout);
    Pending { until: Some(proto::time::stamp(until)), action: "IN_PROGRESS".to_owned() }
}

/// What is owed to others because of this change. Commands that are answered are taken off the record.
pub fn messages(before: &Attempt, after: &mut Attempt, now: Time) -> Result<Vec<Message>, Trouble> {
    let mut messages = Vec::new();
    if before.forward == Outcome::Pending && !seeded::is(Bug::SettlementLost) {
        messages.extend(forward_answer(after, now)?);
    }
    let waited = matches!(before.back, Some(Outcome::Started | Outcome::Pending));
    if let (true, Some(says)) = (waited, back(after)?) {
        for command in std::mem::take(&mut after.commands) {
            let command = Uuid::from_bytes(command).to_string();
            messages.extend(back_answer(&after.key, &command, &says, &after.trace, now));
        }
        if before.back == Some(Outcome::Pending) {
            messages.extend(back_answer(&after.key, "", &says, &after.trace, now));
        }
    }
    if before.state != State::Refunded && after.state == State::Refunded {
        messages.extend(refunded(after));
    }
    Ok(messages)
}

/// The answer to a command that needs no waiting.
pub(crate) fn at_once(ask: &Ask, says: &BackAnswer<RefundDone>, now: Time) -> Option<Message> {
    back_answer(&ask.key, &ask.command?.to_string(), says, &ask.trace, now)
}

fn to_orchestrator(key: &StepKey, answer: &StepAnswer, trace: &str) -> Message {
    Message::new(Exchange::Replies, "orchestrator", STEP_ANSWER, SERVICE, answer.encode_to_vec())
        .with(header::SAGA, key.saga.to_string())
        .with(header::STEP, key.step.to_string())
        .with(header::TRACE, trace)
}

/// The answer to a compensation: to the command, or to whoever came without one.
pub fn back_answer(
    key: &StepKey,
    command: &str,
    says: &BackAnswer<RefundDone>,
    trace: &str,
    now: Time,
) -> Option<Message> {
    StepAnswer::compensation(key, command, says, now).map(|answer| to_orchestrator(key, &answer, trace))
}

/// The settlement signal: what the charge came to, even if it is wanted back.
fn forward_answer(attempt: &Attempt, now: Time) -> Result<Option<Message>, Trouble> {
    let outcome = match attempt.forward {
        Outcome::Done => step_answer::Outcome::Done(attempt.forward_reply.clone().unwrap_or_default()),
        Outcome::Refused => step_answer::Outcome::Refused(reply(attempt.forward_reply.as_ref())?),
        Outcome::Started | Outcome::Pending | Outcome::Blocked => return Ok(None),
    };
    let answer = StepAnswer {
        saga_id: attempt.key.saga.to_string(),
        step: attempt.key.step.to_string(),
        direction: step_answer::Direction::Forward.into(),
        command_id: String::new(),
        outcome: Some(outcome),
        time: Some(proto::time::stamp(now)),
    };
    Ok(Some(to_orchestrator(&attempt.key, &answer, &attempt.trace)))
}

fn refunded(attempt: &Attempt) -> Option<Message> {
    let business = attempt.business.as_ref()?;
    let order = business.order.to_string();
    let body = PaymentRefunded {
        payment_id: attempt.payment().to_string(),
        saga_id: attempt.key.saga.to_string(),
        step: attempt.key.step.to_string(),
        order_id: order.clone(),
        merchant_id: business.merchant.to_string(),
        amount: Some(business.amount.into()),
        provider_reference: attempt.provider_reference.clone().unwrap_or_default(),
        refund_reference: attempt.refund_reference.clone().unwrap_or_default(),
    };
    let kind = PaymentRefunded::full_name();
    Some(
        Message::new(Exchange::Events, PAYMENT_REFUNDED, &kind, SERVICE, body.encode_to_vec())
            .with(header::SUBJECT, order)
            .with(header::SAGA, attempt.key.saga.to_string())
            .with(header::TRACE, attempt.trace.as_str()),
    )
}
