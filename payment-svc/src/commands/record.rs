//! Something happened to a charge: move its record, and say what it owes.

use std::{collections::HashSet, sync::Arc, time::Instant};

use chassis::{
    batcher::Command,
    bus::Message,
    database::{self, Trouble},
    quick::Hunch,
};
use chrono::{DateTime, TimeDelta, Utc};
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
pub(crate) struct Record {
    pub(crate) desk: Arc<Desk>,
    /// That nothing else happens to a charge before its first send comes back.
    pub(crate) hunch: Hunch,
}

impl Record {
    pub(crate) fn at(desk: Arc<Desk>) -> Self {
        Self { desk, hunch: Hunch::default() }
    }
}

/// What happened to whom.
#[derive(Debug, Clone)]
pub(crate) struct Happened {
    pub(crate) key: StepKey,
    pub(crate) event: Event,
    /// Whether the provider may be called at once.
    pub(crate) may_send: bool,
    /// The record as its begin left it a moment ago, if that is what it is about.
    pub(crate) begun: Option<Begun>,
}

/// A record as its begin left it.
#[derive(Debug, Clone)]
pub(crate) struct Begun {
    pub(crate) attempt: Arc<Attempt>,
    /// Not before its stamp.
    pub(crate) since: Instant,
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
        let first: Vec<_> = items.iter().map(|item| self.first_send(item)).collect::<Result<_, _>>()?;
        let concluded = match first.iter().any(Option::is_some) {
            true => self.hunch.try_it(self.conclude(&first)).await?.unwrap_or_default(),
            false => HashSet::new(),
        };
        let rest: Vec<_> = items.iter().filter(|item| !concluded.contains(&item.key)).collect();
        let mut long = if rest.is_empty() { Vec::new() } else { self.long(&rest).await? }.into_iter();
        let standings = items.iter().zip(first).filter_map(|(item, first)| match first {
            Some((_, standing)) if concluded.contains(&item.key) => Some(standing),
            _ => long.next(),
        });
        Ok(standings.collect())
    }
}

impl Record {
    /// What a first send that came back makes of the record that its begin left; none when more follows from it than an
    /// answer.
    fn first_send(&self, item: &Happened) -> Result<Option<(Attempt, Standing)>, Trouble> {
        let Some(begun) = &item.begun else { return Ok(None) };
        let Event::Charged { send: 1, result: Ok(_) } = &item.event else { return Ok(None) };
        let (Some(sent), Ok(since)) = (begun.attempt.sent, TimeDelta::from_std(begun.since.elapsed())) else {
            return Ok(None);
        };
        let mut attempt = (*begun.attempt).clone();
        // By the database's clock, and what has passed since then by ours.
        let (standing, messages) = self.happen(item, &mut attempt, sent + since)?;
        let ends_here = messages.is_empty() && matches!(standing.errand, Errand::Rest);
        Ok(ends_here.then_some((attempt, standing)))
    }

    /// Writes what first sends came to, where nothing else has happened to the charge; which those were. None when there
    /// was not one.
    async fn conclude(
        &self,
        first: &[Option<(Attempt, Standing)>],
    ) -> Result<Option<HashSet<StepKey>>, Trouble> {
        let attempts: Vec<_> = first.iter().flatten().map(|(attempt, _)| attempt).collect();
        let mut connection = self.desk.pool.connection().await?;
        let concluded = store::conclude(&mut connection, attempts.clone()).await?;
        for attempt in attempts.iter().filter(|attempt| concluded.contains(&attempt.key)) {
            tell((State::Started, attempt.state));
        }
        Ok((!concluded.is_empty()).then_some(concluded))
    }

    /// One thing happened to a record: where it stands then, and the messages that it owes.
    fn happen(
        &self,
        item: &Happened,
        attempt: &mut Attempt,
        now: DateTime<Utc>,
    ) -> Result<(Standing, Vec<Message>), Trouble> {
        let policy = &self.desk.policy;
        let before = attempt.clone();
        let next = attempt.apply(&item.event, policy, item.may_send, now);
        answers::seal(attempt);
        let messages = answers::messages(&before, attempt, now)?;
        if attempt.state == State::Refunding && attempt.decline != before.decline {
            tracing::error!(payment.id = %attempt.payment(), code = attempt.decline.as_ref().map(|d| &*d.code),
                "the provider refuses to give money back: a person must look");
        }
        let standing = Standing {
            forward: answers::forward(attempt)?,
            pending: answers::settlement(attempt, policy, now),
            back: answers::back(attempt)?,
            errand: Errand::of(next, attempt)?,
        };
        Ok((standing, messages))
    }

    async fn long(&self, items: &[&Happened]) -> Result<Vec<Standing>, Trouble> {
        let desk = &*self.desk;
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
            let (standing, owed) = self.happen(item, attempt, *now)?;
            messages.extend(owed);
            if *attempt != before {
                changed.push(&item.key);
            }
            if attempt.state != before.state {
                moves.push((before.state, attempt.state));
            }
            replies.push(standing);
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
