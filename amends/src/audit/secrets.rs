//! What must stand nowhere: how it is known when it is seen (I11). Pure; it says what kind of thing it saw and never what.

use chassis::keyring::Keyring;
use types::card::holds_card_number;

/// What was seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Seen {
    CardNumber,
    SecurityCode,
    Token,
    Password,
    Canary,
}

impl Seen {
    /// For people.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::CardNumber => "a card number",
            Self::SecurityCode => "a card's security code",
            Self::Token => "a payment token",
            Self::Password => "a password in a URL",
            Self::Canary => "a canary",
        }
    }
}

/// What is looked for.
#[derive(Debug, Clone, Default)]
pub(super) struct Watch {
    /// Texts that somebody planted.
    canaries: Vec<Vec<u8>>,
}

impl Watch {
    pub(super) fn new(canaries: &[String]) -> Self {
        let canaries = canaries.iter().filter(|canary| !canary.is_empty());
        Self { canaries: canaries.map(|canary| canary.clone().into_bytes()).collect() }
    }

    /// Every kind of thing that stands in some bytes.
    pub(super) fn look(&self, bytes: &[u8]) -> Vec<Seen> {
        let mut seen = Vec::new();
        if holds_card_number(bytes) {
            seen.push(Seen::CardNumber);
        }
        if holds_security_code(bytes) {
            seen.push(Seen::SecurityCode);
        }
        if holds_token(bytes) {
            seen.push(Seen::Token);
        }
        if holds_password(bytes) {
            seen.push(Seen::Password);
        }
        if self.canaries.iter().any(|canary| contains(bytes, canary)) {
            seen.push(Seen::Canary);
        }
        seen
    }
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    places(bytes, part).next().is_some()
}

/// Where a part begins, everywhere.
fn places<'b>(bytes: &'b [u8], part: &'b [u8]) -> impl Iterator<Item = usize> + 'b {
    let first = part.first().copied();
    (0..bytes.len()).filter(move |at| Some(bytes[*at]) == first && bytes[*at..].starts_with(part))
}

/// `tok_…`, as providers make them: not part of another word, nor of an encrypted text, in one of some millions of which it
/// stands by chance.
fn holds_token(bytes: &[u8]) -> bool {
    places(bytes, b"tok_").any(|at| {
        let is_apart = at == 0 || !bytes[at - 1].is_ascii_alphanumeric();
        let more = bytes[at + 4..].iter().take_while(|c| c.is_ascii_alphanumeric() || **c == b'_').count();
        is_apart && more >= 3 && !Keyring::is_within_encrypted(bytes, at)
    })
}

/// A field named like one, with three or four digits in it.
fn holds_security_code(bytes: &[u8]) -> bool {
    const NAMES: [&[u8]; 5] = [b"cvv2", b"cvv", b"cvc", b"security_code", b"securitycode"];
    let lower = bytes.to_ascii_lowercase();
    NAMES.iter().any(|name| {
        places(&lower, name).any(|at| {
            let is_apart = at == 0 || !lower[at - 1].is_ascii_alphanumeric();
            let rest = &lower[at + name.len()..];
            // A JSON within a JSON has its quotes escaped.
            let between = rest.iter().take_while(|c| b"\"'\\:= \t".contains(c)).count();
            let digits = rest[between..].iter().take_while(|c| c.is_ascii_digit()).count();
            let is_whole = rest.get(between + digits).is_none_or(|c| !c.is_ascii_alphanumeric());
            is_apart && between > 0 && (3..=4).contains(&digits) && is_whole
        })
    })
}

/// `scheme://user:password@`, unless it is crossed out.
fn holds_password(bytes: &[u8]) -> bool {
    places(bytes, b"://").any(|at| {
        let rest = &bytes[at + 3..];
        let is_end = |c: &u8| c.is_ascii_whitespace() || b"/\"'<>?#\\".contains(c);
        let authority = &rest[..rest.iter().position(is_end).unwrap_or(rest.len())];
        let Some(user) = authority.iter().rposition(|c| *c == b'@').map(|end| &authority[..end]) else {
            return false;
        };
        let password = user.iter().position(|c| *c == b':').map(|colon| &user[colon + 1..]);
        password.is_some_and(|password| password.iter().any(|c| !b"*.x".contains(c)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(text: &str) -> Vec<Seen> {
        Watch::new(&["geheim".to_owned(), String::new()]).look(text.as_bytes())
    }

    #[test]
    fn each_kind_is_known_where_it_stands() {
        for (text, seen) in [
            ("{\"card_token\":\"tok_approve\"}", Seen::Token),
            ("a\0\x12tok_1AbC9\x18", Seen::Token),
            ("\"enc1.k1.tok_approve\" is no encrypted text", Seen::Token),
            ("enc2.k1.AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA-tok_approve", Seen::Token),
            ("number 4242 4242 4242 4242.", Seen::CardNumber),
            ("{\"cvv\":\"123\"}", Seen::SecurityCode),
            ("{\\\"CVC\\\": 1234}", Seen::SecurityCode),
            ("security_code=999&x", Seen::SecurityCode),
            ("cannot reach postgres://amends:hunter2@db/x", Seen::Password),
            ("redis://:hunter2@h:6379", Seen::Password),
            ("das ist geheim.", Seen::Canary),
        ] {
            assert_eq!(look(text), [seen], "{text}");
        }
    }

    #[test]
    fn what_only_looks_like_it_is_none() {
        for text in [
            "enc1.k1.tokAbc-tok_",
            "{\"card_token\":\"enc1.k1.AAAAAAAAAAAAAAAAAAAAAAAA-tok_approveAAAAAA\"}",
            "enc1.k1.tok_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
            "a stok_approve",
            "tok_",
            "page_token tok_…",
            "cvv unknown",
            "cvv: 12345",
            "discover: 123",
            "postgres://amends@db/x",
            "postgres://amends:***@db/x",
            "http://[::1]:50051/a@b",
            "http://host:80 user@example.org",
            "{\"at\":1796122345678,\"hash\":-3123456789012345678}",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "",
        ] {
            assert_eq!(look(text), [], "{text}");
        }
    }
}
