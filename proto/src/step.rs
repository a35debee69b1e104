//! What every step has in common, whatever the participant: header in, one of five answers out.
//!
//! [`serve`] is the door of every step and compensation RPC: a slice comes in, each item is parsed on its own, handed
//! to its command, and answered on the stream as soon as it is known. It starts every command before it answers
//! anything, so a caller that hangs up stops nothing.

use std::{pin::Pin, time::Duration};

use chrono::{DateTime, Utc};
use futures_util::{Stream, StreamExt as _, stream::FuturesUnordered};
use prost::{Message, Name};
use tonic::{Response, Status};
use types::{NoAnswer, StepKey};

pub use crate::generated::step::v1::{
    Dead, Fenced, NotApplied, Pending, Refused, StepAnswer, StepHeader, TurnedAway, step_answer, turned_away,
};

/// `kind` of the message that says a command went to the dead queue. It has no body: its headers say all.
pub const DEAD_NOTICE: &str = "amends.dead";
/// `kind` of a message whose body is a [`StepAnswer`].
pub const STEP_ANSWER: &str = "amends.step.v1.StepAnswer";

/// What a participant says to a step.
#[derive(Debug, Clone, PartialEq)]
pub enum Answer<D> {
    /// It is done; says the same for ever, until it is taken back.
    Done(D),
    /// It looked and said no; says the same for ever.
    Refused(Refused),
    /// Not known yet; the outcome will come as a [`StepAnswer`].
    Pending(Pending),
    /// Its compensation came first.
    Fenced,
    /// Nothing happened and nothing was stored.
    TurnedAway(TurnedAway),
}

/// What a participant says to a compensation.
#[derive(Debug, Clone, PartialEq)]
pub enum BackAnswer<D> {
    /// It is taken back.
    Done(D),
    /// There was nothing to take back, and now there never will be.
    NotApplied,
    /// Under way; the outcome will come as a [`StepAnswer`].
    Pending(Pending),
    /// Nothing happened and nothing was stored.
    TurnedAway(TurnedAway),
}

/// An item of a step request: it begins with a header.
pub trait Item: Message + Default {
    /// The header, if it was sent.
    fn header(&self) -> Option<&StepHeader>;
}

/// One message of the reply stream, built from what the participant says.
pub trait Reply: Sized + Send + 'static {
    /// [`Answer`] for a step, [`BackAnswer`] for a compensation.
    type Says: From<TurnedAway> + Send + 'static;
    /// Puts it on the wire.
    fn build(saga_id: String, step: String, says: Self::Says) -> Self;
    /// Takes it off the wire; none when the outcome is missing.
    fn open(self) -> (String, String, Option<Self::Says>);
}

/// A parsed header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// The barrier's key.
    pub key: StepKey,
    /// Counts from 1; for logs.
    pub attempt: u32,
    /// What is left of the item's time; none means no limit.
    pub remaining: Option<Duration>,
    /// W3C traceparent; empty where there was none.
    pub trace: String,
}

impl Header {
    /// # Errors
    /// What is wrong with it, for people.
    pub fn parse(header: Option<&StepHeader>) -> Result<Self, String> {
        let header = header.ok_or("header is missing")?;
        Ok(Self {
            key: StepKey {
                saga: header.saga_id.parse().map_err(|e| format!("header.saga_id: {e}"))?,
                step: header.step.parse().map_err(|e| format!("header.step: {e}"))?,
            },
            attempt: header.attempt,
            remaining: match header.remaining_ms {
                0 => None,
                ms => Some(Duration::from_millis(u64::from(ms))),
            },
            trace: types::traceparent(&header.trace).to_owned(),
        })
    }
}

/// Reads a command that came as a message: an item of this kind and its header.
///
/// # Errors
/// What is wrong with it, for people: it can never be handled.
pub fn read_command<I: Item + Name>(kind: &str, body: &[u8]) -> Result<(I, Header), String> {
    if kind != I::full_name() {
        return Err(format!("{kind} was sent to who takes {}", I::full_name()));
    }
    let item = I::decode(body).map_err(|e| format!("{kind}: {e}"))?;
    let header = Header::parse(item.header())?;
    Ok((item, header))
}

impl<D> From<TurnedAway> for Answer<D> {
    fn from(away: TurnedAway) -> Self {
        Self::TurnedAway(away)
    }
}

impl<D> From<TurnedAway> for BackAnswer<D> {
    fn from(away: TurnedAway) -> Self {
        Self::TurnedAway(away)
    }
}

