//! What one order saga is about, and what follows from that: calls and events.
//!
//! Its input is read once, when the saga comes into memory; each message is a pure function of it and of the state. What takes a step back needs
//! none of it (`OrderSaga::command`).

use std::sync::Arc;

use chassis::{
    bus::{Exchange, Message, header},
    seeded::{self, Bug},
};
use proto::{
    inventory::v1 as inventory, ledger::v1 as ledger, order::v1 as order, payment::v1 as payment,
    risk::v1 as risk, step::StepHeader,
};
use serde::de::DeserializeOwned;
use types::SagaId;

use super::{
    CHARGE, COMMIT, COMPLETE, Charged, Input, Line, OPEN, OrderSaga, POST, RESERVE, SCREEN, encode, history,
    stamp,
};
use crate::{
    catalog::{CatalogError, Content, Projection},
    participants::Call,
    saga::{Forward, State},
};

/// An order saga's input, and the version that it follows.
pub(super) struct OrderContent {
    pub(super) saga: Arc<OrderSaga>,
    pub(super) id: SagaId,
    pub(super) input: Input,
}

impl Content for OrderContent {
    fn call(&self, step: usize, header: StepHeader, state: &State) -> Result<Call, CatalogError> {
        let input = &self.input;
        let order_id = self.id.order().to_string();
        let header = Some(header);
        Ok(match step {
            OPEN => Call::Open(order::OpenItem {
                header,
                order_id,
                customer_id: input.customer_id.to_string(),
                merchant_id: input.merchant_id.to_string(),
                currency_code: input.currency.to_string(),
                lines: input.lines.iter().map(priced).collect(),
                subtotal_minor: input.subtotal,
                tax_minor: input.tax,
                total_minor: input.total,
            }),
            RESERVE => Call::Reserve(inventory::ReserveItem {
                header,
                order_id,
                lines: input
                    .lines
                    .iter()
                    .map(|line| inventory::ReserveLine { sku: line.sku.to_string(), quantity: line.quantity })
                    .collect(),
                hold_until: Some(stamp(
                    input.accepted_at.saturating_add(self.saga.definition.deadline_ms.saturating_mul(2)),
                )),
            }),
            SCREEN => Call::Screen(risk::ScreenItem {
                header,
                order_id,
                customer_id: input.customer_id.to_string(),
                merchant_id: input.merchant_id.to_string(),
                amount: money(input.total, &input.currency),
            }),
            CHARGE => Call::Charge(payment::ChargeItem {
                header,
                order_id,
                customer_id: input.customer_id.to_string(),
                merchant_id: input.merchant_id.to_string(),
                amount: money(charged(input.subtotal, input.total), &input.currency),
                method: Some(payment::charge_item::Method::Card(payment::CardMethod {
                    token: input.card_token.to_string(),
                })),
            }),
            POST => Call::Post(ledger::PostItem {
                header,
                order_id,
                merchant_id: input.merchant_id.to_string(),
                total: money(input.total, &input.currency),
                tax_minor: input.tax,
                payment_id: self.earlier::<Charged>(state, CHARGE)?.payment_id,
            }),
            COMMIT => Call::Commit(inventory::CommitItem {
                header,
                order_id,
                reserve_step: self.saga.name(RESERVE).to_string(),
            }),
            COMPLETE => Call::Complete(order::CompleteItem {
                header,
                order_id,
                history: history(&self.saga.definition, state, "COMPLETED"),
            }),
            other => return Err(CatalogError::Input(format!("the order saga has no step {other}"))),
        })
    }

    fn announce(&self, shown: &Projection, version: i64, at: i64) -> Option<Message> {
        let event = match shown.status {
            "CREATED" => "order.created",
            "INVENTORY_RESERVED" => "order.inventory_reserved",
            "PAYMENT_SUCCESS" => "order.payment_success",
            "COMPLETED" => "order.completed",
            "CANCELLED" => "order.cancelled",
            "UNDER_REVIEW" => "order.under_review",
            _ => "order.awaiting_payment",
        };
        let input = &self.input;
        let status = order::OrderStatus::from_str_name(shown.status)?;
        let money = |minor| money(minor, &input.currency);
        let order_id = self.id.order().to_string();
        let body = order::OrderChanged {
            order_id: order_id.clone(),
            saga_id: self.id.to_string(),
            status: status.into(),
            status_reason: shown.reason().to_owned(),
            customer_id: input.customer_id.to_string(),
            merchant_id: input.merchant_id.to_string(),
            lines: input
                .lines
                .iter()
                .map(|l| order::OrderLine {
                    sku: l.sku.to_string(),
                    quantity: l.quantity,
                    unit_price: money(l.unit_price),
                })
                .collect(),
            total: money(input.total),
            time: Some(stamp(at)),
            version,
        };
        let (kind, bytes) = encode(&body);
        Some(
            Message::new(Exchange::Events, event, &kind, "orchestrator", bytes)
                .with(header::SAGA, self.id.to_string())
                .with(header::SUBJECT, order_id),
        )
    }
}

impl OrderContent {
    fn earlier<T: DeserializeOwned + Default>(&self, state: &State, step: usize) -> Result<T, CatalogError> {
        match state.steps.get(step).map(|s| &s.forward) {
            Some(Forward::Done { output }) => serde_json::from_str(output).map_err(|e| {
                CatalogError::Output { step: self.saga.name(step).to_string(), why: e.to_string() }
            }),
            _ => Ok(T::default()),
        }
    }
}

fn money(minor_units: i64, currency: &str) -> Option<proto::money::Money> {
    Some(proto::money::Money { minor_units, currency_code: currency.to_owned() })
}

/// What an order's card is charged, tax included.
fn charged(subtotal: i64, total: i64) -> i64 {
    if seeded::is(Bug::ChargedWithoutTax) { subtotal } else { total }
}

fn priced(line: &Line) -> order::PricedLine {
    order::PricedLine {
        sku: line.sku.to_string(),
        quantity: line.quantity,
        unit_price_minor: line.unit_price,
        line_total_minor: line.line_total,
    }
}
