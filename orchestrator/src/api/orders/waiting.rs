//! Those who wait for an order or watch it, until its end or the end of this process.
//!
//! Once the process stops its readers are gone, so whoever waits then is answered what was seen last: the order is durable,
//! and somebody else drives it on.

use std::{sync::Arc, time::Duration};

use proto::order::v1::Order;
use tokio::time::Instant;
use tonic::{Code, Status};
use types::OrderId;

use super::{begin::told_row, shown};
use crate::{
    api::{Doors, LOOK_EVERY, show, stopping},
    hub::Place,
    store::order::OrderRow,
};

/// For so long an order of our own may say nothing before it is looked for in the database.
const LOOK_FOR_OWN: Duration = Duration::from_secs(2);

/// How long a durable order is read again, at least, when the database cannot be reached.
const LOOK_AGAIN_FOR: Duration = Duration::from_secs(3);

/// Somebody who watches an order.
pub(super) struct Watching {
    doors: Arc<Doors>,
    place: Place,
    next: Option<OrderRow>,
    seen: i64,
}

impl Watching {
    /// From a row on, which is shown first.
    pub(super) fn from(doors: Arc<Doors>, place: Place, row: OrderRow) -> Self {
        Self { doors, place, next: Some(row), seen: 0 }
    }

    pub(super) async fn next(mut self, order: OrderId) -> Option<(Result<Order, Status>, Self)> {
        loop {
            if let Some(row) = self.next.take()
                && row.version > self.seen
            {
                self.seen = if show::is_ended(&row.status) { i64::MAX } else { row.version };
                return Some((shown(&row), self));
            }
            if self.seen == i64::MAX {
                return None;
            }
            let read = match self.doors.rest(&mut self.place, Instant::now() + LOOK_EVERY).await {
                true => self.doors.order_row(order).await,
                false => Err(stopping()),
            };
            match read {
                Ok(row) => self.next = Some(row),
                Err(status) => {
                    self.seen = i64::MAX;
                    return Some((Err(status), self));
                }
            }
        }
    }
}

impl Doors {
    /// Until an order that has just been stored here is at its end, waits for someone, or the time is up: what this
    /// process commits is told, and not read again.
    pub(super) async fn wait_for_new(
        &self,
        mut place: Place,
        mut row: OrderRow,
        wait: Option<Duration>,
    ) -> Result<OrderRow, Status> {
        let Some(wait) = wait else { return Ok(row) };
        let until = Instant::now() + wait;
        loop {
            let look = until.min(Instant::now() + LOOK_FOR_OWN);
            let was_told = tokio::select! {
                () = self.stop.wanted() => true,
                told = tokio::time::timeout_at(look, place.changed()) => told.is_ok(),
            };
            match place.told().filter(|_| was_told) {
                Some(told) if told.version > row.version => row = told_row(row, &told)?,
                Some(_) => {}
                None if self.stop.is_wanted() => {}
                // Nobody says anything: its shard may have moved.
                None => {
                    let (order, left) = (row.order, until.saturating_duration_since(Instant::now()));
                    return self.wait(place, order, Some(row), Some(left)).await;
                }
            }
            if show::is_settled(&row.status) || Instant::now() >= until || self.stop.is_wanted() {
                return Ok(row);
            }
        }
    }

    /// The same of an order that was stored before, here or elsewhere; `seen` is what is known of it.
    pub(super) async fn wait(
        &self,
        mut place: Place,
        order: OrderId,
        mut seen: Option<OrderRow>,
        wait: Option<Duration>,
    ) -> Result<OrderRow, Status> {
        let until = wait.map(|wait| Instant::now() + wait);
        let patience = until.unwrap_or_else(Instant::now).max(Instant::now() + LOOK_AGAIN_FOR);
        loop {
            let pause = match self.order_row(order).await {
                Ok(row) => {
                    let Some(until) = until.filter(|until| Instant::now() < *until) else { return Ok(row) };
                    if show::is_settled(&row.status) {
                        return Ok(row);
                    }
                    seen = Some(row);
                    until
                }
                // It is durable already: an answer that a restarted database delays is better than none.
                Err(status) if status.code() == Code::Unavailable && Instant::now() < patience => patience,
                Err(status) if status.code() == Code::Unavailable => return seen.ok_or(status),
                Err(status) => return Err(status),
            };
            if !self.rest(&mut place, pause).await {
                return seen.ok_or_else(stopping);
            }
        }
    }
}
