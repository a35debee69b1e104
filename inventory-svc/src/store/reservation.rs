//! The reservation rows: barriers, lines, and the answers to commands that go with them.
//!
//! Rows are read without a lock; every update says what it expects to find, so that a batch that came second writes
//! nothing and runs again. Read next: `commands::reserve`.

use std::collections::BTreeMap;

use chassis::{outbox::Columns, quick};

use super::*;

pub(super) static STATEMENTS: [&dyn Checked; 8] =
    [&LOAD, &INSERT, &RESERVE, &REFUSE, &SELL, &SELL_ALL, &TAKE_BACK, &OVERDUE];

/// A reservation row that was there.
#[derive(Debug)]
pub(crate) struct Found {
    /// What Reserve and Release left.
    pub(crate) record: Record,
    /// What Reserve answered, encoded; empty in a tombstone.
    pub(crate) reply: Vec<u8>,
    /// What is reserved; none in a tombstone.
    pub(crate) lines: Option<Lines>,
    /// What Commit left.
    pub(crate) closed: Option<Closed>,
}

type LoadRow = (
    Uuid,
    String,
    Option<Vec<String>>,
    Option<Vec<i64>>,
    String,
    Option<Vec<u8>>,
    Option<Vec<u8>>,
    Option<String>,
    Option<String>,
    Option<Vec<u8>>,
);

static LOAD: Statement<(Vec<Uuid>, Vec<String>), LoadRow> = Statement::new(
    "select r.saga_id, r.step, r.skus, r.quantities, r.forward_outcome, r.forward_hash, r.forward_reply, \
       r.back_outcome, r.commit_step, r.commit_hash \
     from unnest($1::uuid[], $2::text[]) as k (saga_id, step) \
     join inventory.reservation r on r.saga_id = k.saga_id and r.step = k.step",
);

/// What is there for these keys.
pub(crate) async fn load<'a>(
    connection: &mut PgConnection,
    keys: impl Iterator<Item = &'a StepKey>,
) -> Result<HashMap<StepKey, Found>, Trouble> {
    LOAD.all(connection, columns(keys)).await?.into_iter().map(found).collect()
}

fn found(row: LoadRow) -> Result<(StepKey, Found), Trouble> {
    let (saga, step, skus, quantities, forward, hash, reply, back, commit_step, commit_hash) = row;
    let broken = |what: &str| Trouble::Failed(format!("a reservation of saga {saga} has a broken {what}"));
    let outcome = |text: &str| Outcome::parse(text).ok_or_else(|| broken("outcome"));
    let key = StepKey { saga: SagaId::from_uuid(saga), step: step.parse().map_err(|_| broken("step"))? };
    let lines = match (skus, quantities) {
        (Some(skus), Some(quantities)) => {
            let pairs = skus.iter().zip(quantities).map(|(name, quantity)| Ok((sku(name)?, quantity)));
            Some(Lines::stored(pairs.collect::<Result<_, Trouble>>()?))
        }
        _ => None,
    };
    let record = Record {
        forward: outcome(&forward)?,
        forward_hash: hash.unwrap_or_default(),
        back: back.as_deref().map(outcome).transpose()?,
    };
    let closed = match commit_step {
        Some(step) => Some(Closed {
            step: step.parse().map_err(|_| broken("commit step"))?,
            hash: commit_hash.unwrap_or_default(),
        }),
        None => None,
    };
    Ok((key, Found { record, reply: reply.unwrap_or_default(), lines, closed }))
}

/// A reservation to be stored.
#[derive(Debug)]
pub(crate) struct New<'a> {
    /// Whose.
    pub(crate) key: &'a StepKey,
    /// For people and the auditor.
    pub(crate) order: OrderId,
    /// What.
    pub(crate) lines: &'a Lines,
    /// Past this it raises an alarm.
    pub(crate) hold_until: DateTime<Utc>,
    /// Of the request.
    pub(crate) hash: &'a [u8],
    /// What Reserve answers, encoded.
    pub(crate) reply: Vec<u8>,
}

type InsertColumns = (
    Vec<Uuid>,
    Vec<String>,
    Vec<Uuid>,
    Vec<String>,
    Vec<String>,
    Vec<DateTime<Utc>>,
    Vec<Vec<u8>>,
    Vec<Vec<u8>>,
    DateTime<Utc>,
);

