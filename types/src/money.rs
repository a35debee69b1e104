//! Money: whole minor units with their currency, never apart, never a float.

use std::{fmt, str::FromStr};

use rust_decimal::{Decimal, RoundingStrategy, prelude::ToPrimitive as _};

/// An ISO 4217 currency.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Currency {
    code: [u8; 3],
    exponent: u8,
}

/// Why something is not money, or cannot be computed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MoneyError {
    /// Not an ISO 4217 code.
    #[error("`{0}` is not an ISO 4217 currency code (three capital letters)")]
    UnknownCurrency(String),
    /// Does not fit into 64 bits of minor units.
    #[error("the amount is too large")]
    Overflow,
    /// Two currencies in one sum.
    #[error("cannot mix {0:?} and {1:?}")]
    CurrencyMix(Currency, Currency),
    /// More decimals than the currency has.
    #[error("{currency:?} has {exponent} decimals, `{text}` has more")]
    TooPrecise {
        /// The currency.
        currency: Currency,
        /// How many decimals it has.
        exponent: u8,
        /// What was given.
        text: String,
    },
    /// Not a number.
    #[error("`{0}` is not a decimal number")]
    NotANumber(String),
}

impl Currency {
    /// The three letters.
    #[must_use]
    pub fn as_str(&self) -> &str {
        // Holds by construction: the code comes from a `&str` of three ASCII letters.
        std::str::from_utf8(&self.code).unwrap_or("XXX")
    }

    /// How many decimals it has: 2 for EUR, 0 for JPY, 3 for KWD.
    #[must_use]
    pub const fn exponent(self) -> u8 {
        self.exponent
    }
}

impl FromStr for Currency {
    type Err = MoneyError;

    fn from_str(text: &str) -> Result<Self, MoneyError> {
        let unknown = || MoneyError::UnknownCurrency(text.chars().take(16).collect());
        let found = iso_currency::Currency::from_code(text).ok_or_else(unknown)?;
        let code: [u8; 3] = text.as_bytes().try_into().map_err(|_| unknown())?;
        // Currencies without a minor unit (gold, testing, …) cannot be charged.
        let exponent = found.exponent().and_then(|e| u8::try_from(e).ok()).ok_or_else(unknown)?;
        Ok(Self { code, exponent })
    }
}

impl fmt::Display for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// An amount in minor units with its currency.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Money {
    /// Minor units: cents, yen, fils.
    pub minor: i64,
    /// Whose.
    pub currency: Currency,
}

impl Money {
    /// `minor` units of `currency`.
    #[must_use]
    pub const fn new(minor: i64, currency: Currency) -> Self {
        Self { minor, currency }
    }

    /// Nothing, of a currency.
    #[must_use]
    pub const fn zero(currency: Currency) -> Self {
        Self { minor: 0, currency }
    }

    /// # Errors
    /// `Overflow`, or `CurrencyMix` when the currencies differ.
    pub fn plus(self, other: Self) -> Result<Self, MoneyError> {
        if self.currency != other.currency {
            return Err(MoneyError::CurrencyMix(self.currency, other.currency));
        }
        let minor = self.minor.checked_add(other.minor).ok_or(MoneyError::Overflow)?;
        Ok(Self { minor, ..self })
    }

    /// # Errors
    /// `Overflow`.
    pub fn times(self, quantity: i64) -> Result<Self, MoneyError> {
        let minor = self.minor.checked_mul(quantity).ok_or(MoneyError::Overflow)?;
        Ok(Self { minor, ..self })
    }

    /// The part of this amount that `rate` is (0.19 for 19 %), rounded to whole minor units, half to even.
    ///
    /// This is the one rounding rule of the house.
    ///
    /// # Errors
    /// `Overflow`.
    pub fn share(self, rate: Decimal) -> Result<Self, MoneyError> {
        let exact = Decimal::from(self.minor).checked_mul(rate).ok_or(MoneyError::Overflow)?;
        let minor = exact
            .round_dp_with_strategy(0, RoundingStrategy::MidpointNearestEven)
            .to_i64()
            .ok_or(MoneyError::Overflow)?;
        Ok(Self { minor, ..self })
    }

    /// Reads `12.34` as money of `currency`.
    ///
    /// # Errors
    /// `NotANumber`, `TooPrecise` for more decimals than the currency has, `Overflow`.
    pub fn from_decimal_text(text: &str, currency: Currency) -> Result<Self, MoneyError> {
        let value: Decimal =
            text.parse().map_err(|_| MoneyError::NotANumber(text.chars().take(64).collect()))?;
        let factor = Decimal::from(10_i64.pow(u32::from(currency.exponent)));
        let minor = value.checked_mul(factor).ok_or(MoneyError::Overflow)?;
        if !minor.fract().is_zero() {
            let text = text.chars().take(64).collect();
            return Err(MoneyError::TooPrecise { currency, exponent: currency.exponent, text });
        }
        Ok(Self { minor: minor.to_i64().ok_or(MoneyError::Overflow)?, currency })
    }
}

impl fmt::Display for Money {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", Decimal::new(self.minor, u32::from(self.currency.exponent)), self.currency)
    }
}

impl fmt::Debug for Money {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn currency(code: &str) -> Currency {
        code.parse().unwrap()
    }

    #[test]
    fn exponents_follow_iso_4217() {
        for (code, exponent) in [("EUR", 2), ("USD", 2), ("JPY", 0), ("KRW", 0), ("KWD", 3), ("BHD", 3)] {
            assert_eq!(currency(code).exponent(), exponent, "{code}");
        }
        for bad in ["", "eur", "EU", "EURO", "ZZZ", "XAU", "E\0R"] {
            assert!(bad.parse::<Currency>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn text_needs_no_more_decimals_than_the_currency_has() {
        assert_eq!(Money::from_decimal_text("12.34", currency("EUR")).unwrap().minor, 1234);
        assert_eq!(Money::from_decimal_text("12.340", currency("EUR")).unwrap().minor, 1234);
        assert_eq!(Money::from_decimal_text("1234", currency("JPY")).unwrap().minor, 1234);
        assert!(matches!(
            Money::from_decimal_text("1.234", currency("JPY")),
            Err(MoneyError::TooPrecise { .. })
        ));
        assert!(matches!(Money::from_decimal_text("1e400", currency("EUR")), Err(MoneyError::NotANumber(_))));
        assert_eq!(Money::new(1234, currency("KWD")).to_string(), "1.234 KWD");
    }

    #[test]
    fn a_share_is_rounded_half_to_even() {
        let rate: Decimal = "0.05".parse().unwrap();
        let share = |minor| Money::new(minor, currency("EUR")).share(rate).unwrap().minor;
        assert_eq!((share(10), share(30), share(50), share(70)), (0, 2, 2, 4));
    }

    proptest! {
        #[test]
        fn text_round_trips(minor in any::<i64>()) {
            let money = Money::new(minor, currency("EUR"));
            let text = money.to_string();
            let back = Money::from_decimal_text(text.trim_end_matches(" EUR"), money.currency).unwrap();
            prop_assert_eq!(back, money);
        }

        #[test]
        fn sums_never_wrap(a in any::<i64>(), b in any::<i64>()) {
            let sum = Money::new(a, currency("EUR")).plus(Money::new(b, currency("EUR")));
            prop_assert_eq!(sum.ok().map(|m| m.minor), a.checked_add(b));
        }
    }
}
