//! The rules of screening: what is approved, what is refused, what a person must look at, and how a review ends.
//!
//! Pure: the time is an argument. Read next: [`crate::commands`].

use std::collections::HashMap;

use chassis::barrier::RequestHash;
use chrono::{DateTime, Utc};
use types::{Currency, Money, OrderId, PartyId};

/// What is screened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subject {
    pub order: Option<OrderId>,
    pub customer: PartyId,
    pub merchant: PartyId,
    pub amount: Money,
}

impl Subject {
    /// What was asked, for the barrier.
    pub fn hash(&self) -> Vec<u8> {
        let order = self.order.map(|order| order.to_string()).unwrap_or_default();
        RequestHash::new(1)
            .field("order_id", order.as_bytes())
            .field("customer_id", self.customer.as_str().as_bytes())
            .field("merchant_id", self.merchant.as_str().as_bytes())
            .field("amount", &self.amount.minor.to_be_bytes())
            .field("currency", self.amount.currency.as_str().as_bytes())
            .finish()
    }
}

/// What a rule looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// How much it is.
    Amount,
    /// How many orders the customer made lately.
    Velocity,
}

impl Kind {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Amount => "AMOUNT_REVIEW",
            Self::Velocity => "VELOCITY_REVIEW",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        [Self::Amount, Self::Velocity].into_iter().find(|kind| kind.as_str() == text)
    }
}

/// A rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rule {
    pub kind: Kind,
    /// None: every currency without a rule of its own.
    pub currency: Option<Currency>,
    /// Amount: from here on, in minor units of the currency, or of two decimals where there is none. Velocity: orders
    /// that pass within the window.
    pub threshold: i64,
    /// Velocity only; zero otherwise.
    pub window_seconds: i64,
    pub enabled: bool,
}

/// A field of a rule that cannot be so, and why.
pub type BadField = (&'static str, &'static str);

impl Rule {
    /// The longest window: 31 days. Longer ones count too many rows for every order.
    pub const MAX_WINDOW_SECONDS: i64 = 31 * 24 * 60 * 60;

    /// Whether its parts fit together.
    ///
    /// # Errors
    /// Every field that does not.
    pub fn check(&self) -> Result<(), Vec<BadField>> {
        let mut bad = Vec::new();
        if self.threshold < 0 {
            bad.push(("threshold", "must not be negative"));
        }
        match self.kind {
            Kind::Amount if self.window_seconds != 0 => {
                bad.push(("window_seconds", "must be 0: an amount has no window"));
            }
            Kind::Velocity if !(1..=Self::MAX_WINDOW_SECONDS).contains(&self.window_seconds) => {
                bad.push(("window_seconds", "must be 1 to 2678400 (31 days)"));
            }
            Kind::Velocity if self.currency.is_some() => {
                bad.push(("currency_code", "must be empty: orders are counted in every currency"));
            }
            Kind::Amount | Kind::Velocity => {}
        }
        if bad.is_empty() { Ok(()) } else { Err(bad) }
    }
}

/// The rules in force.
#[derive(Debug, Clone, Default)]
pub struct Rules {
    /// A rule that is switched off stands here too: it keeps the general one from its currency.
    amounts: HashMap<Option<Currency>, Rule>,
    velocity: Option<Rule>,
}

impl FromIterator<Rule> for Rules {
    fn from_iter<I: IntoIterator<Item = Rule>>(rules: I) -> Self {
        let mut these = Self::default();
        for rule in rules {
            match rule.kind {
                Kind::Amount => drop(these.amounts.insert(rule.currency, rule)),
                Kind::Velocity => these.velocity = Some(rule).filter(|rule| rule.enabled),
            }
        }
        these
    }
}

impl Rules {
    /// How far back orders must be counted, in seconds; none when nobody asks.
    pub fn window_seconds(&self) -> Option<i64> {
        self.velocity.map(|rule| rule.window_seconds)
    }

    fn is_large(&self, amount: Money) -> bool {
        let rule = self.amounts.get(&Some(amount.currency)).or_else(|| self.amounts.get(&None));
        let Some(rule) = rule.filter(|rule| rule.enabled) else { return false };
        let (minor, threshold) = (i128::from(amount.minor), i128::from(rule.threshold));
        match rule.currency {
            Some(_) => minor >= threshold,
            // In the currency's own decimals on one side, in two decimals on the other.
            None => minor * 100 >= threshold * 10_i128.pow(u32::from(amount.currency.exponent())),
        }
    }

    fn is_fast(&self, earlier: i64) -> bool {
        self.velocity.is_some_and(|rule| earlier >= rule.threshold)
    }
}

/// What the rules say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Judgement {
    Approve,
    /// The customer is on the deny list.
    Deny,
    /// A person must look, because of this rule.
    Review(Kind),
}

/// Screens. `earlier` is how many orders of the customer there were within the window.
pub fn judge(rules: &Rules, subject: &Subject, is_denied: bool, earlier: i64) -> Judgement {
    if is_denied {
        Judgement::Deny
    } else if rules.is_large(subject.amount) {
        Judgement::Review(Kind::Amount)
    } else if rules.is_fast(earlier) {
        Judgement::Review(Kind::Velocity)
    } else {
        Judgement::Approve
    }
}

/// Where a review stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReviewState {
    Open,
    Approved,
    Declined,
    /// Nobody decided in time.
    Expired,
    /// Its saga turned round.
    Withdrawn,
}

impl ReviewState {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Open => "OPEN",
            Self::Approved => "APPROVED",
            Self::Declined => "DECLINED",
            Self::Expired => "EXPIRED",
            Self::Withdrawn => "WITHDRAWN",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        [Self::Open, Self::Approved, Self::Declined, Self::Expired, Self::Withdrawn]
            .into_iter()
            .find(|state| state.as_str() == text)
    }
}

/// What comes to a review.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Knock {
    /// A person decides.
    Decision {
        /// Or decline.
        approve: bool,
    },
    /// Somebody looks at the clock.
    Clock,
    /// Its saga goes back: nobody needs to decide.
    Withdrawal,
}

/// How a review ends by what comes to it; none when it stays as it is. The saga was promised an outcome by
/// `expire_time`, so a decision after that finds the review expired, whoever wrote it down first.
pub fn end(
    state: ReviewState,
    expire_time: DateTime<Utc>,
    knock: Knock,
    now: DateTime<Utc>,
) -> Option<ReviewState> {
    match (state, knock) {
        (
            ReviewState::Approved | ReviewState::Declined | ReviewState::Expired | ReviewState::Withdrawn,
            _,
        ) => None,
        (ReviewState::Open, Knock::Withdrawal) => Some(ReviewState::Withdrawn),
        (ReviewState::Open, _) if expire_time <= now => Some(ReviewState::Expired),
        (ReviewState::Open, Knock::Decision { approve: true }) => Some(ReviewState::Approved),
        (ReviewState::Open, Knock::Decision { approve: false }) => Some(ReviewState::Declined),
        (ReviewState::Open, Knock::Clock) => None,
    }
}

#[cfg(test)]
mod tests;