// Lines go as texts, because arrays of arrays must be rectangular; neither a SKU nor a number has a comma.
static INSERT: Statement<InsertColumns> = Statement::new(
    "insert into inventory.reservation (saga_id, step, order_id, skus, quantities, hold_until, \
       forward_outcome, forward_hash, forward_reply, create_time, update_time) \
     select saga_id, step, order_id, string_to_array(skus, ','), string_to_array(quantities, ',')::bigint[], \
       hold_until, 'DONE', forward_hash, forward_reply, $9, $9 \
     from unnest($1::uuid[], $2::text[], $3::uuid[], $4::text[], $5::text[], $6::timestamptz[], $7::bytea[], \
       $8::bytea[]) as r (saga_id, step, order_id, skus, quantities, hold_until, forward_hash, forward_reply)",
);

/// Stores reservations as done, in the order of their keys. Which of them the stock refuses is known only under its
/// lock: [`put_and_refuse`] says so before the commit. A key that is taken is `Trouble::Again`.
pub(crate) async fn insert(
    connection: &mut PgConnection,
    rows: Vec<New<'_>>,
    now: DateTime<Utc>,
) -> Result<(), Trouble> {
    INSERT.run(connection, insert_columns(rows, now)).await?;
    Ok(())
}

fn insert_columns(mut rows: Vec<New<'_>>, now: DateTime<Utc>) -> InsertColumns {
    rows.sort_unstable_by_key(|row| row.key);
    let (sagas, steps) = columns(rows.iter().map(|row| row.key));
    let joined =
        |lines: &Lines, part: fn(&(Sku, i64)) -> String| lines.iter().map(part).collect::<Vec<_>>().join(",");
    (
        sagas,
        steps,
        rows.iter().map(|row| row.order.uuid()).collect(),
        rows.iter().map(|row| joined(row.lines, |(sku, _)| sku.to_string())).collect(),
        rows.iter().map(|row| joined(row.lines, |(_, quantity)| quantity.to_string())).collect(),
        rows.iter().map(|row| row.hold_until).collect(),
        rows.iter().map(|row| row.hash.to_vec()).collect(),
        rows.into_iter().map(|row| row.reply).collect(),
        now,
    )
}

type ReserveColumns = (
    Vec<Uuid>,
    Vec<String>,
    Vec<Uuid>,
    Vec<String>,
    Vec<String>,
    Vec<DateTime<Utc>>,
    Vec<Vec<u8>>,
    Vec<Vec<u8>>,
    DateTime<Utc>,
    Vec<String>,
    Vec<i64>,
    i64,
);

// Stock rows are locked in the order of their SKUs, whatever the plan is.
static RESERVE: Statement<ReserveColumns, (i32,)> = Statement::new(
    "with kept as (insert into inventory.reservation (saga_id, step, order_id, skus, quantities, hold_until, \
         forward_outcome, forward_hash, forward_reply, create_time, update_time) \
       select saga_id, step, order_id, string_to_array(skus, ','), string_to_array(quantities, ',')::bigint[], \
         hold_until, 'DONE', forward_hash, forward_reply, $9, $9 \
       from unnest($1::uuid[], $2::text[], $3::uuid[], $4::text[], $5::text[], $6::timestamptz[], $7::bytea[], \
         $8::bytea[]) as r (saga_id, step, order_id, skus, quantities, hold_until, forward_hash, forward_reply)), \
     moved as (update inventory.stock s set available = s.available - d.quantity, reserved = s.reserved + d.quantity, \
         version = s.version + 1, update_time = $9 \
       from unnest($10::text[], $11::bigint[]) as d (sku, quantity) \
       join (select sku from inventory.stock where sku = any ($10) order by sku for no key update) l on l.sku = d.sku \
       where s.sku = d.sku returning 1) \
     select 1 / (case when (select count(*) from moved) = $12 then 1 else 0 end)",
);

/// Stores reservations as done and takes what they hold from the stock, in a commit of its own; none, with nothing written,
/// when one was there, or when there is not enough.
pub(crate) async fn reserve(
    connection: &mut PgConnection,
    rows: Vec<New<'_>>,
    moved: BTreeMap<&Sku, Level>,
    now: DateTime<Utc>,
) -> Result<Option<()>, Trouble> {
    let (sagas, steps, orders, skus, quantities, holds, hashes, replies, now) = insert_columns(rows, now);
    let wanted = moved.len() as i64;
    let (stock, taken) = moved.into_iter().map(|(sku, by)| (sku.as_str().to_owned(), by.reserved)).unzip();
    let parameters =
        (sagas, steps, orders, skus, quantities, holds, hashes, replies, now, stock, taken, wanted);
    Ok(quick::guarded(RESERVE.one(connection, parameters).await)?.map(drop))
}

type RefuseColumns =
    (Vec<String>, Vec<i64>, Vec<i64>, Vec<i64>, DateTime<Utc>, Vec<Uuid>, Vec<String>, Vec<Vec<u8>>);

