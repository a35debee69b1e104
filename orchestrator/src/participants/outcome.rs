//! What a call came to: six outcomes, decided here and nowhere else.
//!
//! Only what surely did not happen is *not sent*. A stream's own status says nothing of the items not yet answered: they
//! are in doubt, and doubt is sticky.

use std::{collections::BTreeMap, time::Duration};

use proto::step::{Answer, turned_away};
use tonic::{Code, ConnectError, Status};

/// What a call came to. There is no seventh.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CallOutcome {
    /// Done; the encoded …Done message.
    Done(Vec<u8>),
    /// Refused, for ever.
    Refused {
        /// UPPER_SNAKE.
        reason: String,
        /// Details.
        metadata: BTreeMap<String, String>,
    },
    /// Not known yet.
    Pending {
        /// To be asked again then, milliseconds since 1970.
        until: i64,
        /// Whom it waits for.
        action: String,
    },
    /// Its compensation came first.
    Fenced,
    /// It surely did not happen.
    NotSent {
        /// Why.
        reason: String,
        /// It counts as an attempt: the participant looked at this item and could not process it.
        spent: bool,
        /// Not before this has passed.
        retry_after: Duration,
    },
    /// It may have happened.
    InDoubt {
        /// Why.
        reason: String,
    },
    /// It surely did not happen, and will not: our own mistake. Repeating would only hammer.
    Mistake {
        /// UPPER_SNAKE.
        reason: &'static str,
        /// For people.
        detail: String,
    },
}

impl CallOutcome {
    /// For metrics and traces.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Done(_) => "done",
            Self::Refused { .. } => "refused",
            Self::Pending { .. } => "pending",
            Self::Fenced => "fenced",
            Self::NotSent { .. } => "not_sent",
            Self::InDoubt { .. } => "in_doubt",
            Self::Mistake { .. } => "mistake",
        }
    }
}

/// The one place that says what a stream's own status means for the items not yet answered.
#[must_use]
pub fn classify_status(status: &Status) -> CallOutcome {
    let reason = format!("{:?}: {}", status.code(), status.message());
    match status.code() {
        Code::Unauthenticated | Code::PermissionDenied => {
            CallOutcome::Mistake { reason: "UNAUTHENTICATED", detail: reason }
        }
        Code::Unimplemented => CallOutcome::Mistake { reason: "UNIMPLEMENTED", detail: reason },
        Code::Unavailable if never_connected(status) => {
            CallOutcome::NotSent { reason, spent: false, retry_after: Duration::from_millis(500) }
        }
        _ => CallOutcome::InDoubt { reason },
    }
}

/// A connection that was never made carried nothing: refused, no such host, no way there, no answer. tonic says so by a
/// connect error in the source chain; one that broke later says something else, whatever its kind.
fn never_connected(status: &Status) -> bool {
    let mut source = std::error::Error::source(status);
    while let Some(error) = source {
        if error.is::<ConnectError>() {
            return true;
        }
        source = error.source();
    }
    false
}

/// The one place that says what a participant's answer means.
#[must_use]
pub fn classify<D: prost::Message>(says: Option<Answer<D>>) -> CallOutcome {
    match says {
        Some(Answer::Done(done)) => CallOutcome::Done(done.encode_to_vec()),
        Some(Answer::Refused(refused)) => {
            CallOutcome::Refused { reason: refused.reason, metadata: refused.metadata.into_iter().collect() }
        }
        Some(Answer::Pending(pending)) => {
            let until = pending
                .until
                .map_or(0, |t| t.seconds.saturating_mul(1000).saturating_add(i64::from(t.nanos) / 1_000_000));
            CallOutcome::Pending { until, action: pending.action }
        }
        Some(Answer::Fenced) => CallOutcome::Fenced,
        Some(Answer::TurnedAway(away)) => classify_turned_away(&away),
        None => CallOutcome::InDoubt { reason: "an answer without an outcome".into() },
    }
}

fn classify_turned_away(away: &proto::step::TurnedAway) -> CallOutcome {
    let retry_after = Duration::from_millis(u64::from(away.retry_after_ms));
    let not_sent = |spent| CallOutcome::NotSent { reason: away.message.clone(), spent, retry_after };
    match away.code() {
        turned_away::Code::Invalid => {
            CallOutcome::Mistake { reason: "INVALID", detail: away.message.clone() }
        }
        turned_away::Code::Mismatch => {
            CallOutcome::Mistake { reason: "MISMATCH", detail: away.message.clone() }
        }
        turned_away::Code::Overloaded | turned_away::Code::TooLate | turned_away::Code::Away => {
            not_sent(false)
        }
        turned_away::Code::Failed | turned_away::Code::Unspecified => not_sent(true),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_surely_did_not_happen_is_not_sent() {
        for code in [
            Code::Cancelled,
            Code::Unknown,
            Code::DeadlineExceeded,
            Code::Internal,
            Code::Unavailable,
            Code::Aborted,
            Code::ResourceExhausted,
            Code::OutOfRange,
            Code::DataLoss,
        ] {
            let outcome = classify_status(&Status::new(code, "?"));
            assert!(matches!(outcome, CallOutcome::InDoubt { .. }), "{code:?}: {outcome:?}");
        }
        let error = |kind: std::io::ErrorKind| std::io::Error::from(kind);
        for kind in [std::io::ErrorKind::ConnectionRefused, std::io::ErrorKind::TimedOut] {
            let connecting = ConnectError(Box::new(error(kind)));
            let away = classify_status(&Status::from_error(Box::new(connecting)));
            assert!(matches!(away, CallOutcome::NotSent { spent: false, .. }), "{kind:?}: {away:?}");
            let broken = classify_status(&Status::from_error(Box::new(error(kind))));
            assert!(matches!(broken, CallOutcome::InDoubt { .. }), "{kind:?}: {broken:?}");
        }
        let unavailable = Status::with_details(Code::Unavailable, "", Vec::new().into());
        assert!(matches!(classify_status(&unavailable), CallOutcome::InDoubt { .. }));
        assert!(matches!(classify_status(&Status::unimplemented("")), CallOutcome::Mistake { .. }));
    }

    #[test]
    fn a_mismatch_is_our_own_mistake_and_a_poison_item_spends_an_attempt() {
        let away = |code: turned_away::Code| proto::step::TurnedAway {
            code: code.into(),
            retry_after_ms: 7,
            message: String::new(),
        };
        assert!(matches!(
            classify_turned_away(&away(turned_away::Code::Mismatch)),
            CallOutcome::Mistake { .. }
        ));
        assert!(matches!(
            classify_turned_away(&away(turned_away::Code::Failed)),
            CallOutcome::NotSent { spent: true, .. }
        ));
        assert!(matches!(
            classify_turned_away(&away(turned_away::Code::Overloaded)),
            CallOutcome::NotSent { spent: false, .. }
        ));
    }
}
