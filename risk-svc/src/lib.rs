//! risk-svc: screens orders by rules kept as rows, and has people look where a rule wants it.
//!
//! - `domain`: the rules; pure.
//! - `commands`: a step is screened; a review ends, by a person or by its deadline.
//! - `store`: every SQL statement, checked against the schema by a test.
//! - `wire`: between messages and what commands work on.
//! - `grpc`: the doors: the step, the reviews, the rules.
//! - `deadline`: the clock that ends reviews nobody decided.
//!
//! - `consumer`: a saga that goes back withdraws its review.
//!
//! Screening has no effect, so nothing is ever taken back; a withdrawal that comes first leaves a tombstone. It says one kind of message: the late outcome of a step that
//! was told to wait.

mod commands;
mod consumer;
mod deadline;
pub mod domain;
#[doc(hidden)]
pub mod doors;
mod grpc;
mod store;
pub mod wire;

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use chassis::{
    batcher::{Batcher, Limits},
    bus::{self, Bus, Queue},
    database::{Schema, Warm},
    grpc::{MAX_MESSAGE, MAX_SLICE_MESSAGE},
    outbox::{Outbox, Relay, RelayOptions},
    quick::Hunch,
    sql::Checked,
    stop::Stop,
};
use proto::{
    local,
    risk::v1::{
        reviews_server::ReviewsServer, risk_steps_server::RiskStepsServer, rules_server::RulesServer,
    },
};
use sqlx::PgPool;
use tonic::service::RoutesBuilder;

use crate::commands::{review::Knocking, screen::Screen};

/// The schema this service lives in.
pub const SCHEMA: Schema = Schema {
    name: "risk",
    role: "amends_risk",
    migrations: &[
        (1, "first", include_str!("../../migrations/risk/0001_first.sql")),
        (2, "withdrawn", include_str!("../../migrations/risk/0002_withdrawn.sql")),
        (3, "valid", include_str!("../../migrations/risk/0003_valid.sql")),
        (4, "tombstone", include_str!("../../migrations/risk/0004_tombstone.sql")),
        (5, "tombstone_valid", include_str!("../../migrations/risk/0005_valid.sql")),
        (6, "indexes", include_str!("../../migrations/risk/0006_indexes.sql")),
    ],
    grants: chassis::row_grants!("risk"),
};

/// What this service is called on the bus.
pub const BUS_NAME: &str = "risk";

const REVIEW_DEADLINE: Duration = Duration::from_secs(24 * 60 * 60);

/// What an operator may turn.
#[derive(clap::Args, Debug, Clone)]
#[group(id = "risk")]
pub struct Settings {
    /// How long a review waits for a person before it is declined, as in `24h`. Default 24 h.
    #[arg(
        long = "risk-review-deadline",
        env = "AMENDS_RISK_REVIEW_DEADLINE",
        default_value = "24h",
        value_parser = humantime::parse_duration
    )]
    pub risk_review_deadline: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self { risk_review_deadline: REVIEW_DEADLINE }
    }
}

/// What this service stands on.
pub struct Wiring {
    /// As the service's role.
    pub pool: PgPool,
    /// For the outcomes of reviews.
    pub bus: Arc<dyn Bus>,
    /// When to stop, and who is still at work.
    pub stop: Stop,
}

/// The running service. Cheap to clone.
#[derive(Clone)]
pub struct Service {
    steps: grpc::Steps,
    desk: grpc::reviews::Desk,
    book: grpc::rules::Book,
    bus: Arc<dyn Bus>,
}

impl Service {
    /// Its gRPC services, for health.
    pub const NAMES: &'static [&'static str] =
        &["amends.risk.v1.RiskSteps", "amends.risk.v1.Reviews", "amends.risk.v1.Rules"];

    /// Starts its commands, its relay and its clock; they run until `wiring.stop`.
    #[must_use]
    pub fn start(settings: Settings, wiring: Wiring) -> Self {
        let Wiring { pool, bus, stop } = wiring;
        let warm = Warm::new(&pool);
        let relay = Relay::new(warm.clone(), outbox(), Arc::clone(&bus), RelayOptions::default(), &stop);
        let deadline = settings.risk_review_deadline;
        let screen = Screen { pool: warm, deadline, hunch: Hunch::default(), rules: Mutex::default() };
        let knocking = Knocking { pool: pool.clone(), outbox: outbox(), relay };
        let knocking = Batcher::new(Arc::new(knocking), Limits::default(), &stop);
        stop.spawn(deadline::watch(pool.clone(), knocking.clone(), stop.clone()));
        Self {
            steps: grpc::Steps { screen: Batcher::new(Arc::new(screen), Limits::default(), &stop) },
            desk: grpc::reviews::Desk { pool: pool.clone(), knocking },
            book: grpc::rules::Book { pool },
            bus,
        }
    }

    /// Adds its gRPC servers.
    pub fn register(&self, routes: &mut RoutesBuilder) {
        let steps = RiskStepsServer::new(self.steps.clone());
        routes.add_service(steps.max_decoding_message_size(MAX_SLICE_MESSAGE));
        let desk = ReviewsServer::new(self.desk.clone());
        routes.add_service(desk.max_decoding_message_size(MAX_MESSAGE));
        let book = RulesServer::new(self.book.clone());
        routes.add_service(book.max_decoding_message_size(MAX_MESSAGE));
    }

    /// Its steps, for an orchestrator in this process.
    #[must_use]
    pub fn steps(&self) -> local::RiskSteps {
        Arc::new(self.steps.clone())
    }

    /// Takes its commands.
    ///
    /// # Errors
    /// What the bus said.
    pub async fn subscribe(&self) -> Result<(), bus::Error> {
        let consumer = consumer::Consumer { knocking: self.desk.knocking.clone() };
        self.bus.subscribe(Queue::commands(BUS_NAME), Arc::new(consumer)).await
    }
}

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
