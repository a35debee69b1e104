//! Between messages and what commands work on: both doors, gRPC and bus, read items here, and commands store their
//! replies as these bytes.
//!
//! What cannot be valid is turned away here with a text for people; nothing behind it sees a bad number, name or time.

use std::collections::HashMap;

use chassis::{
    barrier::RequestHash,
    bus::{Exchange, Message, header},
    clock,
    database::Trouble,
    seeded::{self, Bug},
};
use chrono::Datelike as _;
use proto::{
    inventory::v1::{CommitItem, ReleaseDone, ReleaseItem, ReserveDone, ReserveItem, Stock},
    step::{BackAnswer, Header, Refused, STEP_ANSWER, StepAnswer},
    time,
};
use types::{OrderId, ReservationId, StepKey};
use uuid::Uuid;

use crate::{
    BUS_NAME,
    commands::{commit, release, reserve},
    domain::{Lines, Refusal},
    store::people,
};

/// Which fields a hash covers. Rises when the list changes.
const HASH_VERSION: u8 = 1;

/// Reads a Reserve item.
pub fn reserve_item(item: ReserveItem, header: &Header) -> Result<reserve::Item, String> {
    let order = order(&item.order_id)?;
    let mut given = Vec::with_capacity(item.lines.len());
    for (index, line) in item.lines.into_iter().enumerate() {
        let sku = line.sku.parse().map_err(|e| format!("lines[{index}].sku: {e}"))?;
        given.push((sku, line.quantity));
    }
    let lines = Lines::new(given).map_err(|e| e.to_string())?;
    let hold_until = item
        .hold_until
        .as_ref()
        .and_then(time::read)
        .filter(|time| (2000..=9999).contains(&time.year()))
        .ok_or("hold_until: is missing or out of range")?;
    let mut hash = RequestHash::new(HASH_VERSION).field("order_id", order.uuid().as_bytes());
    for (sku, quantity) in lines.iter() {
        hash = hash.field("sku", sku.as_str().as_bytes()).field("quantity", &quantity.to_be_bytes());
    }
    let key = match header {
        header if seeded::is(Bug::BarrierKeyPerAttempt) => {
            seeded::key_of_attempt(&header.key, header.attempt)
        }
        header => header.key.clone(),
    };
    Ok(reserve::Item { key, order, lines, hold_until, hash: hash.finish() })
}

/// Reads a Commit item.
pub fn commit_item(item: &CommitItem, header: &Header) -> Result<commit::Item, String> {
    let order = order(&item.order_id)?;
    let reserve_step = item.reserve_step.parse().map_err(|e| format!("reserve_step: {e}"))?;
    let hash = RequestHash::new(HASH_VERSION)
        .field("order_id", order.uuid().as_bytes())
        .field("reserve_step", item.reserve_step.as_bytes())
        .finish();
    let reservation = StepKey { saga: header.key.saga, step: reserve_step };
    Ok(commit::Item { key: header.key.clone(), reservation, hash })
}

/// Reads a Release item; with the message id when it came by bus.
pub fn release_item(
    item: &ReleaseItem,
    header: Header,
    command_id: Option<Uuid>,
) -> Result<release::Item, String> {
    order(&item.order_id)?;
    Ok(release::Item { key: header.key, command_id, trace: header.trace })
}

fn order(id: &str) -> Result<OrderId, String> {
    id.parse().map_err(|e| format!("order_id: {e}"))
}

/// What Reserve answers when all lines fit. The id follows from the key, so that a repeat names the same.
pub fn reserved(key: &StepKey) -> ReserveDone {
    let id = ReservationId::from_uuid(key.saga.derive(&key.step));
    ReserveDone { reservation_id: id.to_string() }
}

/// What Reserve answers when they do not.
pub fn refused(refusal: &Refusal) -> Refused {
    let (reason, metadata) = match refusal {
        Refusal::OutOfStock { sku, requested, available } => (
            "OUT_OF_STOCK",
            HashMap::from([
                ("sku".to_owned(), sku.to_string()),
                ("requested".to_owned(), requested.to_string()),
                ("available".to_owned(), available.to_string()),
            ]),
        ),
        Refusal::UnknownSku { sku } => ("UNKNOWN_SKU", HashMap::from([("sku".to_owned(), sku.to_string())])),
    };
    Refused { reason: reason.to_owned(), metadata }
}

/// Reads a stored reply.
pub(crate) fn stored<M: prost::Message + Default>(bytes: &[u8]) -> Result<M, Trouble> {
    M::decode(bytes).map_err(|e| Trouble::Failed(format!("a stored reply cannot be read: {e}")))
}

/// The message that answers a Release which came by bus; none when there is no outcome.
pub fn answer(item: &release::Item, says: &BackAnswer<ReleaseDone>) -> Option<Message> {
    let command_id = item.command_id?.to_string();
    let answer = StepAnswer::compensation(&item.key, &command_id, says, clock::now())?;
    let body = prost::Message::encode_to_vec(&answer);
    let message = Message::new(Exchange::Replies, "orchestrator", STEP_ANSWER, BUS_NAME, body)
        .with(header::SAGA, answer.saga_id)
        .with(header::STEP, answer.step)
        .with(header::TRACE, item.trace.clone());
    Some(message)
}

/// Stock, as people see it.
pub(crate) fn stock(stock: people::Stock) -> Stock {
    let people::Stock { sku, level, version, update_time } = stock;
    Stock {
        sku,
        available: level.available,
        reserved: level.reserved,
        sold: level.sold,
        // Restock sees to it that the total fits.
        total: level.total().unwrap_or(i64::MAX),
        version,
        update_time: Some(time::stamp(update_time)),
    }
}
