//! Names that come from outside: checked once, then trusted.

use std::{fmt, str::FromStr};

/// Why a text is not a valid name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Nothing there.
    #[error("must not be empty")]
    Empty,
    /// More characters than allowed.
    #[error("must have at most {max} characters, has {found}")]
    TooLong {
        /// The most characters allowed.
        max: usize,
        /// How many there were.
        found: usize,
    },
    /// A character that may not stand there.
    #[error("must not contain {found:?} (allowed: {allowed})")]
    BadCharacter {
        /// The first one that is wrong.
        found: char,
        /// What is allowed, for people.
        allowed: &'static str,
    },
}

fn check(
    text: &str,
    max: usize,
    allowed: &'static str,
    is_allowed: fn(char) -> bool,
) -> Result<(), KeyError> {
    if text.is_empty() {
        return Err(KeyError::Empty);
    }
    let found = text.chars().count();
    if found > max {
        return Err(KeyError::TooLong { max, found });
    }
    match text.chars().find(|c| !is_allowed(*c)) {
        Some(found) => Err(KeyError::BadCharacter { found, allowed }),
        None => Ok(()),
    }
}

macro_rules! key {
    ($(#[$doc:meta])* $name:ident, $max:literal, $allowed:literal, $is_allowed:expr) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(String);

        impl $name {
            /// The text itself.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }

            /// The text itself, owned.
            #[must_use]
            pub fn into_string(self) -> String {
                self.0
            }
        }

        impl FromStr for $name {
            type Err = KeyError;

            fn from_str(text: &str) -> Result<Self, KeyError> {
                check(text, $max, $allowed, $is_allowed)?;
                Ok(Self(text.to_owned()))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&self.0, f)
            }
        }
    };
}

fn name_character(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-')
}

key!(
    /// What makes a request safe to repeat: 1 to 255 visible ASCII characters.
    IdempotencyKey, 255, "visible ASCII", |c| matches!(c, '\x21'..='\x7e')
);
key!(
    /// What is sold: 1 to 64 letters, digits, `.`, `_`, `-`.
    Sku, 64, "letters, digits, '.', '_', '-'", name_character
);
key!(
    /// A customer or a merchant: 1 to 64 letters, digits, `.`, `_`, `-`.
    PartyId, 64, "letters, digits, '.', '_', '-'", name_character
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_checked_at_the_door() {
        assert!("P1001".parse::<Sku>().is_ok());
        assert_eq!("".parse::<Sku>(), Err(KeyError::Empty));
        assert!(matches!("P\0".parse::<Sku>(), Err(KeyError::BadCharacter { found: '\0', .. })));
        assert!(matches!("x".repeat(65).parse::<Sku>(), Err(KeyError::TooLong { max: 64, found: 65 })));
        assert!("8e03978e-40d5-43e8-bc93-6894a57f9324".parse::<IdempotencyKey>().is_ok());
        assert!("two words".parse::<IdempotencyKey>().is_err());
        assert!("müller".parse::<PartyId>().is_err());
    }
}
