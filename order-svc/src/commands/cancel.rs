//! Cancel takes Open back: the document is cancelled and says why. Where nothing was opened it leaves a tombstone, so
//! that the document can never be opened. By gRPC and by message it is the same command; who asked by message is
//! answered by message, from the same commit.
//!
//! After Complete it must not come: that lies behind the pivot, and a person must see it.

use chassis::{
    barrier::{self, Back},
    batcher::Command,
    clock,
    database::{self, Trouble},
    outbox::{Outbox, Relay},
    seeded::{self, Bug},
};
use proto::{
    order::v1::CancelDone,
    step::{BackAnswer, TurnedAway},
};
use sqlx::PgPool;
use types::StepKey;
use uuid::Uuid;

use crate::{
    domain::document::{self as rules, Change},
    store::document::{self, Cancelled, Found, TakeBack},
    wire,
};

/// A document that is to be cancelled.
#[derive(Debug, Clone)]
pub struct Item {
    /// The open step's.
    pub key: StepKey,
    /// For people.
    pub reason: String,
    /// What happened since it was opened.
    pub history: Vec<Change>,
    /// The message that asked for it, if one did.
    pub command_id: Option<Uuid>,
    /// W3C traceparent; may be empty.
    pub trace: String,
}

/// The command.
#[derive(Debug)]
pub(crate) struct Cancel {
    pub(crate) pool: PgPool,
    pub(crate) outbox: Outbox,
    pub(crate) relay: Relay,
}

impl Command for Cancel {
    type Item = Item;
    type Reply = BackAnswer<CancelDone>;
    type Key = StepKey;

    const NAME: &'static str = "order.cancel";

    fn key(item: &Item) -> StepKey {
        item.key.clone()
    }

    async fn run(&self, items: &[Item]) -> Result<Vec<BackAnswer<CancelDone>>, Trouble> {
        let mut connection = database::acquire(&self.pool).await?;
        let found = document::load(&mut connection, items.iter().map(|item| item.key.saga)).await?;
        let mut writes = TakeBack::default();
        let mut answers = Vec::with_capacity(items.len());
        let mut messages = Vec::new();
        for item in items {
            let says = decide(item, found.at(&item.key), &mut writes)?;
            messages.extend(wire::answer(item, &says));
            answers.push(says);
        }
        if !(writes.tombstones.is_empty() && writes.cancelled.is_empty() && messages.is_empty()) {
            let mut transaction = database::begin(&mut connection).await?;
            document::cancel(&mut transaction, writes, clock::now()).await?;
            self.outbox.insert(&mut transaction, &messages).await?;
            database::commit(transaction).await?;
            self.relay.hand(messages);
        }
        Ok(answers)
    }
}

fn decide<'a>(
    item: &'a Item,
    there: Option<&'a Found>,
    writes: &mut TakeBack<'a>,
) -> Result<BackAnswer<CancelDone>, Trouble> {
    if there.is_some_and(|there| there.closed.is_some()) {
        return Ok(complete(item));
    }
    Ok(match (barrier::back(there.map(|there| &there.record)), there) {
        (Back::Done, _) => BackAnswer::Done(CancelDone {}),
        (Back::NotApplied, _) => BackAnswer::NotApplied,
        (Back::TakeBack, _) if seeded::is(Bug::CancelledInWordOnly) => BackAnswer::Done(CancelDone {}),
        (Back::TakeBack, Some(there)) => {
            let history = rules::continued(there.history.clone(), &item.history);
            writes.cancelled.push(Cancelled { key: &item.key, history, reason: &item.reason });
            BackAnswer::Done(CancelDone {})
        }
        (Back::Tombstone | Back::TakeBack, _) => {
            writes.tombstones.push(&item.key);
            BackAnswer::NotApplied
        }
        (Back::Block | Back::WantBack | Back::InProgress, _) => {
            return Err(Trouble::Failed("a document is neither refused nor half open".into()));
        }
    })
}

fn complete(item: &Item) -> BackAnswer<CancelDone> {
    tracing::error!(saga.id = %item.key.saga, step.name = %item.key.step, "a cancel of a complete order");
    TurnedAway::failed(format!("{} of {}: its order is complete", item.key.step, item.key.saga)).into()
}
