//! A world in which the cells of one version are played, and what they need of it.

use std::{collections::HashMap, sync::Arc, time::Duration};

use e2e::{
    Builder, BusKind, Kind as Service, World, eventually_within,
    faults::{Injector, Spot},
};
use orchestrator::catalog::Kind;
use proto::{
    ledger::v1::CloseAccountRequest,
    money::Money,
    order::v1::{Order, SetPriceRequest, catalog_client::CatalogClient},
    risk::v1::DenyRequest,
    saga::v1::{GetSagaRequest, ResolveRequest, RetryRequest, Saga, SagaState},
};
use tokio::sync::{Semaphore, watch};
use tonic::Response;
use types::SagaId;
use uuid::Uuid;

use super::{cells::Cell, expect};

/// Whatever a cell waits for comes within this, or it has failed.
const LIMIT: Duration = Duration::from_secs(120);

/// As many as keep two cores busy, and no call waiting for long.
const PLACES: usize = 48;

/// Where each saga stands: its state, and whether it is at its end.
type States = HashMap<Uuid, (String, bool)>;

/// See the module.
pub(super) struct Scene {
    pub(super) world: World,
    pub(super) injector: Injector,
    states: watch::Receiver<States>,
    /// Cells that are played at once.
    pub(super) places: Semaphore,
}

impl Scene {
    /// Starts sagas of this version only.
    pub(super) async fn open(
        kind: &dyn Kind,
        bus: BusKind,
        settings: impl FnOnce(&mut orchestrator::Settings),
    ) -> Arc<Self> {
        let injector = Injector::default();
        let definition = kind.definition();
        let only = vec![format!("{}:{}", definition.kind, definition.version)];
        let world = Builder::new(bus).faults(&injector).settings(|s| {
            s.orchestrator.definitions = only;
            // The provider does as it should, however busy the machine is.
            s.payment.patience = Duration::from_secs(3);
            s.payment.call_timeout = Duration::from_secs(10);
            s.payment.horizon = Duration::from_secs(20);
            // Short enough for the table, long enough for a busy machine.
            s.orchestrator.call_timeout = Duration::from_secs(4);
            s.orchestrator.answer_after = Duration::from_millis(1500);
            // A breaker that is open for one cell would be for its neighbours.
            s.orchestrator.breaker_failures = 1_000_000;
            settings(&mut s.orchestrator);
        });
        let world = world.start().await;
        let states = look_at_states(&world).await;
        let scene = Self { world, injector, states, places: Semaphore::new(PLACES) };
        scene.furnish(definition.kind).await;
        Arc::new(scene)
    }

    /// Goods of which there is too little, goods that are dear, a customer who is denied, a merchant who has left.
    async fn furnish(&self, kind: &str) {
        for (sku, minor_units, quantity) in [("P9000", 100, 1), ("P2001", 1_000_000, 100)] {
            let unit_price = Some(Money { minor_units, currency_code: "EUR".into() });
            let request = SetPriceRequest { sku: sku.into(), title: sku.into(), unit_price };
            CatalogClient::new(self.world.callee(Service::Order)).set_price(request).await.unwrap();
            self.world.restock(sku, quantity).await;
        }
        let deny = DenyRequest { customer_id: "c_bad".into(), reason: "chargebacks".into() };
        self.world.rules().deny(deny).await.unwrap();
        let order = self.world.create(&expect::plain(kind).merchant("m_closed")).await;
        self.injector.expect(&order.saga_id, Vec::new());
        self.world.completes(&order.order_id).await;
        let close = CloseAccountRequest { account_id: "merchant:m_closed:EUR".into(), reason: "left".into() };
        self.world.ledger().close_account(close).await.unwrap();
    }

    /// Places a cell's order. Its calls wait until what is planned for them is known.
    pub(super) async fn place(&self, cell: &Cell) -> Order {
        let order = self.world.create(&cell.order()).await;
        self.injector.expect(&order.saga_id, cell.plans());
        order
    }

    /// Waits until something was done there this often; not beyond the saga's end.
    pub(super) async fn meets(&self, spot: &Spot, times: u32) -> Result<(), String> {
        let limit = tokio::time::sleep(LIMIT);
        tokio::select! {
            () = self.injector.injected(spot, times) => return Ok(()),
            ended = self.ended(&spot.saga) => ended?,
            () = limit => {}
        }
        let count = self.injector.count(spot);
        Err(format!("never {times} times at {spot:?}, but {count:?} and {}", self.told(&spot.saga).await))
    }

    /// Waits until a call comes there; not beyond the saga's end.
    pub(super) async fn comes(&self, spot: &Spot) -> Result<(), String> {
        tokio::select! {
            () = self.injector.came(spot) => Ok(()),
            ended = self.ended(&spot.saga) => ended.and(Err("it is at its end, and never came".into())),
        }
    }

    /// Waits for the saga's end.
    pub(super) async fn ended(&self, saga_id: &str) -> Result<(), String> {
        let saga = uuid_of(saga_id);
        let mut states = self.states.clone();
        let wait = states.wait_for(|states| states.get(&saga).is_some_and(|(_, ended)| *ended));
        let is_over = matches!(tokio::time::timeout(LIMIT, wait).await, Ok(Ok(_)));
        if is_over {
            return Ok(());
        }
        Err(format!("no end, but {}", self.told(saga_id).await))
    }

    /// Where it stands, for people.
    async fn told(&self, saga_id: &str) -> String {
        let saga = self.saga(saga_id).await;
        let steps = saga.steps.iter().map(|step| {
            format!(
                "{} {} ({} attempts, {}, breaker {}) {}",
                step.name, step.state, step.attempts, step.reason, step.breaker, step.compensation_state
            )
        });
        let steps = steps.collect::<Vec<_>>().join("; ");
        format!("{} {}: {steps}", saga.state().as_str_name(), saga.reason)
    }

