//! The doors: orders for customers and shops, sagas for operators. The only place that makes a `Status`.
//!
//! Everything answered here is committed. [`orders`] creates and reads, [`create`] takes a request apart, [`sagas`] shows
//! and moves, [`quote`] asks for prices, [`repeats`] says when keys are looked up first, [`show`] turns rows into messages.

pub(crate) mod create;
mod orders;
pub(crate) mod quote;
pub(crate) mod repeats;
mod sagas;
mod show;

use std::{sync::Arc, time::Duration};

use chassis::{
    batcher::Batcher, cache::Cache, grpc::MAX_MESSAGE, keyring::Keyring, limiter::Limiter, stop::Stop,
};
use proto::{error, order::v1::orders_server::OrdersServer, saga::v1::sagas_server::SagasServer};
use sqlx::{PgPool, pool::PoolConnection};
use tokio::{sync::mpsc, time::Instant};
use tonic::{Status, service::RoutesBuilder};
use types::{NoAnswer, SagaId};

use self::{
    quote::{AskForPrices, Quotes},
    repeats::Repeats,
};
use crate::{
    Settings,
    catalog::Registry,
    driver::{Input, Load},
    hub::{Hub, Place},
    ownership::Owned,
    participants::Participants,
    signal::{Said, Signal, StoreSignals},
    store::{
        order::{OrderRow, ReadOrders},
        start::{FindKeys, StartOrders},
    },
};

/// What the doors stand on.
pub struct Doors {
    pub(crate) pool: PgPool,
    pub(crate) cache: Arc<dyn Cache>,
    pub(crate) limiter: Arc<dyn Limiter>,
    pub(crate) keys: Keyring,
    pub(crate) registry: Registry,
    pub(crate) hub: Hub,
    pub(crate) load: Arc<Load>,
    pub(crate) owned: Arc<Owned>,
    pub(crate) participants: Participants,
    pub(crate) signals: Batcher<StoreSignals>,
    pub(crate) orders: Batcher<ReadOrders>,
    pub(crate) found: Batcher<FindKeys>,
    pub(crate) starts: Batcher<StartOrders>,
    pub(crate) driver: mpsc::UnboundedSender<Input>,
    pub(crate) prices: Batcher<AskForPrices>,
    pub(crate) quotes: Quotes,
    pub(crate) repeats: Repeats,
    pub(crate) settings: Settings,
    pub(crate) stop: Stop,
}

pub(crate) fn register(doors: &Arc<Doors>, routes: &mut RoutesBuilder) {
    let orders = orders::OrdersDoor(Arc::clone(doors));
    let sagas = sagas::SagasDoor(Arc::clone(doors));
    routes.add_service(OrdersServer::new(orders).max_decoding_message_size(MAX_MESSAGE));
    routes.add_service(SagasServer::new(sagas).max_decoding_message_size(MAX_MESSAGE));
}

/// How often somebody who waits looks at the database, in case the saga is driven elsewhere.
const LOOK_EVERY: Duration = Duration::from_millis(250);

impl Doors {
    async fn connection(&self) -> Result<PoolConnection<sqlx::Postgres>, Status> {
        self.pool.acquire().await.map_err(|e| database(&e))
    }

    /// Stores a signal durably.
    async fn say(&self, saga: SagaId, said: Said) -> Result<(), Status> {
        let signal = Signal { id: chassis::clock::new_uuid(), saga, said };
        self.signals.submit(signal, None).await.map_err(|none| self.no_answer(none))
    }

    async fn order_row(&self, order: types::OrderId) -> Result<OrderRow, Status> {
        let found = self.orders.submit(order, None).await.map_err(|none| self.no_answer(none))?;
        found.ok_or_else(|| error::not_found("order", &order.to_string()))
    }

    /// Until something was committed, `until`, or the next look at the database is due; false when this process stops.
    async fn rest(&self, place: &mut Place, until: Instant) -> bool {
        let look = until.min(Instant::now() + LOOK_EVERY);
        tokio::select! {
            biased;
            () = self.stop.wanted() => false,
            _ = tokio::time::timeout_at(look, place.changed()) => true,
        }
    }

    fn no_answer(&self, none: NoAnswer) -> Status {
        match none {
            NoAnswer::Overloaded { retry_after } => {
                error::exhausted("OVERLOADED", "too much to do", retry_after, [])
            }
            NoAnswer::TooLate => Status::deadline_exceeded("the call's time had passed before work began"),
            NoAnswer::Failed(why) => {
                tracing::error!(error = why, "a command failed");
                error::internal("it could not be stored; see the log of this process")
            }
            NoAnswer::Away(_) | NoAnswer::Unavailable(_) if self.stop.is_wanted() => stopping(),
            NoAnswer::Away(_) | NoAnswer::Unavailable(_) => error::unavailable(
                "DATABASE_UNAVAILABLE",
                "the database cannot be reached, or its answer was lost: repeat with the same request_id",
                Duration::from_secs(1),
            ),
        }
    }
}

/// What a database error means at a door.
fn database(cause: &sqlx::Error) -> Status {
    match cause {
        sqlx::Error::Database(_)
        | sqlx::Error::Decode(_)
        | sqlx::Error::ColumnDecode { .. }
        | sqlx::Error::Encode(_) => {
            tracing::error!(error = %cause, "the database refused");
            error::internal("the database refused; see the log of this process")
        }
        _ => {
            tracing::warn!(error = %cause, "the database cannot be reached");
            error::unavailable(
                "DATABASE_UNAVAILABLE",
                "the database cannot be reached",
                Duration::from_secs(1),
            )
        }
    }
}

/// Whoever stops sends elsewhere.
fn stopping() -> Status {
    error::unavailable(
        "STOPPING",
        "this process stops: ask another, or this one again when it is back, with the same request_id",
        Duration::from_secs(1),
    )
}

/// Text for people: at most `max` characters, no control characters.
fn check_text(field: &str, text: &str, max: usize) -> Result<(), Status> {
    if text.chars().count() > max {
        return Err(error::invalid(field, "TOO_LONG", &format!("must have at most {max} characters")));
    }
    if text.chars().any(char::is_control) {
        return Err(error::invalid(field, "CONTROL_CHARACTER", "must not contain control characters"));
    }
    Ok(())
}