impl TurnedAway {
    /// The item cannot be a valid one.
    #[must_use]
    pub fn invalid(message: impl Into<String>) -> Self {
        Self { code: turned_away::Code::Invalid.into(), retry_after_ms: 0, message: message.into() }
    }

    /// The same step was asked before with another body.
    #[must_use]
    pub fn mismatch(key: &StepKey) -> Self {
        let message = format!("{} of {} was asked before with another body", key.step, key.saga);
        Self { code: turned_away::Code::Mismatch.into(), retry_after_ms: 0, message }
    }

    /// This item alone cannot be processed.
    #[must_use]
    pub fn failed(message: impl Into<String>) -> Self {
        Self { code: turned_away::Code::Failed.into(), retry_after_ms: 0, message: message.into() }
    }
}

impl StepAnswer {
    /// The answer to a compensation that came as a message, `command_id`; none when it has no outcome (yet).
    #[must_use]
    pub fn compensation<D: Message>(
        key: &StepKey,
        command_id: &str,
        says: &BackAnswer<D>,
        time: DateTime<Utc>,
    ) -> Option<Self> {
        let outcome = match says {
            BackAnswer::Done(done) => step_answer::Outcome::Done(done.encode_to_vec()),
            BackAnswer::NotApplied => step_answer::Outcome::NotApplied(NotApplied {}),
            BackAnswer::Pending(_) | BackAnswer::TurnedAway(_) => return None,
        };
        Some(Self {
            saga_id: key.saga.to_string(),
            step: key.step.to_string(),
            direction: step_answer::Direction::Compensation.into(),
            command_id: command_id.to_owned(),
            outcome: Some(outcome),
            time: Some(crate::time::stamp(time)),
        })
    }
}

/// A reply stream.
pub type Replies<R> = Pin<Box<dyn Stream<Item = Result<R, Status>> + Send + 'static>>;

/// Serves one exchange: parses each item, starts each command at once, streams the answers as they come.
///
/// `start` must have handed its item over when it returns; the future only waits. An item that [`NoAnswer::Unavailable`]
/// befell ends the stream with `UNAVAILABLE`: the caller then knows nothing about the items not yet answered.
///
/// # Errors
/// `INVALID_ARGUMENT` when the slice is empty or longer than `max`.
pub fn serve<I, R, F>(
    items: Vec<I>,
    max: usize,
    mut start: impl FnMut(I, Header) -> Result<F, String>,
) -> Result<Response<Replies<R>>, Status>
where
    I: Item,
    R: Reply,
    F: Future<Output = Result<R::Says, NoAnswer>> + Send + 'static,
{
    if items.is_empty() || items.len() > max {
        let found = items.len();
        return Err(crate::error::invalid(
            "items",
            "SLICE_LENGTH",
            &format!("must be 1 to {max}, there are {found}"),
        ));
    }
    let mut early = Vec::new();
    let waiting = FuturesUnordered::new();
    for item in items {
        let (saga_id, step) = item.header().map(|h| (h.saga_id.clone(), h.step.clone())).unwrap_or_default();
        match Header::parse(item.header()).and_then(|header| start(item, header)) {
            Ok(answer) => waiting.push(async move {
                match answer.await {
                    Ok(says) => Ok(R::build(saga_id, step, says)),
                    Err(none) => turn_away(none).map(|away| R::build(saga_id, step, away.into())),
                }
            }),
            Err(why) => early.push(Ok(R::build(saga_id, step, TurnedAway::invalid(why).into()))),
        }
    }
    let mut broken = false;
    let replies = futures_util::stream::iter(early).chain(waiting).take_while(move |reply| {
        // The first failure is sent and ends the stream.
        let go_on = !broken;
        broken |= reply.is_err();
        std::future::ready(go_on)
    });
    Ok(Response::new(Box::pin(replies)))
}

fn turn_away(none: NoAnswer) -> Result<TurnedAway, Status> {
    let (code, retry_after_ms, message) = match none {
        NoAnswer::Overloaded { retry_after } => {
            let ms = u32::try_from(retry_after.as_millis()).unwrap_or(u32::MAX);
            (turned_away::Code::Overloaded, ms, "too much to do".to_owned())
        }
        NoAnswer::TooLate => {
            (turned_away::Code::TooLate, 0, "its time had passed before work began".to_owned())
        }
        NoAnswer::Failed(why) => (turned_away::Code::Failed, 0, why),
        NoAnswer::Away(why) => (turned_away::Code::Away, 1000, why),
        NoAnswer::Unavailable(why) => {
            return Err(crate::error::unavailable("PARTICIPANT_UNAVAILABLE", why, Duration::from_secs(1)));
        }
    };
    Ok(TurnedAway { code: code.into(), retry_after_ms, message })
}

