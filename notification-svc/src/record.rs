//! Record: an event becomes one delivery, once, however often and in whatever order events come.
//!
//! What a newer event has made untrue ("we are looking at your order", when it is complete) is not told any more. A letter
//! that this process can send at once is claimed by the statement that stores it.

use std::collections::{HashMap, HashSet};

use chassis::{
    batcher::Command,
    clock,
    database::{Trouble, Warm},
};
use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use types::OrderId;
use uuid::Uuid;

use crate::{
    domain::Letter,
    hands::Hands,
    store::{self, Due, New},
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
    /// Those who send.
    pub(crate) hands: Hands,
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
        // Only what passes can be stale; the rest is known, or not, to the statement that stores it.
        let passing = items.iter().filter(|item| item.letter.template.is_passing());
        let passing: Vec<_> = passing.map(|item| item.order).collect();
        let there =
            if passing.is_empty() { Vec::new() } else { store::load(&mut connection, passing).await? };
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
        let mut recorded: Vec<_> = items.iter().map(judge).collect();
        let fresh = items.iter().zip(&mut recorded).filter(|(_, recorded)| **recorded == Recorded::Queued);
        let fresh: Vec<_> = fresh.collect();
        if !fresh.is_empty() {
            self.store(&mut connection, fresh).await?;
        }
        items.iter().zip(&recorded).for_each(|(item, recorded)| count(item, *recorded));
        Ok(recorded)
    }
}

impl Record {
    /// In one statement, which is its own transaction. What was there already is known.
    async fn store(
        &self,
        connection: &mut PgConnection,
        fresh: Vec<(&Item, &mut Recorded)>,
    ) -> Result<(), Trouble> {
        let mut places = self.hands.take(fresh.len());
        let free = places.len();
        let rows = fresh.iter().enumerate().map(|(at, (item, _))| row(item, at < free)).collect();
        let now = clock::now();
        let stored = store::insert(connection, rows, now, self.hands.lease).await?;
        let mut more = false;
        for (item, recorded) in fresh {
            let place = places.pop_front();
            match (stored.get(&item.id), place) {
                (Some(until), Some(place)) => self.hands.send(due(item, *until, now), place),
                (Some(_), None) => more = true,
                (None, _) => *recorded = Recorded::Known,
            }
        }
        if more {
            self.hands.wake();
        }
        Ok(())
    }
}

fn count(item: &Item, recorded: Recorded) {
    let outcome = match recorded {
        Recorded::Queued => "queued",
        Recorded::Known => "known",
        Recorded::Stale => "stale",
    };
    let template = item.letter.template.as_str();
    metrics::counter!("amends_notification_recorded_total", "template" => template, "outcome" => outcome)
        .increment(1);
}

fn row(item: &Item, in_hand: bool) -> New<'_> {
    New {
        id: item.id,
        order: item.order,
        version: item.version,
        template: item.letter.template.as_str(),
        recipient: &item.recipient,
        subject: &item.letter.subject,
        body: &item.letter.body,
        trace: &item.trace,
        in_hand,
    }
}

/// As it was just stored, in hand.
fn due(item: &Item, until: DateTime<Utc>, create_time: DateTime<Utc>) -> Due {
    Due {
        delivery_id: item.id,
        template: item.letter.template.as_str().to_owned(),
        recipient: item.recipient.clone(),
        subject: item.letter.subject.clone(),
        body: item.letter.body.clone(),
        attempt: 1,
        create_time,
        until,
        trace: item.trace.clone(),
    }
}
