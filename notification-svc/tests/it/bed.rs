//! A notification-svc with a database and a folder of its own, told things over the bus and asked at its doors.

use std::{
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use chassis::{
    bus::{Bus as _, Exchange, Message, Published, local::LocalBus},
    clock, grpc,
    stop::Stop,
    testbed::TestDatabase,
};
use notification_svc::{SCHEMA, Service, Settings, Wiring};
use prost::Message as _;
use proto::{
    money::Money,
    notification::v1::{
        Delivery, DeliveryState, ListDeliveriesRequest, ListDeliveriesResponse, ResendRequest,
        notifications_client::NotificationsClient,
    },
    order::v1::{OrderChanged, OrderLine, OrderStatus},
};
use tempfile::TempDir;
use tonic::Status;
use types::OrderId;

pub(crate) struct Bed {
    pub(crate) database: TestDatabase,
    pub(crate) folder: TempDir,
    settings: Settings,
    pub(crate) one: Running,
}

/// One process.
pub(crate) struct Running {
    bus: Arc<LocalBus>,
    pub(crate) stop: Stop,
    client: NotificationsClient<grpc::Callee>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop.request();
    }
}

impl Bed {
    pub(crate) async fn new() -> Self {
        Self::with(|_| {}).await
    }

    pub(crate) async fn with(change: impl FnOnce(&mut Settings)) -> Self {
        let folder = TempDir::new().unwrap();
        let database = TestDatabase::create(&[SCHEMA]).await;
        let mut settings =
            Settings { notification_outbox_dir: folder.path().join("outbox"), ..Settings::default() };
        change(&mut settings);
        let one = Running::on(&database, settings.clone()).await;
        Self { database, folder, settings, one }
    }

    pub(crate) async fn with_smtp(url: &str) -> Self {
        Self::with(|settings| settings.smtp_url = Some(url.parse().unwrap())).await
    }

    /// Another process on the same database, with the same settings.
    pub(crate) async fn another(&self) -> Running {
        Running::on(&self.database, self.settings.clone()).await
    }

    pub(crate) fn outbox(&self) -> PathBuf {
        self.folder.path().join("outbox")
    }

    /// The letters in the mailboxes.
    pub(crate) fn letters(&self) -> Vec<String> {
        let Ok(entries) = std::fs::read_dir(self.outbox()) else { return Vec::new() };
        let mailboxes = entries.map(|entry| std::fs::read_to_string(entry.unwrap().path()).unwrap());
        let text: String = mailboxes.flat_map(|mailbox| ["\n\n".to_owned(), mailbox]).collect();
        text.split("\n\nFrom ").skip(1).map(str::to_owned).collect()
    }

    pub(crate) async fn run(&self, sql: &'static str) {
        let mut owner = self.database.connect().await;
        sqlx::raw_sql(sql).execute(&mut owner).await.unwrap();
    }

    pub(crate) async fn count(&self, sql: &'static str) -> i64 {
        sqlx::query_scalar(sql).fetch_one(&mut self.database.connect().await).await.unwrap()
    }
}

impl Running {
    async fn on(database: &TestDatabase, settings: Settings) -> Self {
        let stop = Stop::new();
        let local = Arc::new(LocalBus::new());
        let wiring =
            Wiring { pool: database.pool(&SCHEMA).await, bus: Arc::clone(&local) as _, stop: stop.clone() };
        let service = Service::start(settings, wiring);
        service.subscribe().await.unwrap();
        let mut routes = tonic::service::RoutesBuilder::default();
        service.register(&mut routes);
        let client = NotificationsClient::new(grpc::local(routes.routes()));
        Self { bus: local, stop, client }
    }

    /// Says it on the bus, once.
    pub(crate) async fn say(&self, message: &Message) -> Published {
        self.bus.publish(std::slice::from_ref(message)).await.remove(0)
    }

    pub(crate) async fn list(&self, order: &str) -> Vec<Delivery> {
        self.page(order, 0, "").await.unwrap().deliveries
    }

    pub(crate) async fn page(
        &self,
        order: &str,
        page_size: i32,
        page_token: &str,
    ) -> Result<ListDeliveriesResponse, Status> {
        let request = ListDeliveriesRequest {
            page_size,
            page_token: page_token.to_owned(),
            order_id: order.to_owned(),
        };
        Ok(self.client.clone().list_deliveries(request).await?.into_inner())
    }

    pub(crate) async fn resend(&self, delivery_id: &str) -> Result<Delivery, Status> {
        let request = ResendRequest { delivery_id: delivery_id.to_owned() };
        Ok(self.client.clone().resend(request).await?.into_inner())
    }

    /// Waits until the order's only delivery is in this state.
    pub(crate) async fn until(&self, order: &str, state: DeliveryState) -> Delivery {
        self.until_it(order, |delivery| delivery.state() == state).await
    }

    pub(crate) async fn until_it(&self, order: &str, enough: impl Fn(&Delivery) -> bool) -> Delivery {
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            let found = self.list(order).await;
            if let [delivery] = found.as_slice()
                && enough(delivery)
            {
                return delivery.clone();
            }
            assert!(Instant::now() < deadline, "{found:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

pub(crate) fn new_order() -> OrderId {
    OrderId::from_uuid(clock::new_uuid())
}

fn eur(minor_units: i64) -> Option<Money> {
    Some(Money { minor_units, currency_code: "EUR".into() })
}

/// What became of an order, as the orchestrator says it.
pub(crate) fn changed(order: OrderId, status: OrderStatus, version: i64) -> OrderChanged {
    OrderChanged {
        order_id: order.to_string(),
        saga_id: order.saga().to_string(),
        status: status.into(),
        status_reason: if status == OrderStatus::Cancelled { "OUT_OF_STOCK".into() } else { String::new() },
        customer_id: "c_1".into(),
        merchant_id: "m_1".into(),
        lines: vec![OrderLine { sku: "P1001".into(), quantity: 2, unit_price: eur(1250) }],
        total: eur(2975),
        time: None,
        version,
    }
}

pub(crate) fn event(body: &OrderChanged) -> Message {
    let key = format!("order.{}", body.status().as_str_name().to_lowercase());
    Message::new(Exchange::Events, &key, "amends.order.v1.OrderChanged", "orchestrator", body.encode_to_vec())
}

pub(crate) fn about(order: OrderId, status: OrderStatus) -> Message {
    event(&changed(order, status, 5))
}
