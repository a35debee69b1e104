//! inventory-svc: what is in stock, what sagas hold of it, what is sold.
//!
//! Its promise: `available + reserved + sold` of a SKU is what was put in, whatever is repeated, crashes or comes late.
//!
//! - `domain`: the rules; pure.
//! - `commands`: Reserve, Commit, Release, Restock. One batch, one function, one transaction.
//! - `store`: every SQL statement, checked against the schema by a test.
//! - `wire`: between messages and what commands work on.
//! - `grpc`, `consumer`: the doors. A Release by gRPC and one by message are the same command.
//! - `overdue`: the alarm for holds that outlive their time.
//!
//! It calls nobody and knows nothing of orders but their ids.

mod commands;
mod consumer;
pub mod domain;
#[doc(hidden)]
pub mod doors;
mod grpc;
mod overdue;
mod store;
pub mod wire;

use std::{sync::Arc, time::Duration};

use chassis::{
    batcher::{Batcher, Command, Limits},
    bus::{self, Bus, Queue},
    cache::Cache,
    database::{Schema, Warm},
    grpc::{MAX_MESSAGE, MAX_SLICE_MESSAGE},
    outbox::{Outbox, Relay, RelayOptions},
    quick::Hunch,
    slots::Turns,
    sql::Checked,
    stop::Stop,
};
use proto::{
    inventory::v1::{inventory_server::InventoryServer, inventory_steps_server::InventoryStepsServer},
    local,
};
use sqlx::PgPool;
use tonic::service::RoutesBuilder;

use crate::{
    commands::{commit::Commit, release::Release, reserve::Reserve, restock::Restock},
    consumer::Consumer,
    grpc::{People, Steps},
};

/// The schema this service lives in.
pub const SCHEMA: Schema = Schema {
    name: "inventory",
    role: "amends_inventory",
    migrations: &[
        (1, "first", include_str!("../../migrations/inventory/0001_first.sql")),
        (2, "indexes", include_str!("../../migrations/inventory/0002_indexes.sql")),
    ],
    grants: chassis::row_grants!("inventory"),
};

/// What this service is called on the bus.
pub const BUS_NAME: &str = "inventory";

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

/// What an operator may turn.
#[derive(clap::Args, Debug, Clone)]
#[group(id = "inventory")]
pub struct Settings {
    /// How often to look for reservations held past their time, as in `30s`. Default 30 s.
    #[arg(
        long = "inventory-hold-look",
        env = "AMENDS_INVENTORY_HOLD_LOOK",
        default_value = "30s",
        value_parser = humantime::parse_duration
    )]
    pub inventory_hold_look: Duration,

    /// How old a stock that is shown to people may be, as in `250ms`; `0s` reads every time. Default 250 ms.
    #[arg(
        long = "inventory-stock-cache",
        env = "AMENDS_INVENTORY_STOCK_CACHE",
        default_value = "250ms",
        value_parser = humantime::parse_duration
    )]
    pub inventory_stock_cache: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            inventory_hold_look: Duration::from_secs(30),
            inventory_stock_cache: Duration::from_millis(250),
        }
    }
}

/// What this service stands on.
pub struct Wiring {
    /// As the service's role.
    pub pool: PgPool,
    /// For commands and their answers.
    pub bus: Arc<dyn Bus>,
    /// For stock that people look at.
    pub cache: Arc<dyn Cache>,
    /// When to stop, and who is still at work.
    pub stop: Stop,
}

/// The running service. Cheap to clone.
#[derive(Clone)]
pub struct Service {
    steps: Steps,
    people: People,
    bus: Arc<dyn Bus>,
}

impl Service {
    /// Its gRPC services, for health.
    pub const NAMES: &'static [&'static str] =
        &["amends.inventory.v1.InventorySteps", "amends.inventory.v1.Inventory"];

    /// Starts its commands, its relay and its alarm. It takes nothing from outside before [`Service::register`] and
    /// [`Service::subscribe`].
    #[must_use]
    pub fn start(settings: Settings, wiring: Wiring) -> Self {
        let Wiring { pool, bus, cache, stop } = wiring;
        let warm = Warm::new(&pool);
        let relay = Relay::new(warm.clone(), outbox(), Arc::clone(&bus), RelayOptions::default(), &stop);
        let turns = Arc::new(Turns::default());
        let turns = || Arc::clone(&turns);
        let steps = Steps {
            reserve: batcher(Reserve { pool: warm.clone(), hunch: Hunch::default(), turns: turns() }, &stop),
            commit: batcher(Commit { pool: warm, hunch: Hunch::default(), turns: turns() }, &stop),
            release: batcher(Release { pool: pool.clone(), relay, turns: turns() }, &stop),
        };
        let people = People {
            pool: pool.clone(),
            restock: batcher(Restock { pool: pool.clone() }, &stop),
            cache,
            ttl: settings.inventory_stock_cache,
        };
        stop.spawn(overdue::watch(pool, settings.inventory_hold_look, stop.clone()));
        Self { steps, people, bus }
    }

    /// Adds its gRPC servers.
    pub fn register(&self, routes: &mut RoutesBuilder) {
        let steps = InventoryStepsServer::new(self.steps.clone());
        routes.add_service(steps.max_decoding_message_size(MAX_SLICE_MESSAGE));
        let people = InventoryServer::new(self.people.clone());
        routes.add_service(people.max_decoding_message_size(MAX_MESSAGE));
    }

    /// Its steps, for an orchestrator in this process.
    #[must_use]
    pub fn steps(&self) -> local::InventorySteps {
        Arc::new(self.steps.clone())
    }

    /// Starts to take commands from its queue.
    ///
    /// # Errors
    /// When the broker says no.
    pub async fn subscribe(&self) -> Result<(), bus::Error> {
        let consumer = Consumer { release: self.steps.release.clone() };
        self.bus.subscribe(Queue::commands(BUS_NAME), Arc::new(consumer)).await
    }
}

fn batcher<C: Command>(command: C, stop: &Stop) -> Batcher<C> {
    Batcher::new(Arc::new(command), Limits::default(), stop)
}
