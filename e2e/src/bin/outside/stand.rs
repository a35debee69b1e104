//! A stand: one customer, one merchant and one good of its own, in a stack that others use as well.
//!
//! It asks only the doors that people ask. Stock is shown with some age, so it is asked until it is so.

use std::{sync::Arc, time::Duration};

use chassis::grpc::Callee;
use e2e::{Spec, eventually_within};
use proto::{
    inventory::v1::{GetStockRequest, RestockRequest, Stock, inventory_client::InventoryClient},
    ledger::v1::{CloseAccountRequest, Entry, ListEntriesRequest, ledger_client::LedgerClient},
    money::Money,
    notification::v1::{DeliveryState, ListDeliveriesRequest, notifications_client::NotificationsClient},
    order::v1::{
        CancelOrderRequest, GetOrderRequest, Order, OrderStatus, SetPriceRequest,
        catalog_client::CatalogClient, orders_client::OrdersClient,
    },
    payment::v1::{Attempt, GetAttemptRequest, attempts_client::AttemptsClient},
    risk::v1::{DecideReviewRequest, reviews_client::ReviewsClient},
};
use tonic::{Request, Response, Status};

use crate::Outside;

/// What is in stock at first.
pub(crate) const PIECES: i64 = 1000;
/// In minor units, without the tax of a fifth.
pub(crate) const PRICE: i64 = 1000;
/// Longer than any limit of the provider and of a lease; in the default settings too.
const PATIENCE: Duration = Duration::from_secs(150);

pub(crate) struct Stand {
    pub(crate) outside: Arc<Outside>,
    pub(crate) name: String,
}

impl Stand {
    /// With a good of its own, in stock.
    pub(crate) async fn open(outside: &Arc<Outside>) -> Self {
        let id = chassis::clock::new_uuid().simple().to_string();
        let stand = Self { outside: Arc::clone(outside), name: format!("outside-{id}") };
        let unit_price = Some(Money { minor_units: PRICE, currency_code: "EUR".into() });
        let price = SetPriceRequest { sku: stand.sku(), title: "From outside".into(), unit_price };
        CatalogClient::new(outside.doors.order.clone()).set_price(price).await.unwrap();
        let restock = RestockRequest { request_id: stand.name.clone(), sku: stand.sku(), quantity: PIECES };
        InventoryClient::new(outside.doors.inventory.clone()).restock(restock).await.unwrap();
        stand
    }

    fn sku(&self) -> String {
        self.name.clone()
    }

    /// An order of this stand's good, by its customer, at its merchant.
    pub(crate) fn spec(&self, quantity: i64) -> Spec {
        let spec = Spec::of(quantity).customer(&self.name).merchant(&self.name);
        Spec { lines: vec![e2e::Line { sku: self.sku(), quantity }], ..spec }
    }

    pub(crate) fn orchestrator(&self, n: usize) -> Callee {
        self.outside.doors.orchestrators[n].clone()
    }

    pub(crate) async fn send(&self, n: usize, spec: &Spec) -> Result<Response<Order>, Status> {
        OrdersClient::new(self.orchestrator(n)).create_order(Request::new(spec.request())).await
    }

    /// Places an order that is accepted, at the first orchestrator.
    pub(crate) async fn create(&self, spec: &Spec) -> Order {
        self.send(0, spec).await.unwrap().into_inner()
    }

    /// The order when it has this status, at whichever orchestrator answers.
    pub(crate) async fn reaches(&self, order: &Order, status: OrderStatus) -> Order {
        let what = format!("{} is {}", order.order_id, status.as_str_name());
        eventually_within(PATIENCE, &what, || async {
            let request = GetOrderRequest { order_id: order.order_id.clone() };
            let mut client = OrdersClient::new(self.outside.line.orchestrator());
            let order = client.get_order(request).await.ok()?.into_inner();
            let ended = matches!(order.status(), OrderStatus::Completed | OrderStatus::Cancelled);
            assert!(!ended || order.status() == status, "{what}, but ended as {order:?}");
            (order.status() == status).then_some(order)
        })
        .await
    }

