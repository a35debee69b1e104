//! A world in which something is provoked; how it comes to rest, and what the auditor says of it.

use std::{collections::BTreeMap, time::Duration};

use amends::audit::{self, Invariant, Options, Sources};
use chassis::seeded;
use proto::order::v1::Order;
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection};
use tokio::time::Instant;
use types::SagaId;
use uuid::Uuid;

use crate::{Builder, BusKind, Spec, World};

/// Nothing is under way any more when nothing has moved for this long: longer than a sweep of an outbox takes to come
/// round, and a rung of the ladder.
const REST: Duration = Duration::from_millis(3500);
/// What a bug keeps moving is judged all the same after this.
const REST_AT_MOST: Duration = Duration::from_secs(15);
/// How long what is found may take to be what it has to be.
const PATIENCE: Duration = Duration::from_secs(60);

/// Changes whenever anything moves in any database of a world.
const MOTION: &str = "select concat_ws(' ', \
    (select count(*) from orchestrator.journal), (select count(*) from orchestrator.signal where read_time is null), \
    (select concat(count(*), '/', sum(attempt)) from orchestrator.outbox), (select count(*) from orders.outbox), \
    (select count(*) from inventory.outbox), (select count(*) from payments.outbox), (select count(*) from ledger.outbox), \
    (select concat(sum(sends), '/', sum(refund_sends), '/', max(update_time)) from payments.attempt), \
    (select max(update_time) from inventory.reservation), (select max(update_time) from orders.document), \
    (select count(*) from ledger.transaction))";

/// What the auditor found: the first violations of each invariant.
pub type Found = BTreeMap<String, Vec<String>>;

/// The world.
pub(super) struct Scene {
    pub(super) world: World,
    /// As the owner of everything.
    pub(super) database: PgConnection,
    /// What a client was told, as JSON lines.
    acknowledged: String,
    /// Something waits on purpose when it is judged.
    waits: bool,
}

/// A provider that is soon given up on.
pub(super) fn impatient(settings: &mut amends::stack::Settings) {
    settings.payment.patience = Duration::from_millis(400);
    settings.payment.call_timeout = Duration::from_millis(600);
    settings.payment.horizon = Duration::from_millis(1500);
}

/// Quick worlds, and slow enough for a busy machine. What the provider settles later is settled by [`Scene::settle`].
fn quick(builder: Builder) -> Builder {
    builder.settings(|settings| {
        settings.payment.patience = Duration::from_millis(1500);
        settings.payment.call_timeout = Duration::from_secs(2);
        settings.payment.horizon = Duration::from_secs(4);
        settings.payment.poll = Duration::from_millis(50);
        settings.payment.simulator.slow = Duration::from_secs(3600);
        settings.payment.simulator.hang = Duration::from_secs(3);
        settings.orchestrator.answer_after = Duration::from_secs(2);
    })
}

impl Scene {
    /// On the in-process bus.
    pub(super) async fn new() -> Self {
        Self::built(Builder::new(BusKind::Local), |_| ()).await
    }

    /// With other settings.
    pub(super) async fn with(change: impl FnOnce(&mut amends::stack::Settings)) -> Self {
        Self::built(Builder::new(BusKind::Local), change).await
    }

    pub(super) async fn built(builder: Builder, change: impl FnOnce(&mut amends::stack::Settings)) -> Self {
        let world = quick(builder).settings(change).start().await;
        let database = world.ground.database.connect().await;
        Self { world, database, acknowledged: String::new(), waits: false }
    }

    /// It is judged while something waits for a person.
    pub(super) const fn waiting(mut self) -> Self {
        self.waits = true;
        self
    }

    /// As the owner of everything.
    pub(super) async fn run(&mut self, sql: &str) {
        self.database.execute(sqlx::raw_sql(AssertSqlSafe(sql.to_owned()))).await.unwrap();
    }

    async fn is(&mut self, condition: &str) -> bool {
        let sql = AssertSqlSafe(format!("select {condition}"));
        sqlx::query_scalar(sql).fetch_one(&mut self.database).await.unwrap()
    }

