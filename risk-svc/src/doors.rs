//! What fuzzing knocks at: the readers of what comes in, as they are, and nothing else of this crate.
//!
//! Nobody else calls these; no handler does anything that is not done here. Read next: the room `fuzz/`.

use chassis::bus::Message;
use proto::{
    risk::v1::{Rule, ScreenItem},
    step::{Header, Item as _},
};
use tonic::Status;
use types::SagaId;

use crate::{consumer, grpc, wire};

/// Screen: the hash of what is asked.
///
/// # Errors
/// Why it is turned away.
pub fn screen(item: ScreenItem) -> Result<Vec<u8>, String> {
    let header = Header::parse(item.header())?;
    wire::screen(item, header).map(|item| item.subject.hash())
}

/// The queue `risk.commands`.
///
/// # Errors
/// Why the message is dead.
pub fn command(message: &Message) -> Result<SagaId, String> {
    consumer::read(message).map(|item| item.saga)
}

/// SetRule: what would be stored.
///
/// # Errors
/// As the RPC answers.
pub fn rule(rule: &Rule) -> Result<Rule, Status> {
    let read = grpc::rules::read(rule).map_err(proto::error::invalid_fields)?;
    Ok(grpc::rules::show(read))
}

/// The cursor of a page of reviews: time, saga, step.
#[must_use]
pub fn cursor(text: &str) -> Option<(i64, SagaId, String)> {
    let (time, saga, step) = grpc::reviews::read_cursor(text)?;
    Some((time.timestamp_micros(), SagaId::from_uuid(saga), step))
}
