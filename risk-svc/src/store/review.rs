//! Reviews: the screenings that a rule wanted looked at. Every statement of them.
//!
//! A review is only ended under its row's lock. Read next: [`crate::commands::review`].

use chassis::{
    database::Trouble,
    sql::{Checked, Statement},
};
use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use types::{Money, OrderId, SagaId, StepKey};
use uuid::Uuid;

use super::each;
use crate::domain::ReviewState;

/// A review as it stands.
#[derive(Debug, Clone)]
pub(crate) struct Review {
    pub(crate) key: StepKey,
    pub(crate) order: Option<OrderId>,
    pub(crate) customer: String,
    pub(crate) merchant: String,
    pub(crate) amount: Money,
    pub(crate) state: ReviewState,
    pub(crate) rule: String,
    pub(crate) create_time: DateTime<Utc>,
    pub(crate) expire_time: DateTime<Utc>,
    /// Once a person has decided.
    pub(crate) reviewer: Option<String>,
    pub(crate) reason: Option<String>,
    pub(crate) decide_time: Option<DateTime<Utc>>,
    /// W3C traceparent; may be empty.
    pub(crate) trace: String,
}

/// A record that names what is needed to read it, in the order of [`READ`].
#[rustfmt::skip]
type Row = (
    Uuid, String, Option<Uuid>, String, String, i64, String, Option<String>, Option<String>,
    DateTime<Utc>, Option<DateTime<Utc>>, Option<String>, Option<String>, Option<DateTime<Utc>>, Option<String>,
);

fn read(row: Row) -> Result<Review, Trouble> {
    let unreadable = || Trouble::Failed(format!("cannot read the review {} of {}", row.1, row.0));
    Ok(Review {
        key: StepKey { saga: SagaId::from_uuid(row.0), step: row.1.parse().map_err(|_| unreadable())? },
        order: row.2.map(OrderId::from_uuid),
        customer: row.3.clone(),
        merchant: row.4.clone(),
        amount: Money::new(row.5, row.6.parse().map_err(|_| unreadable())?),
        state: row.7.as_deref().and_then(ReviewState::parse).ok_or_else(unreadable)?,
        rule: row.8.clone().ok_or_else(unreadable)?,
        create_time: row.9,
        expire_time: row.10.ok_or_else(unreadable)?,
        reviewer: row.11.clone(),
        reason: row.12.clone(),
        decide_time: row.13,
        trace: row.14.clone().unwrap_or_default(),
    })
}

fn read_all(rows: Vec<Row>) -> Result<Vec<Review>, Trouble> {
    rows.into_iter().map(read).collect()
}

macro_rules! read {
    ($tail:literal) => {
        concat!(
            "select saga_id, step, order_id, customer_id, merchant_id, amount_minor, currency::text, review_state, rule, \
               create_time, expire_time, reviewer, review_reason, decide_time, trace from risk.screening ",
            $tail
        )
    };
}

// Where a saga was screened more than once, the review that is open, else the latest.
static OF_SAGA: Statement<(Uuid,), Row> = Statement::new(read!(
    "where saga_id = $1 and review_state is not null order by review_state = 'OPEN' desc, create_time desc, step limit 1"
));

pub(crate) async fn of_saga(connection: &mut PgConnection, saga: SagaId) -> Result<Option<Review>, Trouble> {
    OF_SAGA.maybe(connection, (saga.uuid(),)).await?.map(read).transpose()
}

static LIST: Statement<(String, DateTime<Utc>, Uuid, String, i64), Row> = Statement::new(read!(
    "where review_state = $1 and (create_time, saga_id, step) > ($2, $3, $4) \
     order by create_time, saga_id, step limit $5"
));

/// Where a page begins: behind this review.
pub(crate) type After = (DateTime<Utc>, Uuid, String);

/// A page of the reviews in a state, oldest first.
pub(crate) async fn list(
    connection: &mut PgConnection,
    state: ReviewState,
    after: After,
    limit: i64,
) -> Result<Vec<Review>, Trouble> {
    let (time, saga, step) = after;
    read_all(LIST.all(connection, (state.as_str().to_owned(), time, saga, step, limit)).await?)
}

// Compared so that the key finds them, not the index of reviews.
static LOCK_OF_SAGAS: Statement<(Vec<Uuid>,), Row> = Statement::new(read!(
    "where saga_id = any ($1) and coalesce(review_state, '') <> '' order by saga_id, step for no key update"
));

/// Locks the reviews of some sagas.
pub(crate) async fn lock_of_sagas(
    connection: &mut PgConnection,
    sagas: Vec<Uuid>,
) -> Result<Vec<Review>, Trouble> {
    read_all(LOCK_OF_SAGAS.all(connection, (sagas,)).await?)
}

// What somebody has locked is being ended already.
static DUE: Statement<(i64,), (Uuid, String)> = Statement::new(
    "select saga_id, step from risk.screening where review_state = 'OPEN' and expire_time <= clock_timestamp() \
     order by expire_time limit $1 for no key update skip locked",
);

/// Open reviews whose time has passed, the longest first.
pub(crate) async fn due(connection: &mut PgConnection, limit: i64) -> sqlx::Result<Vec<(Uuid, String)>> {
    DUE.all(connection, (limit,)).await
}

/// A review that has ended: as it is now, with the outcome of its step.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) review: Review,
    /// `DONE` or `REFUSED`.
    pub(crate) outcome: &'static str,
    /// ScreenDone or Refused.
    pub(crate) reply: Vec<u8>,
}

#[rustfmt::skip]
type End = (
    Vec<Uuid>, Vec<String>, Vec<String>, Vec<Vec<u8>>, Vec<String>, Vec<Option<String>>, Vec<Option<String>>,
    Vec<Option<DateTime<Utc>>>,
);

static END: Statement<End> = Statement::new(
    "update risk.screening s set forward_outcome = e.outcome, forward_reply = e.reply, review_state = e.state, \
            reviewer = e.reviewer, review_reason = e.reason, decide_time = e.decide_time \
     from unnest($1::uuid[], $2::text[], $3::text[], $4::bytea[], $5::text[], $6::text[], $7::text[], $8::timestamptz[]) \
       as e (saga_id, step, outcome, reply, state, reviewer, reason, decide_time) \
     where s.saga_id = e.saga_id and s.step = e.step",
);

/// Writes down how locked reviews ended.
pub(crate) async fn end(connection: &mut PgConnection, ended: &[Ended]) -> sqlx::Result<()> {
    let columns = (
        each(ended, |end| end.review.key.saga.uuid()),
        each(ended, |end| end.review.key.step.as_str().to_owned()),
        each(ended, |end| end.outcome.to_owned()),
        each(ended, |end| end.reply.clone()),
        each(ended, |end| end.review.state.as_str().to_owned()),
        each(ended, |end| end.review.reviewer.clone()),
        each(ended, |end| end.review.reason.clone()),
        each(ended, |end| end.review.decide_time),
    );
    END.run(connection, columns).await?;
    Ok(())
}

pub(super) fn statements() -> [&'static dyn Checked; 5] {
    [&OF_SAGA, &LIST, &LOCK_OF_SAGAS, &DUE, &END]
}
