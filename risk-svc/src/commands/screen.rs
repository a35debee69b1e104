//! Screen: approve, refuse, or have a person look; once per step.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use chassis::{
    barrier::{self, Forward, Outcome},
    batcher::Command,
    database::{self, Trouble, Warm},
    quick::{self, Hunch},
};
use chrono::{DateTime, TimeDelta, Utc};
use prost::Message;
use proto::{
    risk::v1::ScreenDone,
    step::{Answer, Pending, Refused, TurnedAway},
    time,
};
use sqlx::PgConnection;
use types::StepKey;

use crate::{
    domain::{self, Judgement, Rules, Subject},
    store::{
        self, Known, New,
        rule::{self, InForce},
    },
    wire,
};

/// What is asked.
#[derive(Debug, Clone)]
pub struct Item {
    pub key: StepKey,
    pub subject: Subject,
    /// W3C traceparent; may be empty.
    pub trace: String,
}

/// The command.
pub(crate) struct Screen {
    pub(crate) pool: Warm,
    /// How long a review waits for a person.
    pub(crate) deadline: Duration,
    /// That all of a slice is new, and nobody's orders are counted.
    pub(crate) hunch: Hunch,
    /// As last read.
    pub(crate) rules: Mutex<Option<Arc<Remembered>>>,
}

/// Rules, and the text by which the database tells whether they are still in force.
pub(crate) struct Remembered {
    rules: Rules,
    text: String,
}

impl Command for Screen {
    type Item = Item;
    type Reply = Answer<ScreenDone>;
    type Key = StepKey;
    const NAME: &'static str = "risk.screen";

    fn key(item: &Item) -> StepKey {
        item.key.clone()
    }

    async fn run(&self, items: &[Item]) -> Result<Vec<Answer<ScreenDone>>, Trouble> {
        let mut connection = self.pool.connection().await?;
        let remembered = lock(&self.rules).clone();
        let short = async {
            if let Some(these) = remembered.filter(|these| approves(&these.rules, items)) {
                match approve(&mut connection, items, &these.text).await? {
                    Approved::All(answers) => return Ok(Some(answers)),
                    Approved::SomeWereThere => return Ok(None),
                    Approved::NotByThese => {}
                }
            }
            self.at_once(&mut connection, items).await
        };
        if let Some(answers) = self.hunch.try_it(short).await? {
            return Ok(answers);
        }
        let known = store::load(&mut connection, items.iter().map(|item| item.key.saga)).await?;
        let known = items.iter().map(|item| standing(known.get(&item.key), item));
        let known = known.collect::<Result<Vec<_>, _>>()?;
        let fresh: Vec<_> = items.iter().zip(&known).filter(|(_, known)| known.is_none()).collect();
        if fresh.is_empty() {
            return Ok(known.into_iter().flatten().collect());
        }

        let customers: BTreeSet<_> = fresh.iter().map(|(item, _)| item.subject.customer.as_str()).collect();
        let InForce { rules, denied, now, .. } = rule::in_force(&mut connection, &customers).await?;
        let expire_time = self.expire_time(now)?;

        let mut transaction = database::begin(&mut connection).await?;
        let mut earlier = match rules.window_seconds() {
            Some(seconds) => {
                store::count(&mut transaction, customers, now - TimeDelta::seconds(seconds)).await?
            }
            None => HashMap::new(),
        };
        let mut rows = Vec::with_capacity(fresh.len());
        let mut answers = Vec::with_capacity(items.len());
        for (item, known) in items.iter().zip(&known) {
            if let Some(known) = known {
                answers.push(known.clone());
                continue;
            }
            let customer = item.subject.customer.as_str();
            let orders = earlier.entry(customer.to_owned()).or_default();
            let judgement = domain::judge(&rules, &item.subject, denied.contains(customer), *orders);
            // The next order of this customer in this very batch comes after this one.
            *orders += 1;
            let (row, answer) = settle(item, judgement, expire_time);
            rows.push(row);
            answers.push(answer);
        }
        store::insert(&mut transaction, rows, now).await?;
        database::commit(transaction).await?;
        answers.iter().zip(&known).filter(|(_, known)| known.is_none()).for_each(|(answer, _)| count(answer));
        Ok(answers)
    }
}

impl Screen {
    /// Everything is new, and no rule counts orders; none when it is not so.
    async fn at_once(
        &self,
        connection: &mut PgConnection,
        items: &[Item],
    ) -> Result<Option<Vec<Answer<ScreenDone>>>, Trouble> {
        let customers = items.iter().map(|item| item.subject.customer.as_str()).collect();
        let InForce { rules, text, denied, now } = rule::in_force(connection, &customers).await?;
        let these = Arc::new(Remembered { rules, text });
        *lock(&self.rules) = Some(Arc::clone(&these));
        let rules = &these.rules;
        if rules.window_seconds().is_some() {
            return Ok(None);
        }
        let expire_time = self.expire_time(now)?;
        let settled = items.iter().map(|item| {
            let is_denied = denied.contains(item.subject.customer.as_str());
            settle(item, domain::judge(rules, &item.subject, is_denied, 0), expire_time)
        });
        let (rows, answers): (Vec<_>, Vec<_>) = settled.unzip();
        let stored = store::insert(connection, rows, now).await;
        let stored = quick::nothing_there(stored.map_err(Trouble::from))?;
        Ok(stored.map(|()| {
            answers.iter().for_each(count);
            answers
        }))
    }

