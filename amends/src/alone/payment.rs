//! payment-svc alone: with a database of its own, and one for the provider simulator's book.
//!
//! The simulator stands for somebody else's house, so it commits on connections of its own. Read next: `../alone.rs`.

use chassis::{config::Secret, telemetry};
use clap::Args;
use tonic::service::RoutesBuilder;

use super::{Doors, Leaving, Migration, needed, prepare, run};
use crate::{
    host::Stops,
    process::Process,
    stack::{Ground, parts, reachable},
    token_keys::TokenKeys,
};

#[derive(Debug, Args)]
#[command(after_help = "Example:
  amends payment --database-url postgres://amends_payments@db/payments --amqp-url amqp://broker")]
pub(crate) struct Payment {
    /// Its database, as in postgres://user:password@host/database
    #[arg(long, env = "AMENDS_PAYMENT_DATABASE_URL", value_name = "URL", hide_env_values = true)]
    database_url: Option<Secret>,
    /// The database of the provider simulator's book [default: the service's own]
    #[arg(long, env = "AMENDS_SIMULATOR_DATABASE_URL", value_name = "URL", hide_env_values = true)]
    simulator_database_url: Option<Secret>,
    #[command(flatten)]
    token_keys: TokenKeys,
    #[command(flatten)]
    process: Process,
    #[command(flatten)]
    migration: Migration,
    #[command(flatten)]
    leaving: Leaving,
    #[command(flatten, next_help_heading = "Settings")]
    settings: payment_svc::Settings,
}

impl Payment {
    pub(crate) fn telemetry(&self) -> telemetry::Options {
        self.process.telemetry("amends-payment")
    }

    pub(crate) async fn run(self, stops: Stops) -> anyhow::Result<()> {
        let Self { database_url, simulator_database_url, token_keys, process, migration, leaving, settings } =
            self;
        let url = needed(database_url, "payment", "AMENDS_PAYMENT_DATABASE_URL")?;
        let keys = token_keys.needed("payment")?;
        let simulator_url = simulator_database_url.map_or_else(|| url.clone(), |url| url.expose().to_owned());
        run("payment", 50055, (process, leaving), stops, async |ground: &Ground, _| {
            let pool = ground.pool("payment", &url).await?;
            let simulator_pool = ground.pool("simulator", &simulator_url).await?;
            prepare(&url, &payment_svc::SCHEMA, migration, ground).await?;
            prepare(&simulator_url, &payment_svc::SIMULATOR_SCHEMA, migration, ground).await?;
            let checks = reachable(ground.checks.clone(), "database", &pool);
            let checks = reachable(checks, "simulator", &simulator_pool);
            let service = parts::payment(ground, pool, simulator_pool, (settings, keys));
            service.subscribe().await?;
            let mut routes = RoutesBuilder::default();
            service.register(&mut routes);
            Ok(Doors { routes, names: payment_svc::Service::NAMES, checks, leave: Box::new(|| ()) })
        })
        .await
    }
}