    pub(crate) async fn completes(&self, order: &Order) -> Order {
        self.reaches(order, OrderStatus::Completed).await
    }

    pub(crate) async fn is_cancelled(&self, order: &Order, reason: &str) {
        let order = self.reaches(order, OrderStatus::Cancelled).await;
        assert_eq!(order.status_reason, reason, "{order:?}");
    }

    pub(crate) async fn cancel(&self, order: &Order) -> Order {
        let request =
            CancelOrderRequest { order_id: order.order_id.clone(), reason: "changed my mind".into() };
        OrdersClient::new(self.orchestrator(0)).cancel_order(request).await.unwrap().into_inner()
    }

    pub(crate) async fn decide(&self, order: &Order, approve: bool) {
        let decision = DecideReviewRequest {
            saga_id: order.saga_id.clone(),
            approve,
            reviewer: "ada".into(),
            reason: "called them".into(),
        };
        ReviewsClient::new(self.outside.doors.risk.clone()).decide_review(decision).await.unwrap();
    }

    /// Waits until so many are sold and none is held.
    pub(crate) async fn has_sold(&self, sold: i64) {
        let mut last = Stock::default();
        let until = tokio::time::Instant::now() + PATIENCE;
        while tokio::time::Instant::now() < until {
            let request = GetStockRequest { sku: self.sku() };
            let mut client = InventoryClient::new(self.outside.doors.inventory.clone());
            if let Ok(stock) = client.get_stock(request).await {
                last = stock.into_inner();
                if (last.available, last.reserved, last.sold) == (PIECES - sold, 0, sold) {
                    return;
                }
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("{sold} should be sold and none held: {last:?}");
    }

    /// What payment-svc did for an order.
    pub(crate) async fn attempt(&self, order: &Order) -> Attempt {
        let request = GetAttemptRequest { payment_id: order.saga_id.clone() };
        AttemptsClient::new(self.outside.payment.clone()).get_attempt(request).await.unwrap().into_inner()
    }

    async fn entries(&self, order: &Order) -> Vec<Entry> {
        let request = ListEntriesRequest { saga_id: order.saga_id.clone(), ..Default::default() };
        let mut ledger = LedgerClient::new(self.outside.doors.ledger.clone());
        ledger.list_entries(request).await.unwrap().into_inner().entries
    }

    /// Waits until the books hold so many entries of this kind for an order, and no other, that sum to zero.
    pub(crate) async fn is_booked(&self, order: &Order, kind: &str, count: usize) -> Vec<Entry> {
        let entries =
            eventually_within(PATIENCE, &format!("{count} entries of {}", order.order_id), || async {
                let entries = self.entries(order).await;
                (entries.len() == count).then_some(entries)
            })
            .await;
        assert!(entries.iter().all(|entry| entry.kind == kind), "{entries:?}");
        assert_eq!(entries.iter().map(|entry| entry.amount_minor).sum::<i64>(), 0, "{entries:?}");
        entries
    }

    pub(crate) async fn close_account(&self) {
        let account_id = format!("merchant:{}:EUR", self.name);
        let close = CloseAccountRequest { account_id, reason: "left".into() };
        LedgerClient::new(self.outside.doors.ledger.clone()).close_account(close).await.unwrap();
    }

    /// Waits until the customer was told.
    pub(crate) async fn was_told(&self, order: &Order) {
        eventually_within(PATIENCE, &format!("a letter about {}", order.order_id), || async {
            let request = ListDeliveriesRequest { order_id: order.order_id.clone(), ..Default::default() };
            let mut client = NotificationsClient::new(self.outside.notification.clone());
            let deliveries = client.list_deliveries(request).await.ok()?.into_inner().deliveries;
            deliveries.iter().any(|delivery| delivery.state() == DeliveryState::Sent).then_some(())
        })
        .await;
    }
}
