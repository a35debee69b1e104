//! Reserve: all lines of an item or none. What does not fit is refused, and the refusal is stored.
//!
//! Read next: [`super::commit`], [`super::release`].

use std::sync::Arc;

use chassis::{
    barrier::{self, Forward},
    batcher::Command,
    clock,
    database::{self, Trouble, Warm},
    quick::Hunch,
    seeded::{self, Bug},
    slots::Turns,
};
use chrono::{DateTime, Utc};
use prost::Message as _;
use proto::{
    inventory::v1::ReserveDone,
    step::{Answer, TurnedAway},
};
use sqlx::PgConnection;
use types::{OrderId, StepKey};

use crate::{
    domain::{Level, Lines, Refusal},
    store::{self, reservation},
    wire,
};

/// A reservation that is wanted.
#[derive(Debug, Clone)]
pub struct Item {
    pub key: StepKey,
    pub order: OrderId,
    pub lines: Lines,
    pub hold_until: DateTime<Utc>,
    pub hash: Vec<u8>,
}

/// The command.
#[derive(Debug)]
pub(crate) struct Reserve {
    pub(crate) pool: Warm,
    /// That all of a slice is new, and there is enough of everything.
    pub(crate) hunch: Hunch,
    /// All that write stock.
    pub(crate) turns: Arc<Turns>,
}

impl Command for Reserve {
    type Item = Item;
    type Reply = Answer<ReserveDone>;
    type Key = StepKey;

    const NAME: &'static str = "inventory.reserve";

    fn key(item: &Item) -> StepKey {
        item.key.clone()
    }

    fn turns(&self) -> Option<&Turns> {
        Some(&self.turns)
    }

    async fn run(&self, items: &[Item]) -> Result<Vec<Answer<ReserveDone>>, Trouble> {
        let mut connection = self.pool.connection().await?;
        if let Some(answers) = self.hunch.try_it(at_once(&mut connection, items)).await? {
            return Ok(answers);
        }
        let found = reservation::load(&mut connection, items.iter().map(|item| &item.key)).await?;
        let mut answers = Vec::with_capacity(items.len());
        let mut fresh = Vec::new();
        for item in items {
            let there = found.get(&item.key);
            answers.push(repeat(item, there)?);
            if there.is_none() {
                fresh.push(item);
            }
        }
        let mut decided = write(&mut connection, &fresh).await?.into_iter();
        Ok(answers.into_iter().filter_map(|answer| answer.or_else(|| decided.next())).collect())
    }
}

/// Everything is new and there is enough; none when it is not so.
async fn at_once(
    connection: &mut PgConnection,
    items: &[Item],
) -> Result<Option<Vec<Answer<ReserveDone>>>, Trouble> {
    let rows = items.iter().map(row).collect();
    let moved = Level::sums(items.iter().map(|item| &item.lines), Level::reserved);
    let Some(moved) = moved else { return Ok(None) };
    let done = reservation::reserve(connection, rows, moved, clock::now()).await?;
    Ok(done.map(|()| items.iter().map(|item| Answer::Done(wire::reserved(&item.key))).collect()))
}

fn row(item: &Item) -> reservation::New<'_> {
    reservation::New {
        key: &item.key,
        order: item.order,
        lines: &item.lines,
        hold_until: item.hold_until,
        hash: &item.hash,
        reply: wire::reserved(&item.key).encode_to_vec(),
    }
}

/// What was answered before; none for an item that is new.
fn repeat(item: &Item, there: Option<&reservation::Found>) -> Result<Option<Answer<ReserveDone>>, Trouble> {
    let Some(there) = there else { return Ok(None) };
    Ok(Some(match barrier::forward(Some(&there.record), &item.hash) {
        Forward::Done => Answer::Done(wire::stored(&there.reply)?),
        Forward::Refused => Answer::Refused(wire::stored(&there.reply)?),
        Forward::Fenced => Answer::Fenced,
        Forward::Mismatch => TurnedAway::mismatch(&item.key).into(),
        Forward::Fresh | Forward::InProgress => {
            return Err(Trouble::Failed("a reservation is never half made".into()));
        }
    }))
}

/// Decides and stores items that are new; an answer for each, in the same order.
async fn write(connection: &mut PgConnection, items: &[&Item]) -> Result<Vec<Answer<ReserveDone>>, Trouble> {
    if items.is_empty() {
        return Ok(Vec::new());
    }
    let now = clock::now();
    let mut transaction = database::begin(connection).await?;
    let rows = items.iter().map(|item| row(item)).collect();
    reservation::insert(&mut transaction, rows, now).await?;

    let skus = items.iter().flat_map(|item| item.lines.skus());
    let mut shelf = store::lock(&mut transaction, skus).await?;
    let mut refused = Vec::new();
    let mut answers = Vec::with_capacity(items.len());
    for item in items {
        answers.push(match shelf.reserve(&item.lines) {
            Ok(()) => Answer::Done(wire::reserved(&item.key)),
            Err(refusal) => {
                let refusal = note(&refusal);
                if !seeded::is(Bug::RefusedStoredAsDone) {
                    refused.push((&item.key, refusal.encode_to_vec()));
                }
                Answer::Refused(refusal)
            }
        });
    }
    reservation::put_and_refuse(&mut transaction, &shelf, refused, now).await?;
    database::commit(transaction).await?;
    Ok(answers)
}

fn note(refusal: &Refusal) -> proto::step::Refused {
    let reason = match refusal {
        Refusal::OutOfStock { .. } => "out_of_stock",
        Refusal::UnknownSku { .. } => "unknown_sku",
    };
    metrics::counter!("amends_inventory_refused_total", "reason" => reason).increment(1);
    wire::refused(refusal)
}
