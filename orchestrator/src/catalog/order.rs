//! The order saga: open, reserve and screen; charge; book; the pivot; then commit and complete.
//!
//! What its steps give, what takes them back, and what of it is shown. Its tables are in `order/table.rs`, its input and typed
//! outputs in `order/shape.rs`, its calls and events in `order/content.rs`.

mod content;
mod shape;
mod table;

use std::sync::Arc;

use chassis::{
    bus::{Exchange, Message, header},
    seeded::{self, Bug},
};
use proto::{
    inventory::v1 as inventory, ledger::v1 as ledger, order::v1 as order, payment::v1 as payment,
    risk::v1 as risk, step::StepHeader,
};
use types::{SagaId, StepName};

use content::OrderContent;
use shape::Output;
pub use shape::{Charged, Input, Line, Nothing, Posted, Reserved, Screened};

use super::{CatalogError, Content, Kind, Projection};
use crate::saga::{Definition, Forward, Outcome, Phase, State, Why};

/// Positions in the table, the same in every version.
const OPEN: usize = 0;
const RESERVE: usize = 1;
const SCREEN: usize = 2;
const CHARGE: usize = 3;
const POST: usize = 4;
const COMMIT: usize = 5;
const COMPLETE: usize = 6;

/// The order saga, in one of its versions.
pub struct OrderSaga {
    definition: Definition,
    hash: i64,
}

impl OrderSaga {
    /// A version of it, if this build knows it. `deadline_ms`: how long it may go forward; `answer_ms`: when a command is
    /// sent again.
    #[must_use]
    pub fn version(version: u32, deadline_ms: i64, answer_ms: i64) -> Option<Self> {
        let steps = table::steps(version)?;
        let definition = Definition { kind: "order", version, steps, pivot: 3, deadline_ms, answer_ms };
        Some(Self { hash: definition.hash(), definition })
    }

    /// All versions, the oldest first.
    #[must_use]
    pub fn all(deadline_ms: i64, answer_ms: i64) -> Vec<Self> {
        (1..).map_while(|version| Self::version(version, deadline_ms, answer_ms)).collect()
    }

    /// With another limit for each call, in milliseconds. Timing is no part of the hash.
    #[must_use]
    pub fn with_call_time(mut self, call_ms: i64) -> Self {
        self.definition.steps.iter_mut().for_each(|step| step.call_ms = call_ms);
        self
    }

    fn name(&self, step: usize) -> &StepName {
        &self.definition.steps[step].name
    }
}

/// When the stage was done, as far as the state knows.
fn stage_time(definition: &Definition, state: &State, stage: usize) -> Option<i64> {
    let steps = || {
        definition.steps.iter().zip(&state.steps).filter(|(def, _)| def.stage == stage).map(|(_, step)| step)
    };
    steps()
        .all(|step| matches!(step.forward, Forward::Done { .. } | Forward::Skipped))
        .then(|| steps().filter_map(|step| step.times().map(|(_, last)| last)).max())
        .flatten()
}

fn stamp(ms: i64) -> prost_types::Timestamp {
    prost_types::Timestamp {
        seconds: ms.div_euclid(1000),
        nanos: i32::try_from(ms.rem_euclid(1000) * 1_000_000).unwrap_or(0),
    }
}

fn history(definition: &Definition, state: &State, end: &str) -> Vec<order::StatusChange> {
    let change = |status: &str, at: i64| order::StatusChange { status: status.into(), time: Some(stamp(at)) };
    let reserved = stage_time(definition, state, 0).map(|at| change("INVENTORY_RESERVED", at));
    let paid = stage_time(definition, state, 1).map(|at| change("PAYMENT_SUCCESS", at));
    let ended = change(end, state.times.1);
    reserved.into_iter().chain(paid).chain([ended]).collect()
}

fn order_id(header: &StepHeader) -> String {
    header.saga_id.parse::<SagaId>().map(|saga| saga.order().to_string()).unwrap_or_default()
}

impl Kind for OrderSaga {
    fn definition(&self) -> &Definition {
        &self.definition
    }

    fn hash(&self) -> i64 {
        self.hash
    }

    fn read(self: Arc<Self>, saga: SagaId, input: &str) -> Result<Box<dyn Content>, CatalogError> {
        let input = serde_json::from_str(input).map_err(|e| CatalogError::Input(e.to_string()))?;
        Ok(Box::new(OrderContent { id: saga, saga: self, input }))
    }

