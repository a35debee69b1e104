//! The start of an order: intent, key and projection in one commit.
//!
//! Needs no fence: its unique keys decide. A key that is taken answers with what it stands for.

use std::collections::HashMap;

use chassis::{
    batcher::Command,
    database::{self, Trouble, Warm},
    quick::{self, Hunch},
    seeded::{self, Bug},
    sql::{Checked, Statement},
};
use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use types::OrderId;
use uuid::Uuid;

use crate::journal::Recorded;

/// An order to be started.
#[derive(Debug, Clone)]
pub struct Start {
    /// Its id, and its saga's.
    pub order: OrderId,
    /// Its shard.
    pub shard: i16,
    /// The starter's epoch there; 0 when it is not the owner.
    pub epoch: i64,
    /// The definition's kind.
    pub kind: &'static str,
    /// The definition's version.
    pub definition_version: i32,
    /// The definition's hash.
    pub definition_hash: i64,
    /// The `Started` event.
    pub started: Recorded,
    /// Who buys.
    pub customer: String,
    /// Who sells.
    pub merchant: String,
    /// ISO 4217.
    pub currency: String,
    /// Minor units.
    pub total: i64,
    /// Makes it safe to repeat.
    pub key: Option<String>,
    /// Of what was asked.
    pub fingerprint: Vec<u8>,
}

/// What became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Begun {
    /// It is durable.
    Started,
    /// The key stands for this order.
    KeyTaken(Key),
}

/// What a key stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    /// The order.
    pub order: OrderId,
    /// Of what was asked then.
    pub fingerprint: Vec<u8>,
    /// When it was first seen.
    pub create_time: DateTime<Utc>,
}

// Absorbs the same request sent twice, at once or again: the first to commit has the key, the other waits for it here.
static TAKE_KEYS: Statement<(Vec<String>, Vec<String>, Vec<Vec<u8>>, Vec<Uuid>), (Uuid,)> = Statement::new(
    "insert into orchestrator.idempotency_key (merchant_id, request_key, fingerprint, order_id, create_time) \
     select k.merchant_id, k.request_key, k.fingerprint, k.order_id, now() \
     from unnest($1::text[], $2::text[], $3::bytea[], $4::uuid[]) as k (merchant_id, request_key, fingerprint, order_id) \
     order by k.merchant_id, k.request_key \
     on conflict do nothing returning order_id",
);

static FIND_KEYS: Statement<(Vec<String>, Vec<String>), (String, String, Uuid, Vec<u8>, DateTime<Utc>)> =
    Statement::new(
        "select k.merchant_id, k.request_key, k.order_id, k.fingerprint, k.create_time \
     from orchestrator.idempotency_key k \
     join unnest($1::text[], $2::text[]) as w (merchant_id, request_key) \
       on w.merchant_id = k.merchant_id and w.request_key = k.request_key",
    );

type StartColumns = (
    Vec<Uuid>,
    Vec<i16>,
    Vec<String>,
    Vec<i32>,
    Vec<i64>,
    Vec<i64>,
    Vec<Uuid>,
    Vec<DateTime<Utc>>,
    Vec<String>,
    Vec<String>,
    Vec<String>,
    Vec<String>,
    Vec<i64>,
    Vec<String>,
    Vec<String>,
    Vec<Vec<u8>>,
    Vec<Uuid>,
);

/// Orders, and their keys where those are not taken yet: one that is taken is a unique violation, and nothing was written.
static START: Statement<StartColumns> = Statement::new(
    "with t as materialized ( \
       select * from unnest($1::uuid[], $2::smallint[], $3::text[], $4::integer[], $5::bigint[], $6::bigint[], $7::uuid[], \
                            $8::timestamptz[], $9::text[], $10::text[], $11::text[], $12::text[], $13::bigint[]) \
         as t (saga_id, shard_id, kind, definition_version, definition_hash, epoch, commit_id, time, events, customer_id, \
               merchant_id, currency, total_minor)), \
     taken as ( \
       insert into orchestrator.idempotency_key (merchant_id, request_key, fingerprint, order_id, create_time) \
       select k.*, now() from unnest($14::text[], $15::text[], $16::bytea[], $17::uuid[]) as k), \
     journalled as ( \
       insert into orchestrator.journal (saga_id, version, epoch, commit_id, events, create_time) \
       select saga_id, 1, epoch, commit_id, events, time from t), \
     projected as ( \
       insert into orchestrator.\"order\" \
         (order_id, customer_id, merchant_id, currency, total_minor, status, version, create_time, update_time) \
       select saga_id, customer_id, merchant_id, currency::char(3), total_minor, 'CREATED', 1, time, time from t) \
     insert into orchestrator.saga \
       (saga_id, shard_id, kind, definition_version, definition_hash, version, commit_id, epoch, state, create_time, update_time) \
     select saga_id, shard_id, kind, definition_version, definition_hash, 1, commit_id, epoch, 'RUNNING', time, time from t",
);

