//! The orchestrator alone: it calls the services by their addresses.
//!
//! Any number of them may run over one database. One with a data folder keeps its id and takes its shards again at once
//! after a restart; one without draws a new id, and its old shards move when their leases lapse. Read next:
//! `../alone.rs`.

use std::path::PathBuf;

use anyhow::Context as _;
use chassis::{
    config::Secret,
    grpc::{self, Callee},
    telemetry,
};
use clap::Args;
use orchestrator::Callees;
use tonic::service::RoutesBuilder;

use super::{Doors, Leaving, Migration, needed, prepare, run};
use crate::{
    data_dir::DataDir,
    host::Stops,
    process::Process,
    stack::{Ground, Identity, driven, parts, reachable},
    token_keys::TokenKeys,
};

#[derive(Debug, Args)]
#[command(after_help = "Example:
  amends orchestrator --database-url postgres://amends_orchestrator@db/orchestrator --amqp-url amqp://broker")]
pub(crate) struct Orchestrator {
    /// Its database, as in postgres://user:password@host/database
    #[arg(long, env = "AMENDS_ORCHESTRATOR_DATABASE_URL", value_name = "URL", hide_env_values = true)]
    database_url: Option<Secret>,
    /// Folder that keeps its id; with it a restart takes its sagas again at once
    #[arg(long, env = "AMENDS_DATA_DIR", value_name = "FOLDER")]
    data_dir: Option<PathBuf>,
    #[command(flatten)]
    token_keys: TokenKeys,
    #[command(flatten)]
    addresses: Addresses,
    #[command(flatten)]
    process: Process,
    #[command(flatten)]
    migration: Migration,
    #[command(flatten)]
    leaving: Leaving,
    #[command(flatten, next_help_heading = "Settings")]
    settings: orchestrator::Settings,
}

/// Where the services are.
#[derive(Debug, Clone, Args)]
pub(crate) struct Addresses {
    /// order-svc
    #[arg(long, env = "AMENDS_ORDER_URL", value_name = "URL", default_value = "http://127.0.0.1:50052")]
    order_url: String,
    /// inventory-svc
    #[arg(long, env = "AMENDS_INVENTORY_URL", value_name = "URL", default_value = "http://127.0.0.1:50053")]
    inventory_url: String,
    /// risk-svc
    #[arg(long, env = "AMENDS_RISK_URL", value_name = "URL", default_value = "http://127.0.0.1:50054")]
    risk_url: String,
    /// payment-svc
    #[arg(long, env = "AMENDS_PAYMENT_URL", value_name = "URL", default_value = "http://127.0.0.1:50055")]
    payment_url: String,
    /// ledger-svc
    #[arg(long, env = "AMENDS_LEDGER_URL", value_name = "URL", default_value = "http://127.0.0.1:50056")]
    ledger_url: String,
}

impl Addresses {
    fn callees(&self) -> anyhow::Result<Callees> {
        let callee = |url: &str, flag: &str| -> anyhow::Result<Callee> {
            grpc::remote(url).with_context(|| format!("{flag}: `{url}` is not a URL like http://host:port"))
        };
        let order = callee(&self.order_url, "--order-url")?;
        Ok(Callees {
            catalog: order.clone().into(),
            order: order.into(),
            inventory: callee(&self.inventory_url, "--inventory-url")?.into(),
            risk: callee(&self.risk_url, "--risk-url")?.into(),
            payment: callee(&self.payment_url, "--payment-url")?.into(),
            ledger: callee(&self.ledger_url, "--ledger-url")?.into(),
        })
    }
}

impl Orchestrator {
    pub(crate) fn telemetry(&self) -> telemetry::Options {
        self.process.telemetry("amends-orchestrator")
    }

    pub(crate) async fn run(self, stops: Stops) -> anyhow::Result<()> {
        let Self { database_url, data_dir, token_keys, addresses, process, migration, leaving, settings } =
            self;
        let url = needed(database_url, "orchestrator", "AMENDS_ORCHESTRATOR_DATABASE_URL")?;
        let keys = token_keys.needed("orchestrator")?;
        let callees = addresses.callees()?;
        let folder = data_dir.as_deref().map(DataDir::lock).transpose()?;
        let instance = match &folder {
            Some(folder) => folder.instance()?,
            None => chassis::clock::new_uuid(),
        };
        run("orchestrator", 50051, (process, leaving), stops, async |ground: &Ground, address| {
            let pool = ground.pool("orchestrator", &url).await?;
            prepare(&url, &orchestrator::SCHEMA, migration, ground).await?;
            let checks = reachable(ground.checks.clone(), "database", &pool);
            let identity = Identity { instance, address };
            let service = parts::orchestrator(ground, pool, (settings, keys), callees, identity)?;
            service.subscribe().await?;
            let checks = driven(checks, &service);
            let mut routes = RoutesBuilder::default();
            service.register(&mut routes);
            let leave = Box::new(move || service.leave());
            Ok(Doors { routes, names: orchestrator::Service::NAMES, checks, leave })
        })
        .await
    }
}
