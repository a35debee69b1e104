//! Something happened to a charge: move its record, and say what it owes.

use std::sync::Arc;

use chassis::{
    batcher::Command,
    database::{self, Trouble},
};
use proto::{
    payment::v1::{ChargeDone, RefundDone},
    step::{Answer, BackAnswer, Pending},
};
use types::StepKey;

use super::{Desk, Errand};
use crate::{
    answers,
    domain::{Attempt, Event, State},
    store,
};

/// The command.
pub(crate) struct Record(pub(crate) Arc<Desk>);

/// What happened to whom.
#[derive(Debug, Clone)]
pub(crate) struct Happened {
    pub(crate) key: StepKey,
    pub(crate) event: Event,
    /// Whether the provider may be called at once.
    pub(crate) may_send: bool,
}

/// Where it stands now.
#[derive(Debug)]
pub(crate) struct Standing {
    /// What the charge answers; none while it is not known.
    pub(crate) forward: Option<Answer<ChargeDone>>,
    /// What to say while it is not.
    pub(crate) pending: Pending,
    /// What the compensation answers; none while it is under way.
    pub(crate) back: Option<BackAnswer<RefundDone>>,
    pub(crate) errand: Errand,
}

impl Command for Record {
    type Item = Happened;
    type Reply = Standing;
    type Key = StepKey;
    const NAME: &'static str = "payment.record";

    fn key(item: &Happened) -> StepKey {
        item.key.clone()
    }

    async fn run(&self, items: &[Happened]) -> Result<Vec<Standing>, Trouble> {
        let desk = &*self.0;
        let mut transaction = database::begin_on(&desk.pool).await?;
        let keys: Vec<_> = items.iter().map(|item| &item.key).collect();
        let mut found = store::load(&mut transaction, &keys).await?;
        let mut replies = Vec::with_capacity(items.len());
        let mut messages = Vec::new();
        let mut changed = Vec::new();
        let mut moves = Vec::new();
        for item in items {
            let (attempt, now) =
                found.get_mut(&item.key).ok_or_else(|| Trouble::Failed("there is no such attempt".into()))?;
            let before = attempt.clone();
            let next = attempt.apply(&item.event, &desk.policy, item.may_send, *now);
            answers::seal(attempt);
            messages.extend(answers::messages(&before, attempt, *now)?);
            if *attempt != before {
                changed.push(&item.key);
            }
            if attempt.state != before.state {
                moves.push((before.state, attempt.state));
            }
            if attempt.state == State::Refunding && attempt.decline != before.decline {
                tracing::error!(payment.id = %attempt.payment(), code = attempt.decline.as_ref().map(|d| &*d.code),
                    "the provider refuses to give money back: a person must look");
            }
            replies.push(Standing {
                forward: answers::forward(attempt)?,
                pending: answers::settlement(attempt, &desk.policy, *now),
                back: answers::back(attempt)?,
                errand: Errand::of(next, attempt)?,
            });
        }
        let changed: Vec<&Attempt> =
            changed.into_iter().filter_map(|key| found.get(key).map(|(attempt, _)| attempt)).collect();
        desk.close(transaction, changed, messages).await?;
        moves.into_iter().for_each(tell);
        Ok(replies)
    }
}

/// Makes a move seen, once it is committed.
fn tell((before, after): (State, State)) {
    metrics::counter!("amends_payment_attempts_total", "state" => after.as_str()).increment(1);
    if matches!(before, State::Declined | State::Blocked) {
        tracing::warn!("money was taken after the charge was over; it goes back");
        metrics::counter!("amends_payment_late_money_total").increment(1);
    }
}
