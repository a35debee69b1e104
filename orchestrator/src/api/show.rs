//! Rows as messages.

use chrono::{DateTime, Utc};
use proto::{
    money::Money,
    order::v1::{Order, OrderLine, OrderStatus},
    saga::v1::{JournalEntry, NextMove, Saga, SagaState, Step},
    time::stamp,
};
use types::SagaId;

use super::Doors;
use crate::{
    catalog::order::Input,
    driver::now,
    journal::Stored,
    saga::{Back, Definition, Event, Forward, Label, Move, State, StepState, next},
    store::{
        order::OrderRow,
        saga::{Entry, Ownership},
    },
};

/// An order. None when its stored input cannot be read.
pub(super) fn order(row: &OrderRow) -> Option<Order> {
    let input: Input = row.started.iter().find_map(|recorded| match &recorded.event {
        Event::Started { input, .. } => serde_json::from_str(input).ok(),
        _ => None,
    })?;
    let money = |minor_units| Some(Money { minor_units, currency_code: input.currency.to_string() });
    let status = OrderStatus::from_str_name(&row.status)?;
    Some(Order {
        order_id: row.order.to_string(),
        saga_id: row.order.saga().to_string(),
        status: status.into(),
        status_reason: row.status_reason.clone(),
        customer_id: input.customer_id.to_string(),
        merchant_id: input.merchant_id.to_string(),
        currency_code: input.currency.to_string(),
        lines: input
            .lines
            .iter()
            .map(|l| OrderLine {
                sku: l.sku.to_string(),
                quantity: l.quantity,
                unit_price: money(l.unit_price),
            })
            .collect(),
        subtotal: money(input.subtotal),
        tax: money(input.tax),
        total: money(input.total),
        cancel_requested: row.cancel_requested,
        create_time: Some(stamp(row.create_time)),
        update_time: Some(stamp(row.update_time)),
        etag: format!("v{}", row.version),
        metadata: input.metadata.into_iter().collect(),
        status_metadata: serde_json::from_str(&row.status_metadata).unwrap_or_default(),
    })
}

/// Whether nothing more happens by itself: at its end, or waiting for someone.
pub(super) fn is_settled(status: &str) -> bool {
    is_ended(status) || matches!(status, "UNDER_REVIEW" | "AWAITING_PAYMENT")
}

/// Whether it is at its end.
pub(super) fn is_ended(status: &str) -> bool {
    matches!(status, "COMPLETED" | "CANCELLED")
}

fn time(ms: i64) -> Option<prost_types::Timestamp> {
    DateTime::<Utc>::from_timestamp_millis(ms).map(stamp)
}

fn label(label: Label) -> SagaState {
    match label {
        Label::Running => SagaState::Running,
        Label::Waiting => SagaState::Waiting,
        Label::Compensating => SagaState::Compensating,
        Label::Completed => SagaState::Completed,
        Label::Compensated => SagaState::Compensated,
        Label::Parked => SagaState::Parked,
    }
}

/// A saga by its committed journal, with what happens next: `next` applied to it.
pub(super) fn saga(doors: &Doors, stored: &Stored, ownership: Option<&Ownership>) -> Saga {
    let mut shown = Saga {
        saga_id: stored.saga.to_string(),
        kind: stored.kind.clone(),
        definition_version: stored.definition_version,
        version: stored.version,
        shard: i32::from(stored.shard),
        epoch: stored.epoch,
        owner: ownership.and_then(|o| o.owner).map(|id| id.to_string()).unwrap_or_default(),
        unread_signals: ownership.map_or(0, |o| i32::try_from(o.unread).unwrap_or(i32::MAX)),
        create_time: Some(stamp(stored.create_time)),
        ..Saga::default()
    };
    let kind = doors.registry.find(&stored.kind, stored.definition_version, stored.definition_hash);
    let state = State::load(stored.events.iter().map(|r| (&r.event, r.at)));
    let (Some(kind), Ok(state)) = (kind, state) else {
        let why = stored.unreadable.as_deref();
        shown.reason = why.map_or_else(
            || "UNKNOWN_DEFINITION: this build cannot drive it; see its journal".into(),
            |why| format!("UNREADABLE_JOURNAL: this build cannot drive it; {why}"),
        );
        return shown;
    };
    let definition = kind.definition();
    shown.state = label(state.label()).into();
    shown.reason = reason(&state);
    shown.update_time = time(state.times.1);
    shown.deadline = time(state.deadline);
    shown.pivot_passed = state.pivot_passed;
    shown.steps = definition.steps.iter().zip(&state.steps).map(|(def, s)| step(doors, def, s)).collect();
    shown.next = moves(definition, &state, stored.saga);
    shown
}

