//! The whole house in the test's own process, over private databases.

use std::sync::{Arc, Mutex};

use amends::{
    provision::{Databases, schemas},
    stack::{BusKind, CacheKind, Options, Pools, Settings, Stack, queues},
};
use async_trait::async_trait;
use chassis::{
    bus::{Bus, Error, Handler, Message, Published, Queue, local::LocalBus},
    stop::Stop,
    testbed::TestDatabase,
};
use tempfile::TempDir;
use tokio::net::TcpListener;

async fn options(bus: BusKind, letters: &TempDir) -> Options {
    let mut settings = Settings::default();
    settings.notification.notification_outbox_dir = letters.path().to_owned();
    let database = TestDatabase::create(&schemas()).await;
    Options {
        databases: Databases::of(|schema| database.url(schema)),
        pools: Pools { connections: 4, allow_unsafe: false },
        bus,
        cache: CacheKind::Local,
        grpc: TcpListener::bind("127.0.0.1:0").await.unwrap(),
        http: TcpListener::bind("127.0.0.1:0").await.unwrap(),
        settings,
        keys: chassis::testbed::keyring(),
        instance: chassis::clock::new_uuid(),
        give_up: Stop::new(),
    }
}

/// Remembers which queues are taken.
#[derive(Default)]
struct Listening {
    bus: LocalBus,
    queues: Mutex<Vec<Queue>>,
}

#[async_trait]
impl Bus for Listening {
    async fn publish(&self, messages: &[Message]) -> Vec<Published> {
        self.bus.publish(messages).await
    }

    async fn subscribe(&self, queue: Queue, handler: Arc<dyn Handler>) -> Result<(), Error> {
        self.queues.lock().unwrap().push(queue.clone());
        self.bus.subscribe(queue, handler).await
    }
}

#[tokio::test]
async fn the_list_of_queues_is_what_the_services_take() {
    let bus = Arc::new(Listening::default());
    let letters = tempfile::tempdir().unwrap();
    let stack = Stack::start(options(BusKind::Given(bus.clone()), &letters).await).await.unwrap();
    stack.driving().await;
    assert!(stack.stop(std::time::Duration::from_secs(20)).await);
    let sorted = |mut queues: Vec<Queue>| {
        queues.sort_by(|a, b| a.name.cmp(&b.name));
        queues
    };
    assert_eq!(sorted(bus.queues.lock().unwrap().clone()), sorted(queues()));
}