    fn expire_time(&self, now: DateTime<Utc>) -> Result<DateTime<Utc>, Trouble> {
        let deadline = TimeDelta::from_std(self.deadline).ok();
        deadline
            .and_then(|deadline| now.checked_add_signed(deadline))
            .ok_or_else(|| Trouble::Failed("the deadline of reviews is beyond the calendar".into()))
    }
}

/// Whether these rules approve of a whole slice, as far as they can tell: they count nobody's orders, and nobody is denied.
fn approves(rules: &Rules, items: &[Item]) -> bool {
    let is_approved = |item: &Item| domain::judge(rules, &item.subject, false, 0) == Judgement::Approve;
    rules.window_seconds().is_none() && items.iter().all(is_approved)
}

/// What became of a slice that was to be approved in one statement.
enum Approved {
    All(Vec<Answer<ScreenDone>>),
    /// Nothing was written: the rules are others by now, or a customer is denied.
    NotByThese,
    /// Nothing was written: a step has its record already.
    SomeWereThere,
}

/// All in one statement, if the rules of this text are still in force and nobody is denied.
async fn approve(connection: &mut PgConnection, items: &[Item], rules: &str) -> Result<Approved, Trouble> {
    let done = approval();
    let rows = items.iter().map(|item| (&item.key, &item.subject)).collect();
    let stored = store::approve(connection, rows, done.encode_to_vec(), rules.to_owned()).await;
    Ok(match quick::nothing_there(stored.map_err(Trouble::from))? {
        None => Approved::SomeWereThere,
        Some(false) => Approved::NotByThese,
        Some(true) => {
            let answers = vec![Answer::Done(done); items.len()];
            answers.iter().for_each(count);
            Approved::All(answers)
        }
    })
}

fn approval() -> ScreenDone {
    ScreenDone { approved_by: "RULES".into() }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The answer that already follows from what is there; none when the step is fresh.
fn standing(known: Option<&Known>, item: &Item) -> Result<Option<Answer<ScreenDone>>, Trouble> {
    let Some(known) = known else { return Ok(None) };
    Ok(match barrier::forward(Some(&known.record), &item.subject.hash()) {
        Forward::Fresh => None,
        Forward::Done => Some(Answer::Done(stored(known)?)),
        Forward::Refused => Some(Answer::Refused(stored(known)?)),
        Forward::Fenced => Some(Answer::Fenced),
        Forward::Mismatch => Some(Answer::TurnedAway(TurnedAway::mismatch(&item.key))),
        Forward::InProgress => {
            let until = known.expire_time;
            let until = until.ok_or_else(|| Trouble::Failed("a screening waits for nobody".into()))?;
            Some(Answer::Pending(pending(until)))
        }
    })
}

fn stored<M: Message + Default>(known: &Known) -> Result<M, Trouble> {
    M::decode(known.reply.as_slice())
        .map_err(|error| Trouble::Failed(format!("cannot read a stored reply: {error}")))
}

fn pending(until: DateTime<Utc>) -> Pending {
    Pending { until: Some(time::stamp(until)), action: "REVIEW".into() }
}

/// What is stored and said.
fn settle(item: &Item, judgement: Judgement, expire_time: DateTime<Utc>) -> (New<'_>, Answer<ScreenDone>) {
    let row = |outcome, reply| New { key: &item.key, subject: &item.subject, outcome, reply, review: None };
    match judgement {
        Judgement::Approve => {
            let done = approval();
            (row(Outcome::Done, Some(done.encode_to_vec())), Answer::Done(done))
        }
        Judgement::Deny => {
            let customer = item.subject.customer.as_str();
            let refused: Refused = wire::refused("RISK_DENIED", [("customer_id", customer)]);
            (row(Outcome::Refused, Some(refused.encode_to_vec())), Answer::Refused(refused))
        }
        Judgement::Review(kind) => {
            let review = Some((kind, expire_time, item.trace.as_str()));
            (New { review, ..row(Outcome::Pending, None) }, Answer::Pending(pending(expire_time)))
        }
    }
}

fn count(answer: &Answer<ScreenDone>) {
    let outcome = match answer {
        Answer::Done(_) => "approved",
        Answer::Refused(_) => "denied",
        Answer::Pending(_) => "review",
        Answer::Fenced | Answer::TurnedAway(_) => return,
    };
    metrics::counter!("amends_risk_screenings_total", "outcome" => outcome).increment(1);
}
