//! Errors at a door, with details that machines can read (`google.rpc.ErrorInfo` and its kin, AIP-193).
//!
//! Every value in a message also stands in the metadata. Each crate maps its own refusals in one place and builds the
//! status here.

use std::{collections::HashMap, time::Duration};

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, FieldViolation, StatusExt as _};

/// The `domain` of every `ErrorInfo`.
pub const DOMAIN: &str = "amends";

/// What was found wrong with one field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// As in `lines[3].quantity`.
    pub field: String,
    /// `UPPER_SNAKE`, stable.
    pub reason: String,
    /// For people: what is wrong and what would be right.
    pub description: String,
}

impl Violation {
    /// A violation of `field`.
    pub fn new(field: impl Into<String>, reason: impl Into<String>, description: impl Into<String>) -> Self {
        Self { field: field.into(), reason: reason.into(), description: description.into() }
    }
}

/// `INVALID_ARGUMENT` for one field.
#[must_use]
pub fn invalid(field: &str, reason: &str, description: &str) -> Status {
    invalid_fields(vec![Violation::new(field, reason, description)])
}

/// What violations may say altogether, in bytes. Details travel in a header: many a proxy takes no more than 8 KiB of
/// headers, and a client of ours 16, and above that whoever is refused learns nothing at all.
const SAID_AT_MOST: usize = 2048;

/// `INVALID_ARGUMENT` naming every bad field; where there are too many to be told in one answer, the first of them.
#[must_use]
pub fn invalid_fields(mut violations: Vec<Violation>) -> Status {
    let found = violations.len();
    for one in &mut violations {
        one.field = cut(&one.field, 256);
        one.description = cut(&one.description, 256);
    }
    let message = match violations.as_slice() {
        [] => "a field is not valid".to_owned(),
        [one] => format!("{} {}", one.field, one.description),
        [first, ..] => format!("{found} fields are not valid, first {} {}", first.field, first.description),
    };
    let mut said = 0;
    violations.retain(|one| {
        // The field stands in the metadata as well.
        let is_first = said == 0;
        said += 2 * one.field.len() + one.reason.len() + one.description.len();
        is_first || said <= SAID_AT_MOST
    });
    let metadata = violations.iter().map(|v| (v.field.clone(), v.reason.clone())).collect::<HashMap<_, _>>();
    let mut details = ErrorDetails::with_error_info("VALIDATION", DOMAIN, metadata);
    details.set_bad_request(
        violations
            .into_iter()
            .map(|v| FieldViolation { field: v.field, description: v.description, ..Default::default() })
            .collect::<Vec<_>>(),
    );
    Status::with_error_details(Code::InvalidArgument, message, details)
}

fn cut(text: &str, bytes: usize) -> String {
    let mut end = bytes.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].to_owned()
}

fn with_info<const N: usize>(
    code: Code,
    reason: &str,
    message: String,
    metadata: [(&str, String); N],
) -> Status {
    let metadata = metadata.into_iter().map(|(k, v)| (k.to_owned(), v)).collect::<HashMap<_, _>>();
    Status::with_error_details(code, message, ErrorDetails::with_error_info(reason, DOMAIN, metadata))
}

/// `NOT_FOUND`: there is no `kind` (as in `order`) with this name.
#[must_use]
pub fn not_found(kind: &str, name: &str) -> Status {
    let mut details = ErrorDetails::with_error_info(
        format!("{}_NOT_FOUND", kind.to_uppercase()),
        DOMAIN,
        HashMap::from([(kind.to_owned(), name.to_owned())]),
    );
    details.set_resource_info(kind, name, "", "");
    Status::with_error_details(Code::NotFound, format!("there is no {kind} {name}"), details)
}

/// `FAILED_PRECONDITION`: valid, but not in this state.
#[must_use]
pub fn precondition<const N: usize>(
    reason: &str,
    message: impl Into<String>,
    metadata: [(&str, String); N],
) -> Status {
    with_info(Code::FailedPrecondition, reason, message.into(), metadata)
}

/// `ALREADY_EXISTS`.
#[must_use]
pub fn already_exists<const N: usize>(
    reason: &str,
    message: impl Into<String>,
    metadata: [(&str, String); N],
) -> Status {
    with_info(Code::AlreadyExists, reason, message.into(), metadata)
}

/// `ABORTED`: somebody else was faster; read again and repeat.
#[must_use]
pub fn aborted<const N: usize>(
    reason: &str,
    message: impl Into<String>,
    metadata: [(&str, String); N],
) -> Status {
    with_info(Code::Aborted, reason, message.into(), metadata)
}

/// `RESOURCE_EXHAUSTED`, with when to come back.
#[must_use]
pub fn exhausted<const N: usize>(
    reason: &str,
    message: impl Into<String>,
    retry_after: Duration,
    metadata: [(&str, String); N],
) -> Status {
    let metadata = metadata.into_iter().map(|(k, v)| (k.to_owned(), v)).collect::<HashMap<_, _>>();
    let mut details = ErrorDetails::with_error_info(reason, DOMAIN, metadata);
    details.set_retry_info(Some(retry_after));
    Status::with_error_details(Code::ResourceExhausted, message, details)
}

/// `UNAVAILABLE`: surely not executed, with when to come back.
#[must_use]
pub fn unavailable(reason: &str, message: impl Into<String>, retry_after: Duration) -> Status {
    let mut details = ErrorDetails::with_error_info(reason, DOMAIN, HashMap::new());
    details.set_retry_info(Some(retry_after));
    Status::with_error_details(Code::Unavailable, message, details)
}

/// `INTERNAL`: our own mistake. The cause is logged where it is found and never shown.
#[must_use]
pub fn internal(message: impl Into<String>) -> Status {
    with_info(Code::Internal, "INTERNAL", message.into(), [])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn however_much_is_wrong_the_answer_fits_into_headers() {
        let long = "é".repeat(5000);
        let all =
            (0..500).map(|i| Violation::new(format!("metadata[{i}{long}]"), "MALFORMED", &long)).collect();
        let status = invalid_fields(all);
        assert!(status.message().starts_with("500 fields are not valid, first metadata[0"));
        assert!(
            status.message().len() + status.details().len() * 4 / 3 < 8 * 1024,
            "{}",
            status.details().len()
        );
        let told = status.get_details_bad_request().unwrap().field_violations.len();
        assert!(told >= 1, "{told}");
        let some = (0..20)
            .map(|i| Violation::new(format!("lines[{i}].sku"), "MALFORMED", "must not be empty"))
            .collect();
        let status = invalid_fields(some);
        assert_eq!(status.get_details_bad_request().unwrap().field_violations.len(), 20, "all are told");
    }
}
