//! Which orders: what each is about, and what must come of it.

use std::time::Duration;

use proto::order::v1::{
    Card, CreateOrderRequest, Order, OrderLine, OrderStatus, PaymentInput, payment_input::Method,
};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use rand_distr::{Distribution as _, Zipf};
use serde::Serialize;

/// How many goods there are, and how many of each are in stock.
pub const GOODS: u32 = 1000;
/// Enough for hours.
pub const STOCK: i64 = 1_000_000_000;
/// What one costs, in minor units.
pub const PRICE: i64 = 1000;
/// The good that nobody has.
pub const SCARCE: &str = "B9999";
/// The longest that CreateOrder waits for an order's end.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);
/// How many of a good make an order that somebody looks at, by risk-svc's first rule: from 10,000.00 on.
const MANY: i64 = 1000;
const MERCHANTS: u32 = 200;
const CUSTOMERS: u32 = 1000;
const CURRENCY: &str = "EUR";

/// What share of orders is of which kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Mix {
    /// 98 % complete, 2 % are declined and compensated.
    Standard,
    /// All complete.
    Happy,
    /// All are declined by the provider: every saga compensates.
    Declined,
    /// 10 % ask for what is out of stock.
    OutOfStock,
    /// 2 % charge while the answer is lost: looked up and made good.
    Doubtful,
    /// 2 % are so large that somebody has to look at them, which is done at once.
    Review,
}

/// How orders spread over goods and merchants.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Spread {
    /// Evenly.
    Uniform,
    /// By Zipf's law with this exponent.
    Zipf(f64),
    /// All on one good and one merchant.
    Hot,
}

impl std::str::FromStr for Spread {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "uniform" => Ok(Self::Uniform),
            "hot" => Ok(Self::Hot),
            _ => text
                .strip_prefix("zipf:")
                .and_then(|exponent| exponent.parse().ok())
                .filter(|exponent: &f64| exponent.is_finite() && *exponent > 0.0)
                .map(Self::Zipf)
                .ok_or_else(|| format!("`{text}`: write uniform, hot, or zipf:1.0")),
        }
    }
}

/// The end an order must come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Due {
    Completed,
    /// Once somebody has approved it.
    Approved,
    Cancelled(&'static str),
}

impl Due {
    /// Whether the order came to it.
    #[must_use]
    pub fn is_met_by(self, order: &Order) -> bool {
        match self {
            Self::Completed | Self::Approved => order.status() == OrderStatus::Completed,
            Self::Cancelled(reason) => {
                order.status() == OrderStatus::Cancelled && order.status_reason == reason
            }
        }
    }
}

/// Draws orders. The same seed draws the same.
#[derive(Debug)]
pub struct Draw {
    mix: Mix,
    spread: Spread,
    random: StdRng,
}

/// One order to be sent.
#[derive(Debug, Clone)]
pub struct Drawn {
    pub sku: String,
    pub merchant: String,
    pub customer: String,
    pub token: &'static str,
    pub quantity: i64,
    pub due: Due,
}

impl Draw {
    #[must_use]
    pub fn new(mix: Mix, spread: Spread, seed: u64) -> Self {
        Self { mix, spread, random: StdRng::seed_from_u64(seed) }
    }

    /// The next order.
    pub fn order(&mut self) -> Drawn {
        let share = self.random.random_range(0..100);
        let declined = ("tok_decline", Due::Cancelled("CARD_DECLINED"));
        let approved = ("tok_approve", Due::Completed);
        let (token, due) = match self.mix {
            Mix::Standard if share < 2 => declined,
            Mix::Declined => declined,
            Mix::Doubtful if share < 2 => ("tok_timeout_after", Due::Completed),
            Mix::OutOfStock if share < 10 => ("tok_approve", Due::Cancelled("OUT_OF_STOCK")),
            Mix::Review if share < 2 => ("tok_approve", Due::Approved),
            _ => approved,
        };
        let sku = if due == Due::Cancelled("OUT_OF_STOCK") { SCARCE.to_owned() } else { sku(self.of(GOODS)) };
        let quantity = if due == Due::Approved { MANY } else { 1 };
        let merchant = format!("b_{}", self.of(MERCHANTS));
        let customer = format!("c_{}", self.random.random_range(0..CUSTOMERS));
        Drawn { sku, merchant, customer, token, quantity, due }
    }

