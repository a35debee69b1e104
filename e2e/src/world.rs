//! A world: databases, a bus, six participants and one or more orchestrators, all private.

mod ground;

use std::{collections::HashMap, net::SocketAddr, sync::Arc, time::Duration};

use chassis::{
    bus::local::LocalBus,
    grpc::{self, Callee},
    testbed::TestDatabase,
};
use orchestrator::Callees;
use proto::{
    inventory::v1::{GetStockRequest, RestockRequest, Stock, inventory_client::InventoryClient},
    ledger::v1::{Account, GetAccountRequest, ledger_client::LedgerClient},
    money::Money,
    notification::v1::{Delivery, ListDeliveriesRequest, notifications_client::NotificationsClient},
    order::v1::{
        CancelOrderRequest, GetOrderRequest, Order, OrderStatus, SetPriceRequest,
        catalog_client::CatalogClient, orders_client::OrdersClient,
    },
    payment::v1::{Attempt, GetAttemptRequest, attempts_client::AttemptsClient},
    risk::v1::{reviews_client::ReviewsClient, rules_client::RulesClient},
    saga::v1::{GetSagaRequest, Saga, sagas_client::SagasClient},
};
use tonic::{Request, Response, Status};
use uuid::Uuid;

use crate::{
    Spec, eventually, eventually_within,
    faults::{Injector, guard},
    meddle::{Meddling, Record, meddle},
    node::{self, Kind, Node},
    proxy::Proxy,
};

pub use self::ground::Ground;

/// Which bus a world has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BusKind {
    /// In process.
    Local,
    /// RabbitMQ.
    Amqp,
}

/// A world in the making.
pub struct Builder {
    pub bus: BusKind,
    pub orchestrators: usize,
    pub settings: amends::stack::Settings,
    meddling: Option<(Meddling, Record)>,
    injector: Option<Injector>,
    doubled: bool,
    behind_a_proxy: bool,
    hanging: Option<Record>,
    far: bool,
    embedded: bool,
}

impl Builder {
    #[must_use]
    pub fn new(bus: BusKind) -> Self {
        let mut settings = amends::stack::Settings::default();
        // Short enough for a test, long enough for a busy machine.
        settings.payment.patience = Duration::from_millis(600);
        settings.payment.horizon = Duration::from_secs(3);
        settings.payment.call_timeout = Duration::from_millis(900);
        settings.payment.look = Duration::from_millis(200);
        settings.payment.poll = Duration::from_millis(100);
        settings.orchestrator.answer_after = Duration::from_secs(10);
        settings.ledger.ledger_seal_every = Duration::from_millis(100);
        let outbox = std::env::temp_dir().join(format!("amends-e2e-{}", Uuid::now_v7()));
        settings.notification.notification_outbox_dir = outbox;
        Self {
            bus,
            orchestrators: 1,
            settings,
            meddling: None,
            injector: None,
            doubled: false,
            behind_a_proxy: false,
            hanging: None,
            far: false,
            embedded: false,
        }
    }

    #[must_use]
    pub const fn orchestrators(mut self, count: usize) -> Self {
        self.orchestrators = count;
        self
    }

    /// Meddles with every step call.
    #[must_use]
    pub fn meddling(mut self, meddling: Meddling, record: &Record) -> Self {
        self.meddling = Some((meddling, record.clone()));
        self
    }

    /// Does what the injector is told, to steps and to their compensations.
    #[must_use]
    pub fn faults(mut self, injector: &Injector) -> Self {
        self.injector = Some(injector.clone());
        self
    }

    /// Says every message twice.
    #[must_use]
    pub const fn doubled(mut self) -> Self {
        self.doubled = true;
        self
    }

    /// Orchestrators reach their database through a proxy.
    #[must_use]
    pub const fn behind_a_proxy(mut self) -> Self {
        self.behind_a_proxy = true;
        self
    }

    /// Its databases are far away: whoever asks one waits.
    #[must_use]
    pub const fn far(mut self) -> Self {
        self.far = true;
        self
    }

    /// Its orchestrators call their participants as `amends up` does, without a wire. None of them may be stopped.
    #[must_use]
    pub const fn embedded(mut self) -> Self {
        self.embedded = true;
        self
    }

