//! What fuzzing knocks at: the readers of what comes in, as they are, and nothing else of this crate.
//!
//! Nobody else calls these; no handler does anything that is not done here. Read next: the room `fuzz/`.

use chassis::bus::Message;
use proto::{
    inventory::v1::{CommitItem, ReleaseItem, ReserveItem, RestockRequest},
    step::{Header, Item as _},
};
use tonic::Status;
use types::{Sku, StepKey};

use crate::{consumer, grpc, wire};

/// Reserve: the lines as they are stored, and the hash of what is asked.
///
/// # Errors
/// Why it is turned away.
pub fn reserve(item: ReserveItem) -> Result<(Vec<(Sku, i64)>, Vec<u8>), String> {
    let header = Header::parse(item.header())?;
    wire::reserve_item(item, &header).map(|item| (item.lines.iter().cloned().collect(), item.hash))
}

/// Commit: which reservation, and the hash of what is asked.
///
/// # Errors
/// Why it is turned away.
pub fn commit(item: &CommitItem) -> Result<(StepKey, Vec<u8>), String> {
    let header = Header::parse(item.header())?;
    wire::commit_item(item, &header).map(|item| (item.reservation, item.hash))
}

/// Release.
///
/// # Errors
/// Why it is turned away.
pub fn release(item: &ReleaseItem) -> Result<StepKey, String> {
    let header = Header::parse(item.header())?;
    wire::release_item(item, header, None).map(|item| item.key)
}

/// The queue `inventory.commands`.
///
/// # Errors
/// Why the message is dead.
pub fn command(message: &Message) -> Result<StepKey, String> {
    consumer::read(message).map(|item| item.key)
}

/// Restock: request id, SKU, quantity.
///
/// # Errors
/// As the RPC answers.
pub fn restock(request: &RestockRequest) -> Result<(String, Sku, i64), Status> {
    grpc::restock_item(request).map(|item| (item.request_id.into_string(), item.sku, item.quantity))
}
