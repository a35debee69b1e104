//! A service on a database of its own, called as others call it, and the law of stock.

use std::{sync::Arc, time::Duration};

use chassis::{
    bus::local::LocalBus,
    cache::LocalCache,
    clock,
    grpc::{self, Callee},
    stop::Stop,
    testbed::TestDatabase,
};
use inventory_svc::{SCHEMA, Service, Settings, Wiring};
use proto::{
    inventory::v1::{
        CommitDone, CommitItem, CommitRequest, ReleaseDone, ReleaseItem, ReleaseRequest, ReserveDone,
        ReserveItem, ReserveLine, ReserveRequest, RestockRequest, Stock, inventory_client::InventoryClient,
        inventory_steps_client::InventoryStepsClient,
    },
    step::{Answer, BackAnswer, Reply, StepHeader, turned_away},
};
use tonic::Streaming;
use types::{OrderId, SagaId};

pub(crate) struct House {
    pub(crate) database: TestDatabase,
    pub(crate) bus: Arc<LocalBus>,
    pub(crate) steps: InventoryStepsClient<Callee>,
    pub(crate) people: InventoryClient<Callee>,
    stop: Stop,
}

impl House {
    pub(crate) async fn new() -> Self {
        Self::with(Settings { inventory_stock_cache: Duration::ZERO, ..Settings::default() }).await
    }

    pub(crate) async fn with(settings: Settings) -> Self {
        Self::over(TestDatabase::create(&[SCHEMA]).await, settings).await
    }

    /// Another process over the same database.
    pub(crate) async fn beside(&self) -> Self {
        Self::over(self.database.clone(), Settings::default()).await
    }

    async fn over(database: TestDatabase, settings: Settings) -> Self {
        let stop = Stop::new();
        let bus = Arc::new(LocalBus::new());
        let wiring = Wiring {
            pool: database.pool(&SCHEMA).await,
            bus: bus.clone(),
            cache: Arc::new(LocalCache::new(1 << 20)),
            stop: stop.clone(),
        };
        let service = Service::start(settings, wiring);
        service.subscribe().await.unwrap();
        let mut routes = tonic::service::RoutesBuilder::default();
        service.register(&mut routes);
        let callee = grpc::local(routes.routes());
        let (steps, people) = (InventoryStepsClient::new(callee.clone()), InventoryClient::new(callee));
        Self { database, bus, steps, people, stop }
    }

    pub(crate) async fn restock(&self, sku: &str, quantity: i64) -> Stock {
        let request = RestockRequest { request_id: String::new(), sku: sku.into(), quantity };
        self.people.clone().restock(request).await.unwrap().into_inner()
    }

    pub(crate) async fn reserve(&self, items: Vec<ReserveItem>) -> Vec<Answer<ReserveDone>> {
        let keys: Vec<_> = items.iter().map(|item| key(item.header.as_ref())).collect();
        let replies = self.steps.clone().reserve(ReserveRequest { items }).await.unwrap();
        in_order(&keys, replies.into_inner()).await
    }

    pub(crate) async fn commit(&self, items: Vec<CommitItem>) -> Vec<Answer<CommitDone>> {
        let keys: Vec<_> = items.iter().map(|item| key(item.header.as_ref())).collect();
        let replies = self.steps.clone().commit(CommitRequest { items }).await.unwrap();
        in_order(&keys, replies.into_inner()).await
    }

    pub(crate) async fn release(&self, items: Vec<ReleaseItem>) -> Vec<BackAnswer<ReleaseDone>> {
        let keys: Vec<_> = items.iter().map(|item| key(item.header.as_ref())).collect();
        let replies = self.steps.clone().release(ReleaseRequest { items }).await.unwrap();
        in_order(&keys, replies.into_inner()).await
    }

    /// Available, reserved, sold.
    pub(crate) async fn stock(&self, sku: &str) -> (i64, i64, i64) {
        let mut owner = self.database.connect().await;
        sqlx::query_as("select available, reserved, sold from inventory.stock where sku = $1")
            .bind(sku)
            .fetch_one(&mut owner)
            .await
            .unwrap()
    }

    /// What must hold at any time: stock is what was put in, and what is held is what live reservations say.
    pub(crate) async fn assert_conserved(&self) {
        let mut owner = self.database.connect().await;
        let wrong: Vec<(String, i64, i64, i64)> = sqlx::query_as(
            "select s.sku, s.available, s.reserved, s.sold from inventory.stock s, lateral ( \
                 select coalesce(sum(l.quantity) filter (where r.state = 'RESERVED'), 0) as held, \
                   coalesce(sum(l.quantity) filter (where r.state = 'SOLD'), 0) as sold \
                 from inventory.reservation r, unnest(r.skus, r.quantities) as l (sku, quantity) \
                 where l.sku = s.sku) said \
             where s.reserved <> said.held or s.sold <> said.sold or s.available + s.reserved + s.sold <> \
                 (select sum(quantity) from inventory.restock t where t.sku = s.sku)",
        )
        .fetch_all(&mut owner)
        .await
        .unwrap();
        assert!(wrong.is_empty(), "{wrong:?}");
    }
}

impl Drop for House {
    fn drop(&mut self) {
        self.stop.request();
    }
}

fn key(header: Option<&StepHeader>) -> (String, String) {
    header.map(|header| (header.saga_id.clone(), header.step.clone())).unwrap_or_default()
}

async fn in_order<R: Reply>(keys: &[(String, String)], mut replies: Streaming<R>) -> Vec<R::Says> {
    let mut found = Vec::new();
    while let Some(reply) = replies.message().await.unwrap() {
        let (saga, step, says) = reply.open();
        found.push(((saga, step), says.unwrap()));
    }
    assert_eq!(found.len(), keys.len(), "one answer for each");
    let mut take = |key: &(String, String)| {
        let at = found.iter().position(|(other, _)| other == key).unwrap();
        found.swap_remove(at).1
    };
    keys.iter().map(&mut take).collect()
}

pub(crate) fn new_saga() -> SagaId {
    SagaId::from_uuid(clock::new_uuid())
}

fn header(saga: SagaId, step: &str) -> Option<StepHeader> {
    Some(StepHeader { saga_id: saga.to_string(), step: step.into(), attempt: 1, ..Default::default() })
}

pub(crate) fn reserve_item(saga: SagaId, lines: &[(&str, i64)]) -> ReserveItem {
    let lines = lines.iter().map(|(sku, quantity)| ReserveLine { sku: (*sku).into(), quantity: *quantity });
    ReserveItem {
        header: header(saga, "reserve"),
        order_id: saga.order().to_string(),
        lines: lines.collect(),
        hold_until: Some(proto::time::stamp(clock::now() + Duration::from_secs(1800))),
    }
}

pub(crate) fn commit_item(saga: SagaId) -> CommitItem {
    CommitItem {
        header: header(saga, "commit"),
        order_id: saga.order().to_string(),
        reserve_step: "reserve".into(),
    }
}

pub(crate) fn release_item(saga: SagaId) -> ReleaseItem {
    let order_id = OrderId::from_uuid(saga.uuid()).to_string();
    ReleaseItem { header: header(saga, "reserve"), order_id, reason: "because".into() }
}

/// The code with which an item was turned away.
pub(crate) fn away<D>(answer: &Answer<D>) -> Option<turned_away::Code> {
    match answer {
        Answer::TurnedAway(away) => Some(away.code()),
        _ => None,
    }
}
