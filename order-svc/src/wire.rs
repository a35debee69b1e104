//! Between messages and what commands work on: both doors, gRPC and bus, read items here.
//!
//! What cannot be valid is turned away here with a text for people; nothing behind it sees a bad number, name or time.

use chassis::{
    barrier::RequestHash,
    bus::{Exchange, Message, header},
    clock,
};
use chrono::Datelike as _;
use prost::Message as _;
use proto::{
    order::v1::{self, CancelDone, CancelItem, CompleteItem, OpenItem, StatusChange},
    step::{BackAnswer, Header, STEP_ANSWER, StepAnswer},
    time,
};
use types::{Currency, OrderId, PartyId, StepKey};
use uuid::Uuid;

use crate::{
    BUS_NAME,
    commands::{cancel, complete, open},
    domain::{
        PricedLine,
        document::{self, Change, Sums},
        quote::{Cart, CartLine, Quoted, Violation},
    },
    store::{catalog, document::Shown},
};

/// Which fields a hash covers. Rises when the list changes.
const HASH_VERSION: u8 = 1;

/// Reads an Open item.
pub fn open_item(item: OpenItem, header: &Header) -> Result<open::Item, String> {
    let order = order(&item.order_id, &header.key)?;
    let customer: PartyId = item.customer_id.parse().map_err(|e| format!("customer_id: {e}"))?;
    let merchant: PartyId = item.merchant_id.parse().map_err(|e| format!("merchant_id: {e}"))?;
    let currency: Currency = item.currency_code.parse().map_err(|e| format!("currency_code: {e}"))?;
    let lines: Vec<_> = item.lines.into_iter().map(from_line).collect();
    let sums = Sums {
        subtotal_minor: item.subtotal_minor,
        tax_minor: item.tax_minor,
        total_minor: item.total_minor,
    };
    document::check(&lines, sums, currency).map_err(|e| e.to_string())?;

    let mut hash = RequestHash::new(HASH_VERSION)
        .field("order_id", order.uuid().as_bytes())
        .field("customer_id", customer.as_str().as_bytes())
        .field("merchant_id", merchant.as_str().as_bytes())
        .field("currency", currency.as_str().as_bytes());
    for line in &lines {
        hash = hash
            .field("sku", line.sku.as_bytes())
            .field("quantity", &line.quantity.to_be_bytes())
            .field("unit_price_minor", &line.unit_price_minor.to_be_bytes());
    }
    let hash = hash
        .field("tax_minor", &sums.tax_minor.to_be_bytes())
        .field("total_minor", &sums.total_minor.to_be_bytes())
        .finish();
    Ok(open::Item { key: header.key.clone(), order, customer, merchant, currency, lines, sums, hash })
}

/// Reads a Complete item. Its history is not hashed: a take-over may tell the times again.
pub fn complete_item(item: CompleteItem, header: &Header) -> Result<complete::Item, String> {
    let order = order(&item.order_id, &header.key)?;
    let hash = RequestHash::new(HASH_VERSION).field("order_id", order.uuid().as_bytes()).finish();
    Ok(complete::Item { key: header.key.clone(), history: changes(item.history)?, hash })
}

/// Reads a Cancel item; with the message id when it came by bus.
pub fn cancel_item(
    item: CancelItem,
    header: Header,
    command_id: Option<Uuid>,
) -> Result<cancel::Item, String> {
    order(&item.order_id, &header.key)?;
    let reason = document::reason(&item.reason);
    let history = changes(item.history)?;
    Ok(cancel::Item { key: header.key, reason, history, command_id, trace: header.trace })
}

/// An order and its saga share the UUID: by it the document is found.
fn order(id: &str, key: &StepKey) -> Result<OrderId, String> {
    let order: OrderId = id.parse().map_err(|e| format!("order_id: {e}"))?;
    if order.saga() == key.saga { Ok(order) } else { Err("order_id: is not the order of this saga".into()) }
}

