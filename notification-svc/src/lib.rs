//! notification-svc: tells customers what became of their orders.
//!
//! - `domain`: which event is worth a letter, and what stands in it; pure.
//! - `record`: an event becomes one delivery, once.
//! - `sender`: deliveries go out, again and again until somebody takes them.
//! - `hands`: how many may be on their way.
//! - `sink`: where they go: a folder, or a mail server.
//! - `store`: every SQL statement, checked against the schema by a test.
//! - `consumer`: takes `notification.events`.
//! - `grpc`: the doors: what was told, and telling it again.
//!
//! It says nothing to other services and nothing waits for it: an order is over whether or not the customer was told.

mod consumer;
mod domain;
#[doc(hidden)]
pub mod doors;
mod grpc;
mod hands;
mod record;
mod sender;
mod settings;
mod sink;
mod smtp_url;
mod store;

use std::sync::Arc;

use chassis::{
    batcher::{Batcher, Limits},
    bus::{self, Bus, Queue},
    database::{Schema, Warm},
    grpc::MAX_MESSAGE,
    sql::Checked,
    stop::Stop,
};
use proto::notification::v1::notifications_server::NotificationsServer;
use sqlx::PgPool;
use tonic::service::RoutesBuilder;

use crate::{consumer::Events, hands::Hands, record::Record, sender::Sender};
pub use crate::{settings::Settings, smtp_url::SmtpUrl};

/// The schema this service lives in.
pub const SCHEMA: Schema = Schema {
    name: "notifications",
    role: "amends_notifications",
    migrations: &[
        (1, "first", include_str!("../../migrations/notifications/0001_first.sql")),
        (2, "trace", include_str!("../../migrations/notifications/0002_trace.sql")),
    ],
    grants: chassis::row_grants!("notifications"),
};

/// What this service is called on the bus.
pub const BUS_NAME: &str = "notification";

/// The queue that it takes: those changes that somebody is told of. Every process declares it at the broker, so those of a
/// build that knows more of them bind it for more.
#[must_use]
pub fn queue() -> Queue {
    Queue::events(BUS_NAME, &domain::Template::ALL.map(domain::Template::as_str))
}

/// What this service stands on.
pub struct Wiring {
    /// As the service's role.
    pub pool: PgPool,
    /// Where orders say what became of them.
    pub bus: Arc<dyn Bus>,
    /// When to stop, and who is still at work.
    pub stop: Stop,
}

/// The running service. Cheap to clone.
#[derive(Clone)]
pub struct Service {
    desk: grpc::Desk,
    events: Arc<Events>,
    bus: Arc<dyn Bus>,
}

impl Service {
    /// Its gRPC services, for health.
    pub const NAMES: &'static [&'static str] = &["amends.notification.v1.Notifications"];

    /// Starts its command and its sender; they run until `wiring.stop`.
    #[must_use]
    pub fn start(settings: Settings, wiring: Wiring) -> Self {
        let Wiring { pool, bus, stop } = wiring;
        let warm = Warm::new(&pool);
        let sink = sink::open(&settings);
        let (hands, stored) = Hands::new(&settings, &*sink);
        let record = Record { pool: warm.clone(), hands: hands.clone() };
        let record = Batcher::new(Arc::new(record), Limits::default(), &stop);
        let sender = Sender::new(&settings, warm, sink, (hands.clone(), stored), stop.clone());
        stop.spawn(sender.run());
        let events = Arc::new(Events { record, domain: settings.notification_domain });
        Self { desk: grpc::Desk { pool, hands }, events, bus }
    }

    /// Adds its gRPC server.
    pub fn register(&self, routes: &mut RoutesBuilder) {
        let desk = NotificationsServer::new(self.desk.clone());
        routes.add_service(desk.max_decoding_message_size(MAX_MESSAGE));
    }

    /// Takes its queue.
    ///
    /// # Errors
    /// What the bus said.
    pub async fn subscribe(&self) -> Result<(), bus::Error> {
        self.bus.subscribe(queue(), Arc::clone(&self.events) as _).await
    }
}

/// Every statement of this service, for the SQL check.
#[must_use]
pub fn statements() -> Vec<&'static dyn Checked> {
    store::statements()
}
