//! The rules of the books: accounts, what a sale books, what takes it back, what goes through suspense.
//!
//! Pure: no I/O, no clock, no ids drawn. Every list of entries made here sums to zero; the schema checks that again at
//! commit. Read next: [`crate::commands`].

use std::{collections::BTreeMap, fmt, str::FromStr};

use chassis::barrier::RequestHash;
use types::{Currency, Money, OrderId, PartyId, PaymentId};

const PROVIDER_CLEARING: &str = "provider_clearing";
const TAX_PAYABLE: &str = "tax_payable";
const SUSPENSE: &str = "suspense";
const MERCHANT: &str = "merchant";

/// An account, as in `merchant:m_1:EUR`. Sorts as the database compares: byte by byte.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AccountId(String);

impl AccountId {
    /// What we owe a merchant.
    #[must_use]
    pub fn merchant(merchant: &PartyId, currency: Currency) -> Self {
        Self(format!("{MERCHANT}:{merchant}:{currency}"))
    }

    fn house(name: &str, currency: Currency) -> Self {
        Self(format!("{name}:{currency}"))
    }

    /// Whether it is a merchant's; the others are the house's own and cannot be closed.
    #[must_use]
    pub fn is_merchants(&self) -> bool {
        self.0.starts_with(MERCHANT) && self.0[MERCHANT.len()..].starts_with(':')
    }

    /// The text itself.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The currency it is kept in: the last three letters.
    #[must_use]
    pub fn currency_code(&self) -> &str {
        self.0.rsplit(':').next().unwrap_or_default()
    }

    /// The text itself, owned.
    #[must_use]
    pub fn into_string(self) -> String {
        self.0
    }
}

impl fmt::Display for AccountId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for AccountId {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let expected = || "must look like `merchant:m_1:EUR` or `provider_clearing:EUR`".to_owned();
        let parts: Vec<_> = text.splitn(4, ':').collect();
        match parts.as_slice() {
            [MERCHANT, merchant, currency] => {
                let merchant: PartyId = merchant.parse().map_err(|e| format!("names a merchant that {e}"))?;
                let currency = currency.parse().map_err(|e| format!("ends wrongly: {e}"))?;
                Ok(Self::merchant(&merchant, currency))
            }
            [name @ (PROVIDER_CLEARING | TAX_PAYABLE | SUSPENSE), currency] => {
                Ok(Self::house(name, currency.parse().map_err(|e| format!("ends wrongly: {e}"))?))
            }
            _ => Err(expected()),
        }
    }
}

/// One line of a ledger transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Whose counters it moves. Names the currency.
    pub account: AccountId,
    /// Minor units; positive: debit, negative: credit. Never zero.
    pub amount: i64,
}

impl Entry {
    fn debit(account: AccountId, minor: i64) -> Self {
        Self { account, amount: minor }
    }

    fn credit(account: AccountId, minor: i64) -> Self {
        // A debit is never negative here, so it has a negative.
        Self { account, amount: -minor }
    }
}

/// A number does not fit into 64 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a sum does not fit into 64 bits of minor units")]
pub struct Overflow;

/// A captured payment to be booked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sale {
    merchant: PartyId,
    total: Money,
    tax: i64,
    order: Option<OrderId>,
    payment: PaymentId,
}

impl Sale {
    /// `tax` is the part of `total` owed as tax, in minor units.
    ///
    /// # Errors
    /// What is wrong with the amounts, for people.
    pub fn new(
        merchant: PartyId,
        total: Money,
        tax: i64,
        order: Option<OrderId>,
        payment: PaymentId,
    ) -> Result<Self, String> {
        if total.minor < 0 {
            return Err("total: must not be negative".into());
        }
        if !(0..=total.minor).contains(&tax) {
            return Err("tax_minor: must be 0 to total".into());
        }
        Ok(Self { merchant, total, tax, order, payment })
    }

    /// The merchant's account: the one that may be closed.
    #[must_use]
    pub fn account(&self) -> AccountId {
        AccountId::merchant(&self.merchant, self.total.currency)
    }

    /// The order that was paid, if it was one.
    #[must_use]
    pub const fn order(&self) -> Option<OrderId> {
        self.order
    }

    /// The charge that brought the money.
    #[must_use]
    pub const fn payment(&self) -> PaymentId {
        self.payment
    }

