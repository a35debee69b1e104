//! Everything in one process: seven services, one gRPC listener, one HTTP listener.
//!
//! `amends up` runs it over a private cluster; the scenarios run it over private databases. It starts no database and
//! reads no environment. The orchestrator calls the handlers of the services in this process directly, the same that serve the
//! network (`orchestrator::Peer`). Read next: `stack/ground.rs` (what services stand on), `stack/front.rs` (how they are served).

mod front;
mod ground;
pub(crate) mod parts;
mod queues;
mod services;

use std::{net::SocketAddr, time::Duration};

use chassis::{
    grpc::{self, Callee},
    keyring::Keyring,
    stop::Stop,
};
use tokio::net::TcpListener;
use uuid::Uuid;

use crate::provision::Databases;

pub(crate) use front::Front;
pub use ground::{BusKind, CacheKind, Error, Pools};
pub(crate) use ground::{Ground, driven, reachable};
pub use queues::queues;
pub(crate) use services::Identity;
use services::Services;

/// The settings of every service.
#[derive(Debug, Clone, Default, clap::Args)]
#[group(skip)]
pub struct Settings {
    /// The orchestrator's.
    #[command(flatten, next_help_heading = "Orchestrator")]
    pub orchestrator: orchestrator::Settings,
    /// order-svc's.
    #[command(flatten, next_help_heading = "Orders")]
    pub order: order_svc::Settings,
    /// inventory-svc's.
    #[command(flatten, next_help_heading = "Inventory")]
    pub inventory: inventory_svc::Settings,
    /// risk-svc's.
    #[command(flatten, next_help_heading = "Risk")]
    pub risk: risk_svc::Settings,
    /// payment-svc's.
    #[command(flatten, next_help_heading = "Payments")]
    pub payment: payment_svc::Settings,
    /// ledger-svc's.
    #[command(flatten, next_help_heading = "Ledger")]
    pub ledger: ledger_svc::Settings,
    /// notification-svc's.
    #[command(flatten, next_help_heading = "Notifications")]
    pub notification: notification_svc::Settings,
}

/// What a stack is started from.
pub struct Options {
    /// Where each service's rows are; provisioned.
    pub databases: Databases,
    /// How the services' pools are opened.
    pub pools: Pools,
    /// Which bus.
    pub bus: BusKind,
    /// Which cache and limiter.
    pub cache: CacheKind,
    /// Where gRPC is served.
    pub grpc: TcpListener,
    /// Where health and metrics are served.
    pub http: TcpListener,
    /// What an operator turned.
    pub settings: Settings,
    /// What payment tokens are encrypted with.
    pub keys: Keyring,
    /// The orchestrator's id; no other process has it.
    pub instance: Uuid,
    /// Ends the waiting for a database or a broker that is not there.
    pub give_up: Stop,
}

/// A running stack. Dropping it leaves it running: see [`Stack::stop`].
pub struct Stack {
    /// Where gRPC is served.
    pub grpc: SocketAddr,
    /// Where health and metrics are served.
    pub http: SocketAddr,
    services: Callee,
    orchestrator: orchestrator::Service,
    front: Front,
    stop: Stop,
}

impl Stack {
    /// Starts everything; returns when it serves.
    ///
    /// # Errors
    /// A database, broker or Redis that refuses, and settings that do not hold.
    pub async fn start(options: Options) -> Result<Self, Error> {
        let Options { databases, pools, bus, cache, grpc, http, settings, keys, instance, give_up } = options;
        let stop = Stop::new();
        let address = grpc.local_addr().map_err(Error::Address)?.to_string();
        let starting = async {
            let ground = Ground::lay(&bus, &cache, pools, &stop).await?;
            let identity = Identity { instance, address };
            let services = Services::start(&ground, &databases, (settings, keys), identity).await?;
            services.subscribe().await?;
            ground.open();
            Ok::<_, Error>(services)
        };
        let front = Front::begin(http)?;
        let services = match until(starting, &give_up, &stop).await {
            Ok(services) => services,
            Err(error) => {
                front.shut().await;
                return Err(error);
            }
        };
        Ok(Self {
            grpc: front.open(services.routes(), Services::names(), services.checks.clone(), grpc)?,
            http: front.http,
            services: grpc::local(services.routes().routes()),
            orchestrator: services.orchestrator,
            front,
            stop,
        })
    }

    /// Every service's doors, without a socket.
    #[must_use]
    pub fn services(&self) -> Callee {
        self.services.clone()
    }

    /// Waits until this process drives sagas: until it owns a shard.
    pub async fn driving(&self) {
        while !self.orchestrator.owns_shards() && self.stop.sleep(Duration::from_millis(20)).await {}
    }

    /// Resolves, with the reason, when it cannot serve any longer.
    pub async fn failed(&self) -> String {
        self.front.failed().await
    }

    /// Stops accepting, lets calls under way end, then stops the services. False when something was still at work when
    /// the grace was over.
    pub async fn stop(self, grace: Duration) -> bool {
        self.orchestrator.leave();
        self.front.close(&self.stop, Duration::ZERO, grace).await
    }
}

/// Starts what runs on `stop`, unless somebody gives up: then what waits is told to stop, and ends by itself. Nothing of
/// a start that failed stays at work.
pub(crate) async fn until<T, E>(
    starting: impl Future<Output = Result<T, E>>,
    give_up: &Stop,
    stop: &Stop,
) -> Result<T, E> {
    let mut starting = std::pin::pin!(starting);
    let started = tokio::select! {
        started = &mut starting => started,
        () = give_up.wanted() => {
            stop.request();
            starting.await
        }
    };
    if started.is_err() {
        stop.request();
        stop.finish(Duration::from_secs(5)).await;
    }
    started
}
