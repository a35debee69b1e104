//! The document rows: barriers, commercial content, and the answers to commands that go with them.
//!
//! Rows are read without a lock; every update says what it expects to find, so that a batch that came second notices
//! and runs again. Read next: `commands::open`.

use std::collections::HashMap;

use chassis::{
    barrier::{Closed, Outcome, Record},
    database::Trouble,
    quick,
    sql::{Checked, Statement},
};
use chrono::{DateTime, Utc};
use serde::{Serialize, de::DeserializeOwned};
use sqlx::PgConnection;
use types::{Currency, OrderId, PartyId, SagaId, StepKey};
use uuid::Uuid;

use crate::domain::{
    PricedLine,
    document::{Change, Sums},
};

pub(super) static STATEMENTS: [&dyn Checked; 6] = [&LOAD, &OPEN, &COMPLETE, &COMPLETE_ALL, &CANCEL, &GET];

/// A row that was there.
#[derive(Debug)]
pub(crate) struct Found {
    /// The open step's.
    pub(crate) key: StepKey,
    /// What Open and Cancel left.
    pub(crate) record: Record,
    /// What Complete left.
    pub(crate) closed: Option<Closed>,
    /// Empty in a tombstone.
    pub(crate) history: Vec<Change>,
}

/// The rows of some sagas.
#[derive(Debug, Default)]
pub(crate) struct Documents(HashMap<SagaId, Vec<Found>>);

impl Documents {
    /// The row of an open step.
    pub(crate) fn at(&self, key: &StepKey) -> Option<&Found> {
        self.0.get(&key.saga)?.iter().find(|found| found.key == *key)
    }

    /// A saga's document; its tombstone where there is only that.
    pub(crate) fn of(&self, saga: SagaId) -> Option<&Found> {
        let rows = self.0.get(&saga)?;
        rows.iter().find(|found| found.record.forward == Outcome::Done).or_else(|| rows.first())
    }
}

type LoadRow =
    (Uuid, String, String, Option<Vec<u8>>, Option<String>, Option<String>, Option<Vec<u8>>, Option<String>);

static LOAD: Statement<(Vec<Uuid>,), LoadRow> = Statement::new(
    "select saga_id, step, forward_outcome, forward_hash, back_outcome, complete_step, complete_hash, history \
     from orders.document where saga_id = any ($1)",
);

/// What is there for these sagas.
pub(crate) async fn load(
    connection: &mut PgConnection,
    sagas: impl Iterator<Item = SagaId>,
) -> Result<Documents, Trouble> {
    let mut documents = Documents::default();
    for row in LOAD.all(connection, (sagas.map(SagaId::uuid).collect(),)).await? {
        let found = found(row)?;
        documents.0.entry(found.key.saga).or_default().push(found);
    }
    Ok(documents)
}

fn found(row: LoadRow) -> Result<Found, Trouble> {
    let (saga, step, forward, hash, back, complete_step, complete_hash, history) = row;
    let broken = |what: &str| Trouble::Failed(format!("a document of saga {saga} has a broken {what}"));
    let outcome = |text: &str| Outcome::parse(text).ok_or_else(|| broken("outcome"));
    let closed = match complete_step {
        Some(step) => Some(Closed {
            step: step.parse().map_err(|_| broken("complete step"))?,
            hash: complete_hash.unwrap_or_default(),
        }),
        None => None,
    };
    Ok(Found {
        key: StepKey { saga: SagaId::from_uuid(saga), step: step.parse().map_err(|_| broken("step"))? },
        record: Record {
            forward: outcome(&forward)?,
            forward_hash: hash.unwrap_or_default(),
            back: back.as_deref().map(outcome).transpose()?,
        },
        closed,
        history: history.as_deref().map(from_json).transpose()?.unwrap_or_default(),
    })
}

/// A document to be stored.
#[derive(Debug)]
pub(crate) struct New<'a> {
    /// Whose.
    pub(crate) key: &'a StepKey,
    pub(crate) order: OrderId,
    pub(crate) customer: &'a PartyId,
    pub(crate) merchant: &'a PartyId,
    pub(crate) currency: Currency,
    pub(crate) lines: &'a [PricedLine],
    pub(crate) sums: Sums,
    /// Of the request.
    pub(crate) hash: &'a [u8],
}

