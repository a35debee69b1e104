//! The rules of prices and documents. Pure: no clock, no I/O, no message.
//!
//! [`quote`] turns a cart into priced lines, tax and a total, or says which fields are wrong. [`document`] says what a
//! commercial document may hold. Amounts are whole minor units of one currency and every sum is checked.

pub mod document;
pub(crate) mod quote;

use serde::{Deserialize, Serialize};

/// Lines of an order at most.
pub const MAX_LINES: usize = 100;

/// The largest quantity of a line.
pub const MAX_QUANTITY: i64 = 1_000_000;

/// The largest price of one, in minor units.
pub const MAX_PRICE: i64 = 1_000_000_000_000;

/// A line with its price, in minor units of the order's currency. Stored as JSON: fields may be added, never renamed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PricedLine {
    /// What.
    pub sku: String,
    /// How many.
    pub quantity: i64,
    /// Of one.
    pub unit_price_minor: i64,
    /// Of all of them.
    pub line_total_minor: i64,
}
