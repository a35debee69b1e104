//! What fuzzing knocks at: the readers of what comes in, as they are, and nothing else of this crate.
//!
//! Nobody else calls these; no handler does anything that is not done here. Read next: the room `fuzz/`.

use chassis::{bus::Message, keyring::Keyring};
use proto::{
    payment::v1::{ChargeItem, RefundItem},
    step::{Header, Item as _},
};
use types::StepKey;

use crate::grpc;

/// Charge: the hash of what is asked.
///
/// # Errors
/// Why it is turned away.
pub fn charge(item: &ChargeItem, keys: &Keyring) -> Result<Vec<u8>, String> {
    let header = Header::parse(item.header())?;
    grpc::charge(header.key, item, keys).map(|charge| charge.hash)
}

/// The queue `payment.commands`.
///
/// # Errors
/// Why the message is dead.
pub fn command(message: &Message) -> Result<StepKey, String> {
    proto::step::read_command::<RefundItem>(&message.kind, &message.body).map(|(_, header)| header.key)
}