static REFUSE: Statement<RefuseColumns> = Statement::new(
    "with refused as (update inventory.reservation r set forward_outcome = 'REFUSED', forward_reply = f.reply \
       from unnest($6::uuid[], $7::text[], $8::bytea[]) as f (saga_id, step, reply) \
       where r.saga_id = f.saga_id and r.step = f.step) \
     update inventory.stock s set available = s.available + d.available, reserved = s.reserved + d.reserved, \
       sold = s.sold + d.sold, version = s.version + 1, update_time = $5 \
     from unnest($1::text[], $2::bigint[], $3::bigint[], $4::bigint[]) as d (sku, available, reserved, sold) \
     where s.sku = d.sku",
);

/// Writes what changed on a shelf, and the refusals of this transaction's own reservations with their replies.
pub(crate) async fn put_and_refuse(
    connection: &mut PgConnection,
    shelf: &Shelf,
    refused: Vec<(&StepKey, Vec<u8>)>,
    now: DateTime<Utc>,
) -> Result<(), Trouble> {
    if refused.is_empty() {
        return put(connection, shelf, now).await;
    }
    let (skus, available, reserved, sold, now) = sums(shelf, now);
    let wanted = skus.len();
    let (mut sagas, mut steps, mut replies) = (Vec::new(), Vec::new(), Vec::new());
    for (key, reply) in refused {
        sagas.push(key.saga.uuid());
        steps.push(key.step.as_str().to_owned());
        replies.push(reply);
    }
    let parameters = (skus, available, reserved, sold, now, sagas, steps, replies);
    all_of(REFUSE.run(connection, parameters).await?, wanted, "stock")
}

type SellColumns = (Vec<Uuid>, Vec<String>, Vec<String>, Vec<Vec<u8>>, Vec<u8>, DateTime<Utc>);

static SELL: Statement<SellColumns> = Statement::new(
    "update inventory.reservation r set commit_step = c.commit_step, commit_outcome = 'DONE', \
       commit_hash = c.hash, commit_reply = $5, update_time = $6 \
     from unnest($1::uuid[], $2::text[], $3::text[], $4::bytea[]) as c (saga_id, step, commit_step, hash) \
     where r.saga_id = c.saga_id and r.step = c.step and r.forward_outcome = 'DONE' \
       and r.back_outcome is null and r.commit_outcome is null",
);

/// Marks live reservations as sold. `Trouble::Again` when one is not live any more.
pub(crate) async fn sell(
    connection: &mut PgConnection,
    sales: Vec<(&StepKey, Closed)>,
    reply: Vec<u8>,
    now: DateTime<Utc>,
) -> Result<(), Trouble> {
    let wanted = sales.len();
    let touched = SELL.run(connection, sell_columns(sales, reply, now)).await?;
    all_of(touched, wanted, "reservation")
}

fn sell_columns(mut sales: Vec<(&StepKey, Closed)>, reply: Vec<u8>, now: DateTime<Utc>) -> SellColumns {
    sales.sort_unstable_by_key(|(key, _)| *key);
    let (sagas, steps) = columns(sales.iter().map(|(key, _)| *key));
    let (commits, hashes) =
        sales.into_iter().map(|(_, closed)| (closed.step.as_str().to_owned(), closed.hash)).unzip();
    (sagas, steps, commits, hashes, reply, now)
}

type SellAllColumns = (Vec<Uuid>, Vec<String>, Vec<String>, Vec<Vec<u8>>, Vec<u8>, DateTime<Utc>, i64);

// What they take with them is in the rows themselves. Stock is locked in its order, and then found by its key: what a
// planner takes for few rows it would compare each with each.
static SELL_ALL: Statement<SellAllColumns, (i32,)> = Statement::new(
    "with closed as (update inventory.reservation r set commit_step = c.commit_step, commit_outcome = 'DONE', \
         commit_hash = c.hash, commit_reply = $5, update_time = $6 \
       from unnest($1::uuid[], $2::text[], $3::text[], $4::bytea[]) as c (saga_id, step, commit_step, hash) \
       where r.saga_id = c.saga_id and r.step = c.step and r.forward_outcome = 'DONE' \
         and r.back_outcome is null and r.commit_outcome is null returning r.skus, r.quantities), \
     gone as materialized (select l.sku, sum(l.quantity)::bigint as quantity \
       from closed, unnest(closed.skus, closed.quantities) as l (sku, quantity) group by l.sku), \
     held as materialized (select s.sku, gone.quantity from gone join inventory.stock s on s.sku = gone.sku \
       order by s.sku for no key update of s), \
     moved as (update inventory.stock s set reserved = s.reserved - held.quantity, sold = s.sold + held.quantity, \
         version = s.version + 1, update_time = $6 from held where s.sku = held.sku returning 1) \
     select 1 / (case when (select count(*) from closed) = $7 \
                       and (select count(*) from moved) = (select count(*) from gone) then 1 else 0 end)",
);