macro_rules! forward {
    ($package:ident, $item:ident, $reply:ident, $done:ident, $module:ident) => {
        const _: () = {
            use crate::generated::$package::v1::{$done, $item, $module::Outcome, $reply};
            impl Item for $item {
                fn header(&self) -> Option<&StepHeader> {
                    self.header.as_ref()
                }
            }
            impl Reply for $reply {
                type Says = Answer<$done>;
                fn build(saga_id: String, step: String, says: Self::Says) -> Self {
                    let outcome = Some(match says {
                        Answer::Done(done) => Outcome::Done(done),
                        Answer::Refused(refused) => Outcome::Refused(refused),
                        Answer::Pending(pending) => Outcome::Pending(pending),
                        Answer::Fenced => Outcome::Fenced(Fenced {}),
                        Answer::TurnedAway(away) => Outcome::TurnedAway(away),
                    });
                    Self { saga_id, step, outcome }
                }
                fn open(self) -> (String, String, Option<Self::Says>) {
                    let says = self.outcome.map(|outcome| match outcome {
                        Outcome::Done(done) => Answer::Done(done),
                        Outcome::Refused(refused) => Answer::Refused(refused),
                        Outcome::Pending(pending) => Answer::Pending(pending),
                        Outcome::Fenced(Fenced {}) => Answer::Fenced,
                        Outcome::TurnedAway(away) => Answer::TurnedAway(away),
                    });
                    (self.saga_id, self.step, says)
                }
            }
        };
    };
}

macro_rules! back {
    ($package:ident, $item:ident, $reply:ident, $done:ident, $module:ident) => {
        const _: () = {
            use crate::generated::$package::v1::{$done, $item, $module::Outcome, $reply};
            impl Item for $item {
                fn header(&self) -> Option<&StepHeader> {
                    self.header.as_ref()
                }
            }
            impl Reply for $reply {
                type Says = BackAnswer<$done>;
                fn build(saga_id: String, step: String, says: Self::Says) -> Self {
                    let outcome = Some(match says {
                        BackAnswer::Done(done) => Outcome::Done(done),
                        BackAnswer::NotApplied => Outcome::NotApplied(NotApplied {}),
                        BackAnswer::Pending(pending) => Outcome::Pending(pending),
                        BackAnswer::TurnedAway(away) => Outcome::TurnedAway(away),
                    });
                    Self { saga_id, step, outcome }
                }
                fn open(self) -> (String, String, Option<Self::Says>) {
                    let says = self.outcome.map(|outcome| match outcome {
                        Outcome::Done(done) => BackAnswer::Done(done),
                        Outcome::NotApplied(NotApplied {}) => BackAnswer::NotApplied,
                        Outcome::Pending(pending) => BackAnswer::Pending(pending),
                        Outcome::TurnedAway(away) => BackAnswer::TurnedAway(away),
                    });
                    (self.saga_id, self.step, says)
                }
            }
        };
    };
}

forward!(order, OpenItem, OpenReply, OpenDone, open_reply);
forward!(order, CompleteItem, CompleteReply, CompleteDone, complete_reply);
back!(order, CancelItem, CancelReply, CancelDone, cancel_reply);
forward!(inventory, ReserveItem, ReserveReply, ReserveDone, reserve_reply);
forward!(inventory, CommitItem, CommitReply, CommitDone, commit_reply);
back!(inventory, ReleaseItem, ReleaseReply, ReleaseDone, release_reply);
forward!(risk, ScreenItem, ScreenReply, ScreenDone, screen_reply);
forward!(payment, ChargeItem, ChargeReply, ChargeDone, charge_reply);
back!(payment, RefundItem, RefundReply, RefundDone, refund_reply);
forward!(ledger, PostItem, PostReply, PostDone, post_reply);
back!(ledger, ReverseItem, ReverseReply, ReverseDone, reverse_reply);

impl Item for crate::generated::risk::v1::WithdrawItem {
    fn header(&self) -> Option<&StepHeader> {
        self.header.as_ref()
    }
}
