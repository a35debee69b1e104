//! `amends order`, `amends inventory`, …: one service in a process of its own.
//!
//! It needs a database and a broker: what it says must reach other processes, so it refuses to start on the bus of this
//! one. Read next: `stack/parts.rs`.

mod orchestrator;
mod payment;

use anyhow::anyhow;
use chassis::{config::Secret, database::Schema, http::Checks};
use clap::Args;
use tonic::service::RoutesBuilder;

use crate::{
    host::{self, Stops, Usage},
    process::Process,
    provision::{self, Migrate},
    stack::{self, BusKind, CacheKind, Front, Ground, parts, reachable},
};

pub(crate) use self::{orchestrator::Orchestrator, payment::Payment};

/// What a service does about its schema.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct Migration {
    /// Bring the schema up to date, and do not start when that fails
    #[arg(long, env = "AMENDS_MIGRATE")]
    migrate: bool,
    /// Leave the schema as it is, and do not start when it is behind
    #[arg(long, env = "AMENDS_NO_MIGRATE", conflicts_with = "migrate")]
    no_migrate: bool,
}

impl Migration {
    const fn kind(self) -> Migrate {
        match (self.migrate, self.no_migrate) {
            (true, _) => Migrate::Always,
            (false, true) => Migrate::Never,
            (false, false) => Migrate::WhenBehind,
        }
    }
}

/// What a service serves.
struct Doors {
    routes: RoutesBuilder,
    names: &'static [&'static str],
    checks: Checks,
}

/// A URL that has to be given.
fn needed(url: Option<Secret>, service: &str, variable: &str) -> anyhow::Result<String> {
    url.map(|url| url.expose().to_owned()).ok_or_else(|| {
        let hint = if service == "order" { " (looking for orders? `amends order list`)" } else { "" };
        Usage(format!(
            "`amends {service}` runs the {service} service in a process of its own and needs its database: set \
             {variable} or --database-url{hint}"
        ))
        .into()
    })
}

/// Runs one service: `start` opens its database and gives its doors.
async fn run(
    service: &'static str,
    port: u16,
    process: Process,
    stops: Stops,
    start: impl AsyncFnOnce(&Ground, String) -> anyhow::Result<Doors>,
) -> anyhow::Result<()> {
    if matches!(process.bus(), BusKind::Local) {
        return Err(Usage(format!(
            "`amends {service}` needs RabbitMQ: its messages have to reach other processes, and the bus of one process \
             does not. Set AMENDS_AMQP_URL or --amqp-url; only `amends up` may run without"
        ))
        .into());
    }
    let listeners = process.listen(port, port + 1000).await?;
    let address = listeners.grpc.local_addr()?.to_string();
    let services = chassis::stop::Stop::new();
    let starting = async {
        if matches!(process.cache(), CacheKind::Local) {
            tracing::info!("without Redis (--redis-url) cache and limits are this process's own");
        }
        let ground = Ground::lay(&process.bus(), &process.cache(), process.pools(), &services).await?;
        start(&ground, address).await
    };
    let doors = match stack::until(starting, &stops.stop, &services).await {
        Err(_) if stops.stop.is_wanted() => return Ok(()),
        started => started?,
    };
    let front =
        Front::open(doors.routes, doors.names.to_vec(), doors.checks, listeners.grpc, listeners.http)?;
    host::ready(&[("grpc", front.grpc.to_string()), ("http", front.http.to_string())]);
    let worked = tokio::select! {
        biased;
        () = stops.stop.wanted() => Ok(()),
        reason = front.failed() => Err(anyhow!(reason)),
    };
    host::close(front.close(&services, process.grace()), &stops.hurry).await;
    worked
}

/// Opens the schema of a service that is alone.
async fn prepare(url: &str, schema: &Schema, migration: Migration) -> anyhow::Result<()> {
    Ok(provision::own(url, schema, migration.kind()).await?)
}

macro_rules! alone {
    ($(#[$doc:meta])* $name:ident: $service:literal, $port:literal, env = $variable:literal, $krate:ident, $part:ident,
     $example:literal) => {
        $(#[$doc])*
        #[derive(Debug, Args)]
        #[command(after_help = $example)]
        pub(crate) struct $name {
            /// Its database, as in postgres://user:password@host/database
            #[arg(long, env = $variable, value_name = "URL", hide_env_values = true)]
            database_url: Option<Secret>,
            #[command(flatten)]
            process: Process,
            #[command(flatten)]
            migration: Migration,
            #[command(flatten, next_help_heading = "Settings")]
            settings: $krate::Settings,
        }

        impl $name {
            pub(crate) fn telemetry(&self) -> chassis::telemetry::Options {
                self.process.telemetry(concat!("amends-", $service))
            }

            pub(crate) async fn run(self, stops: Stops) -> anyhow::Result<()> {
                let Self { database_url, process, migration, settings } = self;
                let url = needed(database_url, $service, $variable)?;
                run($service, $port, process, stops, async |ground: &Ground, _| {
                    let pool = ground.pool($service, &url).await?;
                    prepare(&url, &$krate::SCHEMA, migration).await?;
                    let checks = reachable(ground.checks.clone(), "database", &pool);
                    let service = parts::$part(ground, pool, settings);
                    service.subscribe().await?;
                    let mut routes = RoutesBuilder::default();
                    service.register(&mut routes);
                    Ok(Doors { routes, names: $krate::Service::NAMES, checks })
                })
                .await
            }
        }
    };
}

alone! {
    /// order-svc alone: the price list and the commercial documents
    Order: "order", 50052, env = "AMENDS_ORDER_DATABASE_URL", order_svc, order,
    "Example:\n  amends order --database-url postgres://amends_orders@db/orders --amqp-url amqp://broker"
}

alone! {
    /// inventory-svc alone: stock
    Inventory: "inventory", 50053, env = "AMENDS_INVENTORY_DATABASE_URL", inventory_svc, inventory,
    "Example:\n  amends inventory --database-url postgres://amends_inventory@db/inventory --amqp-url amqp://broker"
}

alone! {
    /// risk-svc alone: screening and reviews
    Risk: "risk", 50054, env = "AMENDS_RISK_DATABASE_URL", risk_svc, risk,
    "Example:\n  amends risk --database-url postgres://amends_risk@db/risk --amqp-url amqp://broker"
}

alone! {
    /// ledger-svc alone: the books
    Ledger: "ledger", 50056, env = "AMENDS_LEDGER_DATABASE_URL", ledger_svc, ledger,
    "Example:\n  amends ledger --database-url postgres://amends_ledger@db/ledger --amqp-url amqp://broker"
}

alone! {
    /// notification-svc alone: what customers are told
    Notification: "notification", 50057, env = "AMENDS_NOTIFICATION_DATABASE_URL", notification_svc, notification,
    "Example:\n  amends notification --database-url postgres://amends_notifications@db/notifications --amqp-url amqp://broker"
}
