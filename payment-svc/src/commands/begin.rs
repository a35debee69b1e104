//! A charge is asked for: begin it, or answer what is stored.

use std::{sync::Arc, time::Duration};

use chassis::{
    batcher::Command,
    database::{self, Trouble},
    quick::{self, Hunch},
};
use chrono::{DateTime, Utc};
use proto::{
    payment::v1::ChargeDone,
    step::{Answer, TurnedAway, turned_away},
};
use sqlx::PgConnection;
use types::StepKey;

use super::{Desk, Errand};
use crate::{
    answers,
    domain::{Asked, Attempt, Business, charge_key, payment_of},
    provider::ChargeOrder,
    store,
};

/// The command.
pub(crate) struct Begin {
    pub(crate) desk: Arc<Desk>,
    /// That all of a slice is new.
    pub(crate) hunch: Hunch,
}

impl Begin {
    pub(crate) fn at(desk: Arc<Desk>) -> Self {
        Self { desk, hunch: Hunch::default() }
    }
}

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
    /// It is begun and stamped, as this record says: send it.
    Send(Errand, Box<Attempt>),
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
        let desk = &*self.desk;
        if items.iter().all(|item| item.closed_for.is_none())
            && let Some(begun) = self.hunch.try_it(at_once(desk, items)).await?
        {
            return Ok(begun);
        }
        let mut transaction = database::begin_on(&desk.pool).await?;
        let keys: Vec<_> = items.iter().map(|item| &item.key).collect();
        let mut found = store::load(&mut transaction, &keys).await?;
        let mut replies = Vec::with_capacity(items.len());
        let mut fresh: Vec<&Charge> = Vec::new();
        let mut waited_for = Vec::new();
        for item in items {
            let Some((attempt, now)) = found.get_mut(&item.key) else {
                match item.closed_for {
                    Some(closed_for) => replies.push(Some(Answer::TurnedAway(closed(closed_for)))),
                    None => {
                        fresh.push(item);
                        replies.push(None);
                    }
                }
                continue;
            };
            replies.push(Some(match attempt.asked(&item.hash) {
                Asked::Answered => answers::forward(attempt)?.unwrap_or(Answer::Fenced),
                Asked::InProgress => {
                    waited_for.push(&item.key);
                    Answer::Pending(answers::settlement(attempt, &desk.policy, *now))
                }
                Asked::Fenced => Answer::Fenced,
                Asked::Mismatch => Answer::TurnedAway(TurnedAway::mismatch(&item.key)),
            }));
        }
        let stamp = if fresh.is_empty() { None } else { Some(start(&mut transaction, desk, &fresh).await?) };
        let changed =
            waited_for.into_iter().filter_map(|key| found.get(key).map(|(attempt, _)| attempt)).collect();
        desk.close(transaction, changed, Vec::new()).await?;
        let answers = items.iter().zip(replies).map(|(item, reply)| match (reply, stamp) {
            (Some(answer), _) => Ok(Begun::Answer(answer)),
            (None, Some(stamp)) => send(item, stamp),
            (None, None) => Err(Trouble::Failed("a charge was begun without a stamp".into())),
        });
        answers.collect()
    }
}

/// Everything is new; none when it is not so.
async fn at_once(desk: &Desk, items: &[Charge]) -> Result<Option<Vec<Begun>>, Trouble> {
    let mut connection = desk.pool.connection().await?;
    let stamp = start(&mut connection, desk, &items.iter().collect::<Vec<_>>()).await;
    let Some(stamp) = quick::nothing_there(stamp)? else { return Ok(None) };
    items.iter().map(|item| send(item, stamp)).collect::<Result<_, _>>().map(Some)
}

/// When they were stamped, and when somebody looks after them.
type Stamp = (DateTime<Utc>, DateTime<Utc>);

async fn start(connection: &mut PgConnection, desk: &Desk, fresh: &[&Charge]) -> Result<Stamp, Trouble> {
    let starts = fresh.iter().map(|item| store::Start {
        key: &item.key,
        hash: &item.hash,
        business: &item.business,
        trace: &item.trace,
    });
    let first_look = (desk.policy.call_timeout + desk.policy.look).as_secs_f64();
    Ok(store::start(connection, starts.collect(), desk.provider, first_look).await?)
}

fn send(item: &Charge, stamp: Stamp) -> Result<Begun, Trouble> {
    let (key, hash, business) = (item.key.clone(), item.hash.clone(), item.business.clone());
    let attempt = Attempt::begun(key, hash, business, item.trace.clone(), stamp);
    Ok(Begun::Send(first_send(item)?, Box::new(attempt)))
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