    fn command(&self, step: usize, header: StepHeader, state: &State) -> Result<Message, CatalogError> {
        let order_id = order_id(&header);
        let reason = state.turned.as_ref().map(|why| why.reason.clone()).unwrap_or_default();
        let (saga, name, trace) = (header.saga_id.clone(), header.step.clone(), header.trace.clone());
        let participant = self.definition.steps[step].participant;
        let header = Some(header);
        let (kind, body) = match step {
            OPEN => {
                let history = history(&self.definition, state, "CANCELLED");
                encode(&order::CancelItem { header, order_id, reason, history })
            }
            RESERVE => encode(&inventory::ReleaseItem { header, order_id, reason }),
            SCREEN => encode(&risk::WithdrawItem { header, order_id, reason }),
            CHARGE => encode(&payment::RefundItem { header, order_id, reason }),
            POST => encode(&ledger::ReverseItem { header, order_id, reason }),
            _ => return Err(CatalogError::Input(format!("{name} has no command"))),
        };
        Ok(Message::new(Exchange::Commands, participant, &kind, "orchestrator", body)
            .with(header::SAGA, saga)
            .with(header::STEP, name)
            .with(header::TRACE, trace))
    }

    fn output(&self, step: usize, done: &[u8]) -> Result<String, CatalogError> {
        let name = self.name(step);
        match step {
            RESERVE => {
                let done: inventory::ReserveDone = decode(name, done)?;
                write(name, &Reserved { reservation_id: done.reservation_id })
            }
            SCREEN => {
                let done: risk::ScreenDone = decode(name, done)?;
                write(name, &Screened { approved_by: done.approved_by })
            }
            CHARGE => {
                let done: payment::ChargeDone = decode(name, done)?;
                write(
                    name,
                    &Charged { payment_id: done.payment_id, provider_reference: done.provider_reference },
                )
            }
            POST => {
                let done: ledger::PostDone = decode(name, done)?;
                write(name, &Posted { transaction_id: done.transaction_id })
            }
            _ => Ok(String::new()),
        }
    }

    fn typed(&self, step: usize, json: &str) -> Result<String, CatalogError> {
        fn check<T: Output>(name: &StepName, json: &str) -> Result<String, CatalogError> {
            let value: T = serde_json::from_str(json)
                .map_err(|e| CatalogError::Output { step: name.to_string(), why: e.to_string() })?;
            write(name, &value)
        }
        let name = self.name(step);
        let json = if json.is_empty() { "{}" } else { json };
        match step {
            RESERVE => check::<Reserved>(name, json),
            SCREEN => check::<Screened>(name, json),
            CHARGE => check::<Charged>(name, json),
            POST => check::<Posted>(name, json),
            _ => check::<Nothing>(name, json).map(|_| String::new()),
        }
    }

    fn project(&self, state: &State) -> Projection {
        project(&self.definition, state)
    }
}

/// The order's status, a pure function of the saga's state.
fn project(definition: &Definition, state: &State) -> Projection {
    let Why { reason: turned, metadata } = state.turned.as_deref().cloned().unwrap_or_default();
    let waits_for = state.steps.iter().find_map(|s| match &s.forward {
        Forward::Pending { action, .. } => Some(&**action),
        Forward::Idle | Forward::Done { .. } | Forward::Refused(_) | Forward::Fenced | Forward::Skipped => {
            None
        }
    });
    let done = |stage| stage_time(definition, state, stage).is_some();
    let (status, reason) = match state.phase {
        Phase::Ended(Outcome::Completed) => ("COMPLETED", String::new()),
        Phase::Ended(_) if seeded::is(Bug::CompletedInWordOnly) => ("COMPLETED", turned),
        Phase::Ended(Outcome::Compensated) => ("CANCELLED", turned),
        Phase::Forward | Phase::Back => {
            let reason = state.parked.as_ref().map(|p| p.reason.clone()).unwrap_or(turned);
            match waits_for {
                Some("REVIEW") if state.phase == Phase::Forward => ("UNDER_REVIEW", reason),
                Some(_) if state.phase == Phase::Forward => ("AWAITING_PAYMENT", reason),
                _ if done(0) && done(1) => ("PAYMENT_SUCCESS", reason),
                _ if done(0) => ("INVENTORY_RESERVED", reason),
                _ => ("CREATED", reason),
            }
        }
    };
    let why = Why { reason, metadata };
    let why = (why != Why::default()).then(|| Box::new(why));
    Projection { status, why, cancel_requested: state.cancel_requested.is_some() }
}

fn encode<M: prost::Name>(message: &M) -> (String, Vec<u8>) {
    (M::full_name(), message.encode_to_vec())
}

fn decode<M: prost::Message + Default>(step: &StepName, bytes: &[u8]) -> Result<M, CatalogError> {
    M::decode(bytes).map_err(|e| CatalogError::Output { step: step.to_string(), why: e.to_string() })
}

fn write<T: Output>(step: &StepName, output: &T) -> Result<String, CatalogError> {
    output.check().map_err(|why| CatalogError::Output { step: step.to_string(), why })?;
    serde_json::to_string(output)
        .map_err(|e| CatalogError::Output { step: step.to_string(), why: e.to_string() })
}
