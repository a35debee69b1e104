//! The record of screened steps: every statement of it, and the rows it reads and writes. Decides nothing.
//!
//! [`review`] has the reviews among them, [`rule`] the rules and the deny list. Read next:
//! `migrations/risk/0001_first.sql`.

pub(crate) mod review;
pub(crate) mod rule;

use std::collections::{BTreeSet, HashMap};

use chassis::{
    barrier::{Outcome, Record},
    database::Trouble,
    sql::{Checked, Statement},
};
use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use types::{SagaId, StepKey};
use uuid::Uuid;

use crate::domain::{Kind, ReviewState, Subject};

/// A step that was screened before.
#[derive(Debug)]
pub(crate) struct Known {
    pub(crate) record: Record,
    /// Empty while it waits.
    pub(crate) reply: Vec<u8>,
    /// Where there is a review.
    pub(crate) expire_time: Option<DateTime<Utc>>,
}

type KnownRow = (Uuid, String, String, Option<Vec<u8>>, Option<Vec<u8>>, Option<DateTime<Utc>>);

static LOAD: Statement<(Vec<Uuid>,), KnownRow> = Statement::new(
    "select saga_id, step, forward_outcome, forward_hash, forward_reply, expire_time \
     from risk.screening where saga_id = any ($1)",
);

/// Reads what is there of some sagas. Takes no locks: what a batch finds absent it inserts, and its key decides.
pub(crate) async fn load(
    connection: &mut PgConnection,
    sagas: impl IntoIterator<Item = SagaId>,
) -> Result<HashMap<StepKey, Known>, Trouble> {
    let sagas: BTreeSet<_> = sagas.into_iter().map(SagaId::uuid).collect();
    let rows = LOAD.all(connection, (sagas.into_iter().collect(),)).await?;
    let mut known = HashMap::with_capacity(rows.len());
    for (saga, step, outcome, forward_hash, reply, expire_time) in rows {
        let unreadable = || Trouble::Failed(format!("cannot read the screening {step} of {saga}"));
        let key = StepKey { saga: SagaId::from_uuid(saga), step: step.parse().map_err(|_| unreadable())? };
        let forward = Outcome::parse(&outcome).ok_or_else(unreadable)?;
        let record = Record { forward, forward_hash: forward_hash.unwrap_or_default(), back: None };
        known.insert(key, Known { record, reply: reply.unwrap_or_default(), expire_time });
    }
    Ok(known)
}

/// A screening to store.
#[derive(Debug)]
pub(crate) struct New<'a> {
    pub(crate) key: &'a StepKey,
    pub(crate) subject: &'a Subject,
    pub(crate) outcome: Outcome,
    pub(crate) reply: Option<Vec<u8>>,
    /// Which rule asked for a review, until when it waits, and the trace for its answer.
    pub(crate) review: Option<(Kind, DateTime<Utc>, &'a str)>,
}

#[rustfmt::skip]
type Insert = (
    Vec<Uuid>, Vec<String>, Vec<String>, Vec<Vec<u8>>, Vec<Option<Vec<u8>>>,
    Vec<Option<Uuid>>, Vec<String>, Vec<String>, Vec<i64>, Vec<String>,
    Vec<Option<String>>, Vec<Option<String>>, Vec<Option<DateTime<Utc>>>, Vec<Option<String>>, DateTime<Utc>,
);

static INSERT: Statement<Insert> = Statement::new(
    "insert into risk.screening (saga_id, step, forward_outcome, forward_hash, forward_reply, order_id, customer_id, \
       merchant_id, amount_minor, currency, review_state, rule, expire_time, trace, create_time) \
     select s.*, $15 from unnest($1::uuid[], $2::text[], $3::text[], $4::bytea[], $5::bytea[], $6::uuid[], $7::text[], \
       $8::text[], $9::bigint[], $10::text[], $11::text[], $12::text[], $13::timestamptz[], $14::text[]) as s",
);

/// Stores screenings, in the order of their keys.
pub(crate) async fn insert(
    connection: &mut PgConnection,
    mut rows: Vec<New<'_>>,
    now: DateTime<Utc>,
) -> sqlx::Result<()> {
    rows.sort_by_key(|row| row.key);
    let columns = (
        each(&rows, |row| row.key.saga.uuid()),
        each(&rows, |row| row.key.step.as_str().to_owned()),
        each(&rows, |row| row.outcome.as_str().to_owned()),
        each(&rows, |row| row.subject.hash()),
        each(&rows, |row| row.reply.clone()),
        each(&rows, |row| row.subject.order.map(|order| order.uuid())),
        each(&rows, |row| row.subject.customer.as_str().to_owned()),
        each(&rows, |row| row.subject.merchant.as_str().to_owned()),
        each(&rows, |row| row.subject.amount.minor),
        each(&rows, |row| row.subject.amount.currency.to_string()),
        each(&rows, |row| row.review.map(|_| ReviewState::Open.as_str().to_owned())),
        each(&rows, |row| row.review.map(|(rule, ..)| rule.as_str().to_owned())),
        each(&rows, |row| row.review.map(|(_, expire_time, _)| expire_time)),
        each(&rows, |row| row.review.map(|(.., trace)| trace.to_owned()).filter(|trace| !trace.is_empty())),
        now,
    );
    INSERT.run(connection, columns).await?;
    Ok(())
}