static FORGET_KEYS: Statement<(i64,)> = Statement::new(
    "delete from orchestrator.idempotency_key where ctid in ( \
       select ctid from orchestrator.idempotency_key where create_time < now() - $1::bigint * interval '1 second' limit 5000)",
)
.by_the_clock();

pub(super) fn statements() -> Vec<&'static dyn Checked> {
    vec![&TAKE_KEYS, &FIND_KEYS, &START, &FORGET_KEYS]
}

/// Looks keys up, all that wait in one statement. After an outage everybody repeats his request at once: with a connection
/// for each, the last in the line would wait for longer than his patience, ask again, and keep the line as long as it is.
pub struct FindKeys {
    /// The orchestrator's own database.
    pub pool: Warm,
}

impl Command for FindKeys {
    /// Merchant and key.
    type Item = (String, String);
    type Reply = Option<Key>;
    type Key = (String, String);

    const NAME: &'static str = "find key";
    const COPY: Option<fn(&Self::Reply) -> Self::Reply> = Some(Clone::clone);

    fn key(item: &Self::Item) -> Self::Key {
        item.clone()
    }

    async fn run(&self, items: &[Self::Item]) -> Result<Vec<Option<Key>>, Trouble> {
        let mut connection = self.pool.connection().await?;
        let mut found = find_keys(&mut connection, items.iter().cloned().unzip()).await?;
        Ok(items.iter().map(|item| found.remove(item)).collect())
    }
}

/// What these keys stand for, by merchant and key.
async fn find_keys(
    connection: &mut PgConnection,
    keys: (Vec<String>, Vec<String>),
) -> sqlx::Result<HashMap<(String, String), Key>> {
    let found = FIND_KEYS.all(connection, keys).await?;
    Ok(found
        .into_iter()
        .map(|(merchant, key, id, fingerprint, create_time)| {
            ((merchant, key), Key { order: OrderId::from_uuid(id), fingerprint, create_time })
        })
        .collect())
}

/// Drops keys older than this many seconds; how many.
///
/// # Errors
/// What the database said.
pub async fn forget_keys(connection: &mut PgConnection, older_than_seconds: i64) -> sqlx::Result<u64> {
    FORGET_KEYS.run(connection, (older_than_seconds,)).await
}

/// Starts orders.
pub struct StartOrders {
    /// The orchestrator's own database.
    pub pool: Warm,
    /// That every key of a slice is new.
    pub hunch: Hunch,
}

impl Command for StartOrders {
    type Item = Start;
    type Reply = Begun;
    /// The key itself: two requests with one key never share a batch, so the second finds what the first committed.
    type Key = (String, String);

    const NAME: &'static str = "start";

    fn key(item: &Start) -> Self::Key {
        match &item.key {
            Some(key) => (item.merchant.clone(), key.clone()),
            None => (String::new(), item.order.to_string()),
        }
    }

    async fn run(&self, items: &[Start]) -> Result<Vec<Begun>, Trouble> {
        let mut connection = self.pool.connection().await?;
        if self.hunch.try_it(at_once(&mut connection, items)).await?.is_some() {
            return Ok(vec![Begun::Started; items.len()]);
        }
        let mut transaction = database::begin(&mut connection).await?;
        let lost = take_keys(&mut transaction, items).await?;
        let won: Vec<&Start> = items.iter().filter(|s| !lost.contains_key(&s.order.uuid())).collect();
        if !won.is_empty() {
            START.run(&mut transaction, columns(&won, Vec::new())?).await?;
        }
        database::commit(transaction).await?;
        Ok(items
            .iter()
            .map(|s| lost.get(&s.order.uuid()).cloned().map_or(Begun::Started, Begun::KeyTaken))
            .collect())
    }
}

