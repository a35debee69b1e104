//! What an audit found: each invariant with its sentence, how much was judged, and what breaks it.

use serde::Serialize;

use super::figures::Figures;

/// What must always hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Invariant {
    /// The books balance.
    I1,
    /// What was paid is what the end says.
    I2,
    /// Charged once, refunded once.
    I3,
    /// Stock adds up.
    I4,
    /// One end.
    I5,
    /// Nothing after its compensation.
    I6,
    /// Acknowledged is there.
    I7,
    /// One key, one order.
    I8,
    /// No message lost.
    I9,
    /// One history.
    I10,
    /// Nothing secret is kept.
    I11,
    /// The books stand as they were written.
    I12,
}

impl Invariant {
    /// All, in their order.
    #[rustfmt::skip]
    pub const ALL: [Self; 12] = [
        Self::I1, Self::I2, Self::I3, Self::I4, Self::I5, Self::I6, Self::I7, Self::I8, Self::I9, Self::I10, Self::I11,
        Self::I12,
    ];

    /// Its name.
    #[must_use]
    pub const fn id(self) -> &'static str {
        match self {
            Self::I1 => "I1",
            Self::I2 => "I2",
            Self::I3 => "I3",
            Self::I4 => "I4",
            Self::I5 => "I5",
            Self::I6 => "I6",
            Self::I7 => "I7",
            Self::I8 => "I8",
            Self::I9 => "I9",
            Self::I10 => "I10",
            Self::I11 => "I11",
            Self::I12 => "I12",
        }
    }

    /// What it says.
    #[must_use]
    pub const fn sentence(self) -> &'static str {
        match self {
            Self::I1 => "every ledger transaction sums to zero, and accounts are the sums of their entries",
            Self::I2 => "captured minus refunded is what the end says, at the provider and in the books",
            Self::I3 => "at most one effective charge and one effective refund per step",
            Self::I4 => {
                "available, reserved and sold are the stock put in, held and sold by live orders only"
            }
            Self::I5 => "every accepted order has one saga and reaches one end, or is parked with a reason",
            Self::I6 => "no forward effect after its compensation",
            Self::I7 => "every acknowledged order exists",
            Self::I8 => "the same key is the same order",
            Self::I9 => "no message waits for ever, and every command had an effect or is dead",
            Self::I10 => "versions rise by one without a fork, under epochs that never fall",
            Self::I11 => "no card number, security code, token or password is stored or logged",
            Self::I12 => "the ledger's chain of blocks is unbroken, and what it sealed is what is there",
        }
    }
}

/// A list of which only the beginning is kept.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Listed {
    /// How many there are.
    pub total: u64,
    /// The first of them.
    pub first: Vec<String>,
}

/// One invariant, judged.
#[derive(Debug, Clone, Serialize)]
pub struct Judged {
    /// As people call it, as in `I7`.
    pub id: &'static str,
    /// What it says.
    pub sentence: &'static str,
    /// How many things were judged by it.
    pub checked: u64,
    /// What breaks it.
    pub violations: Listed,
    /// What a person should know, and is no violation.
    pub information: Listed,
}

/// What an audit found.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// Whether nothing breaks any invariant.
    pub clean: bool,
    /// Each invariant, in order.
    pub invariants: Vec<Judged>,
    /// The last block of the ledger's chain, to be kept elsewhere: `number:hash`.
    pub anchor: Option<String>,
    /// What could still go wrong.
    pub figures: Figures,
}

impl Report {
    /// Whether nothing breaks any invariant.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.invariants.iter().all(|judged| judged.violations.total == 0)
    }

    /// One invariant.
    #[must_use]
    pub fn judged(&self, invariant: Invariant) -> Option<&Judged> {
        self.invariants.iter().find(|judged| judged.id == invariant.id())
    }

    /// Every violation that was kept, each with the name of its invariant in front.
    #[must_use]
    pub fn violations(&self) -> Vec<String> {
        let named = |judged: &Judged| {
            judged.violations.first.iter().map(|text| format!("{}: {text}", judged.id)).collect::<Vec<_>>()
        };
        self.invariants.iter().flat_map(named).collect()
    }
}
