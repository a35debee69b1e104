//! Every SQL statement of the simulator's book, and the book's entries as the rules see them.

use std::collections::HashMap;

use chassis::sql::{Checked, Statement};
use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use types::Money;

use super::rules::{Manner, Standing};
use crate::domain::Said;

type Time = DateTime<Utc>;

/// Every statement, for the SQL check.
pub(crate) fn statements() -> Vec<&'static dyn Checked> {
    vec![
        &CHARGES,
        &CHARGES_BY_REFERENCE,
        &ADD_CHARGES,
        &MOVE_CHARGES,
        &REFUNDS,
        &ADD_REFUNDS,
        &MOVE_REFUNDS,
        &LOOK_UP,
    ]
}

/// Key, reference, amount, manner, body hash, state, effect time, sends.
type ChargeRow = (String, String, i64, String, Vec<u8>, String, Option<Time>, i32);

macro_rules! charges {
    ($which:literal) => {
        concat!(
            "select c.idempotency_key, c.reference, c.amount_minor, c.manner, c.body_hash, c.state, c.effect_time, \
             c.sends from simulator.charge c where ",
            $which,
            " = any ($1::text[]) order by c.idempotency_key for update"
        )
    };
}

/// The charges under these keys, locked in key order.
static CHARGES: Statement<(Vec<String>,), ChargeRow> = Statement::new(charges!("c.idempotency_key"));

/// The charges with these references, locked in key order.
static CHARGES_BY_REFERENCE: Statement<(Vec<String>,), ChargeRow> = Statement::new(charges!("c.reference"));

type AddCharges = (
    Vec<String>,
    Vec<String>,
    Vec<i64>,
    Vec<String>,
    Vec<String>,
    Vec<Vec<u8>>,
    Vec<String>,
    Vec<Option<Time>>,
    Vec<Option<String>>,
);

/// A key that another process took meanwhile is a unique violation: the batch runs again from load.
static ADD_CHARGES: Statement<AddCharges> = Statement::new(
    "insert into simulator.charge (idempotency_key, reference, amount_minor, currency, manner, body_hash, state, \
       effect_time, decline_code, sends, create_time) \
     select v.key, v.reference, v.amount, v.currency::text::char(3), v.manner, v.hash, v.state, v.effect_time, \
       v.decline_code, 1, now() \
     from unnest($1::text[], $2::text[], $3::bigint[], $4::text[], $5::text[], $6::bytea[], $7::text[], \
       $8::timestamptz[], $9::text[]) \
       as v (key, reference, amount, currency, manner, hash, state, effect_time, decline_code)",
);

type Moves = (Vec<String>, Vec<String>, Vec<Option<Time>>, Vec<i32>);

/// Charges that were sent again.
static MOVE_CHARGES: Statement<Moves> = Statement::new(
    "update simulator.charge c set state = v.state, effect_time = v.effect_time, sends = v.sends \
     from unnest($1::text[], $2::text[], $3::timestamptz[], $4::integer[]) as v (key, state, effect_time, sends) \
     where c.idempotency_key = v.key",
);

/// Key, reference, charge's reference, amount, body hash, state, effect time, sends.
type RefundRow = (String, String, String, i64, Vec<u8>, String, Option<Time>, i32);

/// All refunds of these charges. The charges are locked, so nobody adds one meanwhile.
static REFUNDS: Statement<(Vec<String>,), RefundRow> = Statement::new(
    "select r.idempotency_key, r.reference, r.charge_reference, r.amount_minor, r.body_hash, r.state, r.effect_time, \
       r.sends \
     from simulator.refund r where r.charge_reference = any ($1::text[]) order by r.idempotency_key",
);

type AddRefunds = (
    Vec<String>,
    Vec<String>,
    Vec<String>,
    Vec<i64>,
    Vec<String>,
    Vec<Vec<u8>>,
    Vec<String>,
    Vec<Option<Time>>,
);

