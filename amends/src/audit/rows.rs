//! Everything that is stored about one saga, put together from all databases.
//!
//! Plain rows; nothing is judged here. A bundle's hash is the witness that nothing changed between two reads.

use chrono::{DateTime, Utc};
use types::SagaId;
use uuid::Uuid;

use super::{Rule, story::Story};

type Time = DateTime<Utc>;

/// One saga, as every database knows it.
#[derive(Debug, Default, Hash)]
pub(super) struct Bundle {
    pub(super) id: Uuid,
    pub(super) saga: Option<Saga>,
    pub(super) order: Option<Order>,
    pub(super) story: Option<Story>,
    pub(super) documents: Vec<Document>,
    pub(super) reservations: Vec<Reservation>,
    pub(super) attempts: Vec<Attempt>,
    pub(super) postings: Vec<Posting>,
}

/// How a saga ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum End {
    Completed,
    Compensated,
}

/// The orchestrator's row.
#[derive(Debug, Clone, Hash)]
pub(super) struct Saga {
    pub(super) kind: String,
    pub(super) version: i64,
    pub(super) commit_id: Uuid,
    pub(super) epoch: i64,
    pub(super) state: String,
    pub(super) reason: String,
    pub(super) ended: bool,
    pub(super) create_time: Time,
    pub(super) update_time: Time,
}

impl Saga {
    pub(super) fn end(&self) -> Option<End> {
        match self.state.as_str() {
            "COMPLETED" => Some(End::Completed),
            "COMPENSATED" => Some(End::Compensated),
            _ => None,
        }
    }
}

/// The projection.
#[derive(Debug, Clone, Hash)]
pub(super) struct Order {
    pub(super) status: String,
    pub(super) total: i64,
    pub(super) currency: String,
    pub(super) version: i64,
}

impl Order {
    pub(super) fn end(&self) -> Option<End> {
        match self.status.as_str() {
            "COMPLETED" => Some(End::Completed),
            "CANCELLED" => Some(End::Compensated),
            _ => None,
        }
    }
}

/// order-svc's record.
#[derive(Debug, Clone, Hash)]
pub(super) struct Document {
    pub(super) step: String,
    pub(super) forward: String,
    pub(super) back: Option<String>,
    pub(super) complete: Option<String>,
    pub(super) status: Option<String>,
    pub(super) total: Option<i64>,
    pub(super) update_time: Time,
}

/// inventory-svc's record.
#[derive(Debug, Clone, Hash)]
pub(super) struct Reservation {
    pub(super) step: String,
    pub(super) forward: String,
    pub(super) back: Option<String>,
    pub(super) commit: Option<String>,
    pub(super) state: Option<String>,
    pub(super) update_time: Time,
}

/// payment-svc's record.
#[derive(Debug, Clone, Hash)]
pub(super) struct Attempt {
    pub(super) step: String,
    pub(super) payment: Uuid,
    pub(super) state: String,
    pub(super) back: Option<String>,
    pub(super) amount: Option<i64>,
    pub(super) currency: Option<String>,
    pub(super) update_time: Time,
}

/// A ledger transaction with its entries.
#[derive(Debug, Clone, Hash)]
pub(super) struct Posting {
    pub(super) step: String,
    pub(super) kind: String,
    pub(super) outcome: String,
    pub(super) create_time: Time,
    /// Account and amount; positive: debit.
    pub(super) entries: Vec<(String, i64)>,
}

impl Posting {
    pub(super) fn is(&self, kind: &str, outcome: &str) -> bool {
        self.kind == kind && self.outcome == outcome
    }
}

impl Bundle {
    /// `saga_…`; reads as the order's id does.
    pub(super) fn name(&self) -> SagaId {
        SagaId::from_uuid(self.id)
    }

    /// Its end, once that is long enough ago to be judged over several databases.
    pub(super) fn settled(&self, rule: &Rule) -> Option<End> {
        let saga = self.saga.as_ref()?;
        saga.end().filter(|_| saga.ended && rule.is_past(saga.update_time, rule.settle))
    }

    /// Whether a person gave an outcome to any of its steps: then databases may differ, and somebody knows why.
    pub(super) fn is_by_hand(&self) -> bool {
        self.story.as_ref().is_some_and(|story| story.is_by_hand())
    }
}
