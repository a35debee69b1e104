//! What a cart costs. Everything wrong with it is said at once, field by field.
//!
//! The one rounding is that of the tax, once, over the subtotal ([`Money::share`]).

use std::collections::HashMap;

use rust_decimal::Decimal;
use types::{Currency, Money, MoneyError, PartyId, Sku};

use super::{MAX_LINES, MAX_QUANTITY, PricedLine};

/// What somebody wants to buy, as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Cart {
    /// Empty: nobody's in particular.
    pub(crate) merchant_id: String,
    /// ISO 4217.
    pub(crate) currency: String,
    /// What and how many.
    pub(crate) lines: Vec<CartLine>,
}

/// A line of a cart, as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CartLine {
    pub(crate) sku: String,
    pub(crate) quantity: i64,
    /// What the buyer believes one costs: minor units and currency.
    pub(crate) expected: Option<(i64, String)>,
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Violation {
    /// As in `lines[3].quantity`.
    pub(crate) field: String,
    /// `UPPER_SNAKE`, stable.
    pub(crate) reason: &'static str,
    /// For people.
    pub(crate) description: String,
}

/// What it costs, in minor units of the cart's currency.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Quoted {
    pub(crate) currency: Currency,
    pub(crate) lines: Vec<PricedLine>,
    pub(crate) subtotal_minor: i64,
    pub(crate) tax_minor: i64,
    pub(crate) total_minor: i64,
}

/// Prices of one, in minor units, by SKU and currency.
pub(crate) type Prices = HashMap<(Sku, Currency), i64>;

/// Tax rates by merchant and currency; an empty text stands for every one.
pub(crate) type Rates = HashMap<(String, String), Decimal>;

impl Cart {
    /// Whose price must be known. What cannot be a SKU or a currency has none.
    pub(crate) fn wanted(&self) -> Vec<(Sku, Currency)> {
        let Ok(currency) = self.currency.parse::<Currency>() else { return Vec::new() };
        let lines = self.lines.iter().take(MAX_LINES);
        lines.filter_map(|line| Some((line.sku.parse().ok()?, currency))).collect()
    }

    /// Whose tax rates count, if it is somebody's. What cannot be a merchant has none.
    pub(crate) fn merchant(&self) -> Option<PartyId> {
        self.merchant_id.parse().ok()
    }

    /// What it costs, or everything that is wrong with it.
    pub(crate) fn quote(&self, prices: &Prices, rates: &Rates) -> Result<Quoted, Vec<Violation>> {
        let mut wrong = Wrong::default();
        if !self.merchant_id.is_empty()
            && let Err(why) = self.merchant_id.parse::<PartyId>()
        {
            wrong.say("merchant_id".into(), "BAD_ID", why.to_string());
        }
        match self.lines.len() {
            0 => wrong.say("lines".into(), "EMPTY", "there must be at least one line".into()),
            found if found > MAX_LINES => {
                let why = format!("there must be at most {MAX_LINES} lines, there are {found}");
                wrong.say("lines".into(), "TOO_MANY", why);
            }
            _ => {}
        }
        let currency = self.currency.parse::<Currency>();
        if let Err(why) = &currency {
            wrong.say("currency_code".into(), "UNKNOWN_CURRENCY", why.to_string());
        }
        let (Ok(currency), true) = (currency, self.lines.len() <= MAX_LINES) else { return Err(wrong.0) };

        let lines: Vec<_> = self
            .lines
            .iter()
            .enumerate()
            .filter_map(|(index, line)| line.price(index, currency, prices, &mut wrong))
            .collect();
        if !wrong.0.is_empty() {
            return Err(wrong.0);
        }
        total(currency, lines, rate(rates, &self.merchant_id, currency)).map_err(|why| {
            wrong.say("lines".into(), "OVERFLOW", format!("the total cannot be computed: {why}"));
            wrong.0
        })
    }
}

impl CartLine {
    fn price(
        &self,
        index: usize,
        currency: Currency,
        prices: &Prices,
        wrong: &mut Wrong,
    ) -> Option<PricedLine> {
        let field = |name: &str| format!("lines[{index}].{name}");
        if self.quantity <= 0 {
            wrong.say(field("quantity"), "NOT_POSITIVE", "must be at least 1".into());
        } else if self.quantity > MAX_QUANTITY {
            wrong.say(field("quantity"), "TOO_LARGE", format!("must be at most {MAX_QUANTITY}"));
        }
        let known = self.sku.parse::<Sku>().ok().and_then(|sku| prices.get(&(sku, currency)).copied());
        let Some(unit) = known else {
            let shown: String = self.sku.chars().take(64).collect();
            wrong.say(field("sku"), "UNKNOWN_SKU", format!("`{shown}` has no price in {currency}"));
            return None;
        };
        if let Some((minor, code)) = &self.expected
            && (*minor != unit || code != currency.as_str())
        {
            let why = format!("the price of one is {}", Money::new(unit, currency));
            wrong.say(field("expected_unit_price"), "PRICE_CHANGED", why);
        }
        let Ok(line_total) = Money::new(unit, currency).times(self.quantity) else {
            wrong.say(field("quantity"), "OVERFLOW", "the amount of the line is too large".into());
            return None;
        };
        Some(PricedLine {
            sku: self.sku.clone(),
            quantity: self.quantity,
            unit_price_minor: unit,
            line_total_minor: line_total.minor,
        })
    }
}

#[derive(Default)]
struct Wrong(Vec<Violation>);

impl Wrong {
    fn say(&mut self, field: String, reason: &'static str, description: String) {
        self.0.push(Violation { field, reason, description });
    }
}

fn total(currency: Currency, lines: Vec<PricedLine>, rate: Decimal) -> Result<Quoted, MoneyError> {
    let subtotal = lines
        .iter()
        .try_fold(Money::zero(currency), |sum, line| sum.plus(Money::new(line.line_total_minor, currency)))?;
    let tax = subtotal.share(rate)?;
    let total = subtotal.plus(tax)?;
    Ok(Quoted {
        currency,
        lines,
        subtotal_minor: subtotal.minor,
        tax_minor: tax.minor,
        total_minor: total.minor,
    })
}

/// The closest rate: the merchant's own before everybody's, the currency's own before every currency's. Without any
/// there is no tax.
fn rate(rates: &Rates, merchant: &str, currency: Currency) -> Decimal {
    let find = |merchant: &str, currency: &str| rates.get(&(merchant.to_owned(), currency.to_owned()));
    let code = currency.as_str();
    find(merchant, code)
        .or_else(|| find(merchant, ""))
        .or_else(|| find("", code))
        .or_else(|| find("", ""))
        .copied()
        .unwrap_or_default()
}

#[cfg(test)]
mod tests;
