//! What an order saga stores of its own: its input, and what its steps gave.
//!
//! The serde forms are in the journal for good; changes are additive.

use std::collections::BTreeMap;

use compact_str::CompactString;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use types::{PaymentId, ReservationId, TransactionId};

/// What an order is about; stored with its start and never changed. It stands in memory while the saga waits, so short texts are
/// kept in place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Input {
    /// Who buys.
    pub customer_id: CompactString,
    /// Who sells.
    pub merchant_id: CompactString,
    /// ISO 4217.
    pub currency: CompactString,
    /// What, at which price.
    pub lines: Box<[Line]>,
    /// Minor units.
    pub subtotal: i64,
    /// Minor units.
    pub tax: i64,
    /// Minor units.
    pub total: i64,
    /// The provider's token of the card, encrypted; in what the release before wrote, plain.
    pub card_token: Box<str>,
    /// The customer's own.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub metadata: BTreeMap<String, String>,
    /// When it was accepted, milliseconds since 1970.
    pub accepted_at: i64,
}

/// A line with its price.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    /// What.
    pub sku: CompactString,
    /// How many.
    pub quantity: i64,
    /// Price of one, minor units.
    pub unit_price: i64,
    /// Price of all, minor units.
    pub line_total: i64,
}

/// What Reserve gave.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reserved {
    /// rsv_…
    pub reservation_id: String,
}

/// What Screen gave.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Screened {
    /// RULES or REVIEWER.
    pub approved_by: String,
}

/// What Charge gave.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Charged {
    /// pay_…
    pub payment_id: String,
    /// The provider's.
    pub provider_reference: String,
}

/// What Post gave.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Posted {
    /// txn_…
    pub transaction_id: String,
}

/// Of steps that give nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Nothing {}

/// What a step gave. It is looked at before it is believed: an answer may be another's, or nobody's.
pub(super) trait Output: Serialize + DeserializeOwned {
    /// # Errors
    /// What of it cannot be so.
    fn check(&self) -> Result<(), String>;
}

impl Output for Reserved {
    fn check(&self) -> Result<(), String> {
        self.reservation_id.parse::<ReservationId>().map(drop).map_err(|e| format!("reservation_id: {e}"))
    }
}

impl Output for Screened {
    fn check(&self) -> Result<(), String> {
        let is_word = |c: char| c.is_ascii_uppercase() || c == '_';
        if !self.approved_by.is_empty() && self.approved_by.chars().all(is_word) {
            Ok(())
        } else {
            Err(format!("approved_by: {:?} is nobody who approves", self.approved_by))
        }
    }
}

impl Output for Charged {
    fn check(&self) -> Result<(), String> {
        self.payment_id.parse::<PaymentId>().map(drop).map_err(|e| format!("payment_id: {e}"))
    }
}

impl Output for Posted {
    fn check(&self) -> Result<(), String> {
        self.transaction_id.parse::<TransactionId>().map(drop).map_err(|e| format!("transaction_id: {e}"))
    }
}

impl Output for Nothing {
    fn check(&self) -> Result<(), String> {
        Ok(())
    }
}
