//! A service on a database of its own, called as others call it.

use std::sync::Arc;

use chassis::{
    bus::local::LocalBus,
    clock,
    grpc::{self, Callee},
    stop::Stop,
    testbed::TestDatabase,
};
use order_svc::{SCHEMA, Service, Settings, Wiring};
use proto::{
    money::Money,
    order::v1::{
        CancelDone, CancelItem, CancelRequest, CompleteDone, CompleteItem, CompleteRequest, Document,
        GetDocumentRequest, OpenDone, OpenItem, OpenRequest, PricedLine, SetPriceRequest, StatusChange,
        catalog_client::CatalogClient, order_steps_client::OrderStepsClient,
    },
    step::{Answer, BackAnswer, Reply, StepHeader, turned_away},
};
use tonic::{Status, Streaming};
use types::SagaId;

pub(crate) struct House {
    pub(crate) database: TestDatabase,
    pub(crate) bus: Arc<LocalBus>,
    pub(crate) steps: OrderStepsClient<Callee>,
    pub(crate) catalog: CatalogClient<Callee>,
    stop: Stop,
}

impl House {
    pub(crate) async fn new() -> Self {
        Self::over(TestDatabase::create(&[SCHEMA]).await).await
    }

    /// Another process over the same database.
    pub(crate) async fn beside(&self) -> Self {
        Self::over(self.database.clone()).await
    }

    async fn over(database: TestDatabase) -> Self {
        let stop = Stop::new();
        let bus = Arc::new(LocalBus::new());
        let wiring = Wiring { pool: database.pool(&SCHEMA).await, bus: bus.clone(), stop: stop.clone() };
        let service = Service::start(Settings::default(), wiring);
        service.subscribe().await.unwrap();
        let mut routes = tonic::service::RoutesBuilder::default();
        service.register(&mut routes);
        let callee = grpc::local(routes.routes());
        let (steps, catalog) = (OrderStepsClient::new(callee.clone()), CatalogClient::new(callee));
        Self { database, bus, steps, catalog, stop }
    }

    pub(crate) async fn open(&self, items: Vec<OpenItem>) -> Vec<Answer<OpenDone>> {
        let keys: Vec<_> = items.iter().map(|item| key(item.header.as_ref())).collect();
        let replies = self.steps.clone().open(OpenRequest { items }).await.unwrap();
        in_order(&keys, replies.into_inner()).await
    }

    pub(crate) async fn complete(&self, items: Vec<CompleteItem>) -> Vec<Answer<CompleteDone>> {
        let keys: Vec<_> = items.iter().map(|item| key(item.header.as_ref())).collect();
        let replies = self.steps.clone().complete(CompleteRequest { items }).await.unwrap();
        in_order(&keys, replies.into_inner()).await
    }

    pub(crate) async fn cancel(&self, items: Vec<CancelItem>) -> Vec<BackAnswer<CancelDone>> {
        let keys: Vec<_> = items.iter().map(|item| key(item.header.as_ref())).collect();
        let replies = self.steps.clone().cancel(CancelRequest { items }).await.unwrap();
        in_order(&keys, replies.into_inner()).await
    }

    pub(crate) async fn document(&self, saga: SagaId) -> Result<Document, Status> {
        let request = GetDocumentRequest { order_id: saga.order().to_string() };
        self.catalog.clone().get_document(request).await.map(tonic::Response::into_inner)
    }

    /// What its history says, without the times.
    pub(crate) async fn history(&self, saga: SagaId) -> Vec<String> {
        self.document(saga).await.unwrap().history.into_iter().map(|change| change.status).collect()
    }

    pub(crate) async fn set_price(&self, sku: &str, minor_units: i64, code: &str) {
        let unit_price = Some(Money { minor_units, currency_code: code.into() });
        let request = SetPriceRequest { sku: sku.into(), title: format!("A fine {sku}"), unit_price };
        self.catalog.clone().set_price(request).await.unwrap();
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

pub(crate) fn sagas(count: usize) -> Vec<SagaId> {
    (0..count).map(|_| new_saga()).collect()
}

fn header(saga: SagaId, step: &str) -> Option<StepHeader> {
    Some(StepHeader { saga_id: saga.to_string(), step: step.into(), attempt: 1, ..Default::default() })
}

pub(crate) fn open_item(saga: SagaId) -> OpenItem {
    let line = |sku: &str, quantity, unit| PricedLine {
        sku: sku.into(),
        quantity,
        unit_price_minor: unit,
        line_total_minor: quantity * unit,
    };
    OpenItem {
        header: header(saga, "open"),
        order_id: saga.order().to_string(),
        customer_id: "c_1".into(),
        merchant_id: "m_1".into(),
        currency_code: "EUR".into(),
        lines: vec![line("A", 2, 500), line("B", 1, 250)],
        subtotal_minor: 1250,
        tax_minor: 250,
        total_minor: 1500,
    }
}

pub(crate) fn change(status: &str, seconds: i64) -> StatusChange {
    let time = Some(prost_types::Timestamp { seconds: 1_800_000_000 + seconds, nanos: 0 });
    StatusChange { status: status.into(), time }
}

pub(crate) fn complete_item(saga: SagaId) -> CompleteItem {
    let history = ["CREATED", "INVENTORY_RESERVED", "PAYMENT_SUCCESS", "COMPLETED"]
        .iter()
        .zip(0..)
        .map(|(s, i)| change(s, i));
    CompleteItem {
        header: header(saga, "complete"),
        order_id: saga.order().to_string(),
        history: history.collect(),
    }
}

pub(crate) fn cancel_item(saga: SagaId) -> CancelItem {
    CancelItem {
        header: header(saga, "open"),
        order_id: saga.order().to_string(),
        reason: "OUT_OF_STOCK".into(),
        history: vec![change("CANCELLED", 9)],
    }
}

/// The code with which an item was turned away.
pub(crate) fn away<D>(answer: &Answer<D>) -> Option<turned_away::Code> {
    match answer {
        Answer::TurnedAway(away) => Some(away.code()),
        _ => None,
    }
}