    /// One of so many, as they spread.
    fn of(&mut self, many: u32) -> u32 {
        match self.spread {
            Spread::Uniform => self.random.random_range(0..many),
            Spread::Hot => 0,
            #[expect(
                clippy::expect_used,
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "the exponent was checked when it was read; a rank is between 1 and `many`"
            )]
            Spread::Zipf(exponent) => {
                let ranks = Zipf::new(f64::from(many), exponent).expect("a positive exponent");
                ranks.sample(&mut self.random) as u32 - 1
            }
        }
    }
}

/// The name of the `n`-th good.
#[must_use]
pub fn sku(n: u32) -> String {
    format!("B{n:04}")
}

impl Drawn {
    /// As `CreateOrder` takes it; it is answered at the order's end.
    #[must_use]
    pub fn request(&self, key: String) -> CreateOrderRequest {
        CreateOrderRequest {
            request_id: key,
            customer_id: self.customer.clone(),
            merchant_id: self.merchant.clone(),
            currency_code: CURRENCY.into(),
            lines: vec![OrderLine { sku: self.sku.clone(), quantity: self.quantity, unit_price: None }],
            payment: Some(PaymentInput { method: Some(Method::Card(Card { token: self.token.into() })) }),
            wait: prost_types::Duration::try_from(PATIENCE).ok(),
            metadata: [].into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_and_spreads_are_what_they_say() {
        let mut draw = Draw::new(Mix::Standard, Spread::Uniform, 7);
        let orders: Vec<_> = (0..10_000).map(|_| draw.order()).collect();
        let declined = orders.iter().filter(|order| order.due != Due::Completed).count();
        assert!((150..=250).contains(&declined), "{declined}");
        let goods: std::collections::BTreeSet<_> = orders.iter().map(|order| &order.sku).collect();
        assert_eq!(goods.len(), GOODS as usize);

        let mut hot = Draw::new(Mix::Happy, Spread::Hot, 7);
        assert!((0..100).all(|_| hot.order().sku == sku(0)));

        let mut zipf = Draw::new(Mix::Happy, Spread::Zipf(1.0), 7);
        let first = (0..10_000).filter(|_| zipf.order().sku == sku(0)).count();
        assert!((1100..=1600).contains(&first), "1 / H(1000) = 13 %, drew {first}");
        let first = (0..10_000).filter(|_| zipf.order().merchant == "b_0").count();
        assert!((1450..=1950).contains(&first), "1 / H(200) = 17 %, drew {first}");

        let mut review = Draw::new(Mix::Review, Spread::Uniform, 7);
        let large = (0..10_000).filter(|_| review.order().quantity == MANY).count();
        assert!((150..=250).contains(&large), "{large}");
    }

    #[test]
    fn a_spread_is_read_or_says_what_to_write() {
        assert_eq!("zipf:2.0".parse(), Ok(Spread::Zipf(2.0)));
        assert_eq!("hot".parse(), Ok(Spread::Hot));
        for bad in ["", "zipf:", "zipf:-1", "zipf:NaN", "warm"] {
            assert!(bad.parse::<Spread>().unwrap_err().contains("zipf:1.0"), "{bad}");
        }
    }

    #[test]
    fn the_same_seed_draws_the_same() {
        let drawn = |seed| {
            let mut draw = Draw::new(Mix::Standard, Spread::Zipf(1.0), seed);
            (0..50).map(|_| format!("{:?}", draw.order())).collect::<Vec<_>>()
        };
        assert_eq!(drawn(3), drawn(3));
        assert_ne!(drawn(3), drawn(4));
    }
}
