//! Keyset pages: sizes and tokens, alike for every list (AIP-158).
//!
//! A token names the last row that was shown and the arguments it belongs to. It gives no authority: whoever may list
//! may list.

use std::fmt::Write as _;

use sha2::{Digest as _, Sha256};
use tonic::Status;

use crate::error;

/// Rows of a page when the caller names no number.
pub const DEFAULT_SIZE: i64 = 50;
/// More than this is cut to this.
pub const MAX_SIZE: i64 = 500;

/// How many rows to show for a `page_size`.
///
/// # Errors
/// `INVALID_ARGUMENT` when it is negative.
pub fn size(page_size: i32) -> Result<i64, Status> {
    match i64::from(page_size) {
        0 => Ok(DEFAULT_SIZE),
        n if n < 0 => Err(error::invalid("page_size", "NEGATIVE", "must not be negative")),
        n => Ok(n.min(MAX_SIZE)),
    }
}

fn seal(arguments: &[&str], cursor: &str) -> String {
    let mut hash = Sha256::new();
    for part in arguments.iter().copied().chain([cursor]) {
        hash.update(u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
        hash.update(part.as_bytes());
    }
    hash.finalize().iter().take(8).fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// The token after the row with key `cursor`, for a list with these arguments.
#[must_use]
pub fn token(arguments: &[&str], cursor: &str) -> String {
    let hex = cursor.bytes().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    });
    format!("{}{hex}", seal(arguments, cursor))
}

/// The answer to a token that is none, or whose cursor names nothing that a row of the list could have.
#[must_use]
pub fn not_ours() -> Status {
    error::invalid(
        "page_token",
        "BAD_PAGE_TOKEN",
        "is not a token of this list with these arguments: take next_page_token as it came, and change nothing else",
    )
}

/// The cursor in a token; none for the first page.
///
/// # Errors
/// `INVALID_ARGUMENT` when the token is not one of ours, or was given for other arguments.
pub fn cursor(arguments: &[&str], page_token: &str) -> Result<Option<String>, Status> {
    if page_token.is_empty() {
        return Ok(None);
    }
    if page_token.len() > 1024 || !page_token.is_ascii() || page_token.len() < 16 {
        return Err(not_ours());
    }
    let (_, hex) = page_token.split_at(16);
    let bytes = (0..hex.len() / 2)
        .map(|i| u8::from_str_radix(&hex[2 * i..2 * i + 2], 16))
        .collect::<Result<Vec<u8>, _>>()
        .map_err(|_| not_ours())?;
    let cursor = String::from_utf8(bytes).map_err(|_| not_ours())?;
    // Whoever knows how seals are made can seal anything; no cursor of ours has what no database can compare.
    if token(arguments, &cursor) != page_token || cursor.contains('\0') {
        return Err(not_ours());
    }
    Ok(Some(cursor))
}

/// Cuts `rows`, read with one more than `size`, to the page; the token of the next one, empty when this is the last.
#[must_use]
pub fn next<T>(
    rows: &mut Vec<T>,
    size: i64,
    arguments: &[&str],
    cursor: impl FnOnce(&T) -> String,
) -> String {
    let size = usize::try_from(size).unwrap_or(usize::MAX);
    let has_more = rows.len() > size;
    rows.truncate(size);
    let last = rows.last().filter(|_| has_more);
    last.map(|row| token(arguments, &cursor(row))).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_belongs_to_its_arguments() {
        let token = token(&["m_1", "COMPLETED"], "ord_x");
        assert_eq!(cursor(&["m_1", "COMPLETED"], &token).unwrap().as_deref(), Some("ord_x"));
        assert!(cursor(&["m_2", "COMPLETED"], &token).is_err());
        for bad in ["x", "0123456789abcdef0", "0123456789abcdefzz", "ééééééééééééééééé", &token[..20]]
        {
            assert!(cursor(&["m_1", "COMPLETED"], bad).is_err(), "{bad}");
        }
        let lax = super::token(&[], "\u{5}").replace("05", "+5");
        assert!(cursor(&[], &lax).is_err(), "one cursor has one token: {lax}");
        assert!(cursor(&[], &super::token(&[], "a\0")).is_err(), "sealed, but not by us");
        assert_eq!(cursor(&[], "").unwrap(), None);
    }

    #[test]
    fn a_full_page_names_the_next_one_only_if_there_is_more() {
        let mut rows = vec![1, 2, 3];
        assert_eq!(next(&mut rows, 3, &[], ToString::to_string), "");
        assert_eq!(next(&mut rows, 2, &["a"], ToString::to_string), token(&["a"], "2"));
        assert_eq!(rows, [1, 2]);
        assert_eq!(next(&mut Vec::<i32>::new(), 2, &[], ToString::to_string), "");
    }
}
