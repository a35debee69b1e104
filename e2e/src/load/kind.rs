//! The mix: which orders, and what each may come to.

use crate::Spec;

/// The customer on the deny list.
pub(super) const DENIED: &str = "c_denied";

/// The merchant whose account is closed.
pub(super) const CLOSED: &str = "m_closed";

/// What is bought where nothing else is said.
pub const GOOD: &str = "P1001";

/// A cheap good of which there are ten.
pub(super) const SCARCE: &str = "P9001";

/// A kind of order.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum, serde::Serialize, serde::Deserialize,
)]
pub enum Kind {
    Plain,
    Declined,
    WithoutFunds,
    OutOfStock,
    Denied,
    /// The provider never got the first call.
    LostBefore,
    /// The provider charged, and its answer was lost.
    LostAfter,
    Slow,
    ErrorOnce,
    Approved,
    ReviewDeclined,
    /// Nobody decides its review.
    Expired,
    /// Cancelled by its customer while the provider takes its time.
    Cancelled,
    AccountClosed,
}

/// What somebody does to an order once it is acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Then {
    Nothing,
    Decide { approve: bool },
    Cancel,
}

/// The end of an order that was paid for.
const COMPLETED: &str = "COMPLETED";

impl Kind {
    /// All of them.
    pub const ALL: [Self; 14] = [
        Self::Plain,
        Self::Declined,
        Self::WithoutFunds,
        Self::OutOfStock,
        Self::Denied,
        Self::LostBefore,
        Self::LostAfter,
        Self::Slow,
        Self::ErrorOnce,
        Self::Approved,
        Self::ReviewDeclined,
        Self::Expired,
        Self::Cancelled,
        Self::AccountClosed,
    ];

    /// The kind of the `i`-th order: of each 26, one of every kind and 13 plain ones.
    #[must_use]
    pub const fn of(i: usize) -> Self {
        let place = i % 26;
        if place.is_multiple_of(2) { Self::Plain } else { Self::ALL[1 + place / 2] }
    }

    /// The saga that it starts, as the registry names it.
    #[must_use]
    pub const fn saga(self) -> &'static str {
        "order"
    }

    /// The `i`-th order, of this kind.
    #[must_use]
    pub fn spec(self, i: usize) -> Spec {
        let spec = Spec::of(1).customer(&format!("c_{}", i % 40)).merchant(&format!("m_{}", i % 7));
        match self {
            Self::Plain => spec,
            Self::Declined => spec.token("tok_decline"),
            Self::WithoutFunds => spec.token("tok_insufficient_funds"),
            Self::OutOfStock => spec.line(SCARCE, 1000),
            Self::Denied => spec.customer(DENIED),
            Self::LostBefore => spec.token("tok_timeout_before"),
            Self::LostAfter => spec.token("tok_timeout_after"),
            Self::Slow | Self::Cancelled => spec.token("tok_slow"),
            Self::ErrorOnce => spec.token("tok_error_once"),
            // 900 × 10.00 × 1.2: above what is approved by itself.
            Self::Approved | Self::ReviewDeclined | Self::Expired => {
                let line = crate::Line { sku: GOOD.into(), quantity: 900 };
                Spec { lines: vec![line], ..spec }
            }
            Self::AccountClosed => spec.merchant(CLOSED),
        }
    }

    /// What somebody does to it.
    #[must_use]
    pub const fn then(self) -> Then {
        match self {
            Self::Approved => Then::Decide { approve: true },
            Self::ReviewDeclined => Then::Decide { approve: false },
            Self::Cancelled => Then::Cancel,
            _ => Then::Nothing,
        }
    }

    /// The end that must have been seen at least once, or the run says nothing about this kind.
    #[must_use]
    pub const fn needed(self) -> &'static str {
        match self {
            Self::Declined => "CARD_DECLINED",
            Self::WithoutFunds => "INSUFFICIENT_FUNDS",
            Self::OutOfStock => "OUT_OF_STOCK",
            Self::Denied => "RISK_DENIED",
            Self::ReviewDeclined => "REVIEW_DECLINED",
            Self::Expired => "REVIEW_EXPIRED",
            Self::Cancelled => "CANCEL_REQUESTED",
            Self::AccountClosed => "ACCOUNT_CLOSED",
            Self::Plain
            | Self::LostBefore
            | Self::LostAfter
            | Self::Slow
            | Self::ErrorOnce
            | Self::Approved => COMPLETED,
        }
    }

    /// Whether it may end so. A decision or a cancel may come too late; nothing else may change an end.
    #[must_use]
    pub fn allows(self, end: &str) -> bool {
        match self {
            Self::Approved | Self::ReviewDeclined => end == self.needed() || end == "REVIEW_EXPIRED",
            Self::Cancelled => end == self.needed() || end == COMPLETED,
            _ => end == self.needed(),
        }
    }
}