    /// Waits for a condition, in SQL, without which the trial is void.
    pub(super) async fn until(&mut self, condition: &str) {
        let limit = Instant::now() + PATIENCE;
        while !self.is(condition).await {
            assert!(Instant::now() < limit, "the trial is void: not {condition}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Waits for a condition, in SQL, that a bug may keep from coming true: with one planted, until nothing moves.
    pub(super) async fn hope_for(&mut self, condition: &str) {
        if seeded::planted().is_none() {
            return self.until(condition).await;
        }
        let mut motion = Motion::new();
        while !self.is(condition).await && !motion.is_over(&mut self.database).await {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Gives time for what must not happen; with a bug planted, until it has happened, or not for a good while.
    pub(super) async fn give_time_for(&mut self, condition: &str) {
        tokio::time::sleep(Duration::from_millis(700)).await;
        let limit = Instant::now() + REST;
        while seeded::planted().is_some() && !self.is(condition).await && Instant::now() < limit {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// The provider's slow charges are made.
    pub(super) async fn settle(&mut self) {
        self.run("update simulator.charge set effect_time = now() where state = 'PENDING'").await;
    }

    /// Another connection of the owner, for holding something.
    pub(super) async fn hand(&self) -> PgConnection {
        self.world.ground.database.connect().await
    }

    /// Holds what a query locks until the hand lets go.
    pub(super) async fn hold(&self, sql: &str) -> PgConnection {
        let mut hand = self.hand().await;
        let held = format!("begin; {sql}");
        hand.execute(sqlx::raw_sql(AssertSqlSafe(held))).await.unwrap();
        hand
    }

    /// Sends an order, and keeps what was said.
    pub(super) async fn sell(&mut self, spec: &Spec) -> Order {
        let order = self.world.create(spec).await;
        self.told(spec, &order);
        order
    }

    /// Sends an order and waits for its end, or until it is parked.
    pub(super) async fn sell_to_the_end(&mut self, spec: &Spec) -> Order {
        let order = self.sell(spec).await;
        self.ends(&order).await;
        order
    }

    /// Keeps what a client was told.
    pub(super) fn told(&mut self, spec: &Spec, order: &Order) {
        let fingerprint = spec.lines.iter().map(|line| line.quantity.to_string()).collect::<String>();
        let line = serde_json::json!(
            { "key": spec.key, "fingerprint": fingerprint, "order_id": order.order_id }
        );
        self.acknowledged.push_str(&format!("{line}\n"));
    }

    /// Waits for the end of an order, or until it is parked.
    pub(super) async fn ends(&mut self, order: &Order) {
        let id = id(order);
        let state = "ended or state = 'PARKED'";
        self.hope_for(&format!("(select {state} from orchestrator.saga where saga_id = '{id}')")).await;
    }

    /// Waits for the end of all orders.
    pub(super) async fn all_end(&mut self) {
        self.hope_for("not exists (select from orchestrator.saga where not ended)").await;
    }

    async fn rest(&mut self) {
        let mut motion = Motion::new();
        while !motion.is_over(&mut self.database).await {
            tokio::time::sleep(Duration::from_millis(250)).await;
        }
    }

    /// Judges it, at rest if that matters; again for a while when what is found is not yet what it has to be.
    pub(super) async fn judge(mut self, rest: bool, is_it: impl Fn(&Found) -> bool) -> Found {
        if rest {
            self.rest().await;
        }
        let file = crate::process::folder("told").join("acknowledged.jsonl");
        std::fs::write(&file, &self.acknowledged).unwrap();
        let options = Options {
            quiescent: !self.waits,
            acknowledged: Some(file),
            settle: Duration::ZERO,
            outbox_grace: Duration::ZERO,
            keep: 3,
            ..Options::default()
        };
        let sources = Sources::one(self.world.ground.database.owner_url());
        let limit = Instant::now() + PATIENCE;
        loop {
            let report = audit::run(&sources, &options).await.unwrap();
            let broken = |invariant: &Invariant| {
                let violations = &report.judged(*invariant).unwrap().violations;
                (violations.total > 0).then(|| (invariant.id().to_owned(), violations.first.clone()))
            };
            let found: Found = Invariant::ALL.iter().filter_map(broken).collect();
            if is_it(&found) || Instant::now() > limit {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    }
}

/// Whether anything moves.
struct Motion {
    began: Instant,
    since: Instant,
    last: String,
}

impl Motion {
    fn new() -> Self {
        let now = Instant::now();
        Self { began: now, since: now, last: String::new() }
    }

    /// Whether nothing has moved for a while; or something has for so long that it may never end.
    async fn is_over(&mut self, database: &mut PgConnection) -> bool {
        let now: String = sqlx::query_scalar(MOTION).fetch_one(database).await.unwrap();
        if now != self.last {
            (self.since, self.last) = (Instant::now(), now);
        }
        self.since.elapsed() > REST || self.began.elapsed() > REST_AT_MOST
    }
}

/// Lets go of what a hand holds.
pub(super) async fn let_go(mut hand: PgConnection) {
    hand.execute("rollback").await.unwrap();
    hand.close().await.unwrap();
}

/// As the databases have it.
pub(super) fn id(order: &Order) -> Uuid {
    saga(order).uuid()
}

pub(super) fn saga(order: &Order) -> SagaId {
    order.saga_id.parse().unwrap()
}
