//! What services stand on: bus, cache, limiter, and how their pools are opened.
//!
//! Two kinds of each: this process's own, or RabbitMQ and Redis. Nothing here knows a service. Read next: `parts.rs`,
//! where services are put on it.

use std::sync::Arc;

use chassis::{
    bus::{
        self, Bus,
        amqp::{self, AmqpBus, Events},
        local::LocalBus,
    },
    cache::{Cache, LocalCache, RedisCache},
    config::Secret,
    database,
    http::Checks,
    limiter::{Limiter, LocalLimiter, RedisLimiter},
    redis_link::{self, RedisLink},
    stop::Stop,
};
use sqlx::{Connection as _, PgConnection, PgPool};

use super::queues::queues;

/// What this process's own cache may hold, in bytes of keys and values.
const CACHE_BYTES: u64 = 64 * 1024 * 1024;

/// Which bus.
#[derive(Clone)]
pub enum BusKind {
    /// This process's own, for one that runs everything.
    Local,
    /// RabbitMQ.
    Amqp {
        /// `amqp://…`
        url: Secret,
        /// Before every name on the broker.
        prefix: String,
        /// Which events go out.
        events: Events,
    },
    /// One that the caller made, as a scenario does that loses messages.
    Given(Arc<dyn Bus>),
}

/// Which cache and limiter.
#[derive(Clone)]
pub enum CacheKind {
    /// This process's own.
    Local,
    /// Redis.
    Redis {
        /// `redis://…`
        url: Secret,
        /// Before every key.
        prefix: String,
    },
}

/// How pools are opened.
#[derive(Debug, Clone, Copy)]
pub struct Pools {
    /// Connections of each at most.
    pub connections: u32,
    /// Take a server with `fsync` or `synchronous_commit` off.
    pub allow_unsafe: bool,
}

impl Default for Pools {
    fn default() -> Self {
        Self { connections: 8, allow_unsafe: false }
    }
}

/// Why something could not be started.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A service's database.
    #[error("the database of {service} cannot be used")]
    Database {
        /// Whose.
        service: &'static str,
        /// Why.
        #[source]
        source: database::Error,
    },
    /// The broker.
    #[error("the bus cannot be used")]
    Bus(#[from] bus::Error),
    /// Redis.
    #[error("Redis cannot be used (--redis-url)")]
    Redis(#[from] redis_link::Error),
    /// The orchestrator.
    #[error("the orchestrator does not start")]
    Orchestrator(#[from] orchestrator::Error),
    /// A listener without an address.
    #[error("a listener has no address")]
    Address(#[source] std::io::Error),
}

/// What services stand on.
#[derive(Clone)]
pub(crate) struct Ground {
    /// The bus.
    pub(crate) bus: Arc<dyn Bus>,
    /// The same, if it is this process's own.
    local: Option<Arc<LocalBus>>,
    /// The cache.
    pub(crate) cache: Arc<dyn Cache>,
    /// The limiter.
    pub(crate) limiter: Arc<dyn Limiter>,
    /// Stops services.
    pub(crate) stop: Stop,
    /// What has to hold for the process to be ready: the broker's connection. Redis may be away.
    pub(crate) checks: Checks,
    pools: Pools,
}

impl Ground {
    /// Connects what has to be connected. A broker or a database that is not there yet is waited for, until `stop`.
    ///
    /// # Errors
    /// What refuses.
    pub(crate) async fn lay(
        bus: &BusKind,
        cache: &CacheKind,
        pools: Pools,
        stop: &Stop,
    ) -> Result<Self, Error> {
        let mut checks = Checks::new();
        let mut local = None;
        let bus: Arc<dyn Bus> = match bus {
            BusKind::Local => {
                let bus = Arc::new(LocalBus::closed());
                local = Some(Arc::clone(&bus));
                bus
            }
            BusKind::Amqp { url, prefix, events } => {
                let options = amqp::Options { events: *events, ..amqp::Options::default() };
                let bus = AmqpBus::connect_with(url.expose(), prefix, queues(), options, stop).await?;
                let looked = bus.clone();
                checks =
                    checks.with("bus", move || {
                        let bus = looked.clone();
                        async move {
                            if bus.is_connected().await { Ok(()) } else { Err("not connected".to_owned()) }
                        }
                    });
                Arc::new(bus)
            }
            BusKind::Given(bus) => Arc::clone(bus),
        };
        let (cache, limiter): (Arc<dyn Cache>, Arc<dyn Limiter>) = match cache {
            CacheKind::Local => (Arc::new(LocalCache::new(CACHE_BYTES)), Arc::new(LocalLimiter::new())),
            CacheKind::Redis { url, prefix } => {
                let link = RedisLink::open(url.expose(), prefix)?;
                (Arc::new(RedisCache::new(link.clone())), Arc::new(RedisLimiter::new(link)))
            }
        };
        Ok(Self { bus, local, cache, limiter, stop: stop.clone(), pools, checks })
    }

    /// Everybody has subscribed: what was left in an outbox may go.
    pub(crate) fn open(&self) {
        if let Some(bus) = &self.local {
            bus.open();
        }
    }

    /// A service's pool.
    ///
    /// # Errors
    /// A URL that is none, a server that is unsafe or too old.
    pub(crate) async fn pool(&self, service: &'static str, url: &str) -> Result<PgPool, Error> {
        let options = database::Options {
            url: url.to_owned(),
            application: format!("amends-{service}"),
            connections: self.pools.connections,
            allow_unsafe: self.pools.allow_unsafe,
        };
        database::open(&options, &self.stop).await.map_err(|source| Error::Database { service, source })
    }
}

/// With a check that somebody drives what this orchestrator accepts.
pub(crate) fn driven(checks: Checks, orchestrator: &orchestrator::Service) -> Checks {
    let orchestrator = orchestrator.clone();
    checks.with("shards", move || {
        let driven = orchestrator.is_driven();
        std::future::ready(if driven { Ok(()) } else { Err("no living owner".to_owned()) })
    })
}

/// With a check that the pool's server takes connections. The pool itself is not asked: one that is busy is not broken.
pub(crate) fn reachable(checks: Checks, service: &'static str, pool: &PgPool) -> Checks {
    let options = pool.connect_options();
    checks.with(service, move || {
        let options = Arc::clone(&options);
        async move {
            let connected = PgConnection::connect_with(&options).await.map_err(|error| error.to_string())?;
            connected.close().await.map_err(|error| error.to_string())
        }
    })
}
