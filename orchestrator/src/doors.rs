//! What fuzzing knocks at: the readers of what comes in, as they are, and nothing else of this crate.
//!
//! Nobody else calls these; no handler does anything that is not done here. Read next: the room `fuzz/`.

use std::time::Duration;

use chassis::bus::Message;
use proto::order::v1::{CreateOrderRequest, QuoteItem};
use tonic::{Status, metadata::MetadataMap};
use types::{Currency, PartyId, SagaId};
use uuid::Uuid;

use crate::{api::create, catalog::Kind as _, compensation};

/// What is known of an order before anybody is asked.
#[derive(Debug, PartialEq, Eq)]
pub struct Order {
    pub customer: PartyId,
    pub merchant: PartyId,
    pub currency: Currency,
    pub key: Option<String>,
    pub wait: Option<Duration>,
    pub fingerprint: Vec<u8>,
    /// What the catalog is asked.
    pub quote: Vec<u8>,
}

/// CreateOrder.
///
/// # Errors
/// As the RPC answers.
pub fn create_order(headers: &MetadataMap, request: CreateOrderRequest) -> Result<Order, Status> {
    let checked = create::check(headers, request)?;
    let quote: QuoteItem = checked.quote_item();
    Ok(Order {
        quote: prost::Message::encode_to_vec(&quote),
        customer: checked.customer,
        merchant: checked.merchant,
        currency: checked.currency,
        key: checked.key,
        wait: checked.wait,
        fingerprint: checked.fingerprint,
    })
}

/// The queue `orchestrator.replies`: whose signal a message is.
///
/// # Errors
/// Why it is dead.
pub fn reply(message: &Message) -> Result<(Uuid, SagaId), String> {
    compensation::read(message).map(|signal| (signal.id, signal.saga))
}

/// A step's output, as Resolve takes it from a person: as the journal would store it.
///
/// # Errors
/// What is wrong with it.
pub fn resolved(step: usize, json: &str) -> Result<String, String> {
    newest().typed(step, json).map_err(|error| error.to_string())
}

/// A step's encoded …Done message: as the journal would store it.
///
/// # Errors
/// What is wrong with it.
pub fn output(step: usize, done: &[u8]) -> Result<String, String> {
    newest().output(step, done).map_err(|error| error.to_string())
}

fn newest() -> crate::catalog::order::OrderSaga {
    let mut all = crate::catalog::order::OrderSaga::all(60_000, 60_000);
    all.remove(all.len() - 1)
}
