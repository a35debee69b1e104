//! The ledger: double entry, append-only, zero in sum at every commit.
//!
//! [`domain`] knows what a sale books and what takes it back (pure). `commands` are the three things that happen to the
//! books: post, reverse, suspend; each takes a slice, in one transaction. `store` holds every statement. `grpc` and
//! `consumer` are the doors; `wire` reads what both are asked. `sealer` chains what was booked by the rule in [`chain`]. The
//! schema, with its three locks (grants, triggers, a constraint at commit), is `migrations/ledger`.
//!
//! Never: an update or delete of a transaction or an entry; a call to another service.

pub mod chain;
mod commands;
mod consumer;
pub mod domain;
#[doc(hidden)]
pub mod doors;
mod grpc;
mod sealer;
mod store;
pub mod wire;

use std::{sync::Arc, time::Duration};

use chassis::{
    batcher::{Batcher, Limits},
    bus::{self, Bus, Queue},
    database::{self, Warm},
    grpc as server,
    outbox::{Outbox, Relay, RelayOptions},
    quick::Hunch,
    sql::Checked,
    stop::Stop,
};
use proto::{
    ledger::v1::{ledger_server::LedgerServer, ledger_steps_server::LedgerStepsServer},
    local,
};
use sqlx::PgPool;
use tonic::service::RoutesBuilder;

use crate::{
    commands::{Books, post::Post, reverse::Reverse, suspend::Suspend},
    sealer::Sealer,
};

pub use sealer::seal;

/// The service's name on the bus.
pub const BUS_NAME: &str = "ledger";

/// The schema `ledger`. Its role may add transactions and entries and never change them.
pub const SCHEMA: database::Schema = database::Schema {
    name: "ledger",
    role: "amends_ledger",
    migrations: &[
        (1, "first", include_str!("../../migrations/ledger/0001_first.sql")),
        (2, "chain", include_str!("../../migrations/ledger/0002_chain.sql")),
        (3, "balance", include_str!("../../migrations/ledger/0003_balance.sql")),
        (4, "indexes", include_str!("../../migrations/ledger/0004_indexes.sql")),
        (5, "balanced", include_str!("../../migrations/ledger/0005_balanced.sql")),
        (6, "by key", include_str!("../../migrations/ledger/0006_by_key.sql")),
    ],
    grants: store::GRANTS,
};

/// What an operator may turn.
#[derive(clap::Args, Debug, Clone)]
#[group(skip)]
pub struct Settings {
    /// How often what was booked is sealed in the chain
    #[arg(long, env = "AMENDS_LEDGER_SEAL_EVERY", value_name = "TIME", default_value = "1s",
        value_parser = humantime::parse_duration)]
    pub ledger_seal_every: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self { ledger_seal_every: Duration::from_secs(1) }
    }
}

/// What the service is given.
pub struct Wiring {
    /// Its database, as its role.
    pub pool: PgPool,
    /// Where its messages go and come from.
    pub bus: Arc<dyn Bus>,
    /// When to stop.
    pub stop: Stop,
}

/// The running service. Cheap to clone.
#[derive(Clone)]
pub struct Service {
    steps: grpc::Steps,
    doors: grpc::Doors,
    suspend: Batcher<Suspend>,
    bus: Arc<dyn Bus>,
}

impl Service {
    /// What it serves, for health.
    pub const NAMES: &'static [&'static str] = &["amends.ledger.v1.LedgerSteps", "amends.ledger.v1.Ledger"];

    /// Starts its commands, its relay and its sealer; they run until `wiring.stop`.
    #[must_use]
    pub fn start(settings: Settings, wiring: Wiring) -> Self {
        let Wiring { pool, bus, stop } = wiring;
        let sealer = Sealer { pool: pool.clone(), every: settings.ledger_seal_every };
        stop.spawn(sealer.run(stop.clone()));
        let outbox = outbox();
        let warm = Warm::new(&pool);
        let relay =
            Relay::new(warm.clone(), outbox.clone(), Arc::clone(&bus), RelayOptions::default(), &stop);
        let books = Books { pool: warm, outbox, relay };
        let limits = Limits::default();
        Self {
            steps: grpc::Steps {
                post: Batcher::new(
                    Arc::new(Post { books: books.clone(), hunch: Hunch::default() }),
                    limits,
                    &stop,
                ),
                reverse: Batcher::new(Arc::new(Reverse(books.clone())), limits, &stop),
            },
            doors: grpc::Doors { pool },
            suspend: Batcher::new(Arc::new(Suspend(books)), limits, &stop),
            bus,
        }
    }

    /// Adds its gRPC servers.
    pub fn register(&self, routes: &mut RoutesBuilder) {
        routes
            .add_service(
                LedgerStepsServer::new(self.steps.clone())
                    .max_decoding_message_size(server::MAX_SLICE_MESSAGE),
            )
            .add_service(
                LedgerServer::new(self.doors.clone()).max_decoding_message_size(server::MAX_MESSAGE),
            );
    }

    /// Its steps, for an orchestrator in this process.
    #[must_use]
    pub fn steps(&self) -> local::LedgerSteps {
        Arc::new(self.steps.clone())
    }

    /// Takes its commands, and the events it books by.
    ///
    /// # Errors
    /// When the bus cannot be used.
    pub async fn subscribe(&self) -> Result<(), bus::Error> {
        let commands = consumer::Commands(self.steps.reverse.clone());
        self.bus.subscribe(Queue::commands(BUS_NAME), Arc::new(commands)).await?;
        let events = consumer::Events(self.suspend.clone());
        self.bus.subscribe(Queue::events(BUS_NAME, &[consumer::REFUNDED_EVENT]), Arc::new(events)).await
    }
}

/// Every statement of the crate, for the check.
#[must_use]
pub fn statements() -> Vec<&'static dyn Checked> {
    store::statements()
}

/// Its outbox.
#[must_use]
pub fn outbox() -> Outbox {
    Outbox::new("ledger", BUS_NAME)
}
