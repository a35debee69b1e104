//! Every SQL statement of inventory. No decision is made here.
//!
//! Three statements stand between begin and commit: the barrier's rows first, so that a batch whose item another
//! process took is rolled back before it has locked stock; then the stock rows, locked in the order of their SKUs;
//! then their sums. Read next: `commands`.

use std::collections::HashMap;

use chassis::{
    barrier::{Closed, Outcome, Record},
    database::Trouble,
    sql::{Checked, Statement},
};
use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use types::{OrderId, SagaId, Sku, StepKey};
use uuid::Uuid;

use crate::domain::{Level, Lines, Shelf};

pub(crate) mod people;
pub(crate) mod reservation;

/// Every statement, for the SQL check.
pub(crate) fn statements() -> Vec<&'static dyn Checked> {
    let mut all: Vec<&'static dyn Checked> = vec![&LOCK, &MOVE];
    all.extend(reservation::STATEMENTS);
    all.extend(people::STATEMENTS);
    all
}

static LOCK: Statement<(Vec<String>,), (String, i64, i64, i64)> = Statement::new(
    "select sku, available, reserved, sold from inventory.stock where sku = any ($1) order by sku for update",
);

type Sums = (Vec<String>, Vec<i64>, Vec<i64>, Vec<i64>, DateTime<Utc>);

static MOVE: Statement<Sums> = Statement::new(
    "update inventory.stock s set available = s.available + d.available, reserved = s.reserved + d.reserved, \
       sold = s.sold + d.sold, version = s.version + 1, update_time = $5 \
     from unnest($1::text[], $2::bigint[], $3::bigint[], $4::bigint[]) as d (sku, available, reserved, sold) \
     where s.sku = d.sku",
);

/// Locks the stock of these SKUs until the transaction ends. What is not there is not on the shelf.
pub(crate) async fn lock<'a>(
    connection: &mut PgConnection,
    skus: impl Iterator<Item = &'a Sku>,
) -> Result<Shelf, Trouble> {
    let mut names: Vec<String> = skus.map(|sku| sku.as_str().to_owned()).collect();
    names.sort_unstable();
    names.dedup();
    let rows = LOCK.all(connection, (names,)).await?;
    let levels = rows
        .into_iter()
        .map(|(name, available, reserved, sold)| Ok((sku(&name)?, Level { available, reserved, sold })));
    Ok(Shelf::new(levels.collect::<Result<Vec<_>, Trouble>>()?))
}

/// Writes what changed on a shelf.
pub(crate) async fn put(
    connection: &mut PgConnection,
    shelf: &Shelf,
    now: DateTime<Utc>,
) -> Result<(), Trouble> {
    let sums = sums(shelf, now);
    let wanted = sums.0.len();
    if wanted == 0 {
        return Ok(());
    }
    all_of(MOVE.run(connection, sums).await?, wanted, "stock")
}

fn sums(shelf: &Shelf, now: DateTime<Utc>) -> Sums {
    let mut sums = (Vec::new(), Vec::new(), Vec::new(), Vec::new(), now);
    for (sku, change) in shelf.changes() {
        sums.0.push(sku.as_str().to_owned());
        sums.1.push(change.available);
        sums.2.push(change.reserved);
        sums.3.push(change.sold);
    }
    sums
}

/// Somebody changed a row between load and write: run again from load.
fn all_of(touched: u64, wanted: usize, what: &str) -> Result<(), Trouble> {
    if usize::try_from(touched) == Ok(wanted) {
        Ok(())
    } else {
        Err(Trouble::Again(format!("{touched} of {wanted} rows of {what} were as they had been read")))
    }
}

fn sku(name: &str) -> Result<Sku, Trouble> {
    name.parse().map_err(|e| Trouble::Failed(format!("a stored SKU is not one: {e}")))
}

/// The keys as two columns, in the order in which rows are taken.
fn columns<'a>(keys: impl Iterator<Item = &'a StepKey>) -> (Vec<Uuid>, Vec<String>) {
    let mut keys: Vec<_> = keys.collect();
    keys.sort_unstable();
    keys.into_iter().map(|key| (key.saga.uuid(), key.step.as_str().to_owned())).unzip()
}