/// Every key is new; none when it is not so.
async fn at_once(connection: &mut PgConnection, items: &[Start]) -> Result<Option<()>, Trouble> {
    if seeded::is(Bug::KeyNotStored) {
        return Ok(None);
    }
    let mut keyed: Vec<_> = items.iter().filter_map(|start| Some((start, start.key.as_ref()?))).collect();
    keyed.sort_by_key(|(start, key)| (&start.merchant, *key));
    let begun = START.run(connection, columns(&items.iter().collect::<Vec<_>>(), keyed)?).await;
    Ok(quick::guarded(begun)?.map(drop))
}

/// Takes the keys; those that were taken already, by the order that wanted them.
async fn take_keys(connection: &mut PgConnection, items: &[Start]) -> Result<HashMap<Uuid, Key>, Trouble> {
    let keyed: Vec<(&Start, &String)> = items.iter().filter_map(|s| s.key.as_ref().map(|k| (s, k))).collect();
    if keyed.is_empty() || seeded::is(Bug::KeyNotStored) {
        return Ok(HashMap::new());
    }
    let merchants: Vec<String> = keyed.iter().map(|(s, _)| s.merchant.clone()).collect();
    let keys: Vec<String> = keyed.iter().map(|(_, k)| (*k).clone()).collect();
    let fingerprints = keyed.iter().map(|(s, _)| s.fingerprint.clone()).collect();
    let orders: Vec<Uuid> = keyed.iter().map(|(s, _)| s.order.uuid()).collect();
    let won = TAKE_KEYS.all(connection, (merchants.clone(), keys.clone(), fingerprints, orders)).await?;
    if won.len() == keyed.len() {
        return Ok(HashMap::new());
    }
    let found = find_keys(connection, (merchants, keys)).await?;
    let won: Vec<Uuid> = won.into_iter().map(|(id,)| id).collect();
    let mut lost = HashMap::new();
    for (start, key) in keyed {
        if !won.contains(&start.order.uuid()) {
            let found = found.get(&(start.merchant.clone(), key.clone())).cloned();
            // It was there a moment ago: its seven days ended just now.
            let found =
                found.ok_or_else(|| Trouble::Again("an idempotency key was dropped meanwhile".into()))?;
            lost.insert(start.order.uuid(), found);
        }
    }
    Ok(lost)
}

fn columns(starts: &[&Start], keyed: Vec<(&Start, &String)>) -> sqlx::Result<StartColumns> {
    let time = |s: &&Start| DateTime::from_timestamp_millis(s.started.at).unwrap_or_else(chassis::clock::now);
    let journal =
        |s: &&Start| serde_json::to_string(&[&s.started]).map_err(|e| sqlx::Error::Encode(e.into()));
    Ok((
        each(starts, |s| s.order.uuid()),
        each(starts, |s| s.shard),
        each(starts, |s| s.kind.to_owned()),
        each(starts, |s| s.definition_version),
        each(starts, |s| s.definition_hash),
        each(starts, |s| s.epoch),
        each(starts, |s| s.order.uuid()),
        each(starts, time),
        starts.iter().map(journal).collect::<Result<_, _>>()?,
        each(starts, |s| s.customer.clone()),
        each(starts, |s| s.merchant.clone()),
        each(starts, |s| s.currency.clone()),
        each(starts, |s| s.total),
        each(&keyed, |(s, _)| s.merchant.clone()),
        each(&keyed, |(_, key)| (*key).clone()),
        each(&keyed, |(s, _)| s.fingerprint.clone()),
        each(&keyed, |(s, _)| s.order.uuid()),
    ))
}

/// One column of rows.
fn each<R, T>(rows: &[R], column: impl Fn(&R) -> T) -> Vec<T> {
    rows.iter().map(column).collect()
}
