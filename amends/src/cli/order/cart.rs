//! A line of a cart as it is typed: `P1001`, `P1001:2`, `P1001:2@19.99`.
//!
//! Read next: `../order.rs`.

use std::str::FromStr;

use proto::order::v1::OrderLine;
use types::{Currency, Sku};

use crate::cli::value;

/// One line, with its price not yet in a currency.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct CartLine {
    sku: Sku,
    quantity: i64,
    price: Option<String>,
}

impl FromStr for CartLine {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (rest, price) = match text.split_once('@') {
            Some((rest, price)) => (rest, Some(price.to_owned())),
            None => (text, None),
        };
        let (sku, quantity) = match rest.split_once(':') {
            Some((sku, quantity)) => {
                (sku, quantity.parse().map_err(|_| format!("`{quantity}` is not a whole number of pieces"))?)
            }
            None => (rest, 1),
        };
        Ok(Self { sku: sku.parse().map_err(|e| format!("SKU {e}"))?, quantity, price })
    }
}

impl CartLine {
    /// As the request has it.
    pub(super) fn priced(self, currency: Currency) -> Result<OrderLine, String> {
        let unit_price = self.price.map(|price| value::amount(&price, currency)).transpose()?;
        Ok(OrderLine { sku: self.sku.into_string(), quantity: self.quantity, unit_price })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_read_in_all_its_lengths() {
        let eur = "EUR".parse().unwrap();
        let line = |text: &str| text.parse::<CartLine>().unwrap().priced(eur);
        assert_eq!(line("P1").unwrap(), OrderLine { sku: "P1".into(), quantity: 1, unit_price: None });
        assert_eq!(line("P1:3").unwrap().quantity, 3);
        let whole = line("P1:3@19.99").unwrap();
        assert_eq!((whole.quantity, whole.unit_price.unwrap().minor_units), (3, 1999));
        assert_eq!(line("P1@5").unwrap().unit_price.unwrap().minor_units, 500);
        assert!(line("P1@5.001").unwrap_err().contains("decimals"));
        for bad in ["", ":2", "P 1", "P1:", "P1:two", "P1:1.5"] {
            assert!(bad.parse::<CartLine>().is_err(), "{bad}");
        }
    }
}
