//! What fuzzing knocks at: the readers of what comes in, as they are, and nothing else of this crate.
//!
//! Nobody else calls these; no handler does anything that is not done here. Read next: the room `fuzz/`.

use std::collections::HashMap;

use chassis::bus::Message;
use proto::{
    order::v1::{CancelItem, CompleteItem, OpenItem, Price, QuoteItem, QuoteReply, SetPriceRequest},
    step::{Header, Item as _},
};
use tonic::Status;
use types::{Currency, Sku, StepKey};

use crate::{consumer, grpc, wire};

/// Open: the hash of what is asked.
///
/// # Errors
/// Why it is turned away.
pub fn open(item: OpenItem) -> Result<Vec<u8>, String> {
    let header = Header::parse(item.header())?;
    wire::open_item(item, &header).map(|item| item.hash)
}

/// Complete: the hash of what is asked.
///
/// # Errors
/// Why it is turned away.
pub fn complete(item: CompleteItem) -> Result<Vec<u8>, String> {
    let header = Header::parse(item.header())?;
    wire::complete_item(item, &header).map(|item| item.hash)
}

/// Cancel: the reason that is kept.
///
/// # Errors
/// Why it is turned away.
pub fn cancel(item: CancelItem) -> Result<String, String> {
    let header = Header::parse(item.header())?;
    wire::cancel_item(item, header, None).map(|item| item.reason)
}

/// The queue `order.commands`.
///
/// # Errors
/// Why the message is dead.
pub fn command(message: &Message) -> Result<StepKey, String> {
    consumer::read(message).map(|item| item.key)
}

/// Quote: one cart, with these prices and no taxes.
#[must_use]
pub fn quote(item: QuoteItem, prices: &HashMap<(Sku, Currency), i64>) -> QuoteReply {
    let (key, cart) = wire::cart(item);
    wire::quote(key, cart.quote(prices, &HashMap::new()))
}

/// SetPrice: what would be stored.
///
/// # Errors
/// As the RPC answers.
pub fn price(request: SetPriceRequest) -> Result<Price, Status> {
    grpc::price(request).map(wire::price)
}