/// New refunds.
static ADD_REFUNDS: Statement<AddRefunds> = Statement::new(
    "insert into simulator.refund (idempotency_key, reference, charge_reference, amount_minor, currency, body_hash, \
       state, effect_time, sends, create_time) \
     select v.key, v.reference, v.charge, v.amount, v.currency::text::char(3), v.hash, v.state, v.effect_time, 1, now() \
     from unnest($1::text[], $2::text[], $3::text[], $4::bigint[], $5::text[], $6::bytea[], $7::text[], \
       $8::timestamptz[]) as v (key, reference, charge, amount, currency, hash, state, effect_time)",
);

/// Refunds that were sent again.
static MOVE_REFUNDS: Statement<Moves> = Statement::new(
    "update simulator.refund r set state = v.state, effect_time = v.effect_time, sends = v.sends \
     from unnest($1::text[], $2::text[], $3::timestamptz[], $4::integer[]) as v (key, state, effect_time, sends) \
     where r.idempotency_key = v.key",
);

/// Key, reference, manner, state, effect time.
type FoundRow = (String, String, String, String, Option<Time>);

/// What stands under these keys, charge or refund.
static LOOK_UP: Statement<(Vec<String>,), FoundRow> = Statement::new(
    "select c.idempotency_key, c.reference, c.manner, c.state, c.effect_time \
     from simulator.charge c where c.idempotency_key = any ($1::text[]) \
     union all \
     select r.idempotency_key, r.reference, 'approve', r.state, r.effect_time \
     from simulator.refund r where r.idempotency_key = any ($1::text[])",
);

/// A charge or a refund in the book.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) key: String,
    pub(super) reference: String,
    /// Of the charge that it gives back; a charge's own.
    pub(super) charge_reference: String,
    pub(super) minor: i64,
    pub(super) hash: Vec<u8>,
    pub(super) standing: Standing,
    pub(super) sends: i32,
}

/// A new entry.
#[derive(Debug)]
pub(super) struct NewEntry {
    pub(super) key: String,
    pub(super) reference: String,
    pub(super) charge_reference: String,
    pub(super) amount: Money,
    pub(super) manner: Manner,
    pub(super) hash: Vec<u8>,
    pub(super) standing: Standing,
}

/// An entry that was sent again.
#[derive(Debug)]
pub(super) struct Moved {
    pub(super) key: String,
    pub(super) standing: Standing,
    pub(super) sends: i32,
}

fn columns(standing: Standing, effective: &str) -> (String, Option<Time>) {
    match standing {
        Standing::Received => ("RECEIVED".to_owned(), None),
        Standing::Pending(due) => ("PENDING".to_owned(), Some(due)),
        Standing::Effective(time) => (effective.to_owned(), Some(time)),
        Standing::Declined => ("DECLINED".to_owned(), None),
    }
}

fn standing(state: &str, effect: Option<Time>) -> Standing {
    match (state, effect) {
        ("PENDING", Some(due)) => Standing::Pending(due),
        ("CHARGED" | "REFUNDED", Some(time)) => Standing::Effective(time),
        ("DECLINED", _) => Standing::Declined,
        _ => Standing::Received,
    }
}

fn manner(text: &str) -> sqlx::Result<Manner> {
    Manner::parse(text)
        .ok_or_else(|| sqlx::Error::Decode(format!("this build knows no manner {text}").into()))
}

fn sorted(mut keys: Vec<String>) -> (Vec<String>,) {
    keys.sort();
    (keys,)
}

/// The charges under these keys, with their manners, locked.
pub(super) async fn charges(
    connection: &mut PgConnection,
    keys: Vec<String>,
) -> sqlx::Result<HashMap<String, (Entry, Manner)>> {
    let rows = CHARGES.all(connection, sorted(keys)).await?;
    rows.into_iter().map(charge).map(|read| read.map(|found| (found.0.key.clone(), found))).collect()
}

/// The charges with these references, with their manners, locked.
pub(super) async fn charges_by_reference(
    connection: &mut PgConnection,
    references: Vec<String>,
) -> sqlx::Result<HashMap<String, (Entry, Manner)>> {
    let rows = CHARGES_BY_REFERENCE.all(connection, sorted(references)).await?;
    rows.into_iter().map(charge).map(|read| read.map(|found| (found.0.reference.clone(), found))).collect()
}