    /// Whoever hands a message over hangs up once before it is handled to its end.
    #[must_use]
    pub fn hanging(mut self, record: &Record) -> Self {
        self.hanging = Some(record.clone());
        self
    }

    #[must_use]
    pub fn settings(mut self, change: impl FnOnce(&mut amends::stack::Settings)) -> Self {
        change(&mut self.settings);
        self
    }

    pub async fn start(self) -> World {
        let is_wired = self.meddling.is_some() || self.injector.is_some();
        assert!(!(self.embedded && is_wired), "who meddles with calls needs a wire");
        let database = TestDatabase::create(&amends::provision::schemas()).await;
        let amqp = (self.bus == BusKind::Amqp).then(|| format!("e2e-{}.", Uuid::now_v7().simple()));
        let mut orchestrator_url = database.url(&orchestrator::SCHEMA);
        let mut proxy = None;
        if self.behind_a_proxy {
            let (between, url) = Proxy::in_front_of(&orchestrator_url).await;
            (proxy, orchestrator_url) = (Some(between), url);
        }
        let ground = Ground {
            database,
            proxy,
            orchestrator_url,
            settings: self.settings,
            local: Arc::new(LocalBus::new()),
            amqp,
            doubled: self.doubled,
            hanging: self.hanging,
            injector: self.injector,
            far: self.far,
        };
        let mut nodes = HashMap::new();
        for kind in Kind::ALL {
            nodes.insert(kind, node::start(&ground, kind, None).await);
        }
        let mut world = World {
            ground,
            nodes,
            orchestrators: Vec::new(),
            addresses: HashMap::new(),
            meddling: self.meddling,
            embedded: self.embedded,
        };
        world.addresses = world.nodes.iter().map(|(kind, node)| (*kind, node.address)).collect();
        for _ in 0..self.orchestrators {
            world.add_orchestrator().await;
        }
        world.stock_up().await;
        world
    }
}

/// An orchestrator of this world.
pub struct Orchestrator {
    pub node: Node,
    pub service: orchestrator::Service,
    pub instance: Uuid,
}

/// A running world.
pub struct World {
    pub ground: Ground,
    nodes: HashMap<Kind, Node>,
    pub orchestrators: Vec<Orchestrator>,
    addresses: HashMap<Kind, SocketAddr>,
    meddling: Option<(Meddling, Record)>,
    embedded: bool,
}

impl World {
    /// On the in-process bus.
    pub async fn local() -> Self {
        Builder::new(BusKind::Local).start().await
    }

    /// On RabbitMQ.
    pub async fn amqp() -> Self {
        Builder::new(BusKind::Amqp).start().await
    }

    /// On either.
    pub async fn on(bus: BusKind) -> Self {
        Builder::new(bus).start().await
    }

    fn callees(&self) -> Callees {
        let callee = |kind, participant| {
            let callee = match &self.meddling {
                // Without a network, a call that is dropped is dropped at its handler.
                Some((Meddling::HangUp, record)) => {
                    meddle(self.node(kind).inside.clone(), Meddling::HangUp, record.clone())
                }
                Some((meddling, record)) => meddle(self.callee(kind), *meddling, record.clone()),
                None => self.callee(kind),
            };
            match &self.ground.injector {
                Some(injector) => guard(callee, participant, injector.clone()),
                None => callee,
            }
        };
        let mut callees = Callees {
            catalog: callee(Kind::Order, "order").into(),
            order: callee(Kind::Order, "order").into(),
            inventory: callee(Kind::Inventory, "inventory").into(),
            risk: callee(Kind::Risk, "risk").into(),
            payment: callee(Kind::Payment, "payment").into(),
            ledger: callee(Kind::Ledger, "ledger").into(),
        };
        if self.embedded {
            self.nodes.values().for_each(|node| (node.join)(&mut callees));
            assert!(callees.are_local(), "somebody is still called over the wire");
        }
        callees
    }

    /// Where a participant listens.
    #[must_use]
    pub fn address(&self, kind: Kind) -> SocketAddr {
        self.addresses[&kind]
    }

    /// A participant that runs.
    #[must_use]
    pub fn node(&self, kind: Kind) -> &Node {
        &self.nodes[&kind]
    }

