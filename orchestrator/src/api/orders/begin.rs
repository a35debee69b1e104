//! An order as it begins: what is stored, and what is shown of it before anybody has read it again.

use chassis::keyring::Keyring;
use proto::{error, order::v1::Quoted};
use tonic::Status;
use types::OrderId;

use super::Checked;
use crate::{
    catalog::{
        Kind,
        order::{Input, Line},
    },
    driver::now,
    hub::Told,
    journal::Recorded,
    saga::Event,
    store::{order::OrderRow, start::Start},
};

/// An order as its start leaves it.
pub(super) fn begun_row(order: OrderId, started: Recorded) -> OrderRow {
    let time = chrono::DateTime::from_timestamp_millis(started.at).unwrap_or_else(chassis::clock::now);
    OrderRow {
        order,
        status: "CREATED".to_owned(),
        status_reason: String::new(),
        status_metadata: "{}".to_owned(),
        cancel_requested: false,
        version: 1,
        create_time: time,
        update_time: time,
        started: vec![started],
    }
}

/// As a later commit leaves it.
pub(super) fn told_row(row: OrderRow, told: &Told) -> Result<OrderRow, Status> {
    let shown = &told.shown;
    let metadata = serde_json::to_string(&*shown.metadata());
    Ok(OrderRow {
        status: shown.status.to_owned(),
        status_reason: shown.reason().to_owned(),
        status_metadata: metadata.map_err(|_| error::internal("the order cannot be written down"))?,
        cancel_requested: shown.cancel_requested,
        version: told.version,
        update_time: chrono::DateTime::from_timestamp_millis(told.time).unwrap_or(row.update_time),
        ..row
    })
}

/// What is stored of an order that is accepted.
pub(super) fn new_start(
    (kind, keys): (&dyn Kind, &Keyring),
    checked: &Checked,
    quoted: Quoted,
    order: OrderId,
    shard: i16,
    epoch: i64,
) -> Result<Start, Status> {
    let definition = kind.definition();
    let at = now();
    let input = Input {
        customer_id: checked.customer.as_str().into(),
        merchant_id: checked.merchant.as_str().into(),
        currency: checked.currency.as_str().into(),
        lines: quoted
            .lines
            .into_iter()
            .map(|line| Line {
                sku: line.sku.into(),
                quantity: line.quantity,
                unit_price: line.unit_price_minor,
                line_total: line.line_total_minor,
            })
            .collect(),
        subtotal: quoted.subtotal_minor,
        tax: quoted.tax_minor,
        total: quoted.total_minor,
        card_token: keys.encrypt(order.uuid().as_bytes(), checked.card_token.expose()).into(),
        metadata: checked.metadata.clone(),
        accepted_at: at,
    };
    let input =
        serde_json::to_string(&input).map_err(|_| error::internal("the order cannot be written down"))?;
    let started = Event::Started {
        kind: definition.kind.to_owned(),
        version: definition.version,
        hash: kind.hash(),
        steps: definition.steps.iter().map(|s| s.name.clone()).collect(),
        skipped: Vec::new(),
        deadline: at.saturating_add(definition.deadline_ms),
        input,
    };
    Ok(Start {
        order,
        shard,
        epoch,
        kind: definition.kind,
        definition_version: i32::try_from(definition.version).unwrap_or(i32::MAX),
        definition_hash: kind.hash(),
        started: Recorded { at, trace: chassis::telemetry::traceparent(), event: started },
        customer: checked.customer.to_string(),
        merchant: checked.merchant.to_string(),
        currency: checked.currency.to_string(),
        total: quoted.total_minor,
        key: checked.key.clone(),
        fingerprint: checked.fingerprint.clone(),
    })
}
