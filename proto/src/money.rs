//! Money on the wire and back.

use types::MoneyError;

pub use crate::generated::money::v1::Money;

impl From<types::Money> for Money {
    fn from(money: types::Money) -> Self {
        Self { minor_units: money.minor, currency_code: money.currency.to_string() }
    }
}

impl TryFrom<&Money> for types::Money {
    type Error = MoneyError;

    fn try_from(money: &Money) -> Result<Self, MoneyError> {
        Ok(Self::new(money.minor_units, money.currency_code.parse()?))
    }
}
