//! A corner of the real RabbitMQ for one test: its own prefix, swept afterwards, and handlers to subscribe.

use std::{
    collections::VecDeque,
    future::Future,
    panic::AssertUnwindSafe,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use async_trait::async_trait;
use chassis::{
    bus::{
        Bus, Handler, Message, Queue, Verdict,
        amqp::{AmqpBus, Options},
    },
    clock::new_uuid,
    stop::Stop,
    testbed::variable,
};
use futures_util::{FutureExt as _, StreamExt as _};
use lapin::{
    BasicProperties, Channel, Connection, ConnectionProperties,
    message::Delivery,
    options::{
        BasicConsumeOptions, BasicGetOptions, BasicPublishOptions, ExchangeDeleteOptions, QueueBindOptions,
        QueueDeclareOptions, QueueDeleteOptions,
    },
    types::FieldTable,
};

/// Short rungs, so that a test can climb them.
pub(crate) fn quick() -> Options {
    Options {
        ladder: vec![Duration::from_millis(100), Duration::from_millis(200)],
        confirm_within: Duration::from_secs(3),
        ..Options::default()
    }
}

pub(crate) struct Broker {
    pub(crate) url: String,
    pub(crate) prefix: String,
    pub(crate) queues: Vec<Queue>,
    pub(crate) stop: Stop,
    channel: Channel,
    connection: Connection,
}

/// Runs a test in a corner of its own and sweeps the corner, however the test ended.
pub(crate) async fn with_broker<F>(test: impl FnOnce(Arc<Broker>) -> F)
where
    F: Future<Output = ()>,
{
    let url = variable("AMENDS_TEST_AMQP_URL");
    let connection = Connection::connect(&url, ConnectionProperties::default()).await.unwrap();
    let broker = Arc::new(Broker {
        url,
        prefix: format!("t{}.", new_uuid().simple()),
        queues: vec![
            Queue::commands("inventory"),
            Queue::replies(),
            Queue::events("notification", &["order.#"]),
            Queue::events("ledger", &["order.*"]),
        ],
        stop: Stop::new(),
        channel: connection.create_channel().await.unwrap(),
        connection,
    });
    let outcome = AssertUnwindSafe(test(Arc::clone(&broker))).catch_unwind().await;
    broker.stop.request();
    let stopped = broker.stop.finish(Duration::from_secs(10)).await;
    broker.sweep().await;
    if let Err(panic) = outcome {
        std::panic::resume_unwind(panic);
    }
    assert!(stopped, "something does not stop");
}

impl Broker {
    pub(crate) async fn bus(&self) -> AmqpBus {
        self.bus_at(&self.url, quick()).await
    }

    pub(crate) async fn bus_at(&self, url: &str, options: Options) -> AmqpBus {
        AmqpBus::connect_with(url, &self.prefix, self.queues.clone(), options, &self.stop).await.unwrap()
    }

    /// What Amends did not write: any bytes to any queue.
    pub(crate) async fn write(&self, queue: &str, properties: BasicProperties, body: &[u8]) {
        let name = format!("{}{queue}", self.prefix);
        let options = BasicPublishOptions::default();
        self.channel.basic_publish("".into(), name.into(), options, body, properties).await.unwrap();
    }

    /// Takes one message out of a queue, if there is one.
    pub(crate) async fn read(&self, queue: &str) -> Option<Delivery> {
        let name = format!("{}{queue}", self.prefix);
        let got = self.channel.basic_get(name.into(), BasicGetOptions { no_ack: true }).await.unwrap();
        got.map(|message| message.delivery)
    }

    /// Waits for a message in a queue.
    pub(crate) async fn await_in(&self, queue: &str) -> Delivery {
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            if let Some(delivery) = self.read(queue).await {
                return delivery;
            }
            assert!(Instant::now() < deadline, "nothing came to {queue}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Takes everything out of a queue and dies with it in hand, over and over.
    pub(crate) async fn crash_on(&self, queue: &str, times: u32) {
        for _ in 0..times {
            let channel = self.connection.create_channel().await.unwrap();
            let name = format!("{}{queue}", self.prefix);
            let (options, table) = (BasicConsumeOptions::default(), FieldTable::default());
            let mut consumer = channel.basic_consume(name.into(), "".into(), options, table).await.unwrap();
            consumer.next().await.unwrap().unwrap();
            channel.close(200, "crash".into()).await.unwrap();
        }
    }

    /// A queue that Amends knows nothing of, for events.
    pub(crate) async fn bind(&self, queue: &str, pattern: &str) {
        let (name, exchange) = (format!("{}{queue}", self.prefix), format!("{}amends.events", self.prefix));
        let table = FieldTable::default;
        let options = QueueDeclareOptions::default();
        self.channel.queue_declare(name.as_str().into(), options, table()).await.unwrap();
        let bind = QueueBindOptions::default();
        self.channel.queue_bind(name.into(), exchange.into(), pattern.into(), bind, table()).await.unwrap();
    }

    pub(crate) async fn delete(&self, queue: &str) {
        let name = format!("{}{queue}", self.prefix);
        self.channel.queue_delete(name.into(), QueueDeleteOptions::default()).await.unwrap();
    }

    async fn sweep(&self) {
        for queue in &self.queues {
            self.delete(&queue.name).await;
            self.delete(&format!("{}.dead", queue.name)).await;
        }
        for delay in quick().ladder {
            self.delete(&format!("amends.retry.{}", humantime::format_duration(delay))).await;
        }
        for exchange in ["commands", "retry", "dead", "replies", "events"] {
            let name = format!("{}amends.{exchange}", self.prefix);
            self.channel.exchange_delete(name.into(), ExchangeDeleteOptions::default()).await.unwrap();
        }
    }
}

/// Notes what it is given and answers what it was told to, then `Done`.
#[derive(Default)]
pub(crate) struct Script {
    answers: Mutex<VecDeque<Verdict>>,
    seen: Mutex<Vec<Message>>,
}

impl Script {
    pub(crate) fn answering(answers: impl IntoIterator<Item = Verdict>) -> Arc<Self> {
        Arc::new(Self { answers: Mutex::new(answers.into_iter().collect()), seen: Mutex::default() })
    }

    /// And next it answers these.
    pub(crate) fn then(&self, answers: impl IntoIterator<Item = Verdict>) {
        self.answers.lock().unwrap().extend(answers);
    }

    pub(crate) fn seen(&self) -> Vec<Message> {
        self.seen.lock().unwrap().clone()
    }

    /// Waits until it has seen this many.
    pub(crate) async fn has_seen(&self, count: usize) -> Vec<Message> {
        self.until(|seen| seen.len() >= count).await
    }

    pub(crate) async fn until(&self, enough: impl Fn(&[Message]) -> bool) -> Vec<Message> {
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            let seen = self.seen();
            if enough(&seen) {
                return seen;
            }
            assert!(Instant::now() < deadline, "only {} came", seen.len());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

#[async_trait]
impl Handler for Script {
    async fn handle(&self, message: &Message) -> Verdict {
        self.seen.lock().unwrap().push(message.clone());
        self.answers.lock().unwrap().pop_front().unwrap_or(Verdict::Done)
    }
}

pub(crate) async fn subscribe(bus: &dyn Bus, queue: Queue, script: &Arc<Script>) {
    bus.subscribe(queue, Arc::clone(script) as Arc<dyn Handler>).await.unwrap();
}
