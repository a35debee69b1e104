//! A payment-svc to try things on: a private database, short times, a bus that keeps everything in the outbox.

use std::{
    future::Future,
    sync::{Arc, Mutex},
    time::Duration,
};

use chassis::{
    bus::{Bus, Error, Exchange, Handler, Message, Published, Queue, Verdict},
    clock, grpc,
    stop::Stop,
    testbed::TestDatabase,
};
use futures_util::StreamExt as _;
use payment_svc::{SCHEMA, SIMULATOR_SCHEMA, Service, Settings, Wiring, simulator};
use prost::{Message as _, Name as _};
use proto::{
    money::Money,
    payment::v1::{
        CardMethod, ChargeDone, ChargeItem, ChargeRequest, RefundDone, RefundItem, RefundRequest,
        attempts_client::AttemptsClient, charge_item::Method, payment_steps_client::PaymentStepsClient,
    },
    step::{Answer, BackAnswer, Reply as _, StepAnswer, StepHeader},
};
use sqlx::PgConnection;
use tonic::service::RoutesBuilder;
use types::{PaymentId, SagaId};
use uuid::Uuid;

/// A bus that never takes anything, so that the outbox can be read, and that keeps its subscribers.
#[derive(Default)]
pub(crate) struct Deaf {
    handlers: Mutex<Vec<Arc<dyn Handler>>>,
}

#[async_trait::async_trait]
impl Bus for Deaf {
    async fn publish(&self, messages: &[Message]) -> Vec<Published> {
        vec![Published::NotYet("deaf".into()); messages.len()]
    }

    async fn subscribe(&self, _: Queue, handler: Arc<dyn Handler>) -> Result<(), Error> {
        self.handlers.lock().unwrap().push(handler);
        Ok(())
    }
}

/// Times short enough to wait for, long enough for a busy machine.
pub(crate) fn settings() -> Settings {
    Settings {
        horizon: Duration::from_millis(1500),
        patience: Duration::from_secs(10),
        call_timeout: Duration::from_millis(500),
        look: Duration::from_millis(50),
        poll: Duration::from_millis(30),
        simulator: simulator::Settings {
            latency: Duration::ZERO,
            slow: Duration::from_millis(1500),
            hang: Duration::from_secs(60),
        },
        ..Settings::default()
    }
}

/// A database with a book.
pub(crate) struct World {
    pub(crate) database: TestDatabase,
}

/// One process over it.
#[derive(Clone)]
pub(crate) struct Process {
    pub(crate) stop: Stop,
    pub(crate) bus: Arc<Deaf>,
    pub(crate) steps: PaymentStepsClient<grpc::Callee>,
    pub(crate) attempts: AttemptsClient<grpc::Callee>,
}

/// What the provider's book says of a charge, in minor units.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Book {
    pub(crate) charged: i64,
    pub(crate) refunded: i64,
}

pub(crate) const NOTHING: Book = Book { charged: 0, refunded: 0 };
pub(crate) const CHARGED: Book = Book { charged: AMOUNT, refunded: 0 };
pub(crate) const GIVEN_BACK: Book = Book { charged: AMOUNT, refunded: AMOUNT };
pub(crate) const AMOUNT: i64 = 1234;

impl World {
    pub(crate) async fn new() -> Self {
        Self { database: TestDatabase::create(&[SCHEMA, SIMULATOR_SCHEMA]).await }
    }

    /// With short times: for what is lost, slow or in doubt.
    pub(crate) async fn with_one() -> (Self, Process) {
        let world = Self::new().await;
        let process = world.start(settings()).await;
        (world, process)
    }

    /// With time for every call, however busy the machine: for what is charged at once or refused.
    pub(crate) async fn patient() -> (Self, Process) {
        let world = Self::new().await;
        let (call_timeout, horizon) = (Duration::from_secs(10), Duration::from_secs(25));
        let process = world.start(Settings { call_timeout, horizon, ..settings() }).await;
        (world, process)
    }

    pub(crate) async fn start(&self, settings: Settings) -> Process {
        let (stop, bus) = (Stop::new(), Arc::new(Deaf::default()));
        let wiring = Wiring {
            pool: self.database.pool(&SCHEMA).await,
            simulator_pool: self.database.pool(&SIMULATOR_SCHEMA).await,
            keys: chassis::testbed::keyring(),
            bus: Arc::clone(&bus) as Arc<dyn Bus>,
            stop: stop.clone(),
        };
        let service = Service::start(settings, wiring);
        service.subscribe().await.unwrap();
        let mut routes = RoutesBuilder::default();
        service.register(&mut routes);
        let callee = grpc::local(routes.routes());
        let (steps, attempts) = (PaymentStepsClient::new(callee.clone()), AttemptsClient::new(callee));
        Process { stop, bus, steps, attempts }
    }

    pub(crate) async fn connect(&self) -> PgConnection {
        self.database.connect().await
    }

    pub(crate) async fn book(&self, saga: SagaId) -> Book {
        let key = format!("{}:charge:1", payment(saga));
        let row: Option<(i64, i64)> = sqlx::query_as(
            "select charged_minor, refunded_minor from simulator.book where idempotency_key = $1",
        )
        .bind(key)
        .fetch_optional(&mut self.connect().await)
        .await
        .unwrap();
        row.map_or(NOTHING, |(charged, refunded)| Book { charged, refunded })
    }