    /// Debit what the provider holds for us; credit the merchant, and the tax office its part.
    #[must_use]
    pub fn entries(&self) -> Vec<Entry> {
        let currency = self.total.currency;
        let mut entries = vec![
            Entry::debit(AccountId::house(PROVIDER_CLEARING, currency), self.total.minor),
            Entry::credit(self.account(), self.total.minor - self.tax),
            Entry::credit(AccountId::house(TAX_PAYABLE, currency), self.tax),
        ];
        entries.retain(|entry| entry.amount != 0);
        entries
    }

    /// Whose counters it moves, and the merchant's in any case: it must be open even for a sale of nothing.
    #[must_use]
    pub fn accounts(&self) -> Vec<AccountId> {
        let accounts = self.entries().into_iter().map(|entry| entry.account);
        accounts.chain([self.account()]).collect()
    }

    /// What was asked, for the barrier.
    #[must_use]
    pub fn hash(&self) -> Vec<u8> {
        let order = self.order.map(|order| order.to_string()).unwrap_or_default();
        RequestHash::new(1)
            .field("merchant_id", self.merchant.as_str().as_bytes())
            .field("currency", self.total.currency.as_str().as_bytes())
            .field("total", &self.total.minor.to_be_bytes())
            .field("tax", &self.tax.to_be_bytes())
            .field("order_id", order.as_bytes())
            .field("payment_id", self.payment.to_string().as_bytes())
            .finish()
    }
}

/// Why a sale is not booked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// The merchant's account takes no more postings.
    AccountClosed(AccountId),
}

/// Whether a sale may be booked, given which accounts are closed.
///
/// # Errors
/// The refusal.
pub fn admit(sale: &Sale, is_closed: impl Fn(&AccountId) -> bool) -> Result<(), Refusal> {
    let account = sale.account();
    if is_closed(&account) { Err(Refusal::AccountClosed(account)) } else { Ok(()) }
}

/// The entries that take these back.
///
/// # Errors
/// `Overflow` for an amount that has no negative.
pub fn mirror(entries: Vec<Entry>) -> Result<Vec<Entry>, Overflow> {
    entries
        .into_iter()
        .map(|entry| Ok(Entry { amount: entry.amount.checked_neg().ok_or(Overflow)?, ..entry }))
        .collect()
}

/// Money that was charged and given back without a sale.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refunded {
    amount: Money,
    payment: PaymentId,
}

impl Refunded {
    /// `amount` went to the provider and back.
    ///
    /// # Errors
    /// When it is not positive.
    pub fn new(amount: Money, payment: PaymentId) -> Result<Self, String> {
        if amount.minor <= 0 {
            return Err("amount: must be positive".into());
        }
        Ok(Self { amount, payment })
    }

    /// The charge.
    #[must_use]
    pub const fn payment(&self) -> PaymentId {
        self.payment
    }

    /// The charge into suspense, and the refund out of it: four entries, so that both accounts show both.
    #[must_use]
    pub fn entries(&self) -> Vec<Entry> {
        let clearing = AccountId::house(PROVIDER_CLEARING, self.amount.currency);
        let suspense = AccountId::house(SUSPENSE, self.amount.currency);
        let minor = self.amount.minor;
        vec![
            Entry::debit(clearing.clone(), minor),
            Entry::credit(suspense.clone(), minor),
            Entry::debit(suspense, minor),
            Entry::credit(clearing, minor),
        ]
    }

    /// What was said, so that a second event with other numbers is noticed.
    #[must_use]
    pub fn hash(&self) -> Vec<u8> {
        RequestHash::new(1)
            .field("currency", self.amount.currency.as_str().as_bytes())
            .field("amount", &self.amount.minor.to_be_bytes())
            .field("payment_id", self.payment.to_string().as_bytes())
            .finish()
    }
}

/// By how much an account's counters rise.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Rise {
    /// Minor units.
    pub debits: i64,
    /// Minor units.
    pub credits: i64,
}

/// What a batch of entries does to each account, in the order in which accounts are locked.
///
/// # Errors
/// `Overflow` when a sum does not fit.
pub fn rises<'e>(
    entries: impl IntoIterator<Item = &'e Entry>,
) -> Result<BTreeMap<&'e AccountId, Rise>, Overflow> {
    let mut rises: BTreeMap<&AccountId, Rise> = BTreeMap::new();
    for entry in entries {
        let rise = rises.entry(&entry.account).or_default();
        let side = if entry.amount > 0 { &mut rise.debits } else { &mut rise.credits };
        let amount = entry.amount.checked_abs().ok_or(Overflow)?;
        *side = side.checked_add(amount).ok_or(Overflow)?;
    }
    Ok(rises)
}

#[cfg(test)]
mod tests;