type OpenColumns = (
    Vec<Uuid>,
    Vec<String>,
    Vec<Uuid>,
    Vec<String>,
    Vec<String>,
    Vec<String>,
    Vec<String>,
    Vec<i64>,
    Vec<i64>,
    Vec<i64>,
    Vec<Vec<u8>>,
    String,
    DateTime<Utc>,
);

// What Open answers has no fields: its encoding is empty.
static OPEN: Statement<OpenColumns> = Statement::new(
    "insert into orders.document (saga_id, step, order_id, customer_id, merchant_id, currency, lines, \
       subtotal_minor, tax_minor, total_minor, history, forward_outcome, forward_hash, forward_reply, \
       create_time, update_time) \
     select saga_id, step, order_id, customer_id, merchant_id, currency::char(3), lines, subtotal_minor, tax_minor, \
       total_minor, $12, 'DONE', forward_hash, ''::bytea, $13, $13 \
     from unnest($1::uuid[], $2::text[], $3::uuid[], $4::text[], $5::text[], $6::text[], $7::text[], \
       $8::bigint[], $9::bigint[], $10::bigint[], $11::bytea[]) as d (saga_id, step, order_id, customer_id, \
       merchant_id, currency, lines, subtotal_minor, tax_minor, total_minor, forward_hash)",
);

/// Stores documents in the order of their keys, all with the same history. A key that is taken is `Trouble::Again`.
pub(crate) async fn open(
    connection: &mut PgConnection,
    mut rows: Vec<New<'_>>,
    history: &[Change],
    now: DateTime<Utc>,
) -> Result<(), Trouble> {
    rows.sort_unstable_by_key(|row| row.key);
    let (sagas, steps) = columns(rows.iter().map(|row| row.key));
    let parameters = (
        sagas,
        steps,
        rows.iter().map(|row| row.order.uuid()).collect(),
        rows.iter().map(|row| row.customer.to_string()).collect(),
        rows.iter().map(|row| row.merchant.to_string()).collect(),
        rows.iter().map(|row| row.currency.to_string()).collect(),
        rows.iter().map(|row| json(&row.lines)).collect::<Result<_, _>>()?,
        rows.iter().map(|row| row.sums.subtotal_minor).collect(),
        rows.iter().map(|row| row.sums.tax_minor).collect(),
        rows.iter().map(|row| row.sums.total_minor).collect(),
        rows.iter().map(|row| row.hash.to_vec()).collect(),
        json(&history)?,
        now,
    );
    OPEN.run(connection, parameters).await?;
    Ok(())
}

/// An open document that is complete.
#[derive(Debug)]
pub(crate) struct Completed<'a> {
    /// The open step's.
    pub(crate) key: &'a StepKey,
    /// With its last entry.
    pub(crate) history: Vec<Change>,
    /// What Complete leaves.
    pub(crate) closed: Closed,
}

type CompleteColumns = (Vec<Uuid>, Vec<String>, Vec<String>, Vec<String>, Vec<Vec<u8>>, DateTime<Utc>);

// What Complete answers has no fields: its encoding is empty.
static COMPLETE: Statement<CompleteColumns> = Statement::new(
    "update orders.document d set history = c.history, complete_step = c.complete_step, \
       complete_outcome = 'DONE', complete_hash = c.hash, complete_reply = ''::bytea, update_time = $6 \
     from unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::bytea[]) \
       as c (saga_id, step, history, complete_step, hash) \
     where d.saga_id = c.saga_id and d.step = c.step and d.forward_outcome = 'DONE' \
       and d.back_outcome is null and d.complete_outcome is null",
);

