//! What can go wrong with a command, told so that the next step is plain.
//!
//! A refusal shows everything that the server's error details say (reason, metadata, violations, when to come back).
//! Exit codes: 1 refused or failed, 2 wrongly used. Read next: `output.rs`.

use std::{fmt::Write as _, io, time::Duration};

use serde_json::{Value, json};
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use super::output::{Screen, plain, remark};

/// Why a command did not end well.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The words make no sense together.
    Usage(String),
    /// Nobody answers there.
    Unreachable {
        /// The address.
        server: String,
        /// Why.
        source: tonic::transport::Error,
    },
    /// The server said no.
    Refused(Box<Status>),
    /// The server said no, or nothing, to something that may have happened all the same.
    InDoubt {
        /// What it said.
        status: Box<Status>,
        /// How to find out.
        advice: String,
    },
    /// It was measured, or was to be, and says nothing.
    Void(String),
    /// Nobody reads what we write.
    Output(io::Error),
}

impl From<Status> for Failure {
    fn from(status: Status) -> Self {
        Self::Refused(Box::new(status))
    }
}

impl Failure {
    /// Tells it on standard error; the exit code.
    pub(crate) fn tell(&self, screen: Screen) -> u8 {
        match self {
            // `amends order list | head`: the reader has seen enough.
            Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe => return 0,
            _ => {}
        }
        match screen {
            Screen::Text => remark(&self.text()),
            Screen::Json => remark(&json!({ "error": self.json() }).to_string()),
        }
        if matches!(self, Self::Usage(_)) { 2 } else { 1 }
    }

    fn text(&self) -> String {
        match self {
            Self::Usage(text) => format!("error: {text}"),
            Self::Unreachable { server, source } => {
                format!(
                    "error: cannot reach {server}: {}\n  is `amends up` running? another address is given with --server \
                     or AMENDS_SERVER",
                    root(source)
                )
            }
            Self::Refused(status) => refusal(status),
            Self::InDoubt { status, advice } => format!("{}\n  {advice}", refusal(status)),
            Self::Void(why) => format!("error: the run is void: {why}"),
            Self::Output(error) => format!("error: cannot write the answer: {error}"),
        }
    }

    fn json(&self) -> Value {
        match self {
            Self::Void(why) => json!({ "code": "VOID", "message": why }),
            Self::Usage(text) => json!({ "code": "USAGE", "message": text }),
            Self::Unreachable { server, source } => {
                json!({ "code": "UNREACHABLE", "message": root(source), "server": server })
            }
            Self::Refused(status) => document(status),
            Self::InDoubt { status, advice } => {
                let mut document = document(status);
                document["advice"] = json!(advice);
                document
            }
            Self::Output(error) => json!({ "code": "OUTPUT", "message": error.to_string() }),
        }
    }
}

/// The innermost cause: "transport error" alone helps nobody.
fn root(error: &tonic::transport::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

fn refusal(status: &Status) -> String {
    let details = status.get_error_details();
    let mut text = format!("error: {}: {}", code(status.code()), plain(status.message()));
    let mut line = |name: &str, value: &str| {
        let _ = write!(text, "\n  {}: {}", plain(name), plain(value));
    };
    if let Some(info) = details.error_info() {
        line("reason", &info.reason);
        let mut metadata: Vec<_> = info.metadata.iter().collect();
        metadata.sort();
        // What a violation says better is not said twice.
        let has_violations = details.bad_request().is_some();
        metadata.iter().filter(|_| !has_violations).for_each(|(name, value)| line(name, value));
    }
    for violation in details.bad_request().map(|b| b.field_violations.as_slice()).unwrap_or_default() {
        line(&violation.field, &violation.description);
    }
    if let Some(after) = retry_after(status) {
        line("try again after", &humantime::format_duration(after).to_string());
    }
    text
}

fn document(status: &Status) -> Value {
    let details = status.get_error_details();
    let info = details.error_info();
    let violations = details.bad_request().map(|b| b.field_violations.as_slice()).unwrap_or_default();
    let violations: Vec<_> = violations
        .iter()
        .map(|v| {
            let reason = info.and_then(|info| info.metadata.get(&v.field));
            json!({ "field": v.field, "description": v.description, "reason": reason })
        })
        .collect();
    json!({
        "code": code(status.code()),
        "message": status.message(),
        "reason": info.map(|info| &info.reason),
        "domain": info.map(|info| &info.domain),
        "metadata": info.map(|info| &info.metadata),
        "violations": violations,
        "retry_after_ms": retry_after(status).map(|after| u64::try_from(after.as_millis()).unwrap_or(u64::MAX)),
    })
}

fn retry_after(status: &Status) -> Option<Duration> {
    status.get_error_details().retry_info()?.retry_delay
}

/// As the gRPC specification writes it.
fn code(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}

#[cfg(test)]
mod tests {
    use proto::error::{self, Violation};

    use super::*;

    #[test]
    fn every_violation_is_shown_once() {
        let status = error::invalid_fields(vec![
            Violation::new("lines[0].sku", "UNKNOWN_SKU", "is not in the price list"),
            Violation::new("lines[1].quantity", "RANGE", "must be 1 to 1000000"),
        ]);
        assert_eq!(
            refusal(&status),
            "error: INVALID_ARGUMENT: 2 fields are not valid, first lines[0].sku is not in the price list\n  \
             reason: VALIDATION\n  lines[0].sku: is not in the price list\n  lines[1].quantity: must be 1 to 1000000"
        );
        let document = document(&status);
        assert_eq!(document["violations"][1]["reason"], "RANGE");
        assert_eq!(document["code"], "INVALID_ARGUMENT");
    }

    #[test]
    fn a_reason_comes_with_its_metadata_and_when_to_come_back() {
        let status = error::exhausted(
            "TOO_MANY_SAGAS",
            "too much to do",
            Duration::from_millis(1500),
            [("in_flight", "4000".to_owned())],
        );
        assert_eq!(
            refusal(&status),
            "error: RESOURCE_EXHAUSTED: too much to do\n  reason: TOO_MANY_SAGAS\n  in_flight: 4000\n  \
             try again after: 1s 500ms"
        );
        assert_eq!(document(&status)["retry_after_ms"], 1500);
    }

    #[test]
    fn a_status_without_details_is_told_too() {
        assert_eq!(refusal(&Status::unavailable("gone")), "error: UNAVAILABLE: gone");
    }

    #[test]
    fn a_closed_pipe_is_no_failure() {
        let failure = Failure::Output(io::Error::from(io::ErrorKind::BrokenPipe));
        assert_eq!(failure.tell(Screen::Text), 0);
        assert_eq!(Failure::Usage("x".into()).tell(Screen::Text), 2);
    }
}
