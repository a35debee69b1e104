//! Commit: what was reserved is sold. After the pivot: it cannot refuse. Without a live reservation it is a bug of the
//! caller, which a person must see, and nothing is stored.
//!
//! Its barrier stands in the record of the reservation it sells.

use std::sync::Arc;

use chassis::{
    barrier::{self, Close, Closed},
    batcher::Command,
    clock,
    database::{self, Trouble, Warm},
    quick::Hunch,
    slots::Turns,
};
use prost::Message as _;
use proto::{
    inventory::v1::CommitDone,
    step::{Answer, TurnedAway},
};
use sqlx::PgConnection;
use types::StepKey;

use crate::{
    domain::Lines,
    store::{self, reservation},
};

/// A sale that is wanted.
#[derive(Debug, Clone)]
pub struct Item {
    /// The step that sells.
    pub key: StepKey,
    /// The step that reserved.
    pub reservation: StepKey,
    pub hash: Vec<u8>,
}

/// The command.
#[derive(Debug)]
pub(crate) struct Commit {
    pub(crate) pool: Warm,
    /// That all of a slice is live.
    pub(crate) hunch: Hunch,
    /// All that write stock.
    pub(crate) turns: Arc<Turns>,
}

impl Command for Commit {
    type Item = Item;
    type Reply = Answer<CommitDone>;
    type Key = StepKey;

    const NAME: &'static str = "inventory.commit";

    /// The row that it writes.
    fn key(item: &Item) -> StepKey {
        item.reservation.clone()
    }

    fn turns(&self) -> Option<&Turns> {
        Some(&self.turns)
    }

    async fn run(&self, items: &[Item]) -> Result<Vec<Answer<CommitDone>>, Trouble> {
        let mut connection = self.pool.connection().await?;
        if self.hunch.try_it(at_once(&mut connection, items)).await?.is_some() {
            return Ok(items.iter().map(|_| Answer::Done(CommitDone {})).collect());
        }
        let found = reservation::load(&mut connection, items.iter().map(|item| &item.reservation)).await?;
        let mut fresh = Vec::new();
        let mut answers = Vec::with_capacity(items.len());
        for item in items {
            let there = found.get(&item.reservation);
            let record = there.map(|there| &there.record);
            let closed = there.and_then(|there| there.closed.as_ref());
            answers.push(match barrier::close(record, closed, &item.key.step, &item.hash) {
                Close::Done => Answer::Done(CommitDone {}),
                Close::Mismatch => TurnedAway::mismatch(&item.key).into(),
                Close::Impossible(why) => impossible(item, why),
                Close::Fresh => {
                    let lines = there.and_then(|there| there.lines.as_ref());
                    let lines = lines.ok_or_else(|| Trouble::Failed("a reservation without lines".into()))?;
                    fresh.push((item, lines));
                    Answer::Done(CommitDone {})
                }
            });
        }
        if !fresh.is_empty() {
            write(&mut connection, &fresh).await?;
        }
        Ok(answers)
    }
}

fn impossible(item: &Item, why: &str) -> Answer<CommitDone> {
    tracing::error!(saga.id = %item.key.saga, step.name = %item.key.step, why, "a commit without a live reservation");
    TurnedAway::failed(format!("{} of {}: {why}", item.key.step, item.key.saga)).into()
}

fn sales<'a>(items: impl Iterator<Item = &'a Item>) -> Vec<(&'a StepKey, Closed)> {
    let closed = |item: &Item| Closed { step: item.key.step.clone(), hash: item.hash.clone() };
    items.map(|item| (&item.reservation, closed(item))).collect()
}

/// All of them are live; none when one is not.
async fn at_once(connection: &mut PgConnection, items: &[Item]) -> Result<Option<()>, Trouble> {
    reservation::sell_all(connection, sales(items.iter()), CommitDone {}.encode_to_vec(), clock::now()).await
}

async fn write(connection: &mut PgConnection, fresh: &[(&Item, &Lines)]) -> Result<(), Trouble> {
    let now = clock::now();
    let mut transaction = database::begin(connection).await?;
    reservation::sell(
        &mut transaction,
        sales(fresh.iter().map(|(item, _)| *item)),
        CommitDone {}.encode_to_vec(),
        now,
    )
    .await?;
    let skus = fresh.iter().flat_map(|(_, lines)| lines.skus());
    let mut shelf = store::lock(&mut transaction, skus).await?;
    for (_, lines) in fresh {
        shelf.sell(lines).map_err(|e| Trouble::Failed(e.to_string()))?;
    }
    store::put(&mut transaction, &shelf, now).await?;
    database::commit(transaction).await?;
    Ok(())
}
