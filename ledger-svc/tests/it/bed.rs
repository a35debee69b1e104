//! A ledger with a database of its own, called as others call it, and what a test asks of it.

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use chassis::{
    bus::{Bus, Handler, Message, Queue, Verdict, local::LocalBus},
    clock, grpc,
    stop::Stop,
    testbed::TestDatabase,
};
use futures_util::TryStreamExt as _;
use ledger_svc::{SCHEMA, Service, Settings, Wiring};
use proto::{
    ledger::v1::{
        PostDone, PostItem, PostRequest, ReverseDone, ReverseItem, ReverseRequest,
        ledger_client::LedgerClient, ledger_steps_client::LedgerStepsClient,
    },
    money::Money,
    step::{Answer, BackAnswer, Reply as _, StepAnswer, StepHeader},
};
use sqlx::PgConnection;
use types::SagaId;

pub(crate) struct Bed {
    pub(crate) database: TestDatabase,
    pub(crate) ledger: Running,
}

/// One ledger process.
pub(crate) struct Running {
    pub(crate) steps: LedgerStepsClient<grpc::Callee>,
    pub(crate) doors: LedgerClient<grpc::Callee>,
    pub(crate) bus: Arc<LocalBus>,
    pub(crate) replies: Replies,
    stop: Stop,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop.request();
    }
}

impl Bed {
    pub(crate) async fn new() -> Self {
        let database = TestDatabase::create(&[SCHEMA]).await;
        let ledger = Running::on(&database).await;
        Self { database, ledger }
    }

    /// All entries as (account, amount), in the order they were written.
    pub(crate) async fn entries(&self) -> Vec<(String, i64)> {
        let mut owner = self.database.connect().await;
        sqlx::query_as("select account_id, amount_minor from ledger.entry order by entry_id")
            .fetch_all(&mut owner)
            .await
            .unwrap()
    }

    /// All transactions as (step, kind, outcome), sorted.
    pub(crate) async fn transactions(&self) -> Vec<(String, String, String)> {
        let mut owner = self.database.connect().await;
        sqlx::query_as("select step, kind, outcome from ledger.transaction order by saga_id, step, kind")
            .fetch_all(&mut owner)
            .await
            .unwrap()
    }

    /// The laws of the books: zero per currency, and counters that equal their entries.
    pub(crate) async fn audit(&self) {
        let mut owner = self.database.connect().await;
        let uneven: Vec<(String, i64)> = sqlx::query_as(
            "select currency::text, sum(amount_minor)::bigint from ledger.entry group by currency having sum(amount_minor) <> 0",
        )
        .fetch_all(&mut owner)
        .await
        .unwrap();
        assert_eq!(uneven, [], "a currency is not at zero");
        let wrong: Vec<(String, i64, i64)> = sqlx::query_as(
            "select a.account_id, a.debits_minor, a.credits_minor from ledger.account a left join lateral ( \
               select coalesce(sum(amount_minor) filter (where amount_minor > 0), 0) as debits, \
                      coalesce(-sum(amount_minor) filter (where amount_minor < 0), 0) as credits \
               from ledger.entry e where e.account_id = a.account_id) e on true \
             where a.debits_minor <> e.debits or a.credits_minor <> e.credits \
             union all select account_id, 0, 0 from ledger.entry e \
             where not exists (select from ledger.account a where a.account_id = e.account_id)",
        )
        .fetch_all(&mut owner)
        .await
        .unwrap();
        assert_eq!(wrong, [], "an account does not equal its entries");
    }

    pub(crate) async fn closed(&self, account: &str, closed: bool) {
        let mut owner: PgConnection = self.database.connect().await;
        sqlx::query("update ledger.account set closed = $2, state_time = now(), state_reason = 'test' where account_id = $1")
            .bind(account)
            .bind(closed)
            .execute(&mut owner)
            .await
            .unwrap();
    }
}

impl Running {
    pub(crate) async fn on(database: &TestDatabase) -> Self {
        let stop = Stop::new();
        let bus = Arc::new(LocalBus::new());
        let replies = Replies::default();
        bus.subscribe(Queue::replies(), Arc::new(replies.clone())).await.unwrap();
        let wiring = Wiring { pool: database.pool(&SCHEMA).await, bus: bus.clone(), stop: stop.clone() };
        let service = Service::start(Settings::default(), wiring);
        service.subscribe().await.unwrap();
        let mut routes = tonic::service::RoutesBuilder::default();
        service.register(&mut routes);
        let callee = grpc::local(routes.routes());
        Self {
            steps: LedgerStepsClient::new(callee.clone()),
            doors: LedgerClient::new(callee),
            bus,
            replies,
            stop,
        }
    }

