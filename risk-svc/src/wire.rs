//! Between messages and what commands work on. Decides nothing.
//!
//! An error is a text for people that names the field; the door makes *turned away* of it.

use chassis::bus::{Exchange, Message, header};
use chrono::{DateTime, Utc};
use prost::Message as _;
use proto::{
    risk::v1::{Review as WireReview, ReviewState as WireState, ScreenItem as WireScreen},
    step::{Header, Refused, STEP_ANSWER, StepAnswer, step_answer},
    time,
};
use types::{Money, OrderId, StepKey};

use crate::{
    BUS_NAME,
    commands::screen,
    domain::{ReviewState, Subject},
    store::review::Review,
};

pub fn screen(item: WireScreen, header: Header) -> Result<screen::Item, String> {
    let amount = item.amount.as_ref().ok_or("amount: is missing")?;
    let amount = Money::try_from(amount).map_err(|e| format!("amount: {e}"))?;
    if amount.minor < 0 {
        return Err("amount: must not be negative".into());
    }
    let subject = Subject {
        order: order(&item.order_id)?,
        customer: item.customer_id.parse().map_err(|e| format!("customer_id: {e}"))?,
        merchant: item.merchant_id.parse().map_err(|e| format!("merchant_id: {e}"))?,
        amount,
    };
    Ok(screen::Item { key: header.key, subject, trace: header.trace })
}

/// Sagas that are not of an order have none.
fn order(text: &str) -> Result<Option<OrderId>, String> {
    match text {
        "" => Ok(None),
        text => text.parse().map(Some).map_err(|e| format!("order_id: {e}")),
    }
}

pub fn refused<const N: usize>(reason: &str, metadata: [(&str, &str); N]) -> Refused {
    let metadata = metadata.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    Refused { reason: reason.to_owned(), metadata }
}

/// The outcome of a step that was told to wait, for the orchestrators.
pub fn late_answer(key: &StepKey, outcome: step_answer::Outcome, trace: &str, now: DateTime<Utc>) -> Message {
    let answer = StepAnswer {
        saga_id: key.saga.to_string(),
        step: key.step.to_string(),
        direction: step_answer::Direction::Forward.into(),
        command_id: String::new(),
        outcome: Some(outcome),
        time: Some(time::stamp(now)),
    };
    Message::new(Exchange::Replies, "orchestrator", STEP_ANSWER, BUS_NAME, answer.encode_to_vec())
        .with(header::SAGA, answer.saga_id)
        .with(header::STEP, answer.step)
        .with(header::TRACE, trace)
}

pub(crate) fn review(review: Review) -> WireReview {
    WireReview {
        saga_id: review.key.saga.to_string(),
        order_id: review.order.map(|order| order.to_string()).unwrap_or_default(),
        customer_id: review.customer,
        merchant_id: review.merchant,
        amount: Some(review.amount.into()),
        state: match review.state {
            ReviewState::Open => WireState::Open,
            ReviewState::Approved => WireState::Approved,
            ReviewState::Declined => WireState::Declined,
            ReviewState::Expired => WireState::Expired,
            ReviewState::Withdrawn => WireState::Withdrawn,
        }
        .into(),
        rule: review.rule,
        create_time: Some(time::stamp(review.create_time)),
        expire_time: Some(time::stamp(review.expire_time)),
        reviewer: review.reviewer.unwrap_or_default(),
        reason: review.reason.unwrap_or_default(),
        decide_time: review.decide_time.map(time::stamp),
    }
}