/// Marks open documents as complete. `Trouble::Again` when one is not open any more; the others are complete then.
pub(crate) async fn complete(
    connection: &mut PgConnection,
    mut rows: Vec<Completed<'_>>,
    now: DateTime<Utc>,
) -> Result<(), Trouble> {
    rows.sort_unstable_by_key(|row| row.key);
    let (sagas, steps) = columns(rows.iter().map(|row| row.key));
    let parameters = (
        sagas,
        steps,
        rows.iter().map(|row| json(&row.history)).collect::<Result<_, _>>()?,
        rows.iter().map(|row| row.closed.step.to_string()).collect(),
        rows.iter().map(|row| row.closed.hash.clone()).collect(),
        now,
    );
    all_of(COMPLETE.run(connection, parameters).await?, rows.len())
}

/// A document that is to be complete, whichever it is.
#[derive(Debug)]
pub(crate) struct Closing<'a> {
    /// Has one document.
    pub(crate) saga: SagaId,
    /// What its history gains.
    pub(crate) changes: Vec<&'a Change>,
    /// What Complete leaves.
    pub(crate) closed: Closed,
}

type CompleteAllColumns = (Vec<Uuid>, Vec<String>, Vec<String>, Vec<Vec<u8>>, DateTime<Utc>, i64);

// A history is JSON as this service writes it: no space behind its last entry, and never empty.
static COMPLETE_ALL: Statement<CompleteAllColumns, (i32,)> = Statement::new(
    "with complete as (update orders.document d set \
         history = case c.more when '' then d.history else left(d.history, -1) || ',' || c.more || ']' end, \
         complete_step = c.complete_step, complete_outcome = 'DONE', complete_hash = c.hash, complete_reply = ''::bytea, \
         update_time = $5 \
       from unnest($1::uuid[], $2::text[], $3::text[], $4::bytea[]) as c (saga_id, more, complete_step, hash) \
       where d.saga_id = c.saga_id and d.forward_outcome = 'DONE' and d.back_outcome is null \
         and d.complete_outcome is null returning 1) \
     select 1 / (case when (select count(*) from complete) = $6 then 1 else 0 end)",
);

/// Marks the open document of each saga as complete; none, with nothing written, when one has none.
pub(crate) async fn complete_all(
    connection: &mut PgConnection,
    mut rows: Vec<Closing<'_>>,
    now: DateTime<Utc>,
) -> Result<Option<()>, Trouble> {
    rows.sort_unstable_by_key(|row| row.saga);
    let wanted = rows.len() as i64;
    let entries = |row: &Closing<'_>| {
        let entries = json(&row.changes)?;
        Ok::<_, Trouble>(entries[1..entries.len() - 1].to_owned())
    };
    let parameters = (
        rows.iter().map(|row| row.saga.uuid()).collect(),
        rows.iter().map(entries).collect::<Result<_, _>>()?,
        rows.iter().map(|row| row.closed.step.to_string()).collect(),
        rows.iter().map(|row| row.closed.hash.clone()).collect(),
        now,
        wanted,
    );
    Ok(quick::guarded(COMPLETE_ALL.one(connection, parameters).await)?.map(drop))
}

type CancelColumns =
    (Vec<Uuid>, Vec<String>, DateTime<Utc>, Vec<Uuid>, Vec<String>, Vec<String>, Vec<String>);

// The replies of a compensation, done or not applied, have no fields: their encoding is empty.
static CANCEL: Statement<CancelColumns> = Statement::new(
    "with tombstone as (insert into orders.document (saga_id, step, forward_outcome, back_outcome, back_reply, \
         create_time, update_time) \
       select saga_id, step, 'BLOCKED', 'BLOCKED', ''::bytea, $3, $3 \
       from unnest($1::uuid[], $2::text[]) as t (saga_id, step)) \
     update orders.document d set history = c.history, cancel_reason = c.reason, back_outcome = 'DONE', \
       back_reply = ''::bytea, update_time = $3 \
     from unnest($4::uuid[], $5::text[], $6::text[], $7::text[]) as c (saga_id, step, history, reason) \
     where d.saga_id = c.saga_id and d.step = c.step and d.forward_outcome = 'DONE' \
       and d.back_outcome is null and d.complete_outcome is null",
);

/// An open document that is cancelled.
#[derive(Debug)]
pub(crate) struct Cancelled<'a> {
    /// The open step's.
    pub(crate) key: &'a StepKey,
    /// With its last entry.
    pub(crate) history: Vec<Change>,
    /// For people.
    pub(crate) reason: &'a str,
}

