//! What the provider knows a card by. It may be charged with, so it is never shown, not even by `Debug`.

use std::{fmt, str::FromStr};

use chassis::keyring::Keyring;
use types::card::holds_card_number;

/// 64 characters, a nonce and a tag, in base64, with the mark and the key's id.
const MOST_ENCRYPTED: usize = 160;

/// A payment token: 1 to 64 letters, digits, `_`, `-`, and nothing that looks like a card number; or one that is encrypted,
/// as it is stored and passed on.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

/// Why a text is not a token. The text itself is never repeated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// Wrong length or characters.
    #[error("must be 1 to 64 letters, digits, '_' or '-'")]
    Malformed,
    /// 13 to 19 digits with a valid check digit.
    #[error(
        "looks like a card number: card numbers must never be sent here, only tokens of the payment provider"
    )]
    CardNumber,
}

impl Token {
    /// The text itself, for the provider and the store alone.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

impl FromStr for Token {
    type Err = TokenError;

    fn from_str(text: &str) -> Result<Self, TokenError> {
        if Keyring::is_encrypted(text) && text.len() <= MOST_ENCRYPTED {
            return Ok(Self(text.to_owned()));
        }
        if looks_like_a_card(text) {
            return Err(TokenError::CardNumber);
        }
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
        if text.is_empty() || text.len() > 64 || !text.chars().all(allowed) {
            return Err(TokenError::Malformed);
        }
        Ok(Self(text.to_owned()))
    }
}

/// A whole one whose digits may stand in any groups, or one within other text.
fn looks_like_a_card(text: &str) -> bool {
    let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_digit).collect();
    let is_number = text.bytes().all(|c| c.is_ascii_digit() || b"_- .".contains(&c));
    holds_card_number(text.as_bytes()) || (is_number && holds_card_number(&digits))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_card_number_is_not_a_token() {
        for card in ["4242424242424242", "4111-1111-1111-1111", "4111 1111 1111 1111", "378282246310005"] {
            assert_eq!(card.parse::<Token>(), Err(TokenError::CardNumber), "{card}");
        }
        for bad in ["", "tok approve", "tok\0", "tök", &"x".repeat(65)] {
            assert_eq!(bad.parse::<Token>(), Err(TokenError::Malformed), "{bad:?}");
        }
        for good in ["tok_approve", "4242424242424241", "pm-1", "123456789012"] {
            assert!(good.parse::<Token>().is_ok(), "{good}");
        }
    }

    #[test]
    fn a_token_is_not_shown() {
        let token: Token = "tok_approve".parse().unwrap();
        assert_eq!(format!("{token:?}"), "Token(…)");
    }
}
