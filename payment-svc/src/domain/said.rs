//! What a provider says, sorted by what may follow from it. Read [`crate::provider`] next.

/// What the provider knows of a charge or a refund.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Said {
    /// It happened; the provider's own id of it.
    Done {
        /// The provider's id.
        reference: String,
    },
    /// The provider looked and said no; it will say the same to the same key.
    Declined(Decline),
    /// The provider has it and will know later.
    Pending,
}

/// A refusal by the provider or the bank behind it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decline {
    /// The provider's word for it, as in `CARD_DECLINED`.
    pub code: String,
    /// What a customer can do about it.
    pub category: Category,
}

/// What kind of refusal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Category {
    /// Never again with this card.
    Hard,
    /// Another day it may work.
    Soft,
    /// What was sent cannot be charged.
    Data,
}

impl Category {
    /// As the refusal's metadata say it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Hard => "HARD",
            Self::Soft => "SOFT",
            Self::Data => "DATA",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        [Self::Hard, Self::Soft, Self::Data].into_iter().find(|category| category.as_str() == text)
    }
}

/// Why a provider did not say anything. The texts are for people and hold nothing secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// It surely has not seen it: it may be sent again at once.
    #[error("not sent: {0}")]
    NotSent(String),
    /// It may have seen it: in doubt until it is looked up.
    #[error("unknown: {0}")]
    Unknown(String),
}
