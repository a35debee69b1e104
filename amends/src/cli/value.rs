//! Values that every noun shows: times, money, names of states; and how they are read from the command line.
//!
//! Nothing here asks or prints. Read next: `order.rs`.

use prost_types::Timestamp;
use serde_json::{Value, json};
use types::{Currency, Money};

/// For people, in UTC; empty when there is none.
pub(crate) fn time(stamp: Option<&Timestamp>) -> String {
    stamp
        .and_then(proto::time::read)
        .map(|time| time.format("%Y-%m-%d %H:%M:%SZ").to_string())
        .unwrap_or_default()
}

/// The same with milliseconds, for what changes while one looks.
pub(crate) fn moment(stamp: Option<&Timestamp>) -> String {
    stamp
        .and_then(proto::time::read)
        .map(|time| time.format("%Y-%m-%d %H:%M:%S%.3fZ").to_string())
        .unwrap_or_default()
}

/// RFC 3339, or null.
pub(crate) fn time_json(stamp: Option<&Timestamp>) -> Value {
    stamp
        .and_then(proto::time::read)
        .map_or(Value::Null, |time| json!(time.to_rfc3339_opts(chrono::SecondsFormat::AutoSi, true)))
}

/// For people; empty when there is none. A currency that this build does not know is shown in minor units.
pub(crate) fn money(money: Option<&proto::money::Money>) -> String {
    money.map_or_else(String::new, |money| match Money::try_from(money) {
        Ok(money) => money.to_string(),
        Err(_) => format!("{} minor units of {}", money.minor_units, money.currency_code),
    })
}

/// Minor units of a currency, for people.
pub(crate) fn minor(units: i64, currency: &str) -> String {
    money(Some(&proto::money::Money { minor_units: units, currency_code: currency.to_owned() }))
}

/// As on the wire, or null.
pub(crate) fn money_json(money: Option<&proto::money::Money>) -> Value {
    money.map_or(
        Value::Null,
        |money| json!({ "minor_units": money.minor_units, "currency_code": money.currency_code }),
    )
}

/// Reads `19.99` of `EUR`.
pub(crate) fn amount(text: &str, currency: Currency) -> Result<proto::money::Money, String> {
    Money::from_decimal_text(text, currency).map(Into::into).map_err(|e| e.to_string())
}

/// Reads a state by its name, in any case, with `-` or `_`; `names` are all states, the unspecified one first.
pub(crate) fn state<T: Copy>(
    text: &str,
    parse: impl Fn(&str) -> Option<T>,
    names: impl Iterator<Item = &'static str>,
) -> Result<T, String> {
    let name = text.to_uppercase().replace('-', "_");
    parse(&name).filter(|_| !name.ends_with("_UNSPECIFIED")).ok_or_else(|| {
        let names: Vec<_> = names.filter(|n| !n.ends_with("_UNSPECIFIED")).map(str::to_lowercase).collect();
        format!("is not one of {}", names.join(", "))
    })
}

/// Defines `fn $name(&str) -> Result<$enum, String>` for a command line.
macro_rules! state_parser {
    ($name:ident, $enum:ident) => {
        fn $name(text: &str) -> Result<$enum, String> {
            let names = (0..32).filter_map(|n| $enum::try_from(n).ok()).map(|state| state.as_str_name());
            $crate::cli::value::state(text, $enum::from_str_name, names)
        }
    };
}
pub(crate) use state_parser;

/// `yes` or nothing.
pub(crate) const fn yes(is: bool) -> &'static str {
    if is { "yes" } else { "" }
}

#[cfg(test)]
mod tests {
    use proto::order::v1::OrderStatus;

    use super::*;

    state_parser!(read, OrderStatus);

    #[test]
    fn money_is_shown_with_the_decimals_of_its_currency() {
        assert_eq!(minor(123_456, "EUR"), "1234.56 EUR");
        assert_eq!(minor(-5, "USD"), "-0.05 USD");
        assert_eq!(minor(1200, "JPY"), "1200 JPY");
        assert_eq!(minor(7, "???"), "7 minor units of ???");
        assert_eq!(money(None), "");
        assert_eq!(amount("19.99", "EUR".parse().unwrap()).unwrap().minor_units, 1999);
        assert!(amount("19.999", "EUR".parse().unwrap()).is_err());
    }

    #[test]
    fn times_are_utc() {
        let stamp = Timestamp { seconds: 1_700_000_000, nanos: 5_000_000 };
        assert_eq!(time(Some(&stamp)), "2023-11-14 22:13:20Z");
        assert_eq!(moment(Some(&stamp)), "2023-11-14 22:13:20.005Z");
        assert_eq!(time_json(Some(&stamp)), "2023-11-14T22:13:20.005Z");
        assert_eq!(time_json(None), Value::Null);
    }

    #[test]
    fn a_state_may_be_written_as_people_write() {
        assert_eq!(read("under-review"), Ok(OrderStatus::UnderReview));
        assert_eq!(read("COMPLETED"), Ok(OrderStatus::Completed));
        assert!(read("done").unwrap_err().contains("inventory_reserved"));
        assert!(read("ORDER_STATUS_UNSPECIFIED").is_err());
    }
}