/// What Cancel writes.
#[derive(Debug, Default)]
pub(crate) struct TakeBack<'a> {
    /// Nothing was there: the document can never be opened.
    pub(crate) tombstones: Vec<&'a StepKey>,
    /// Were open.
    pub(crate) cancelled: Vec<Cancelled<'a>>,
}

/// Writes it. `Trouble::Again` when a row is no longer as it was read: the caller then does not commit, because its
/// answers are those to another state.
pub(crate) async fn cancel(
    connection: &mut PgConnection,
    mut writes: TakeBack<'_>,
    now: DateTime<Utc>,
) -> Result<(), Trouble> {
    writes.cancelled.sort_unstable_by_key(|row| row.key);
    writes.tombstones.sort_unstable();
    let (tomb_sagas, tomb_steps) = columns(writes.tombstones.into_iter());
    let (sagas, steps) = columns(writes.cancelled.iter().map(|row| row.key));
    let wanted = writes.cancelled.len();
    let histories = writes.cancelled.iter().map(|row| json(&row.history)).collect::<Result<_, _>>()?;
    let reasons = writes.cancelled.iter().map(|row| row.reason.to_owned()).collect();
    let parameters = (tomb_sagas, tomb_steps, now, sagas, steps, histories, reasons);
    all_of(CANCEL.run(connection, parameters).await?, wanted)
}

/// A document, as people see it.
#[derive(Debug)]
pub(crate) struct Shown {
    /// OPEN, COMPLETED or CANCELLED.
    pub(crate) status: String,
    pub(crate) customer_id: String,
    pub(crate) merchant_id: String,
    pub(crate) currency: String,
    pub(crate) lines: Vec<PricedLine>,
    pub(crate) sums: Sums,
    pub(crate) history: Vec<Change>,
    /// Empty unless cancelled.
    pub(crate) cancel_reason: String,
}

type GetRow = (String, String, String, String, String, i64, i64, i64, String, Option<String>);

static GET: Statement<(Uuid, Uuid), GetRow> = Statement::new(
    "select status, customer_id, merchant_id, currency::text, lines, subtotal_minor, tax_minor, total_minor, \
       history, cancel_reason \
     from orders.document where saga_id = $1 and order_id = $2 and forward_outcome = 'DONE'",
);

/// An order's document.
pub(crate) async fn get(connection: &mut PgConnection, order: OrderId) -> Result<Option<Shown>, Trouble> {
    let row = GET.maybe(connection, (order.saga().uuid(), order.uuid())).await?;
    let Some((status, customer_id, merchant_id, currency, lines, subtotal, tax, total, history, reason)) =
        row
    else {
        return Ok(None);
    };
    Ok(Some(Shown {
        status,
        customer_id,
        merchant_id,
        currency,
        lines: from_json(&lines)?,
        sums: Sums { subtotal_minor: subtotal, tax_minor: tax, total_minor: total },
        history: from_json(&history)?,
        cancel_reason: reason.unwrap_or_default(),
    }))
}

/// Keys as two columns. They are sorted: rows are taken in the order of their keys.
fn columns<'a>(keys: impl Iterator<Item = &'a StepKey>) -> (Vec<Uuid>, Vec<String>) {
    keys.map(|key| (key.saga.uuid(), key.step.to_string())).unzip()
}

fn all_of(touched: u64, wanted: usize) -> Result<(), Trouble> {
    if usize::try_from(touched) == Ok(wanted) {
        Ok(())
    } else {
        Err(Trouble::Again(format!("{touched} of {wanted} documents were as they had been read")))
    }
}

fn json<T: Serialize>(value: &T) -> Result<String, Trouble> {
    serde_json::to_string(value).map_err(|e| Trouble::Failed(format!("cannot be written as JSON: {e}")))
}

fn from_json<T: DeserializeOwned>(text: &str) -> Result<T, Trouble> {
    serde_json::from_str(text).map_err(|e| Trouble::Failed(format!("stored JSON cannot be read: {e}")))
}