/// Marks live reservations as sold and moves their stock, in a commit of its own; none, with nothing written, when one of
/// them is not live any more.
pub(crate) async fn sell_all(
    connection: &mut PgConnection,
    sales: Vec<(&StepKey, Closed)>,
    reply: Vec<u8>,
    now: DateTime<Utc>,
) -> Result<Option<()>, Trouble> {
    let wanted = sales.len() as i64;
    let (sagas, steps, commits, hashes, reply, now) = sell_columns(sales, reply, now);
    let parameters = (sagas, steps, commits, hashes, reply, now, wanted);
    Ok(quick::guarded(SELL_ALL.one(connection, parameters).await)?.map(drop))
}

type TakeBackColumns = (
    Vec<Uuid>,
    Vec<String>,
    DateTime<Utc>,
    Vec<Uuid>,
    Vec<String>,
    Vec<String>,
    Vec<String>,
    Vec<Uuid>,
    Vec<String>,
    Vec<String>,
    Vec<String>,
    Vec<Vec<u8>>,
    Vec<String>,
    Vec<DateTime<Utc>>,
);

// The replies of a compensation, done or not applied, have no fields: their encoding is empty.
static TAKE_BACK: Statement<TakeBackColumns> = Statement::new(
    "with tombstone as (insert into inventory.reservation (saga_id, step, forward_outcome, back_outcome, \
         back_reply, create_time, update_time) \
       select saga_id, step, 'BLOCKED', 'BLOCKED', ''::bytea, $3, $3 \
       from unnest($1::uuid[], $2::text[]) as t (saga_id, step)), \
     answer as (insert into inventory.outbox (outbox_id, exchange, routing_key, kind, body, headers, create_time) \
       select outbox_id, exchange, routing_key, kind, body, headers, create_time \
       from unnest($8::uuid[], $9::text[], $10::text[], $11::text[], $12::bytea[], $13::text[], $14::timestamptz[]) \
         as a (outbox_id, exchange, routing_key, kind, body, headers, create_time)) \
     update inventory.reservation r set back_outcome = b.back, back_reply = ''::bytea, update_time = $3 \
     from unnest($4::uuid[], $5::text[], $6::text[], $7::text[]) as b (saga_id, step, forward, back) \
     where r.saga_id = b.saga_id and r.step = b.step and r.forward_outcome = b.forward \
       and r.back_outcome is null and r.commit_outcome is null",
);

/// What Release writes.
#[derive(Debug, Default)]
pub(crate) struct TakeBack<'a> {
    /// Nothing was there: the step can never run.
    pub(crate) tombstones: Vec<&'a StepKey>,
    /// Was reserved or refused, and is now released or blocked.
    pub(crate) taken_back: Vec<(&'a StepKey, Outcome, Outcome)>,
    /// Answers to those who asked by message.
    pub(crate) answers: Columns,
}

/// Writes it. `Trouble::Again` when a row is no longer as it was read.
pub(crate) async fn take_back(
    connection: &mut PgConnection,
    mut writes: TakeBack<'_>,
    now: DateTime<Utc>,
) -> Result<(), Trouble> {
    writes.taken_back.sort_unstable_by_key(|(key, ..)| *key);
    let wanted = writes.taken_back.len();
    let (tomb_sagas, tomb_steps) = columns(writes.tombstones.into_iter());
    let (sagas, steps) = columns(writes.taken_back.iter().map(|(key, ..)| *key));
    let (forwards, backs) = writes
        .taken_back
        .iter()
        .map(|(_, forward, back)| (forward.as_str().to_owned(), back.as_str().to_owned()))
        .unzip();
    let a = writes.answers;
    let parameters = (
        tomb_sagas,
        tomb_steps,
        now,
        sagas,
        steps,
        forwards,
        backs,
        a.ids,
        a.exchanges,
        a.routing_keys,
        a.kinds,
        a.bodies,
        a.headers,
        a.times,
    );
    all_of(TAKE_BACK.run(connection, parameters).await?, wanted, "reservation")
}

type OverdueRow = (i64, Option<DateTime<Utc>>);

static OVERDUE: Statement<(DateTime<Utc>,), OverdueRow> = Statement::new(
    "select count(*), min(hold_until) from inventory.reservation where state = 'RESERVED' and hold_until < $1",
);

/// How many live reservations are past their time, and since when the first.
pub(crate) async fn overdue(connection: &mut PgConnection, now: DateTime<Utc>) -> sqlx::Result<OverdueRow> {
    OVERDUE.one(connection, (now,)).await
}