#[rustfmt::skip]
type Approve = (
    Vec<Uuid>, Vec<String>, Vec<Vec<u8>>, Vec<Option<Uuid>>, Vec<String>, Vec<String>, Vec<i64>, Vec<String>, Vec<u8>, String,
);

// The rules and the deny list are read by the statement that stores what was decided by them.
static APPROVE: Statement<Approve> = Statement::new(concat!(
    "insert into risk.screening (saga_id, step, forward_outcome, forward_hash, forward_reply, order_id, customer_id, \
       merchant_id, amount_minor, currency, create_time) \
     select s.saga_id, s.step, 'DONE', s.hash, $9, s.order_id, s.customer_id, s.merchant_id, s.amount_minor, s.currency, now() \
     from unnest($1::uuid[], $2::text[], $3::bytea[], $4::uuid[], $5::text[], $6::text[], $7::bigint[], $8::text[]) \
       as s (saga_id, step, hash, order_id, customer_id, merchant_id, amount_minor, currency) \
     where $10 = ",
    rule::rules_text!(),
    " \
       and not exists (select from risk.denied where customer_id = any ($5))",
));

/// Stores approvals with one reply, if the rules are those of this text ([`rule::InForce`]) and no customer is denied;
/// otherwise nothing. Whether it did.
pub(crate) async fn approve(
    connection: &mut PgConnection,
    mut rows: Vec<(&StepKey, &Subject)>,
    reply: Vec<u8>,
    rules: String,
) -> sqlx::Result<bool> {
    rows.sort_by_key(|(key, _)| *key);
    let wanted = rows.len() as u64;
    let columns = (
        each(&rows, |(key, _)| key.saga.uuid()),
        each(&rows, |(key, _)| key.step.as_str().to_owned()),
        each(&rows, |(_, subject)| subject.hash()),
        each(&rows, |(_, subject)| subject.order.map(|order| order.uuid())),
        each(&rows, |(_, subject)| subject.customer.as_str().to_owned()),
        each(&rows, |(_, subject)| subject.merchant.as_str().to_owned()),
        each(&rows, |(_, subject)| subject.amount.minor),
        each(&rows, |(_, subject)| subject.amount.currency.to_string()),
        reply,
        rules,
    );
    Ok(APPROVE.run(connection, columns).await? == wanted)
}

// Absorbs a withdrawal that comes again, and one of what was screened before: it has its record.
static BURY: Statement<(Vec<Uuid>, Vec<String>, DateTime<Utc>)> = Statement::new(
    "insert into risk.screening (saga_id, step, forward_outcome, create_time) \
     select s.*, 'BLOCKED', $3 from unnest($1::uuid[], $2::text[]) as s on conflict do nothing",
);

/// Stores tombstones of steps that have no record yet: those can never run.
pub(crate) async fn bury(
    connection: &mut PgConnection,
    keys: BTreeSet<StepKey>,
    now: DateTime<Utc>,
) -> sqlx::Result<()> {
    let keys: Vec<_> = keys.into_iter().collect();
    let columns = (each(&keys, |key| key.saga.uuid()), each(&keys, |key| key.step.as_str().to_owned()), now);
    BURY.run(connection, columns).await?;
    Ok(())
}

/// One column of rows.
fn each<R, T>(rows: &[R], column: impl Fn(&R) -> T) -> Vec<T> {
    rows.iter().map(column).collect()
}

// Two batches of one customer in two processes would each count without the other's orders: they come one after the
// other. The number tells these locks from others in the same database.
static LOCK_CUSTOMERS: Statement<(Vec<String>,)> = Statement::new(
    "select pg_advisory_xact_lock(k) from (\
       select hashtextextended(customer_id, 7236843) as k from unnest($1::text[]) as c (customer_id) order by 1) as keys",
);

static COUNT: Statement<(Vec<String>, DateTime<Utc>), (String, i64)> = Statement::new(
    "select customer_id, count(*) from risk.screening where customer_id = any ($1) and create_time > $2 group by customer_id",
);

/// How many orders each customer has made since then, with the lock that makes the count hold until the commit.
pub(crate) async fn count(
    connection: &mut PgConnection,
    customers: BTreeSet<&str>,
    since: DateTime<Utc>,
) -> sqlx::Result<HashMap<String, i64>> {
    let customers: Vec<_> = customers.into_iter().map(str::to_owned).collect();
    LOCK_CUSTOMERS.run(connection, (customers.clone(),)).await?;
    Ok(COUNT.all(connection, (customers, since)).await?.into_iter().collect())
}

/// Every statement, for the check.
pub(crate) fn statements() -> Vec<&'static dyn Checked> {
    let mut all: Vec<&'static dyn Checked> = vec![&LOAD, &INSERT, &APPROVE, &BURY, &LOCK_CUSTOMERS, &COUNT];
    all.extend(review::statements());
    all.extend(rule::statements());
    all
}
