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
        CreateOrderRequest, SetPriceRequest, catalog_client::CatalogClient, orders_client::OrdersClient,
    },
};
use tonic::Code;

use crate::{
    mix::{self, Drawn},
    put::{Outcome, Subject},
};

/// HTTP/2 connections of the load: one alone would be what is measured.
const CONNECTIONS: usize = 4;

/// Where orders are sent.
#[derive(Clone)]
pub struct Doors {
    callees: Vec<Callee>,
    next: Arc<AtomicUsize>,
}

impl std::fmt::Debug for Doors {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Doors").field("connections", &self.callees.len()).finish_non_exhaustive()
    }
}

impl Doors {
    /// # Errors
    /// When an address is not one.
    pub fn at(addresses: &[String]) -> anyhow::Result<Self> {
        ensure!(!addresses.is_empty(), "no address to send orders to");
        let connections = CONNECTIONS.max(addresses.len());
        let callees = (0..connections)
            .map(|n| {
                let address = &addresses[n % addresses.len()];
                let url = if address.contains("://") { address.clone() } else { format!("http://{address}") };
                grpc::remote(&url).with_context(|| format!("`{address}` is not an address"))
            })
            .collect::<anyhow::Result<_>>()?;
        Ok(Self { callees, next: Arc::default() })
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

impl Subject for Doors {
    async fn order(&self, order: Drawn) -> Outcome {
        let request = order.request(chassis::clock::new_uuid().to_string());
        match OrdersClient::new(self.callee()).create_order(request).await {
            Ok(answer) if order.due.is_met_by(answer.get_ref()) => Outcome::Met,
            Ok(answer) => {
                let order_is = answer.into_inner();
                Outcome::Wrong(format!(
                    "{:?} {} instead of {:?}",
                    order_is.status(),
                    order_is.status_reason,
                    order.due
                ))
            }
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
        .context("nobody serves orders there")
}