fn charge(row: ChargeRow) -> sqlx::Result<(Entry, Manner)> {
    let (key, reference, minor, how, hash, state, effect, sends) = row;
    let charge_reference = reference.clone();
    let standing = standing(&state, effect);
    Ok((Entry { key, reference, charge_reference, minor, hash, standing, sends }, manner(&how)?))
}

/// All refunds of these charges.
pub(super) async fn refunds(connection: &mut PgConnection, charges: Vec<String>) -> sqlx::Result<Vec<Entry>> {
    let rows = REFUNDS.all(connection, sorted(charges)).await?;
    let entry = |(key, reference, charge_reference, minor, hash, state, effect, sends): RefundRow| {
        let standing = standing(&state, effect);
        Entry { key, reference, charge_reference, minor, hash, standing, sends }
    };
    Ok(rows.into_iter().map(entry).collect())
}

/// What stands under these keys at `now`, as a look-up answers it.
pub(super) async fn look_up(
    connection: &mut PgConnection,
    keys: Vec<String>,
    now: Time,
) -> sqlx::Result<HashMap<String, Option<Said>>> {
    let rows = LOOK_UP.all(connection, sorted(keys)).await?;
    let found = |(key, reference, how, state, effect): FoundRow| {
        Ok((key, standing(&state, effect).as_of(now).found(manner(&how)?, &reference)))
    };
    rows.into_iter().map(found).collect()
}

/// Adds charges.
pub(super) async fn add_charges(connection: &mut PgConnection, mut new: Vec<NewEntry>) -> sqlx::Result<()> {
    new.sort_by(|a, b| a.key.cmp(&b.key));
    let mut c = AddCharges::default();
    for entry in new {
        let (state, effect) = columns(entry.standing, "CHARGED");
        c.8.push(match entry.standing.found(entry.manner, &entry.reference) {
            Some(Said::Declined(decline)) => Some(decline.code),
            _ => None,
        });
        c.0.push(entry.key);
        c.1.push(entry.reference);
        c.2.push(entry.amount.minor);
        c.3.push(entry.amount.currency.to_string());
        c.4.push(entry.manner.as_str().to_owned());
        c.5.push(entry.hash);
        c.6.push(state);
        c.7.push(effect);
    }
    if c.0.is_empty() {
        return Ok(());
    }
    ADD_CHARGES.run(connection, c).await.map(drop)
}

/// Adds refunds.
pub(super) async fn add_refunds(connection: &mut PgConnection, mut new: Vec<NewEntry>) -> sqlx::Result<()> {
    new.sort_by(|a, b| a.key.cmp(&b.key));
    let mut c = AddRefunds::default();
    for entry in new {
        let (state, effect) = columns(entry.standing, "REFUNDED");
        c.0.push(entry.key);
        c.1.push(entry.reference);
        c.2.push(entry.charge_reference);
        c.3.push(entry.amount.minor);
        c.4.push(entry.amount.currency.to_string());
        c.5.push(entry.hash);
        c.6.push(state);
        c.7.push(effect);
    }
    if c.0.is_empty() {
        return Ok(());
    }
    ADD_REFUNDS.run(connection, c).await.map(drop)
}

fn moves(mut moved: Vec<Moved>, effective: &str) -> Option<Moves> {
    moved.sort_by(|a, b| a.key.cmp(&b.key));
    let mut c = Moves::default();
    for entry in moved {
        let (state, effect) = columns(entry.standing, effective);
        c.0.push(entry.key);
        c.1.push(state);
        c.2.push(effect);
        c.3.push(entry.sends);
    }
    (!c.0.is_empty()).then_some(c)
}

/// Writes charges that were sent again.
pub(super) async fn move_charges(connection: &mut PgConnection, moved: Vec<Moved>) -> sqlx::Result<()> {
    match moves(moved, "CHARGED") {
        Some(columns) => MOVE_CHARGES.run(connection, columns).await.map(drop),
        None => Ok(()),
    }
}

/// Writes refunds that were sent again.
pub(super) async fn move_refunds(connection: &mut PgConnection, moved: Vec<Moved>) -> sqlx::Result<()> {
    match moves(moved, "REFUNDED") {
        Some(columns) => MOVE_REFUNDS.run(connection, columns).await.map(drop),
        None => Ok(()),
    }
}
