//! Where orders are sent: the public door of one orchestrator or several, over several connections.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use anyhow::{Context as _, ensure};
use chassis::grpc::{self, Callee};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use proto::{
    inventory::v1::{RestockRequest, inventory_client::InventoryClient},
    money::Money,
    order::v1::{
        CreateOrderRequest, Order, OrderStatus, SetPriceRequest, WatchOrderRequest,
        catalog_client::CatalogClient, orders_client::OrdersClient,
    },
    risk::v1::{DecideReviewRequest, reviews_client::ReviewsClient},
};
use tonic::{Code, Status};

use crate::{
    mix::{self, Drawn, Due},
    put::{Outcome, Subject},
};

/// HTTP/2 connections of the load: one alone would be what is measured.
const CONNECTIONS: usize = 4;

/// Where orders are sent.
#[derive(Clone)]
pub struct Doors {
    callees: Vec<Callee>,
    /// Where orders that wait for a person are approved.
    reviews: Callee,
    next: Arc<AtomicUsize>,
}

impl std::fmt::Debug for Doors {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Doors").field("connections", &self.callees.len()).finish_non_exhaustive()
    }
}

impl Doors {
    /// Of these orchestrators; `reviews` is risk-svc's.
    ///
    /// # Errors
    /// When an address is not one.
    pub fn at(addresses: &[String], reviews: Callee) -> anyhow::Result<Self> {
        ensure!(!addresses.is_empty(), "no address to send orders to: --server or AMENDS_SERVER names one");
        let connections = CONNECTIONS.max(addresses.len());
        let callees = (0..connections)
            .map(|n| {
                let address = &addresses[n % addresses.len()];
                let url = if address.contains("://") { address.clone() } else { format!("http://{address}") };
                grpc::remote(&url)
                    .with_context(|| format!("`{address}` is not an address such as http://127.0.0.1:50051"))
            })
            .collect::<anyhow::Result<_>>()?;
        Ok(Self { callees, reviews, next: Arc::default() })
    }

    fn callee(&self) -> Callee {
        let at = self.next.fetch_add(1, Ordering::Relaxed);
        self.callees[at % self.callees.len()].clone()
    }
}

impl Doors {
    /// An order for whose end nobody waits.
    ///
    /// # Errors
    /// When it is not accepted.
    pub async fn accept(&self, order: Drawn) -> anyhow::Result<()> {
        let request = order.request(chassis::clock::new_uuid().to_string());
        OrdersClient::new(self.callee()).create_order(CreateOrderRequest { wait: None, ..request }).await?;
        Ok(())
    }
}

impl Doors {
    /// Sends it; it is answered at its end.
    async fn create(&self, drawn: &Drawn) -> Result<Order, Status> {
        let request = drawn.request(chassis::clock::new_uuid().to_string());
        let order = OrdersClient::new(self.callee()).create_order(request).await?.into_inner();
        match (order.status(), drawn.due) {
            (OrderStatus::UnderReview, Due::Approved) => self.approve(order.order_id).await,
            _ => Ok(order),
        }
    }

    /// Does what a person would, and waits for the order's end as a shop would.
    async fn approve(&self, order_id: String) -> Result<Order, Status> {
        let decision = DecideReviewRequest {
            saga_id: order_id.clone(),
            approve: true,
            reviewer: "bench".into(),
            reason: "looked at by nobody".into(),
        };
        ReviewsClient::new(self.reviews.clone()).decide_review(decision).await?;
        let mut orders = OrdersClient::new(self.callee());
        let watched = orders.watch_order(WatchOrderRequest { order_id });
        let mut versions = watched.await?.into_inner();
        let last = async {
            let mut last = Order::default();
            while let Some(order) = versions.message().await? {
                last = order;
            }
            Ok(last)
        };
        let timely = tokio::time::timeout(mix::PATIENCE, last).await;
        timely.unwrap_or_else(|_| Err(Status::deadline_exceeded("not at its end after it was approved")))
    }
}

impl Subject for Doors {
    async fn order(&self, order: Drawn) -> Outcome {
        match self.create(&order).await {
            Ok(came) if order.due.is_met_by(&came) => Outcome::Met,
            Ok(came) => Outcome::Wrong(format!(
                "{:?} {} instead of {:?}",
                came.status(),
                came.status_reason,
                order.due
            )),
            Err(status) if status.code() == Code::ResourceExhausted => Outcome::Shed,
            Err(status) => Outcome::Wrong(format!("{:?}: {}", status.code(), status.message())),
        }
    }
}

/// Prices and stock, by the doors of order-svc and inventory-svc. May be done again.
///
/// # Errors
/// What a service says.
pub async fn furnish(catalog: &Callee, inventory: &Callee) -> anyhow::Result<()> {
    let goods = (0..mix::GOODS).map(|n| (mix::sku(n), mix::STOCK)).chain([(mix::SCARCE.to_owned(), 0)]);
    stream::iter(goods.map(Ok::<_, anyhow::Error>))
        .try_for_each_concurrent(32, |(sku, quantity)| async move {
            let unit_price = Some(Money { minor_units: mix::PRICE, currency_code: "EUR".into() });
            let price = SetPriceRequest { sku: sku.clone(), title: sku.clone(), unit_price };
            CatalogClient::new(catalog.clone()).set_price(price).await?;
            if quantity > 0 {
                let request_id = format!("bench-{sku}");
                let restock = RestockRequest { request_id, sku, quantity };
                InventoryClient::new(inventory.clone()).restock(restock).await?;
            }
            Ok(())
        })
        .await
        .context("the goods of the benchmark cannot be put on sale")
}

/// Connects once over each connection, so that none does in the measurement.
///
/// # Errors
/// When nobody serves there.
pub async fn greet(doors: &Doors) -> anyhow::Result<()> {
    stream::iter(&doors.callees)
        .map(Ok)
        .try_for_each(|callee| async move {
            let request = proto::order::v1::ListOrdersRequest { page_size: 1, ..Default::default() };
            OrdersClient::new(callee.clone()).list_orders(request).await.map(|_| ())
        })
        .await
        .context("nobody serves orders there; `amends up` or `cargo xtask stack -- --measured` does")
}
