//! What fuzzing knocks at: the readers of what comes in, as they are, and nothing else of this crate.
//!
//! Nobody else calls these; no handler does anything that is not done here. Read next: the room `fuzz/`.

use chassis::bus::Message;
use proto::{
    ledger::v1::{PostItem, ReverseItem},
    step::{Header, Item as _},
};
use types::StepKey;

use crate::{consumer, domain::Entry, wire};

/// Post: what would be booked.
///
/// # Errors
/// Why it is turned away.
pub fn post(item: PostItem) -> Result<Vec<Entry>, String> {
    let header = Header::parse(item.header())?;
    wire::post(item, header).map(|item| item.sale.entries())
}

/// Reverse: the remark that is kept.
///
/// # Errors
/// Why it is turned away.
pub fn reverse(item: ReverseItem) -> Result<String, String> {
    let header = Header::parse(item.header())?;
    wire::reverse(item, header, None).map(|item| item.reason)
}

/// The queue `ledger.commands`.
///
/// # Errors
/// Why the message is dead.
pub fn command(message: &Message) -> Result<StepKey, String> {
    consumer::reverse(message).map(|item| item.key)
}

/// The queue `ledger.events`: what would be booked.
///
/// # Errors
/// Why the message is dead.
pub fn event(message: &Message) -> Result<(StepKey, Vec<Entry>), String> {
    consumer::refunded(message).map(|item| (item.key, item.refunded.entries()))
}
