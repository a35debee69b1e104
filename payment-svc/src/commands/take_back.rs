//! A compensation is asked for: take the charge back, or make sure that it never happens.

use std::sync::Arc;

use chassis::{
    batcher::Command,
    database::{self, Trouble},
};
use proto::{payment::v1::RefundDone, step::BackAnswer};
use types::StepKey;
use uuid::Uuid;

use super::{Desk, Errand};
use crate::{
    answers,
    domain::{Attempt, TakeBack},
    store,
};

/// A record remembers this many commands that wait: the latest, because the saga asks for them.
const COMMANDS: usize = 16;

/// The command.
pub(crate) struct Refund(pub(crate) Arc<Desk>);

/// A compensation that is asked for.
#[derive(Debug, Clone)]
pub(crate) struct Ask {
    pub(crate) key: StepKey,
    /// The message's id; none when it came by gRPC.
    pub(crate) command: Option<Uuid>,
    /// W3C traceparent; may be empty.
    pub(crate) trace: String,
    /// Whether a refund may be sent at once.
    pub(crate) may_send: bool,
}

/// What follows.
#[derive(Debug)]
pub(crate) struct Taken {
    /// None: it will be answered when it is done.
    pub(crate) answer: Option<BackAnswer<RefundDone>>,
    pub(crate) errand: Errand,
}

impl Command for Refund {
    type Item = Ask;
    type Reply = Taken;
    type Key = StepKey;
    const NAME: &'static str = "payment.refund";

    fn key(item: &Ask) -> StepKey {
        item.key.clone()
    }

    async fn run(&self, items: &[Ask]) -> Result<Vec<Taken>, Trouble> {
        let desk = &*self.0;
        let mut transaction = database::begin_on(&desk.pool).await?;
        let keys: Vec<_> = items.iter().map(|item| &item.key).collect();
        let mut found = store::load(&mut transaction, &keys).await?;
        let mut replies = Vec::with_capacity(items.len());
        let mut tombstones = Vec::new();
        let mut messages = Vec::new();
        let mut changed = Vec::new();
        for item in items {
            let Some((attempt, now)) = found.get_mut(&item.key) else {
                tombstones.push(&item.key);
                let says = BackAnswer::NotApplied;
                messages.extend(answers::at_once(item, &says, chassis::clock::now()));
                replies.push(Taken { answer: Some(says), errand: Errand::Rest });
                continue;
            };
            let before = attempt.clone();
            let next = attempt.take_back(&desk.policy, item.may_send, item.command.is_none(), *now);
            answers::seal(attempt);
            messages.extend(answers::messages(&before, attempt, *now)?);
            replies.push(match next {
                TakeBack::Answered => {
                    let says = answers::back(attempt)?.unwrap_or(BackAnswer::NotApplied);
                    messages.extend(answers::at_once(item, &says, *now));
                    Taken { answer: Some(says), errand: Errand::Rest }
                }
                TakeBack::Later(next) => {
                    remember(attempt, item.command);
                    Taken { answer: None, errand: Errand::of(next, attempt)? }
                }
            });
            if *attempt != before {
                changed.push(&item.key);
            }
        }
        if !tombstones.is_empty() {
            store::bury(&mut transaction, tombstones).await?;
        }
        let changed =
            changed.into_iter().filter_map(|key| found.get(key).map(|(attempt, _)| attempt)).collect();
        desk.close(transaction, changed, messages).await?;
        Ok(replies)
    }
}

fn remember(attempt: &mut Attempt, command: Option<Uuid>) {
    let Some(command) = command.map(Uuid::into_bytes) else { return };
    if !attempt.commands.contains(&command) {
        attempt.commands.push(command);
    }
    let surplus = attempt.commands.len().saturating_sub(COMMANDS);
    attempt.commands.drain(..surplus);
}
