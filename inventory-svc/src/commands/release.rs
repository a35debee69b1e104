//! Release takes Reserve back: what was reserved is free again. Where nothing was reserved it leaves a tombstone, so
//! that the reservation can never be made. By gRPC and by message it is the same command; who asked by message is
//! answered by message, from the same commit.
//!
//! After Commit it must not come: that lies behind the pivot, and a person must see it.

use std::sync::Arc;

use chassis::{
    barrier::{self, Back, Outcome},
    batcher::Command,
    bus::Message,
    clock,
    database::{self, Trouble},
    outbox::{Columns, Relay},
    seeded::{self, Bug},
    slots::Turns,
};
use proto::{
    inventory::v1::ReleaseDone,
    step::{BackAnswer, TurnedAway},
};
use sqlx::{PgConnection, PgPool};
use types::StepKey;
use uuid::Uuid;

use crate::{
    domain::Lines,
    store::{
        self,
        reservation::{self, Found, TakeBack},
    },
    wire,
};

/// A reservation that is to be taken back.
#[derive(Debug, Clone)]
pub struct Item {
    /// The forward step's key.
    pub key: StepKey,
    /// The message that asked for it, if one did.
    pub command_id: Option<Uuid>,
    /// W3C traceparent; may be empty.
    pub trace: String,
}

/// The command.
#[derive(Debug)]
pub(crate) struct Release {
    pub(crate) pool: PgPool,
    pub(crate) relay: Relay,
    /// All that write stock.
    pub(crate) turns: Arc<Turns>,
}

impl Command for Release {
    type Item = Item;
    type Reply = BackAnswer<ReleaseDone>;
    type Key = StepKey;

    const NAME: &'static str = "inventory.release";

    fn key(item: &Item) -> StepKey {
        item.key.clone()
    }

    fn turns(&self) -> Option<&Turns> {
        Some(&self.turns)
    }

    async fn run(&self, items: &[Item]) -> Result<Vec<BackAnswer<ReleaseDone>>, Trouble> {
        let mut connection = database::acquire(&self.pool).await?;
        let found = reservation::load(&mut connection, items.iter().map(|item| &item.key)).await?;
        let mut plan = Plan::default();
        let mut answers = Vec::with_capacity(items.len());
        let mut messages = Vec::new();
        for item in items {
            let says = plan.decide(item, found.get(&item.key))?;
            messages.extend(wire::answer(item, &says));
            answers.push(says);
        }
        plan.write(&mut connection, &messages).await?;
        self.relay.hand(messages);
        Ok(answers)
    }
}

/// What a batch will write.
#[derive(Debug, Default)]
struct Plan<'a> {
    rows: TakeBack<'a>,
    put_back: Vec<&'a Lines>,
}

impl<'a> Plan<'a> {
    fn decide(
        &mut self,
        item: &'a Item,
        there: Option<&'a Found>,
    ) -> Result<BackAnswer<ReleaseDone>, Trouble> {
        if there.is_some_and(|there| there.closed.is_some()) {
            if seeded::is(Bug::ReleaseOfTheSold) {
                self.put_back.extend(there.and_then(|there| there.lines.as_ref()));
                return Ok(BackAnswer::Done(ReleaseDone {}));
            }
            return Ok(sold(item));
        }
        Ok(match barrier::back(there.map(|there| &there.record)) {
            Back::Done if seeded::is(Bug::StockReleasedTwice) => {
                self.put_back.extend(there.and_then(|there| there.lines.as_ref()));
                BackAnswer::Done(ReleaseDone {})
            }
            Back::Tombstone if seeded::is(Bug::TombstoneNotWritten) => BackAnswer::NotApplied,
            Back::Done => BackAnswer::Done(ReleaseDone {}),
            Back::NotApplied => BackAnswer::NotApplied,
            Back::Tombstone => {
                self.rows.tombstones.push(&item.key);
                BackAnswer::NotApplied
            }
            Back::Block => {
                self.rows.taken_back.push((&item.key, Outcome::Refused, Outcome::Blocked));
                BackAnswer::NotApplied
            }
            Back::TakeBack => {
                let lines = there.and_then(|there| there.lines.as_ref());
                self.put_back
                    .push(lines.ok_or_else(|| Trouble::Failed("a reservation without lines".into()))?);
                self.rows.taken_back.push((&item.key, Outcome::Done, Outcome::Done));
                BackAnswer::Done(ReleaseDone {})
            }
            Back::WantBack | Back::InProgress => {
                return Err(Trouble::Failed("a reservation is never half made".into()));
            }
        })
    }

    async fn write(mut self, connection: &mut PgConnection, messages: &[Message]) -> Result<(), Trouble> {
        let rows = !self.rows.tombstones.is_empty() || !self.rows.taken_back.is_empty();
        if !rows && self.put_back.is_empty() && messages.is_empty() {
            return Ok(());
        }
        self.rows.answers = Columns::of(messages);
        let now = clock::now();
        let mut transaction = database::begin(connection).await?;
        reservation::take_back(&mut transaction, self.rows, now).await?;
        if !self.put_back.is_empty() {
            let skus = self.put_back.iter().flat_map(|lines| lines.skus());
            let mut shelf = store::lock(&mut transaction, skus).await?;
            for lines in self.put_back {
                shelf.put_back(lines).map_err(|e| Trouble::Failed(e.to_string()))?;
            }
            store::put(&mut transaction, &shelf, now).await?;
        }
        database::commit(transaction).await?;
        Ok(())
    }
}

fn sold(item: &Item) -> BackAnswer<ReleaseDone> {
    tracing::error!(saga.id = %item.key.saga, step.name = %item.key.step, "a release of what is sold");
    TurnedAway::failed(format!("{} of {}: what it reserved is sold", item.key.step, item.key.saga)).into()
}
