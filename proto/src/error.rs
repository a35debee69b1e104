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

/// `INVALID_ARGUMENT` naming every bad field.
#[must_use]
pub fn invalid_fields(violations: Vec<Violation>) -> Status {
    let message = match violations.as_slice() {
        [one] => format!("{} {}", one.field, one.description),
        many => {
            format!("{} fields are not valid, first {} {}", many.len(), many[0].field, many[0].description)
        }
    };
    let metadata =
        violations.iter().take(32).map(|v| (v.field.clone(), v.reason.clone())).collect::<HashMap<_, _>>();
    let mut details = ErrorDetails::with_error_info("VALIDATION", DOMAIN, metadata);
    details.set_bad_request(
        violations
            .into_iter()
            .take(100)
            .map(|v| FieldViolation { field: v.field, description: v.description, ..Default::default() })
            .collect::<Vec<_>>(),
    );
    Status::with_error_details(Code::InvalidArgument, message, details)
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
