//! What the simulator does with a request: pure. A token stands for a [`Manner`]; the book's entry and the manner say
//! the next entry and the [`Reply`].

use std::time::Duration;

use chrono::{DateTime, Utc};

use crate::domain::{Category, Decline, Said};

type Time = DateTime<Utc>;

/// What a token stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    /// `tok_approve`: charged.
    Approve,
    /// `tok_decline`: `CARD_DECLINED`.
    Decline,
    /// `tok_insufficient_funds`: `INSUFFICIENT_FUNDS`.
    InsufficientFunds,
    /// `tok_timeout_before`: the first send is swallowed without effect; sent again, it is charged. So is its refund.
    TimeoutBefore,
    /// `tok_timeout_after`: charged, but the first answer is lost; sent again, it answers. So does its refund.
    TimeoutAfter,
    /// `tok_slow`: pending, then charged.
    Slow,
    /// `tok_error_once`: the first send fails without effect; sent again, it is charged. So is its refund.
    ErrorOnce,
    /// `tok_never_answers`: every send is swallowed without effect.
    NeverAnswers,
    /// Any other token: `INVALID_TOKEN`.
    InvalidToken,
}

impl Manner {
    const ALL: [Self; 9] = [
        Self::Approve,
        Self::Decline,
        Self::InsufficientFunds,
        Self::TimeoutBefore,
        Self::TimeoutAfter,
        Self::Slow,
        Self::ErrorOnce,
        Self::NeverAnswers,
        Self::InvalidToken,
    ];

    /// As the book says it; a token is `tok_` and this.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Approve => "approve",
            Self::Decline => "decline",
            Self::InsufficientFunds => "insufficient_funds",
            Self::TimeoutBefore => "timeout_before",
            Self::TimeoutAfter => "timeout_after",
            Self::Slow => "slow",
            Self::ErrorOnce => "error_once",
            Self::NeverAnswers => "never_answers",
            Self::InvalidToken => "invalid_token",
        }
    }

    /// Reads the book.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|manner| manner.as_str() == text)
    }

    /// What a token stands for.
    pub fn of_token(token: &str) -> Self {
        token.strip_prefix("tok_").and_then(Self::parse).unwrap_or(Self::InvalidToken)
    }
}

/// Where a charge or a refund stands in the book.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Heard of, without effect.
    Received,
    /// It takes effect at this time.
    Pending(Time),
    /// Charged, or refunded.
    Effective(Time),
    /// Refused.
    Declined,
}

