//! Open: stores an order's document with the prices it is given. It never prices again and cannot refuse.
//!
//! Read next: [`super::complete`], [`super::cancel`].

use chassis::{
    barrier::{self, Forward},
    batcher::Command,
    clock,
    database::{Trouble, Warm},
    quick::{self, Hunch},
};
use proto::{
    order::v1::OpenDone,
    step::{Answer, TurnedAway},
};
use types::{Currency, OrderId, PartyId, StepKey};

use crate::{
    domain::{
        PricedLine,
        document::{self as rules, Sums},
    },
    store::document,
};

/// A document that is wanted; its numbers add up.
#[derive(Debug, Clone)]
pub struct Item {
    pub key: StepKey,
    pub order: OrderId,
    pub customer: PartyId,
    pub merchant: PartyId,
    pub currency: Currency,
    pub lines: Vec<PricedLine>,
    pub sums: Sums,
    pub hash: Vec<u8>,
}

/// The command.
#[derive(Debug)]
pub(crate) struct Open {
    pub(crate) pool: Warm,
    /// That all of a slice is new.
    pub(crate) hunch: Hunch,
}

impl Command for Open {
    type Item = Item;
    type Reply = Answer<OpenDone>;
    type Key = StepKey;

    const NAME: &'static str = "order.open";

    fn key(item: &Item) -> StepKey {
        item.key.clone()
    }

    async fn run(&self, items: &[Item]) -> Result<Vec<Answer<OpenDone>>, Trouble> {
        let mut connection = self.pool.connection().await?;
        let short = async {
            let (rows, now) = (items.iter().map(Item::row).collect(), clock::now());
            quick::nothing_there(document::open(&mut connection, rows, &rules::created(now), now).await)
        };
        if self.hunch.try_it(short).await?.is_some() {
            return Ok(items.iter().map(|_| Answer::Done(OpenDone {})).collect());
        }
        let found = document::load(&mut connection, items.iter().map(|item| item.key.saga)).await?;
        let mut fresh = Vec::new();
        let mut answers = Vec::with_capacity(items.len());
        for item in items {
            let record = found.at(&item.key).map(|there| &there.record);
            answers.push(match barrier::forward(record, &item.hash) {
                Forward::Done => Answer::Done(OpenDone {}),
                Forward::Fenced => Answer::Fenced,
                Forward::Mismatch => TurnedAway::mismatch(&item.key).into(),
                Forward::Fresh => {
                    fresh.push(item.row());
                    Answer::Done(OpenDone {})
                }
                Forward::Refused | Forward::InProgress => {
                    return Err(Trouble::Failed("a document is neither refused nor half open".into()));
                }
            });
        }
        if !fresh.is_empty() {
            let now = clock::now();
            // One statement is one transaction: a key that another process took fails all of it.
            document::open(&mut connection, fresh, &rules::created(now), now).await?;
        }
        Ok(answers)
    }
}

impl Item {
    fn row(&self) -> document::New<'_> {
        document::New {
            key: &self.key,
            order: self.order,
            customer: &self.customer,
            merchant: &self.merchant,
            currency: self.currency,
            lines: &self.lines,
            sums: self.sums,
            hash: &self.hash,
        }
    }
}
