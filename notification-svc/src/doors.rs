//! What fuzzing knocks at: the readers of what comes in, as they are, and nothing else of this crate.
//!
//! Nobody else calls these; no handler does anything that is not done here. Read next: the room `fuzz/`.

use chassis::bus::Message;
use types::OrderId;

use crate::{consumer, domain};

/// The queue `notification.events`: the order, and the letter's recipient and subject, where there is one to write.
///
/// # Errors
/// Why the message is dead.
pub fn event(message: &Message) -> Result<(OrderId, Option<(String, String)>), String> {
    let change = consumer::read(message)?;
    let recipient = domain::recipient(&change.customer, "customers.example");
    Ok((change.order, domain::letter(&change).map(|letter| (recipient, letter.subject))))
}