/// What goes back over the wire.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// An answer.
    Says(Said),
    /// An error that promises: no effect.
    Error(&'static str),
    /// An error that says nothing about the effect of an earlier send.
    Wrong(&'static str),
    /// No answer at all.
    Silence,
}

impl Standing {
    /// What has come due has happened.
    pub fn as_of(self, now: Time) -> Self {
        match self {
            Self::Pending(due) if due <= now => Self::Effective(due),
            other => other,
        }
    }

    /// What a look-up answers.
    pub fn found(self, manner: Manner, reference: &str) -> Option<Said> {
        match self {
            Self::Received => None,
            Self::Pending(_) => Some(Said::Pending),
            Self::Effective(_) => Some(Said::Done { reference: reference.to_owned() }),
            Self::Declined => Some(Said::Declined(decline(manner))),
        }
    }
}

fn decline(manner: Manner) -> Decline {
    let (code, category) = match manner {
        Manner::InsufficientFunds => ("INSUFFICIENT_FUNDS", Category::Soft),
        Manner::InvalidToken => ("INVALID_TOKEN", Category::Data),
        _ => ("CARD_DECLINED", Category::Hard),
    };
    Decline { code: code.to_owned(), category }
}

/// A charge with this key was sent for the `send`th time; `standing` is what the book said before.
pub fn charge(
    manner: Manner,
    send: i32,
    standing: Standing,
    reference: &str,
    slow: Duration,
    now: Time,
) -> (Standing, Reply) {
    let answered = |standing: Standing| {
        let says = standing.found(manner, reference).map_or(Reply::Silence, Reply::Says);
        (standing, says)
    };
    let standing = standing.as_of(now);
    if standing != Standing::Received {
        return answered(standing);
    }
    match manner {
        Manner::Decline | Manner::InsufficientFunds | Manner::InvalidToken => answered(Standing::Declined),
        Manner::Slow => answered(Standing::Pending(crate::domain::after(now, slow))),
        Manner::NeverAnswers => (Standing::Received, Reply::Silence),
        _ => misbehave_once(manner, send, reference, now),
    }
}

/// A refund with this key was sent for the `send`th time. A charge's manner holds for its refund too.
pub fn refund(
    manner: Manner,
    send: i32,
    standing: Standing,
    reference: &str,
    now: Time,
) -> (Standing, Reply) {
    if let Standing::Effective(_) = standing {
        return (standing, Reply::Says(Said::Done { reference: reference.to_owned() }));
    }
    misbehave_once(manner, send, reference, now)
}

/// What takes effect, with what may go wrong on the first send.
fn misbehave_once(manner: Manner, send: i32, reference: &str, now: Time) -> (Standing, Reply) {
    let done = || Reply::Says(Said::Done { reference: reference.to_owned() });
    match (manner, send) {
        (Manner::TimeoutBefore, 1) => (Standing::Received, Reply::Silence),
        (Manner::ErrorOnce, 1) => (Standing::Received, Reply::Error("service unavailable, nothing was done")),
        (Manner::TimeoutAfter, 1) => (Standing::Effective(now), Reply::Silence),
        _ => (Standing::Effective(now), done()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SLOW: Duration = Duration::from_secs(60);

    fn at(second: i64) -> Time {
        DateTime::from_timestamp(second, 0).unwrap()
    }

    #[test]
    fn each_token_does_what_its_name_says() {
        let done = || Reply::Says(Said::Done { reference: "ch".into() });
        for (token, first, second) in [
            ("tok_approve", done(), done()),
            ("tok_timeout_before", Reply::Silence, done()),
            ("tok_timeout_after", Reply::Silence, done()),
            ("tok_error_once", Reply::Error("service unavailable, nothing was done"), done()),
            ("tok_never_answers", Reply::Silence, Reply::Silence),
            ("tok_slow", Reply::Says(Said::Pending), Reply::Says(Said::Pending)),
        ] {
            let manner = Manner::of_token(token);
            let (standing, reply) = charge(manner, 1, Standing::Received, "ch", SLOW, at(0));
            assert_eq!(reply, first, "{token}");
            let (_, reply) = charge(manner, 2, standing, "ch", SLOW, at(1));
            assert_eq!(reply, second, "{token}");
        }
        for (token, code) in [
            ("tok_decline", "CARD_DECLINED"),
            ("tok_insufficient_funds", "INSUFFICIENT_FUNDS"),
            ("visa", "INVALID_TOKEN"),
            ("approve", "INVALID_TOKEN"),
        ] {
            let (standing, reply) = charge(Manner::of_token(token), 1, Standing::Received, "ch", SLOW, at(0));
            assert!(matches!(reply, Reply::Says(Said::Declined(d)) if d.code == code), "{token}");
            assert_eq!(standing, Standing::Declined);
        }
    }

    #[test]
    fn a_slow_charge_is_pending_until_its_time_and_charged_once() {
        let (standing, _) = charge(Manner::Slow, 1, Standing::Received, "ch", SLOW, at(0));
        assert_eq!(standing.as_of(at(59)).found(Manner::Slow, "ch"), Some(Said::Pending));
        assert_eq!(standing.as_of(at(60)), Standing::Effective(at(60)));
        let (again, _) = charge(Manner::Slow, 2, standing, "ch", SLOW, at(100));
        assert_eq!(again, Standing::Effective(at(60)));
    }

    #[test]
    fn a_lost_answer_has_an_effect_and_a_swallowed_request_has_none() {
        let first = |manner| charge(manner, 1, Standing::Received, "ch", SLOW, at(0)).0;
        assert_eq!(first(Manner::TimeoutAfter), Standing::Effective(at(0)));
        assert_eq!(first(Manner::TimeoutBefore).found(Manner::TimeoutBefore, "ch"), None);
        assert_eq!(
            refund(Manner::TimeoutAfter, 1, Standing::Received, "re", at(0)).0,
            Standing::Effective(at(0))
        );
    }
}
