//! A charge is asked for: begin it, or answer what is stored.

use std::{sync::Arc, time::Duration};

use chassis::{
    batcher::Command,
    database::{self, Trouble},
};
use proto::{
    payment::v1::ChargeDone,
    step::{Answer, TurnedAway, turned_away},
};
use types::StepKey;

use super::{Desk, Errand};
use crate::{
    answers,
    domain::{Asked, Business, charge_key, payment_of},
    provider::ChargeOrder,
    store,
};

/// The command.
pub(crate) struct Begin(pub(crate) Arc<Desk>);

/// A charge that is asked for.
#[derive(Debug, Clone)]
pub(crate) struct Charge {
    pub(crate) key: StepKey,
    pub(crate) hash: Vec<u8>,
    pub(crate) business: Business,
    /// W3C traceparent; may be empty.
    pub(crate) trace: String,
    /// When the provider cannot be called now: how long a new charge should stay away.
    pub(crate) closed_for: Option<Duration>,
}

/// What follows.
#[derive(Debug)]
pub(crate) enum Begun {
    /// This is the answer.
    Answer(Answer<ChargeDone>),
    /// It is begun and stamped: send it.
    Send(Errand),
}

impl Command for Begin {
    type Item = Charge;
    type Reply = Begun;
    type Key = StepKey;
    const NAME: &'static str = "payment.charge";

    fn key(item: &Charge) -> StepKey {
        item.key.clone()
    }

    async fn run(&self, items: &[Charge]) -> Result<Vec<Begun>, Trouble> {
        let desk = &*self.0;
        let mut transaction = database::begin_on(&desk.pool).await?;
        let keys: Vec<_> = items.iter().map(|item| &item.key).collect();
        let mut found = store::load(&mut transaction, &keys).await?;
        let mut replies = Vec::with_capacity(items.len());
        let mut starts = Vec::new();
        let mut waited_for = Vec::new();
        for item in items {
            let Some((attempt, now)) = found.get_mut(&item.key) else {
                match item.closed_for {
                    Some(closed_for) => replies.push(Begun::Answer(Answer::TurnedAway(closed(closed_for)))),
                    None => {
                        starts.push(store::Start {
                            key: &item.key,
                            hash: &item.hash,
                            business: &item.business,
                            trace: &item.trace,
                        });
                        replies.push(Begun::Send(first_send(item)?));
                    }
                }
                continue;
            };
            replies.push(Begun::Answer(match attempt.asked(&item.hash) {
                Asked::Answered => answers::forward(attempt)?.unwrap_or(Answer::Fenced),
                Asked::InProgress => {
                    waited_for.push(&item.key);
                    Answer::Pending(answers::settlement(attempt, &desk.policy, *now))
                }
                Asked::Fenced => Answer::Fenced,
                Asked::Mismatch => Answer::TurnedAway(TurnedAway::mismatch(&item.key)),
            }));
        }
        if !starts.is_empty() {
            let first_look = (desk.policy.call_timeout + desk.policy.look).as_secs_f64();
            store::start(&mut transaction, starts, desk.provider, first_look).await?;
        }
        let changed =
            waited_for.into_iter().filter_map(|key| found.get(key).map(|(attempt, _)| attempt)).collect();
        desk.close(transaction, changed, Vec::new()).await?;
        Ok(replies)
    }
}

fn first_send(item: &Charge) -> Result<Errand, Trouble> {
    let token = item.business.token.clone();
    Ok(Errand::Charge(ChargeOrder {
        key: charge_key(payment_of(&item.key)),
        send: 1,
        amount: item.business.amount,
        token: token.ok_or_else(|| Trouble::Failed("a charge without a token".into()))?,
        merchant: item.business.merchant.clone(),
        order: item.business.order,
    }))
}

fn closed(retry_after: Duration) -> TurnedAway {
    TurnedAway {
        code: turned_away::Code::Overloaded.into(),
        retry_after_ms: u32::try_from(retry_after.as_millis()).unwrap_or(u32::MAX).max(1),
        message: "the payment provider cannot be called now; nothing was begun".into(),
    }
}