    /// All pools, and whose they are.
    #[must_use]
    pub fn pools(&self) -> Vec<(String, &sqlx::PgPool)> {
        let participants = self.nodes.iter().map(|(kind, node)| (format!("{kind:?}"), node));
        let orchestrators = self.orchestrators.iter().map(|one| ("Orchestrator".to_owned(), &one.node));
        participants
            .chain(orchestrators)
            .flat_map(|(name, node)| node.pools.iter().map(move |p| (name.clone(), p)))
            .collect()
    }

    /// A participant, over the network.
    #[must_use]
    pub fn callee(&self, kind: Kind) -> Callee {
        grpc::remote(&format!("http://{}", self.addresses[&kind])).unwrap()
    }

    pub async fn add_orchestrator(&mut self) {
        let instance = Uuid::now_v7();
        let (node, service) = node::start_orchestrator(&self.ground, self.callees(), instance).await;
        let ready = service.clone();
        self.orchestrators.push(Orchestrator { node, service, instance });
        eventually("the orchestrator owns shards", || {
            let owns = ready.owns_shards();
            async move { owns.then_some(()) }
        })
        .await;
    }

    /// Stops a participant: nobody listens on its port.
    pub async fn take_down(&mut self, kind: Kind) {
        assert!(!self.embedded, "whoever shares a process with its orchestrator is not stopped alone");
        let node = self.nodes.remove(&kind).expect("it runs");
        node.stop().await;
    }

    /// Starts it again, on the same port.
    pub async fn bring_back(&mut self, kind: Kind) {
        let node = node::start(&self.ground, kind, Some(self.addresses[&kind])).await;
        self.nodes.insert(kind, node);
    }

    /// Starts a second process' worth of a service, on a port of its own.
    pub async fn second(&self, kind: Kind) -> Node {
        node::start(&self.ground, kind, None).await
    }

    async fn stock_up(&self) {
        for (sku, minor) in [("P1001", 1000), ("P1002", 2550), ("P1003", 199)] {
            for (currency, factor) in [("EUR", 1), ("JPY", 1)] {
                let unit_price = Some(Money { minor_units: minor * factor, currency_code: currency.into() });
                let request = SetPriceRequest { sku: sku.into(), title: sku.into(), unit_price };
                CatalogClient::new(self.callee(Kind::Order)).set_price(request).await.unwrap();
            }
            self.restock(sku, 1000).await;
        }
    }

    pub async fn restock(&self, sku: &str, quantity: i64) -> Stock {
        let request = RestockRequest { request_id: Uuid::now_v7().to_string(), sku: sku.into(), quantity };
        InventoryClient::new(self.callee(Kind::Inventory)).restock(request).await.unwrap().into_inner()
    }

    #[must_use]
    pub fn orchestrator(&self, index: usize) -> Callee {
        grpc::remote(&format!("http://{}", self.orchestrators[index].node.address)).unwrap()
    }

    #[must_use]
    pub fn orders(&self) -> OrdersClient<Callee> {
        OrdersClient::new(self.orchestrator(0))
    }

    #[must_use]
    pub fn sagas(&self) -> SagasClient<Callee> {
        SagasClient::new(self.orchestrator(0))
    }

    #[must_use]
    pub fn reviews(&self) -> ReviewsClient<Callee> {
        ReviewsClient::new(self.callee(Kind::Risk))
    }

    #[must_use]
    pub fn rules(&self) -> RulesClient<Callee> {
        RulesClient::new(self.callee(Kind::Risk))
    }

    #[must_use]
    pub fn ledger(&self) -> LedgerClient<Callee> {
        LedgerClient::new(self.callee(Kind::Ledger))
    }

    pub async fn send(&self, spec: &Spec) -> Result<Response<Order>, Status> {
        self.orders().create_order(Request::new(spec.request())).await
    }

    /// Places an order that is accepted.
    pub async fn create(&self, spec: &Spec) -> Order {
        self.send(spec).await.unwrap().into_inner()
    }

    pub async fn order(&self, order_id: &str) -> Order {
        let request = GetOrderRequest { order_id: order_id.into() };
        self.orders().get_order(request).await.unwrap().into_inner()
    }

    pub async fn cancel(&self, order_id: &str) -> Result<Order, Status> {
        let request = CancelOrderRequest { order_id: order_id.into(), reason: "changed my mind".into() };
        self.orders().cancel_order(request).await.map(Response::into_inner)
    }

