//! order-svc: what things cost, and the commercial document of each order.
//!
//! Its promise: a document says what was agreed, its numbers add up, and it ends once: COMPLETED or CANCELLED.
//!
//! - `domain`: the rules of quotes and documents; pure.
//! - `commands`: Open, Complete, Cancel. One batch, one function, one transaction.
//! - `store`: every SQL statement, checked against the schema by a test.
//! - `wire`: between messages and what commands work on.
//! - `grpc`, `consumer`: the doors. A Cancel by gRPC and one by message are the same command.
//!
//! It calls nobody. Whether an order is going well is the orchestrator's to say; here stands what was written down.

mod commands;
mod consumer;
pub mod domain;
#[doc(hidden)]
pub mod doors;
mod grpc;
mod store;
pub mod wire;

use std::sync::Arc;

use chassis::{
    batcher::{Batcher, Command, Limits},
    bus::{self, Bus, Queue},
    database::{Schema, Warm},
    grpc::MAX_SLICE_MESSAGE,
    outbox::{Outbox, Relay, RelayOptions},
    quick::Hunch,
    sql::Checked,
    stop::Stop,
};
use proto::{
    local,
    order::v1::{catalog_server::CatalogServer, order_steps_server::OrderStepsServer},
};
use sqlx::PgPool;
use tonic::service::RoutesBuilder;

use crate::{
    commands::{cancel::Cancel, complete::Complete, open::Open},
    consumer::Consumer,
    grpc::{Prices, Steps},
};

/// The schema this service lives in.
pub const SCHEMA: Schema = Schema {
    name: "orders",
    role: "amends_orders",
    migrations: &[
        (1, "first", include_str!("../../migrations/orders/0001_first.sql")),
        (2, "indexes", include_str!("../../migrations/orders/0002_indexes.sql")),
    ],
    grants: chassis::row_grants!("orders"),
};

/// What this service is called on the bus.
pub const BUS_NAME: &str = "order";

/// Every statement of this service, for the SQL check.
#[must_use]
pub fn statements() -> Vec<&'static dyn Checked> {
    store::statements()
}

/// The outbox of this service.
#[must_use]
pub fn outbox() -> Outbox {
    Outbox::new(SCHEMA.name, BUS_NAME)
}

/// What an operator may turn: nothing yet, prices and tax rates are data.
#[derive(clap::Args, Debug, Clone, Default)]
#[group(id = "order")]
pub struct Settings {}

/// What this service stands on.
pub struct Wiring {
    /// As the service's role.
    pub pool: PgPool,
    /// For commands and their answers.
    pub bus: Arc<dyn Bus>,
    /// When to stop, and who is still at work.
    pub stop: Stop,
}

/// The running service. Cheap to clone.
#[derive(Clone)]
pub struct Service {
    steps: Steps,
    prices: Prices,
    bus: Arc<dyn Bus>,
}

impl Service {
    /// Its gRPC services, for health.
    pub const NAMES: &'static [&'static str] = &["amends.order.v1.OrderSteps", "amends.order.v1.Catalog"];

    /// Starts its commands and its relay. It takes nothing from outside before [`Service::register`] and
    /// [`Service::subscribe`].
    #[must_use]
    pub fn start(_: Settings, wiring: Wiring) -> Self {
        let Wiring { pool, bus, stop } = wiring;
        let warm = Warm::new(&pool);
        let relay = Relay::new(warm.clone(), outbox(), Arc::clone(&bus), RelayOptions::default(), &stop);
        let steps = Steps {
            open: batcher(Open { pool: warm.clone(), hunch: Hunch::default() }, &stop),
            complete: batcher(Complete { pool: warm.clone(), hunch: Hunch::default() }, &stop),
            cancel: batcher(Cancel { pool: pool.clone(), outbox: outbox(), relay }, &stop),
        };
        Self { steps, prices: Prices { pool, warm }, bus }
    }

    /// Adds its gRPC servers. Both take slices: the catalog quotes many carts at once.
    pub fn register(&self, routes: &mut RoutesBuilder) {
        let steps = OrderStepsServer::new(self.steps.clone());
        routes.add_service(steps.max_decoding_message_size(MAX_SLICE_MESSAGE));
        let prices = CatalogServer::new(self.prices.clone());
        routes.add_service(prices.max_decoding_message_size(MAX_SLICE_MESSAGE));
    }

    /// Its steps, for an orchestrator in this process.
    #[must_use]
    pub fn steps(&self) -> local::OrderSteps {
        Arc::new(self.steps.clone())
    }

    /// Its prices, for an orchestrator in this process.
    #[must_use]
    pub fn catalog(&self) -> local::Catalog {
        Arc::new(self.prices.clone())
    }

    /// Starts to take commands from its queue.
    ///
    /// # Errors
    /// When the broker says no.
    pub async fn subscribe(&self) -> Result<(), bus::Error> {
        let consumer = Consumer { cancel: self.steps.cancel.clone() };
        self.bus.subscribe(Queue::commands(BUS_NAME), Arc::new(consumer)).await
    }
}

fn batcher<C: Command>(command: C, stop: &Stop) -> Batcher<C> {
    Batcher::new(Arc::new(command), Limits::default(), stop)
}