fn reason(state: &State) -> String {
    let parked = state.parked.as_ref().map(|p| format!("{}: {}", p.reason, p.detail));
    let parked = parked.or_else(|| state.parked_back());
    parked.or_else(|| state.turned.as_ref().map(|why| why.reason.clone())).unwrap_or_default()
}

fn step(doors: &Doors, def: &crate::saga::StepDef, state: &StepState) -> Step {
    let (name, reason, until, action) = match &state.forward {
        Forward::Idle if state.times().is_some() || state.attempts > 0 => {
            ("CALLED", state.last_failure().to_owned(), None, "")
        }
        Forward::Idle => ("IDLE", String::new(), None, ""),
        Forward::Pending { until, action } => ("PENDING", String::new(), time(*until), &**action),
        Forward::Done { .. } => ("DONE", String::new(), None, ""),
        Forward::Refused(why) => ("REFUSED", why.reason.clone(), None, ""),
        Forward::Fenced => ("FENCED", String::new(), None, ""),
        Forward::Skipped => ("SKIPPED", String::new(), None, ""),
    };
    let (back, back_reason) = match state.back() {
        Back::None => ("NONE", None),
        Back::Wanted => ("WANTED", None),
        Back::Sent { .. } => ("SENT", None),
        Back::Done => ("DONE", None),
        Back::NotApplied => ("NOT_APPLIED", None),
        Back::Parked { reason } => ("PARKED", Some(reason.to_string())),
    };
    // Attempts that brought nothing, and the one that did.
    let answered = u32::from(!matches!(state.forward, Forward::Idle | Forward::Skipped));
    Step {
        name: def.name.to_string(),
        participant: def.participant.to_owned(),
        stage: i32::try_from(def.stage).unwrap_or(i32::MAX),
        state: name.to_owned(),
        attempts: state.attempts + answered,
        in_doubt: state.doubt,
        reason: back_reason.unwrap_or(reason),
        first_time: state.times().and_then(|(first, _)| time(first)),
        last_time: state.times().and_then(|(_, last)| time(last)),
        not_before: (state.not_before() > 0).then(|| time(state.not_before())).flatten(),
        compensation_state: back.to_owned(),
        compensation: def.command().unwrap_or_default().to_owned(),
        compensation_attempts: state.commands(),
        breaker: doors
            .participants
            .breaker(def.participant)
            .map(|b| b.state().as_str().to_uppercase().replace('-', "_"))
            .unwrap_or_default(),
        pending_until: until,
        pending_action: action.to_owned(),
    }
}

fn moves(definition: &Definition, state: &State, saga: SagaId) -> Vec<NextMove> {
    let name = |step: usize| definition.steps[step].name.to_string();
    next(definition, state, now())
        .into_iter()
        .map(|one| {
            let (text, at) = match one {
                Move::Call(step) => (format!("Call {}", name(step)), None),
                Move::Compensate(step) => {
                    let command = definition.steps[step].command().unwrap_or_default();
                    (format!("Send {command} for {}", name(step)), None)
                }
                Move::WaitUntil(at) => ("Wait until".to_owned(), time(at)),
                Move::PassPivot => ("Pass the pivot".to_owned(), None),
                Move::TurnRound { reason, .. } => (format!("Turn round: {reason}"), None),
                Move::Finish(outcome) => (format!("Finish {}: {outcome:?}", saga.order()), None),
                Move::Park { reason, .. } => (format!("Park: {reason}"), None),
            };
            NextMove { r#move: text, time: at }
        })
        .collect()
}

/// A journal row; payment tokens are not shown.
pub(super) fn entry(entry: Entry) -> JournalEntry {
    let events: Vec<serde_json::Value> = serde_json::from_str(&entry.events).unwrap_or_default();
    JournalEntry {
        version: entry.version,
        epoch: entry.epoch,
        time: Some(stamp(entry.create_time)),
        events: events.into_iter().map(redact).collect(),
    }
}

fn redact(mut event: serde_json::Value) -> String {
    let input = event
        .get("input")
        .and_then(|i| i.as_str())
        .and_then(|i| serde_json::from_str::<serde_json::Value>(i).ok());
    if let Some(mut input) = input {
        if let Some(token) = input.get_mut("card_token") {
            *token = "(not shown)".into();
        }
        event["input"] = input;
    }
    event.to_string()
}
