//! Record: an event becomes one delivery, once, however often and in whatever order events come.
//!
//! What a newer event has made untrue ("we are looking at your order", when it is complete) is not told any more.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use chassis::{
    batcher::Command,
    clock,
    database::{Trouble, Warm},
};
use tokio::sync::Notify;
use types::OrderId;
use uuid::Uuid;

use crate::{
    domain::Letter,
    store::{self, New},
};

/// What is to be told, and because of which event.
#[derive(Debug, Clone)]
pub(crate) struct Item {
    /// Of the event.
    pub(crate) id: Uuid,
    pub(crate) order: OrderId,
    pub(crate) version: i64,
    pub(crate) recipient: String,
    pub(crate) letter: Letter,
    /// W3C traceparent; may be empty.
    pub(crate) trace: String,
}

/// What it came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Recorded {
    /// It will be sent.
    Queued,
    /// It was there.
    Known,
    /// Something newer was told already.
    Stale,
}

/// The command.
pub(crate) struct Record {
    pub(crate) pool: Warm,
    /// Wakes the sender.
    pub(crate) due: Arc<Notify>,
}

impl Command for Record {
    type Item = Item;
    type Reply = Recorded;
    type Key = Uuid;
    const NAME: &'static str = "notification.record";

    fn key(item: &Item) -> Uuid {
        item.id
    }

    async fn run(&self, items: &[Item]) -> Result<Vec<Recorded>, Trouble> {
        let mut connection = self.pool.connection().await?;
        let there = store::load(&mut connection, items.iter().map(|item| item.order)).await?;
        let known: HashSet<_> = there.iter().map(|(id, ..)| *id).collect();
        let mut newest: HashMap<Uuid, i64> = HashMap::new();
        let here = items.iter().map(|item| (item.order.uuid(), item.version));
        for (order, version) in there.iter().map(|(_, order, version)| (*order, *version)).chain(here) {
            let newest = newest.entry(order).or_insert(version);
            *newest = (*newest).max(version);
        }
        let judge = |item: &Item| {
            let newest = newest.get(&item.order.uuid()).copied().unwrap_or(item.version);
            match () {
                () if known.contains(&item.id) => Recorded::Known,
                () if item.letter.template.is_passing() && item.version < newest => Recorded::Stale,
                () => Recorded::Queued,
            }
        };
        let recorded: Vec<_> = items.iter().map(judge).collect();
        let fresh = items.iter().zip(&recorded).filter(|(_, recorded)| **recorded == Recorded::Queued);
        let rows: Vec<_> = fresh.map(|(item, _)| row(item)).collect();
        if !rows.is_empty() {
            // One statement is its own transaction. Another process may have stored an event meanwhile: then none of
            // this is stored, and the batch runs again and finds it.
            store::insert(&mut connection, rows, clock::now()).await?;
            self.due.notify_one();
        }
        for (item, recorded) in items.iter().zip(&recorded) {
            let outcome = match recorded {
                Recorded::Queued => "queued",
                Recorded::Known => "known",
                Recorded::Stale => "stale",
            };
            let template = item.letter.template.as_str();
            metrics::counter!("amends_notification_recorded_total", "template" => template, "outcome" => outcome)
                .increment(1);
        }
        Ok(recorded)
    }
}

fn row(item: &Item) -> New<'_> {
    New {
        id: item.id,
        order: item.order,
        version: item.version,
        template: item.letter.template.as_str(),
        recipient: &item.recipient,
        subject: &item.letter.subject,
        body: &item.letter.body,
        trace: &item.trace,
    }
}
