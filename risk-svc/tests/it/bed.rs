//! A risk-svc with a database of its own, called as others call it.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use chassis::{
    bus::{Bus as _, Handler, Message, Queue, Verdict, local::LocalBus},
    clock, grpc,
    stop::Stop,
    testbed::TestDatabase,
};
use proto::{
    money::Money,
    risk::v1::{
        DecideReviewRequest, Review, ScreenDone, ScreenItem, ScreenRequest, reviews_client::ReviewsClient,
        risk_steps_client::RiskStepsClient, rules_client::RulesClient,
    },
    step::{Answer, Pending, Reply as _, StepAnswer, StepHeader},
};
use risk_svc::{SCHEMA, Service, Settings, Wiring};
use tonic::Status;
use types::SagaId;

pub(crate) struct Bed {
    pub(crate) database: TestDatabase,
    pub(crate) risk: Running,
}

/// One process.
pub(crate) struct Running {
    steps: RiskStepsClient<grpc::Callee>,
    pub(crate) reviews: ReviewsClient<grpc::Callee>,
    pub(crate) rules: RulesClient<grpc::Callee>,
    pub(crate) heard: Heard,
    pub(crate) stop: Stop,
    pub(crate) bus: Arc<LocalBus>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop.request();
    }
}

impl Bed {
    pub(crate) async fn new() -> Self {
        Self::with(Settings::default()).await
    }

    pub(crate) async fn with(settings: Settings) -> Self {
        let database = TestDatabase::create(&[SCHEMA]).await;
        let risk = Running::on(&database, settings).await;
        Self { database, risk }
    }

    /// How many screenings there are.
    pub(crate) async fn screenings(&self) -> i64 {
        let mut owner = self.database.connect().await;
        sqlx::query_scalar("select count(*) from risk.screening").fetch_one(&mut owner).await.unwrap()
    }
}

impl Running {
    pub(crate) async fn on(database: &TestDatabase, settings: Settings) -> Self {
        let stop = Stop::new();
        let bus = Arc::new(LocalBus::new());
        let heard = Heard::default();
        bus.subscribe(Queue::replies(), Arc::new(heard.clone())).await.unwrap();
        let service = Service::start(
            settings,
            Wiring { pool: database.pool(&SCHEMA).await, bus: Arc::clone(&bus) as _, stop: stop.clone() },
        );
        service.subscribe().await.unwrap();
        let mut routes = tonic::service::RoutesBuilder::default();
        service.register(&mut routes);
        let callee = grpc::local(routes.routes());
        Self {
            steps: RiskStepsClient::new(callee.clone()),
            reviews: ReviewsClient::new(callee.clone()),
            rules: RulesClient::new(callee),
            heard,
            bus,
            stop,
        }
    }

    /// Screens a slice; the answers in the order of the items.
    pub(crate) async fn screen(&self, items: Vec<ScreenItem>) -> Vec<Answer<ScreenDone>> {
        let keys: Vec<_> = items
            .iter()
            .map(|item| item.header.clone().map(|header| (header.saga_id, header.step)).unwrap_or_default())
            .collect();
        let mut replies = self.steps.clone().screen(ScreenRequest { items }).await.unwrap().into_inner();
        let mut answers = HashMap::new();
        while let Some(reply) = replies.message().await.unwrap() {
            let (saga, step, says) = reply.open();
            assert!(answers.insert((saga, step), says.unwrap()).is_none(), "answered twice");
        }
        keys.iter().map(|key| answers.remove(key).expect("an answer for each item")).collect()
    }

    pub(crate) async fn decide(&self, saga: SagaId, approve: bool, reviewer: &str) -> Result<Review, Status> {
        let request = DecideReviewRequest {
            saga_id: saga.to_string(),
            approve,
            reviewer: reviewer.into(),
            reason: "looked at it".into(),
        };
        self.reviews.clone().decide_review(request).await.map(tonic::Response::into_inner)
    }
}

/// What the orchestrators were told.
#[derive(Clone, Default)]
pub(crate) struct Heard(Arc<Mutex<Vec<Message>>>);

impl Heard {
    pub(crate) fn now(&self) -> Vec<StepAnswer> {
        let messages = self.0.lock().unwrap();
        messages
            .iter()
            .map(|message| {
                assert_eq!(message.kind, proto::step::STEP_ANSWER);
                assert_eq!((message.routing_key.as_str(), message.source.as_str()), ("orchestrator", "risk"));
                prost::Message::decode(message.body.as_slice()).unwrap()
            })
            .collect()
    }

    /// Waits until there are `count` answers, and gives them.
    pub(crate) async fn wait(&self, count: usize) -> Vec<StepAnswer> {
        eventually(async || Some(self.now()).filter(|answers| answers.len() >= count)).await
    }
}

#[async_trait]
impl Handler for Heard {
    async fn handle(&self, message: &Message) -> Verdict {
        self.0.lock().unwrap().push(message.clone());
        Verdict::Done
    }
}

/// What comes within ten seconds.
pub(crate) async fn eventually<T>(mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(tokio::time::Instant::now() < deadline, "it did not come");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

pub(crate) fn deadline(deadline: Duration) -> Settings {
    Settings { risk_review_deadline: deadline }
}

pub(crate) fn saga() -> SagaId {
    SagaId::from_uuid(clock::new_uuid())
}

/// An order of `minor` EUR cents by `customer`.
pub(crate) fn order_by(saga: SagaId, minor: i64, customer: &str) -> ScreenItem {
    let header =
        StepHeader { saga_id: saga.to_string(), step: "screen".into(), attempt: 1, ..StepHeader::default() };
    ScreenItem {
        header: Some(header),
        order_id: saga.order().to_string(),
        customer_id: customer.into(),
        merchant_id: "m_1".into(),
        amount: Some(Money { minor_units: minor, currency_code: "EUR".into() }),
    }
}

pub(crate) fn order(saga: SagaId, minor: i64) -> ScreenItem {
    order_by(saga, minor, "c_1")
}

pub(crate) fn approved(by: &str) -> Answer<ScreenDone> {
    Answer::Done(ScreenDone { approved_by: by.into() })
}

pub(crate) fn pending(answer: &Answer<ScreenDone>) -> &Pending {
    match answer {
        Answer::Pending(pending) => pending,
        other => panic!("not pending: {other:?}"),
    }
}
