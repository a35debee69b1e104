//! Complete: the order is at its good end. After the pivot: it cannot refuse. Without an open document it is a bug of
//! the caller, which a person must see, and nothing is stored.
//!
//! Its barrier stands in the document that it completes.

use chassis::{
    barrier::{self, Close, Closed},
    batcher::Command,
    clock,
    database::{Trouble, Warm},
    quick::Hunch,
};
use proto::{
    order::v1::CompleteDone,
    step::{Answer, TurnedAway},
};
use types::{SagaId, StepKey};

use crate::{
    domain::document::{self as rules, Change},
    store::document::{self, Closing, Completed},
};

/// A document that is to be complete.
#[derive(Debug, Clone)]
pub struct Item {
    /// The step that completes.
    pub key: StepKey,
    /// What happened since it was opened.
    pub history: Vec<Change>,
    pub hash: Vec<u8>,
}

/// The command.
#[derive(Debug)]
pub(crate) struct Complete {
    pub(crate) pool: Warm,
    /// That all of a slice is open.
    pub(crate) hunch: Hunch,
}

impl Command for Complete {
    type Item = Item;
    type Reply = Answer<CompleteDone>;
    type Key = SagaId;

    const NAME: &'static str = "order.complete";

    /// A saga has one document.
    fn key(item: &Item) -> SagaId {
        item.key.saga
    }

    async fn run(&self, items: &[Item]) -> Result<Vec<Answer<CompleteDone>>, Trouble> {
        let mut connection = self.pool.connection().await?;
        let closing = items.iter().map(|item| Closing {
            saga: item.key.saga,
            changes: rules::added(&item.history).collect(),
            closed: Closed { step: item.key.step.clone(), hash: item.hash.clone() },
        });
        let short = document::complete_all(&mut connection, closing.collect(), clock::now());
        if self.hunch.try_it(short).await?.is_some() {
            return Ok(items.iter().map(|_| Answer::Done(CompleteDone {})).collect());
        }
        let found = document::load(&mut connection, items.iter().map(|item| item.key.saga)).await?;
        let mut fresh = Vec::new();
        let mut answers = Vec::with_capacity(items.len());
        for item in items {
            let there = found.of(item.key.saga);
            let record = there.map(|there| &there.record);
            let closed = there.and_then(|there| there.closed.as_ref());
            answers.push(match (barrier::close(record, closed, &item.key.step, &item.hash), there) {
                (Close::Done, _) => Answer::Done(CompleteDone {}),
                (Close::Mismatch, _) => TurnedAway::mismatch(&item.key).into(),
                (Close::Fresh, Some(there)) => {
                    fresh.push(Completed {
                        key: &there.key,
                        history: rules::continued(there.history.clone(), &item.history),
                        closed: Closed { step: item.key.step.clone(), hash: item.hash.clone() },
                    });
                    Answer::Done(CompleteDone {})
                }
                (Close::Impossible(why), _) => impossible(item, why),
                (Close::Fresh, None) => impossible(item, "there is no document"),
            });
        }
        if !fresh.is_empty() {
            // One statement is one transaction, and each row is an item's whole effect: those that were written
            // before another came second are found as done by the next run.
            document::complete(&mut connection, fresh, clock::now()).await?;
        }
        Ok(answers)
    }
}

fn impossible(item: &Item, why: &str) -> Answer<CompleteDone> {
    tracing::error!(saga.id = %item.key.saga, step.name = %item.key.step, why, "an order without an open document");
    TurnedAway::failed(format!("{} of {}: {why}", item.key.step, item.key.saga)).into()
}