    /// The saga, however busy its orchestrator's database is.
    pub(super) async fn saga(&self, saga_id: &str) -> Saga {
        eventually_within(LIMIT, "a saga can be read", || async {
            let request = GetSagaRequest { saga_id: saga_id.into() };
            self.world.sagas().get_saga(request).await.ok().map(Response::into_inner)
        })
        .await
    }

    /// Asks until it is so of the saga.
    pub(super) async fn saga_is(
        &self,
        saga_id: &str,
        what: &str,
        is: impl Fn(&Saga) -> bool,
    ) -> Result<Saga, String> {
        let until = tokio::time::Instant::now() + LIMIT;
        loop {
            let saga = self.saga(saga_id).await;
            if is(&saga) {
                return Ok(saga);
            }
            let is_over = tokio::time::Instant::now() > until || is_ended(&saga);
            if is_over {
                return Err(format!("never {what}, but {}", self.told(saga_id).await));
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Waits until it is parked, for this reason.
    pub(super) async fn parked(&self, saga_id: &str, reason: &str) -> Result<(), String> {
        let saga = self.saga_is(saga_id, "is parked", |saga| saga.state() == SagaState::Parked).await?;
        if saga.reason.starts_with(reason) {
            Ok(())
        } else {
            Err(format!("parked for {}, not for {reason}", saga.reason))
        }
    }

    pub(super) async fn retry(&self, saga_id: &str) -> Result<(), String> {
        let (actor, reason) = ("ada".into(), "repaired".into());
        let retry = RetryRequest { saga_id: saga_id.into(), actor, reason };
        self.world.sagas().retry(retry).await.map(drop).map_err(|status| format!("Retry: {status}"))
    }

    pub(super) async fn resolve(&self, saga_id: &str, cell: &Cell) -> Result<(), String> {
        let resolve = ResolveRequest {
            saga_id: saga_id.into(),
            actor: "ada".into(),
            reason: "done by hand".into(),
            step: cell.step.clone(),
            compensation: cell.turn.is_some(),
            outcome: "DONE".into(),
            reply_json: "{}".into(),
            evidence: "ticket 7".into(),
        };
        self.world.sagas().resolve(resolve).await.map(drop).map_err(|status| format!("Resolve: {status}"))
    }

    /// The ladder takes minutes: a command that has failed once is put on its last rung, until it is dead.
    pub(super) async fn up_the_ladder(&self, saga_id: &str) {
        let mut connection = self.world.ground.database.connect().await;
        let until = tokio::time::Instant::now() + LIMIT;
        while self.saga(saga_id).await.state() != SagaState::Parked {
            let is_over = tokio::time::Instant::now() > until;
            assert!(!is_over, "never parked, but {}", self.told(saga_id).await);
            let update = sqlx::query(
                "update orchestrator.outbox set attempt = 5, not_before = now() \
                 where exchange = 'commands' and attempt between 1 and 4 and headers::json ->> 'amends-saga' = $1",
            );
            update.bind(saga_id).execute(&mut connection).await.unwrap();
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Everything is still: nothing is on its way, and every letter has gone.
    pub(super) async fn settles(&self) -> Result<(), String> {
        let mut connection = self.world.ground.database.connect().await;
        let until = tokio::time::Instant::now() + LIMIT;
        let schemas = ["orchestrator", "orders", "inventory", "risk", "payments", "ledger"];
        let outboxes =
            schemas.map(|schema| format!("(select count(*) from {schema}.outbox where dead_time is null)"));
        let query = format!(
            "select {}, (select count(*) from orchestrator.saga where ended) - (select count(distinct order_id) \
               from notifications.delivery where state = 'SENT' and template in ('order.completed', 'order.cancelled'))",
            outboxes.join(" + ")
        );
        loop {
            let query = sqlx::query_as(sqlx::AssertSqlSafe(query.clone()));
            let (messages, letters): (i64, i64) = query.fetch_one(&mut connection).await.unwrap();
            if messages == 0 && letters == 0 {
                return Ok(());
            }
            if tokio::time::Instant::now() > until {
                return Err(format!("{messages} messages and {letters} letters are still on their way"));
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// What the auditor says against it, when what is on its way has had its time.
    pub(super) async fn audit(&self) -> Result<(), String> {
        let sources = amends::audit::Sources::one(self.world.ground.database.owner_url());
        let options = amends::audit::Options { quiescent: true, ..Default::default() };
        let until = tokio::time::Instant::now() + Duration::from_secs(30);
        loop {
            let report = amends::audit::run(&sources, &options).await.map_err(|error| error.to_string())?;
            if report.is_clean() {
                return Ok(());
            }
            if tokio::time::Instant::now() > until {
                return Err(format!("{report:#?}"));
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }
}

fn is_ended(saga: &Saga) -> bool {
    matches!(saga.state(), SagaState::Completed | SagaState::Compensated)
}

pub(super) fn uuid_of(saga_id: &str) -> Uuid {
    saga_id.parse::<SagaId>().unwrap().uuid()
}

/// One look for all who wait.
async fn look_at_states(world: &World) -> watch::Receiver<States> {
    let mut connection = world.ground.database.connect().await;
    let (sender, states) = watch::channel(States::new());
    tokio::spawn(async move {
        while !sender.is_closed() {
            let query = sqlx::query_as("select saga_id, state, ended from orchestrator.saga");
            let rows: Vec<(Uuid, String, bool)> = query.fetch_all(&mut connection).await.unwrap_or_default();
            let _ = sender.send(rows.into_iter().map(|(id, state, ended)| (id, (state, ended))).collect());
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    });
    states
}
