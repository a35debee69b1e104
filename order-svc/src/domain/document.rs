//! What a commercial document may hold: numbers that add up, and a history that only grows.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use types::{Currency, Money, MoneyError, Sku};

use super::{MAX_LINES, MAX_PRICE, MAX_QUANTITY, PricedLine};

/// The first entry of every history. Open writes it.
pub const CREATED: &str = "CREATED";

/// What a history may say.
const STATUSES: &[&str] = &[
    CREATED,
    "INVENTORY_RESERVED",
    "PAYMENT_SUCCESS",
    "COMPLETED",
    "CANCELLED",
    "UNDER_REVIEW",
    "AWAITING_PAYMENT",
];

/// Entries that one step may add: an order has a handful.
const MAX_CHANGES: usize = 100;

/// The longest reason kept, in characters.
const MAX_REASON: usize = 256;

/// When an order became what. Stored as JSON: fields may be added, never renamed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// As in the public order's status.
    pub status: String,
    /// Since when.
    pub time: DateTime<Utc>,
}

/// Why a document cannot be a valid one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Invalid {
    /// None, or too many.
    #[error("lines: must be 1 to {MAX_LINES}, there are {0}")]
    Lines(usize),
    /// A line that the catalog could not have quoted.
    #[error("lines[{0}]: sku, quantity or price is out of range")]
    Line(usize),
    /// A line whose total is not quantity times price.
    #[error("lines[{0}].line_total_minor: is not quantity times price")]
    LineTotal(usize),
    /// The sums are not those of the lines.
    #[error("subtotal_minor, tax_minor, total_minor: do not add up")]
    Sums,
    /// A status that no order has.
    #[error("history[{0}].status: is not a status of an order")]
    Status(usize),
    /// More entries than an order can have.
    #[error("history: must have at most {MAX_CHANGES} entries, has {0}")]
    History(usize),
}

/// The amounts of a document in minor units.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sums {
    pub subtotal_minor: i64,
    pub tax_minor: i64,
    pub total_minor: i64,
}

/// Whether prices, lines and sums agree. What they are is not asked: Open stores the prices it is given.
pub fn check(lines: &[PricedLine], sums: Sums, currency: Currency) -> Result<(), Invalid> {
    if lines.is_empty() || lines.len() > MAX_LINES {
        return Err(Invalid::Lines(lines.len()));
    }
    for (index, line) in lines.iter().enumerate() {
        let in_range = (1..=MAX_QUANTITY).contains(&line.quantity)
            && (1..=MAX_PRICE).contains(&line.unit_price_minor)
            && line.sku.parse::<Sku>().is_ok();
        if !in_range {
            return Err(Invalid::Line(index));
        }
        if line.unit_price_minor.checked_mul(line.quantity) != Some(line.line_total_minor) {
            return Err(Invalid::LineTotal(index));
        }
    }
    let add_up = || -> Result<bool, MoneyError> {
        let money = |minor| Money::new(minor, currency);
        let subtotal = lines
            .iter()
            .try_fold(Money::zero(currency), |sum, line| sum.plus(money(line.line_total_minor)))?;
        let total = subtotal.plus(money(sums.tax_minor))?;
        Ok(sums.tax_minor >= 0 && subtotal == money(sums.subtotal_minor) && total == money(sums.total_minor))
    };
    match add_up() {
        Ok(true) => Ok(()),
        Ok(false) | Err(_) => Err(Invalid::Sums),
    }
}

/// Whether these entries may be added to a history.
pub fn check_changes(changes: &[Change]) -> Result<(), Invalid> {
    if changes.len() > MAX_CHANGES {
        return Err(Invalid::History(changes.len()));
    }
    match changes.iter().position(|change| !STATUSES.contains(&change.status.as_str())) {
        Some(index) => Err(Invalid::Status(index)),
        None => Ok(()),
    }
}

/// A history that begins now.
pub fn created(time: DateTime<Utc>) -> Vec<Change> {
    vec![Change { status: CREATED.to_owned(), time }]
}