    /// Posts a slice; the answers in the order of the items.
    pub(crate) async fn post(&self, items: Vec<PostItem>) -> Vec<Answer<PostDone>> {
        let keys: Vec<_> = items.iter().map(|item| key(item.header.as_ref())).collect();
        let replies = self.steps.clone().post(PostRequest { items }).await.unwrap().into_inner();
        let answers: Vec<_> = replies.try_collect().await.unwrap();
        let mut answers: Vec<_> = answers.into_iter().map(|reply| reply.open()).collect();
        take(&keys, &mut answers)
    }

    pub(crate) async fn reverse(&self, items: Vec<ReverseItem>) -> Vec<BackAnswer<ReverseDone>> {
        let keys: Vec<_> = items.iter().map(|item| key(item.header.as_ref())).collect();
        let replies = self.steps.clone().reverse(ReverseRequest { items }).await.unwrap().into_inner();
        let answers: Vec<_> = replies.try_collect().await.unwrap();
        let mut answers: Vec<_> = answers.into_iter().map(|reply| reply.open()).collect();
        take(&keys, &mut answers)
    }
}

fn key(header: Option<&StepHeader>) -> (String, String) {
    header.map(|header| (header.saga_id.clone(), header.step.clone())).unwrap_or_default()
}

fn take<A>(keys: &[(String, String)], answers: &mut Vec<(String, String, Option<A>)>) -> Vec<A> {
    assert_eq!(answers.len(), keys.len());
    let mut taken = Vec::new();
    for (saga, step) in keys {
        let at =
            answers.iter().position(|(s, t, _)| s == saga && t == step).expect("an answer for each item");
        taken.push(answers.swap_remove(at).2.expect("an outcome"));
    }
    taken
}

/// What the orchestrators were told.
#[derive(Clone, Default)]
pub(crate) struct Replies(Arc<Mutex<Vec<Message>>>);

impl Replies {
    /// Waits until there are `count` answers, and gives them.
    pub(crate) async fn wait(&self, count: usize) -> Vec<StepAnswer> {
        let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(10);
        loop {
            let messages = self.0.lock().unwrap().clone();
            if messages.len() >= count {
                return messages
                    .iter()
                    .map(|message| {
                        assert_eq!(message.kind, proto::step::STEP_ANSWER);
                        prost::Message::decode(message.body.as_slice()).unwrap()
                    })
                    .collect();
            }
            assert!(tokio::time::Instant::now() < deadline, "{} of {count} answers", messages.len());
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    }
}

#[async_trait]
impl Handler for Replies {
    async fn handle(&self, message: &Message) -> Verdict {
        self.0.lock().unwrap().push(message.clone());
        Verdict::Done
    }
}

pub(crate) fn saga() -> SagaId {
    SagaId::from_uuid(clock::new_uuid())
}

pub(crate) fn header(saga: SagaId, step: &str) -> Option<StepHeader> {
    Some(StepHeader { saga_id: saga.to_string(), step: step.into(), attempt: 1, ..StepHeader::default() })
}

pub(crate) fn payment(saga: SagaId) -> String {
    types::PaymentId::from_uuid(saga.derive(&"charge".parse().unwrap())).to_string()
}

/// A sale of `total` EUR cents with `tax` in it, by merchant m_1.
pub(crate) fn sale(saga: SagaId, total: i64, tax: i64) -> PostItem {
    PostItem {
        header: header(saga, "post"),
        order_id: saga.order().to_string(),
        merchant_id: "m_1".into(),
        total: Some(Money { minor_units: total, currency_code: "EUR".into() }),
        tax_minor: tax,
        payment_id: payment(saga),
    }
}

pub(crate) fn reversal(saga: SagaId) -> ReverseItem {
    ReverseItem {
        header: header(saga, "post"),
        order_id: saga.order().to_string(),
        reason: "CUSTOMER_CANCELLED".into(),
    }
}

pub(crate) fn done<D: std::fmt::Debug>(answer: Answer<D>) -> D {
    match answer {
        Answer::Done(done) => done,
        other => panic!("not done: {other:?}"),
    }
}
