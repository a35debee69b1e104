//! What a refusal owes to whoever is refused.

use prost::Message;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

/// Proxies cut off larger headers, and then the caller learns nothing.
const FITS_IN_HEADERS: usize = 8 * 1024;

/// A status at a people's door: INVALID_ARGUMENT that names each field, what is wrong with it and why.
pub(crate) fn says_why(status: &Status) {
    assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
    assert!(!status.message().is_empty());
    assert!(!status.get_details_error_info().expect("an ErrorInfo").reason.is_empty());
    let bad = status.get_details_bad_request().expect("a BadRequest").field_violations;
    assert!(!bad.is_empty());
    assert!(bad.iter().all(|one| !one.field.is_empty() && !one.description.is_empty()), "{bad:?}");
    let size = status.details().len().div_ceil(3) * 4 + status.message().len();
    assert!(size <= FITS_IN_HEADERS, "{size} bytes of headers");
}

/// A text for people: why an item is turned away, or a message dead.
pub(crate) fn text_says_why(why: &str) {
    assert!(!why.trim().is_empty());
    assert!(why.len() <= 4096, "{} bytes of reasons", why.len());
}

/// Decodes a message, if it is one; and sees to it that it survives being written down.
pub(crate) fn message<M: Message + Default + PartialEq + std::fmt::Debug>(data: &[u8]) -> Option<M> {
    let message = M::decode(data).ok()?;
    let again = M::decode(message.encode_to_vec().as_slice()).expect("what was encoded can be decoded");
    assert_eq!(again, message);
    Some(message)
}

/// The same answer to the same question.
pub(crate) fn agree<T: PartialEq + std::fmt::Debug, E>(first: &Result<T, E>, again: &Result<T, E>) {
    match (first, again) {
        (Ok(first), Ok(again)) => assert_eq!(first, again),
        (Err(_), Err(_)) => {}
        _ => panic!("taken once and refused once"),
    }
}