    /// How often the provider heard of the charge.
    pub(crate) async fn heard(&self, saga: SagaId) -> i32 {
        sqlx::query_scalar("select sends from simulator.charge where idempotency_key = $1")
            .bind(format!("{}:charge:1", payment(saga)))
            .fetch_optional(&mut self.connect().await)
            .await
            .unwrap()
            .unwrap_or(0)
    }

    pub(crate) async fn state(&self, saga: SagaId) -> String {
        sqlx::query_scalar("select state from payments.attempt where saga_id = $1")
            .bind(saga.uuid())
            .fetch_optional(&mut self.connect().await)
            .await
            .unwrap()
            .unwrap_or_default()
    }

    /// Every answer for the orchestrator about this saga, oldest first.
    pub(crate) async fn answers(&self, saga: SagaId) -> Vec<StepAnswer> {
        let bodies: Vec<Vec<u8>> = sqlx::query_scalar(
            "select body from payments.outbox where exchange = 'replies' order by create_time, outbox_id",
        )
        .fetch_all(&mut self.connect().await)
        .await
        .unwrap();
        let answers = bodies.iter().map(|body| StepAnswer::decode(&**body).unwrap());
        answers.filter(|answer| answer.saga_id == saga.to_string()).collect()
    }

    /// How often `payment.refunded` was written.
    pub(crate) async fn events(&self) -> i64 {
        sqlx::query_scalar("select count(*) from payments.outbox where routing_key = 'payment.refunded'")
            .fetch_one(&mut self.connect().await)
            .await
            .unwrap()
    }

    pub(crate) async fn eventually_state(&self, saga: SagaId, wanted: &str) {
        eventually(wanted, async || self.state(saga).await == wanted).await;
    }
}

pub(crate) async fn eventually(what: &str, condition: impl AsyncFn() -> bool) {
    for _ in 0..600 {
        if condition().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(30)).await;
    }
    panic!("it never came to {what}");
}

pub(crate) fn new_saga() -> SagaId {
    SagaId::from_uuid(clock::new_uuid())
}

pub(crate) fn payment(saga: SagaId) -> PaymentId {
    PaymentId::from_uuid(saga.derive(&"charge".parse().unwrap()))
}

fn header(saga: SagaId) -> Option<StepHeader> {
    Some(StepHeader { saga_id: saga.to_string(), step: "charge".into(), attempt: 1, ..StepHeader::default() })
}

pub(crate) fn charge_item(saga: SagaId, token: &str) -> ChargeItem {
    ChargeItem {
        header: header(saga),
        order_id: saga.order().to_string(),
        customer_id: "c_1".into(),
        merchant_id: "m_1".into(),
        amount: Some(Money { minor_units: AMOUNT, currency_code: "EUR".into() }),
        method: Some(Method::Card(CardMethod { token: token.into() })),
    }
}

pub(crate) fn refund_item(saga: SagaId) -> RefundItem {
    RefundItem { header: header(saga), order_id: saga.order().to_string(), reason: "DECLINED".into() }
}

impl Process {
    /// The answers to a slice, in any order.
    pub(crate) async fn charges(&self, items: Vec<ChargeItem>) -> Vec<(String, Answer<ChargeDone>)> {
        let replies = self.steps.clone().charge(ChargeRequest { items }).await.unwrap().into_inner();
        let open = |reply: Result<proto::payment::v1::ChargeReply, _>| {
            let (saga, _, says) = reply.unwrap().open();
            (saga, says.unwrap())
        };
        replies.map(open).collect().await
    }

    pub(crate) async fn charge(&self, saga: SagaId, token: &str) -> Answer<ChargeDone> {
        self.charges(vec![charge_item(saga, token)]).await.remove(0).1
    }

    /// As an orchestrator would: asks again while it is told to wait.
    pub(crate) async fn charge_to_the_end(&self, saga: SagaId, token: &str) -> Answer<ChargeDone> {
        for _ in 0..600 {
            match self.charge(saga, token).await {
                Answer::Pending(_) => tokio::time::sleep(Duration::from_millis(30)).await,
                answer => return answer,
            }
        }
        panic!("it never ended");
    }

    pub(crate) async fn refund(&self, saga: SagaId) -> BackAnswer<RefundDone> {
        let request = RefundRequest { items: vec![refund_item(saga)] };
        let mut replies = self.steps.clone().refund(request).await.unwrap().into_inner();
        replies.next().await.unwrap().unwrap().open().2.unwrap()
    }

    pub(crate) async fn deliver(&self, message: &Message) -> Verdict {
        let handler = Arc::clone(&self.bus.handlers.lock().unwrap()[0]);
        handler.handle(message).await
    }

    /// Sends a compensation as a command; its id.
    pub(crate) async fn command(&self, saga: SagaId) -> Uuid {
        let body = refund_item(saga).encode_to_vec();
        let kind = RefundItem::full_name();
        let message = Message::new(Exchange::Commands, "payment", &kind, "orchestrator", body);
        assert_eq!(self.deliver(&message).await, Verdict::Done);
        message.id
    }

    pub(crate) async fn end(self) {
        self.stop.request();
        assert!(self.stop.finish(Duration::from_secs(20)).await);
    }
}

/// Runs `work` in a process of its own that dies, without a word, as soon as `work` ends.
pub(crate) async fn in_a_process_that_dies<F>(work: impl FnOnce() -> F + Send + 'static)
where
    F: Future<Output = ()>,
{
    let died = std::thread::spawn(move || {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        runtime.block_on(work());
        runtime.shutdown_background();
    });
    while !died.is_finished() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    died.join().unwrap();
}
