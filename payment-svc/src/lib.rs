//! payment-svc: charges and what takes them back.
//!
//! A charge moves money in somebody else's house, so it is three-phase: its record is committed, with a stamp, before
//! the provider hears of it; the provider is called with no transaction open; the outcome is committed. Whatever is
//! left in doubt is looked up until it is known, by any process, after any crash.
//!
//! The way of a charge: [`grpc`] parses → [`calls`] takes a slot → [`commands::begin`] commits the record and the stamp →
//! the [`provider`] is called → [`commands::record`] commits the outcome. Compensations come by [`grpc`] or
//! [`consumer`] and share [`commands::take_back`]. The [`resolver`] finds what nobody came back for. What follows from
//! what is decided in [`domain`] alone; what others must be told is worked out in [`answers`]; all SQL is in [`store`].
//! [`simulator`] is a provider with a book of its own.
//!
//! This crate must never call the provider inside a transaction, send without a stamp, or show a token.

pub mod answers;
mod calls;
mod commands;
mod consumer;
pub mod domain;
#[doc(hidden)]
pub mod doors;
mod grpc;
pub mod provider;
mod resolver;
mod settings;
pub mod simulator;
mod store;

use std::sync::Arc;

use chassis::{
    bus::{self, Bus, Queue},
    database::{Schema, Warm},
    grpc::{MAX_MESSAGE, MAX_SLICE_MESSAGE},
    keyring::Keyring,
    outbox::{Outbox, Relay, RelayOptions},
    sql::Checked,
    stop::Stop,
};
use proto::{
    local,
    payment::v1::{attempts_server::AttemptsServer, payment_steps_server::PaymentStepsServer},
};
use sqlx::PgPool;
use tonic::service::RoutesBuilder;

pub use domain::{Category, Decline, Fault, Said, Token, TokenError};
pub use settings::Settings;

use calls::{Bounds, Calls};
use commands::Desk;
use provider::Provider as _;
use simulator::Simulator;

/// The service's name on the bus.
const SERVICE: &str = "payment";

/// The service's schema.
pub const SCHEMA: Schema = Schema {
    name: "payments",
    role: "amends_payments",
    migrations: &[
        (1, "first", include_str!("../../migrations/payments/0001_first.sql")),
        (2, "trace", include_str!("../../migrations/payments/0002_trace.sql")),
        (3, "indexes", include_str!("../../migrations/payments/0003_indexes.sql")),
    ],
    grants: chassis::row_grants!("payments"),
};

/// The schema of the simulator's book; a pool of its own works on it.
pub const SIMULATOR_SCHEMA: Schema = Schema {
    name: "simulator",
    role: "amends_simulator",
    migrations: &[(1, "first", include_str!("../../migrations/simulator/0001_first.sql"))],
    grants: chassis::row_grants!("simulator"),
};

/// Every statement, for the SQL check.
#[must_use]
pub fn statements() -> Vec<&'static dyn Checked> {
    let mut all = store::statements();
    all.extend(simulator::statements());
    all
}

/// The service's outbox.
#[must_use]
pub fn outbox() -> Outbox {
    Outbox::new("payments", SERVICE)
}

/// What the service stands on.
pub struct Wiring {
    /// Opened as the role of [`SCHEMA`].
    pub pool: PgPool,
    /// Opened as the role of [`SIMULATOR_SCHEMA`].
    pub simulator_pool: PgPool,
    /// What payment tokens are encrypted with.
    pub keys: Keyring,
    /// Where messages go and commands come from.
    pub bus: Arc<dyn Bus>,
    /// Everything the service starts ends with it.
    pub stop: Stop,
}

/// The service. Cheap to clone.
#[derive(Clone)]
pub struct Service {
    calls: Arc<Calls>,
    keys: Keyring,
    pool: PgPool,
    bus: Arc<dyn Bus>,
}

impl Service {
    /// Its gRPC services, for health.
    pub const NAMES: &'static [&'static str] =
        &["amends.payment.v1.PaymentSteps", "amends.payment.v1.Attempts"];

    /// Starts its commands, its relay and its resolver.
    #[must_use]
    pub fn start(settings: Settings, wiring: Wiring) -> Self {
        let Wiring { pool, simulator_pool, keys, bus, stop } = wiring;
        let policy = settings.policy();
        let bounds = Bounds {
            charges: settings.calls,
            others: settings.calls.div_ceil(2).max(4),
            patience: settings.patience,
        };
        let provider = Arc::new(Simulator::new(settings.simulator, simulator_pool, &stop));
        let warm = Warm::new(&pool);
        let relay = Relay::new(warm.clone(), outbox(), Arc::clone(&bus), RelayOptions::default(), &stop);
        let desk = Desk { pool: warm, outbox: outbox(), relay, policy, provider: provider.name() };
        let calls = Calls::new((provider, keys.clone()), Arc::new(desk), bounds, &stop);
        let resolver = resolver::Resolver {
            calls: Arc::clone(&calls),
            pool: pool.clone(),
            policy,
            every: settings.poll,
        };
        stop.spawn(resolver.run(stop.clone()));
        Self { calls, keys, pool, bus }
    }

    /// Adds its gRPC services.
    pub fn register(&self, routes: &mut RoutesBuilder) {
        let steps = self.step_door();
        let attempts = grpc::AttemptDoor { pool: self.pool.clone() };
        routes
            .add_service(PaymentStepsServer::new(steps).max_decoding_message_size(MAX_SLICE_MESSAGE))
            .add_service(AttemptsServer::new(attempts).max_decoding_message_size(MAX_MESSAGE));
    }

    /// Its steps, for an orchestrator in this process.
    #[must_use]
    pub fn steps(&self) -> local::PaymentSteps {
        Arc::new(self.step_door())
    }

    fn step_door(&self) -> grpc::StepDoor {
        grpc::StepDoor { calls: Arc::clone(&self.calls), keys: self.keys.clone() }
    }

    /// Takes commands from the bus.
    ///
    /// # Errors
    /// When the bus cannot be used.
    pub async fn subscribe(&self) -> Result<(), bus::Error> {
        let commands = consumer::Commands { calls: Arc::clone(&self.calls) };
        self.bus.subscribe(Queue::commands(SERVICE), Arc::new(commands)).await
    }
}
