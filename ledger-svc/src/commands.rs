//! What the ledger does: [`post`], [`reverse`], [`suspend`]. One batch is one function and one transaction.
//!
//! Each reads what is there without locks, decides, and inserts; a row that was not won (another process had the same
//! item) or an account that was closed meanwhile runs the batch again from there. Nothing is ever changed but the
//! accounts' counters. Read next: [`crate::store`].

pub(crate) mod post;
pub(crate) mod reverse;
pub(crate) mod suspend;

use chassis::database::{Trouble, Warm};
use prost::Message;

/// What every command works with.
#[derive(Debug, Clone)]
pub(crate) struct Books {
    pub(crate) pool: Warm,
    pub(crate) outbox: chassis::outbox::Outbox,
    pub(crate) relay: chassis::outbox::Relay,
}

/// Reads a stored reply.
fn stored<M: Message + Default>(reply: &[u8]) -> Result<M, Trouble> {
    M::decode(reply).map_err(|error| Trouble::Failed(format!("cannot read a stored reply: {error}")))
}

/// The barrier's rules know more than the ledger writes: nothing is ever in progress here.
fn impossible(what: &str) -> Trouble {
    Trouble::Failed(format!("{what} is in progress, which the ledger never writes"))
}

/// Counts what was decided.
fn count(kind: crate::store::Kind, outcome: &'static str) {
    metrics::counter!("amends_ledger_transactions_total", "kind" => kind.as_str(), "outcome" => outcome)
        .increment(1);
}
