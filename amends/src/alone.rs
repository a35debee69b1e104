//! `amends order`, `amends inventory`, …: one service in a process of its own.
//!
//! It needs a database and a broker: what it says must reach other processes, so it refuses to start on the bus of this
//! one. Read next: `stack/parts.rs`.

mod auditor;
mod orchestrator;
mod payment;

use std::time::Duration;

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

pub(crate) use self::{auditor::AuditorAlone, orchestrator::Orchestrator, payment::Payment};

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

/// How a service that may have a twin goes.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct Leaving {
    /// How long calls are still taken after it was asked to stop, while /readyz and health say that it leaves: time for
    /// whoever balances over several of it to notice
    #[arg(long, env = "AMENDS_NOTICE", value_name = "TIME", default_value = "1s",
        value_parser = humantime::parse_duration)]
    notice: Duration,
}

/// What a service serves, and what it does at once when it is asked to stop.
struct Doors {
    routes: RoutesBuilder,
    names: &'static [&'static str],
    checks: Checks,
    leave: Box<dyn FnOnce() + Send>,
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
    (process, leaving): (Process, Leaving),
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
    let address = listeners.grpc.address.to_string();
    let front = Front::begin(listeners.http)?;
    let services = chassis::stop::Stop::new();
    let starting = async {
        if matches!(process.cache(), CacheKind::Local) {
            tracing::info!("without Redis (--redis-url) cache and limits are this process's own");
        }
        let ground = Ground::lay(&process.bus(), &process.cache(), process.pools(), &services).await?;
        start(&ground, address).await
    };
    let doors = match stack::until(starting, &stops.stop, &services).await {
        Ok(doors) => doors,
        Err(error) => {
            front.shut().await;
            return if stops.stop.is_wanted() { Ok(()) } else { Err(error) };
        }
    };
    // Only now: whoever has a second address is refused here at once and goes there, instead of waiting in a queue.
    let grpc = front.open(doors.routes, doors.names.to_vec(), doors.checks, listeners.grpc.listen()?)?;
    host::ready(&[("grpc", grpc.to_string()), ("http", front.http.to_string())]);
    let worked = tokio::select! {
        biased;
        () = stops.stop.wanted() => Ok(()),
        reason = front.failed() => Err(anyhow!(reason)),
    };
    (doors.leave)();
    host::close(front.close(&services, leaving.notice, process.grace()), &stops.hurry).await;
    worked
}

/// Opens the schema of a service that is alone.
async fn prepare(url: &str, schema: &Schema, migration: Migration, ground: &Ground) -> anyhow::Result<()> {
    Ok(provision::own(url, schema, migration.kind(), &ground.stop).await?)
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
            #[command(flatten)]
            leaving: Leaving,
            #[command(flatten, next_help_heading = "Settings")]
            settings: $krate::Settings,
        }

        impl $name {
            pub(crate) fn telemetry(&self) -> chassis::telemetry::Options {
                self.process.telemetry(concat!("amends-", $service))
            }

            pub(crate) async fn run(self, stops: Stops) -> anyhow::Result<()> {
                let Self { database_url, process, migration, leaving, settings } = self;
                let url = needed(database_url, $service, $variable)?;
                run($service, $port, (process, leaving), stops, async |ground: &Ground, _| {
                    let pool = ground.pool($service, &url).await?;
                    prepare(&url, &$krate::SCHEMA, migration, ground).await?;
                    let checks = reachable(ground.checks.clone(), "database", &pool);
                    let service = parts::$part(ground, pool, settings);
                    service.subscribe().await?;
                    let mut routes = RoutesBuilder::default();
                    service.register(&mut routes);
                    Ok(Doors { routes, names: $krate::Service::NAMES, checks, leave: Box::new(|| ()) })
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
