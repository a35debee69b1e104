//! One service on its own listener: it can be stopped, and started again on the same port.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use chassis::{
    bus::Bus,
    cache::LocalCache,
    database,
    grpc::{self, Callee},
    limiter::LocalLimiter,
    stop::Stop,
    testbed::keyring,
};
use orchestrator::{Callees, Peer};
use sqlx::PgPool;
use tokio::net::{TcpListener, TcpSocket};
use tonic::service::RoutesBuilder;
use uuid::Uuid;

use crate::world::Ground;

/// Which service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    Order,
    Inventory,
    Risk,
    Payment,
    Ledger,
    Notification,
}

impl Kind {
    pub const ALL: [Self; 6] =
        [Self::Order, Self::Inventory, Self::Risk, Self::Payment, Self::Ledger, Self::Notification];
}

/// A running service.
pub struct Node {
    pub address: SocketAddr,
    pub stop: Stop,
    /// The same doors without a network.
    pub inside: Callee,
    /// Has an orchestrator call its handlers.
    pub(crate) join: Join,
    pub pools: Vec<PgPool>,
    served: tokio::task::JoinHandle<()>,
}

impl Node {
    /// Stops it at once: calls under way break, what is committed stays.
    pub async fn stop(self) -> SocketAddr {
        self.stop.request();
        self.served.abort();
        let _ = self.served.await;
        self.stop.finish(Duration::from_secs(5)).await;
        self.address
    }
}

/// Binds a port again that was ours a moment ago.
pub(crate) async fn bind(address: Option<SocketAddr>) -> TcpListener {
    let Some(address) = address else { return TcpListener::bind("127.0.0.1:0").await.unwrap() };
    crate::eventually("the port is free again", || async move {
        let socket = TcpSocket::new_v4().ok()?;
        socket.set_reuseaddr(true).ok()?;
        socket.bind(address).ok()?;
        socket.listen(1024).ok()
    })
    .await
}

async fn pool(ground: &Ground, schema: &database::Schema, stop: &Stop) -> PgPool {
    pool_at(ground.url(schema).await, schema, stop).await
}

async fn pool_at(url: String, schema: &database::Schema, stop: &Stop) -> PgPool {
    let options =
        database::Options { url, application: schema.role.to_owned(), connections: 4, allow_unsafe: false };
    database::open(&options, stop).await.unwrap()
}

/// Puts a participant's own handlers in the place of the way to it.
type Join = Box<dyn Fn(&mut Callees) + Send + Sync>;

/// What a service brings to be served.
struct Served {
    routes: RoutesBuilder,
    inside: Callee,
    join: Join,
    names: &'static [&'static str],
    pools: Vec<PgPool>,
}

impl Served {
    fn of(register: impl Fn(&mut RoutesBuilder), names: &'static [&'static str], pools: Vec<PgPool>) -> Self {
        let [mut routes, mut inside] = [RoutesBuilder::default(), RoutesBuilder::default()];
        register(&mut routes);
        register(&mut inside);
        Self { routes, inside: grpc::local(inside.routes()), join: Box::new(|_| {}), names, pools }
    }

    fn joins(mut self, join: impl Fn(&mut Callees) + Send + Sync + 'static) -> Self {
        self.join = Box::new(join);
        self
    }
}

fn serve(served: Served, listener: TcpListener, stop: Stop) -> Node {
    let Served { routes, inside, join, names, pools } = served;
    let address = listener.local_addr().unwrap();
    let serving = stop.clone();
    let served = tokio::spawn(async move {
        grpc::serve(routes, proto::DESCRIPTORS, names, listener, &serving).await.unwrap();
    });
    Node { address, stop, inside, join, pools, served }
}