/// The history with these entries at its end. CREATED is there from Open and is not said twice.
pub fn continued(mut history: Vec<Change>, changes: &[Change]) -> Vec<Change> {
    history.extend(added(changes).cloned());
    history
}

/// What these entries add to a history.
pub fn added(changes: &[Change]) -> impl Iterator<Item = &Change> {
    changes.iter().filter(|change| change.status != CREATED)
}

/// A reason as it can be kept: a compensation must not fail for the sake of its text.
pub fn reason(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(MAX_REASON).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn eur() -> Currency {
        "EUR".parse().unwrap()
    }

    fn line(quantity: i64, unit: i64, total: i64) -> PricedLine {
        PricedLine { sku: "A".into(), quantity, unit_price_minor: unit, line_total_minor: total }
    }

    fn sums(subtotal_minor: i64, tax_minor: i64, total_minor: i64) -> Sums {
        Sums { subtotal_minor, tax_minor, total_minor }
    }

    #[test]
    fn a_document_adds_up() {
        let lines = [line(2, 10, 20), line(1, 5, 5)];
        assert_eq!(check(&lines, sums(25, 3, 28), eur()), Ok(()));
        for wrong in [sums(24, 3, 27), sums(25, 3, 27), sums(25, -1, 24), sums(25, i64::MAX, 28)] {
            assert_eq!(check(&lines, wrong, eur()), Err(Invalid::Sums), "{wrong:?}");
        }
        assert_eq!(check(&[], sums(0, 0, 0), eur()), Err(Invalid::Lines(0)));
        assert_eq!(check(&vec![line(1, 1, 1); 101], sums(101, 0, 101), eur()), Err(Invalid::Lines(101)));
        let nameless = PricedLine { sku: "a b".into(), ..line(1, 1, 1) };
        for (bad, why) in [
            (line(0, 10, 0), Invalid::Line(1)),
            (line(1, 0, 0), Invalid::Line(1)),
            (line(1, MAX_PRICE + 1, MAX_PRICE + 1), Invalid::Line(1)),
            (nameless, Invalid::Line(1)),
            (line(2, 10, 21), Invalid::LineTotal(1)),
        ] {
            assert_eq!(check(&[line(1, 1, 1), bad], sums(25, 0, 25), eur()), Err(why));
        }
        // Twenty lines that fit do not fit together.
        let most = line(MAX_QUANTITY, MAX_PRICE, MAX_QUANTITY * MAX_PRICE);
        assert_eq!(check(&vec![most; 20], sums(0, 0, 0), eur()), Err(Invalid::Sums));
    }

    #[test]
    fn a_history_says_created_once_and_grows_in_order() {
        let at = |seconds| DateTime::from_timestamp(seconds, 0).unwrap();
        let change = |status: &str, seconds| Change { status: status.into(), time: at(seconds) };
        let added = [change(CREATED, 1), change("PAYMENT_SUCCESS", 2), change("COMPLETED", 3)];
        assert_eq!(check_changes(&added), Ok(()));
        let history = continued(created(at(0)), &added);
        assert_eq!(history, [change(CREATED, 0), change("PAYMENT_SUCCESS", 2), change("COMPLETED", 3)]);
        assert_eq!(check_changes(&[change("COMPLETED", 0), change("DONE", 0)]), Err(Invalid::Status(1)));
        assert_eq!(check_changes(&vec![change(CREATED, 0); 101]), Err(Invalid::History(101)));
        let text = serde_json::to_string(&history[..1]).unwrap();
        assert_eq!(text, r#"[{"status":"CREATED","time":"1970-01-01T00:00:00Z"}]"#);
    }

    #[test]
    fn a_reason_is_cut_to_what_can_be_kept() {
        assert_eq!(reason("a\0b\nc"), "abc");
        assert_eq!(reason(&"ä".repeat(300)).chars().count(), 256);
    }
}