fn changes(given: Vec<StatusChange>) -> Result<Vec<Change>, String> {
    let mut changes = Vec::with_capacity(given.len());
    for (index, change) in given.into_iter().enumerate() {
        let time = change.time.as_ref().and_then(time::read).filter(|t| (2000..=9999).contains(&t.year()));
        let time = time.ok_or_else(|| format!("history[{index}].time: is missing or out of range"))?;
        changes.push(Change { status: change.status, time });
    }
    document::check_changes(&changes).map_err(|e| e.to_string())?;
    Ok(changes)
}

fn from_line(line: v1::PricedLine) -> PricedLine {
    let v1::PricedLine { sku, quantity, unit_price_minor, line_total_minor } = line;
    PricedLine { sku, quantity, unit_price_minor, line_total_minor }
}

fn to_line(line: PricedLine) -> v1::PricedLine {
    let PricedLine { sku, quantity, unit_price_minor, line_total_minor } = line;
    v1::PricedLine { sku, quantity, unit_price_minor, line_total_minor }
}

/// The message that answers a Cancel which came by bus; none when there is no outcome.
pub fn answer(item: &cancel::Item, says: &BackAnswer<CancelDone>) -> Option<Message> {
    let command_id = item.command_id?.to_string();
    let answer = StepAnswer::compensation(&item.key, &command_id, says, clock::now())?;
    let body = answer.encode_to_vec();
    let message = Message::new(Exchange::Replies, "orchestrator", STEP_ANSWER, BUS_NAME, body)
        .with(header::SAGA, answer.saga_id)
        .with(header::STEP, answer.step)
        .with(header::TRACE, item.trace.clone());
    Some(message)
}

/// Reads a cart, and the key it comes back with.
pub(crate) fn cart(item: v1::QuoteItem) -> (String, Cart) {
    let lines = item.lines.into_iter().map(|line| CartLine {
        sku: line.sku,
        quantity: line.quantity,
        expected: line.expected_unit_price.map(|money| (money.minor_units, money.currency_code)),
    });
    let cart = Cart { merchant_id: item.merchant_id, currency: item.currency_code, lines: lines.collect() };
    (item.key, cart)
}

/// What a cart costs, or what is wrong with it.
pub(crate) fn quote(key: String, outcome: Result<Quoted, Vec<Violation>>) -> v1::QuoteReply {
    use v1::quote_reply::Outcome;
    let outcome = match outcome {
        Ok(quoted) => Outcome::Quoted(v1::Quoted {
            currency_code: quoted.currency.to_string(),
            lines: quoted.lines.into_iter().map(to_line).collect(),
            subtotal_minor: quoted.subtotal_minor,
            tax_minor: quoted.tax_minor,
            total_minor: quoted.total_minor,
        }),
        Err(wrong) => {
            let violations = wrong.into_iter().map(|one| v1::FieldViolation {
                field: one.field,
                description: one.description,
                reason: one.reason.to_owned(),
            });
            Outcome::Invalid(v1::QuoteInvalid { violations: violations.collect() })
        }
    };
    v1::QuoteReply { key, outcome: Some(outcome) }
}

/// A price, as people see it.
pub(crate) fn price(price: catalog::Price) -> v1::Price {
    v1::Price {
        sku: price.sku.into_string(),
        title: price.title,
        unit_price: Some(price.unit.into()),
        update_time: Some(time::stamp(price.update_time)),
    }
}

/// A document, as people see it.
pub(crate) fn document(order: OrderId, shown: Shown) -> v1::Document {
    let history = shown
        .history
        .into_iter()
        .map(|change| StatusChange { status: change.status, time: Some(time::stamp(change.time)) });
    v1::Document {
        order_id: order.to_string(),
        saga_id: order.saga().to_string(),
        status: shown.status,
        customer_id: shown.customer_id,
        merchant_id: shown.merchant_id,
        currency_code: shown.currency,
        lines: shown.lines.into_iter().map(to_line).collect(),
        subtotal_minor: shown.sums.subtotal_minor,
        tax_minor: shown.sums.tax_minor,
        total_minor: shown.sums.total_minor,
        history: history.collect(),
        cancel_reason: shown.cancel_reason,
    }
}