/// Starts a participant.
pub(crate) async fn start(ground: &Ground, kind: Kind, address: Option<SocketAddr>) -> Node {
    let stop = Stop::new();
    let bus = ground.bus(&stop).await;
    let served = match kind {
        Kind::Order => {
            let pool = pool(ground, &order_svc::SCHEMA, &stop).await;
            let pools = vec![pool.clone()];
            let wiring = order_svc::Wiring { pool, bus, stop: stop.clone() };
            let service = order_svc::Service::start(ground.settings.order.clone(), wiring);
            service.subscribe().await.unwrap();
            Served::of(|routes| service.register(routes), order_svc::Service::NAMES, pools).joins(
                move |callees| {
                    callees.catalog = Peer::Local(service.catalog());
                    callees.order = Peer::Local(service.steps());
                },
            )
        }
        Kind::Inventory => {
            let pool = pool(ground, &inventory_svc::SCHEMA, &stop).await;
            let pools = vec![pool.clone()];
            let wiring = inventory_svc::Wiring { pool, bus, cache: cache(), stop: stop.clone() };
            let service = inventory_svc::Service::start(ground.settings.inventory.clone(), wiring);
            service.subscribe().await.unwrap();
            Served::of(|routes| service.register(routes), inventory_svc::Service::NAMES, pools).joins(
                move |callees| {
                    callees.inventory = Peer::Local(service.steps());
                },
            )
        }
        Kind::Risk => {
            let pool = pool(ground, &risk_svc::SCHEMA, &stop).await;
            let pools = vec![pool.clone()];
            let wiring = risk_svc::Wiring { pool, bus, stop: stop.clone() };
            let service = risk_svc::Service::start(ground.settings.risk.clone(), wiring);
            service.subscribe().await.unwrap();
            Served::of(|routes| service.register(routes), risk_svc::Service::NAMES, pools).joins(
                move |callees| {
                    callees.risk = Peer::Local(service.steps());
                },
            )
        }
        Kind::Payment => payment(ground, bus, &stop).await,
        Kind::Ledger => {
            let pool = pool(ground, &ledger_svc::SCHEMA, &stop).await;
            let pools = vec![pool.clone()];
            let wiring = ledger_svc::Wiring { pool, bus, stop: stop.clone() };
            let service = ledger_svc::Service::start(ground.settings.ledger.clone(), wiring);
            service.subscribe().await.unwrap();
            Served::of(|routes| service.register(routes), ledger_svc::Service::NAMES, pools).joins(
                move |callees| {
                    callees.ledger = Peer::Local(service.steps());
                },
            )
        }
        Kind::Notification => {
            let pool = pool(ground, &notification_svc::SCHEMA, &stop).await;
            let pools = vec![pool.clone()];
            let wiring = notification_svc::Wiring { pool, bus, stop: stop.clone() };
            let service = notification_svc::Service::start(ground.settings.notification.clone(), wiring);
            service.subscribe().await.unwrap();
            Served::of(|routes| service.register(routes), notification_svc::Service::NAMES, pools)
        }
    };
    serve(served, bind(address).await, stop)
}

async fn payment(ground: &Ground, bus: Arc<dyn Bus>, stop: &Stop) -> Served {
    let simulator_pool = pool(ground, &payment_svc::SIMULATOR_SCHEMA, stop).await;
    let pool = pool(ground, &payment_svc::SCHEMA, stop).await;
    let pools = vec![pool.clone(), simulator_pool.clone()];
    let wiring = payment_svc::Wiring { pool, simulator_pool, keys: keyring(), bus, stop: stop.clone() };
    let service = payment_svc::Service::start(ground.settings.payment.clone(), wiring);
    service.subscribe().await.unwrap();
    Served::of(|routes| service.register(routes), payment_svc::Service::NAMES, pools).joins(move |callees| {
        callees.payment = Peer::Local(service.steps());
    })
}

fn cache() -> Arc<LocalCache> {
    Arc::new(LocalCache::new(1 << 20))
}

/// Starts an orchestrator.
pub(crate) async fn start_orchestrator(
    ground: &Ground,
    callees: Callees,
    instance: Uuid,
) -> (Node, orchestrator::Service) {
    let stop = Stop::new();
    let listener = bind(None).await;
    let bus: Arc<dyn Bus> = ground.bus(&stop).await;
    let pool = pool_at(ground.orchestrators_url().await, &orchestrator::SCHEMA, &stop).await;
    let wiring = orchestrator::Wiring {
        pool: pool.clone(),
        bus,
        cache: cache(),
        limiter: Arc::new(LocalLimiter::new()),
        keys: keyring(),
        callees,
        instance,
        address: listener.local_addr().unwrap().to_string(),
        stop: stop.clone(),
    };
    let service = orchestrator::Service::start(ground.settings.orchestrator.clone(), wiring).unwrap();
    service.subscribe().await.unwrap();
    let served = Served::of(|routes| service.register(routes), orchestrator::Service::NAMES, vec![pool]);
    (serve(served, listener, stop), service)
}