    pub async fn saga(&self, id: &str) -> Saga {
        self.sagas().get_saga(GetSagaRequest { saga_id: id.into() }).await.unwrap().into_inner()
    }

    pub async fn stock(&self, sku: &str) -> Stock {
        let request = GetStockRequest { sku: sku.into() };
        // Read past the cache: what is judged is what is stored.
        let mut connection = self.ground.database.connect().await;
        let (available, reserved, sold): (i64, i64, i64) =
            sqlx::query_as("select available, reserved, sold from inventory.stock where sku = $1")
                .bind(&request.sku)
                .fetch_one(&mut connection)
                .await
                .unwrap();
        Stock {
            sku: request.sku,
            available,
            reserved,
            sold,
            total: available + reserved + sold,
            ..Stock::default()
        }
    }

    pub async fn account(&self, account_id: &str) -> Account {
        let request = GetAccountRequest { account_id: account_id.into() };
        self.ledger().get_account(request).await.unwrap().into_inner()
    }

    pub async fn attempt(&self, id: &str) -> Attempt {
        let request = GetAttemptRequest { payment_id: id.into() };
        AttemptsClient::new(self.callee(Kind::Payment)).get_attempt(request).await.unwrap().into_inner()
    }

    pub async fn deliveries(&self, order_id: &str) -> Vec<Delivery> {
        let request = ListDeliveriesRequest { order_id: order_id.into(), ..Default::default() };
        let mut client = NotificationsClient::new(self.callee(Kind::Notification));
        client.list_deliveries(request).await.unwrap().into_inner().deliveries
    }

    /// The order when it has this status.
    pub async fn reaches(&self, order_id: &str, status: OrderStatus) -> Order {
        self.reaches_within(Duration::from_secs(30), order_id, status).await
    }

    pub async fn reaches_within(&self, limit: Duration, order_id: &str, status: OrderStatus) -> Order {
        let what = format!("{order_id} is {}", status.as_str_name());
        eventually_within(limit, &what, || async {
            let order = self.order(order_id).await;
            let ended = matches!(order.status(), OrderStatus::Completed | OrderStatus::Cancelled);
            assert!(
                !ended || order.status() == status,
                "ended as {order:?}, expected {}",
                status.as_str_name()
            );
            (order.status() == status).then_some(order)
        })
        .await
    }

    pub async fn completes(&self, order_id: &str) -> Order {
        self.reaches(order_id, OrderStatus::Completed).await
    }

    pub async fn is_cancelled(&self, order_id: &str) -> Order {
        self.reaches(order_id, OrderStatus::Cancelled).await
    }

    /// What the provider's book holds for an order: charged and refunded, minor units.
    pub async fn book(&self, order: &Order) -> (i64, i64) {
        let attempt = self.attempt(&order.saga_id).await;
        let mut connection = self.ground.database.connect().await;
        let (charged, refunded): (i64, i64) = sqlx::query_as(
            "select coalesce(sum(charged_minor), 0)::bigint, coalesce(sum(refunded_minor), 0)::bigint \
             from simulator.book where payment = $1",
        )
        .bind(attempt.payment_id)
        .fetch_one(&mut connection)
        .await
        .unwrap();
        (charged, refunded)
    }

    /// Nothing is on its way any more; then the auditor finds nothing.
    pub async fn audit(&self) {
        let mut connection = self.ground.database.connect().await;
        for schema in ["orchestrator", "orders", "inventory", "risk", "payments", "ledger"] {
            let connection = &mut connection;
            let query = format!("select count(*) from {schema}.outbox where dead_time is null");
            let until = tokio::time::Instant::now() + Duration::from_secs(30);
            loop {
                let (left,): (i64,) = sqlx::query_as(sqlx::AssertSqlSafe(query.clone()))
                    .fetch_one(&mut *connection)
                    .await
                    .unwrap();
                if left == 0 {
                    break;
                }
                assert!(
                    tokio::time::Instant::now() < until,
                    "{left} messages of {schema} are still on their way"
                );
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
        let sources = amends::audit::Sources::one(self.ground.database.owner_url());
        let options = amends::audit::Options { quiescent: true, ..Default::default() };
        let report = amends::audit::run(&sources, &options).await.unwrap();
        assert!(report.is_clean(), "{report:#?}");
    }
}
