//! Where a load finds the doors, which may move while it runs.

use std::sync::{
    Arc, PoisonError, RwLock,
    atomic::{AtomicUsize, Ordering},
};

use chassis::grpc::Callee;
use proto::{
    inventory::v1::{RestockRequest, inventory_client::InventoryClient},
    ledger::v1::{CloseAccountRequest, ledger_client::LedgerClient},
    money::Money,
    order::v1::{OrderStatus, SetPriceRequest, catalog_client::CatalogClient, orders_client::OrdersClient},
    risk::v1::{DenyRequest, rules_client::RulesClient},
};
use tonic::Status;

use super::kind::{CLOSED, DENIED, GOOD, SCARCE};
use crate::Spec;

/// The doors that a load knocks at.
#[derive(Clone)]
pub struct Doors {
    /// The public doors of every orchestrator.
    pub orchestrators: Vec<Callee>,
    pub order: Callee,
    pub inventory: Callee,
    pub risk: Callee,
    pub ledger: Callee,
}

impl Doors {
    /// All behind one address, as with `amends up`.
    #[must_use]
    pub fn all_at(callee: &Callee) -> Self {
        Self {
            orchestrators: vec![callee.clone()],
            order: callee.clone(),
            inventory: callee.clone(),
            risk: callee.clone(),
            ledger: callee.clone(),
        }
    }

    /// What the mix needs: two goods (one with far too few pieces), a customer on the deny list, a merchant whose
    /// account is closed. May be done again.
    ///
    /// # Errors
    /// What a service said.
    pub async fn prepare(&self) -> Result<(), Status> {
        for (sku, minor_units, quantity) in [(GOOD, 1000, 10_000_000), (SCARCE, 1, 10)] {
            let unit_price = Some(Money { minor_units, currency_code: "EUR".into() });
            let price = SetPriceRequest { sku: sku.into(), title: sku.into(), unit_price };
            CatalogClient::new(self.order.clone()).set_price(price).await?;
            let request_id = format!("load-{sku}");
            let restock = RestockRequest { request_id, sku: sku.into(), quantity };
            InventoryClient::new(self.inventory.clone()).restock(restock).await?;
        }
        let deny = DenyRequest { customer_id: DENIED.into(), reason: "a load".into() };
        RulesClient::new(self.risk.clone()).deny(deny).await?;
        // An account opens with its first posting.
        let first = Spec::of(1).merchant(CLOSED).key("load-first-of-closed").wait(30).request();
        let order = OrdersClient::new(self.orchestrators[0].clone()).create_order(first).await?.into_inner();
        if order.status() != OrderStatus::Completed {
            return Err(Status::aborted(format!("the first order did not complete: {order:?}")));
        }
        let close =
            CloseAccountRequest { account_id: format!("merchant:{CLOSED}:EUR"), reason: "a load".into() };
        LedgerClient::new(self.ledger.clone()).close_account(close).await?;
        Ok(())
    }
}

/// The doors as they are now.
#[derive(Clone)]
pub struct Line {
    doors: Arc<RwLock<Doors>>,
    turn: Arc<AtomicUsize>,
}

impl Line {
    #[must_use]
    pub fn to(doors: Doors) -> Self {
        Self { doors: Arc::new(RwLock::new(doors)), turn: Arc::new(AtomicUsize::new(0)) }
    }

    /// From now on they are there.
    pub fn moved(&self, doors: Doors) {
        *self.doors.write().unwrap_or_else(PoisonError::into_inner) = doors;
    }

    #[must_use]
    pub fn doors(&self) -> Doors {
        self.doors.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// An orchestrator, each in its turn.
    #[must_use]
    pub fn orchestrator(&self) -> Callee {
        let doors = self.doors.read().unwrap_or_else(PoisonError::into_inner);
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        doors.orchestrators[turn % doors.orchestrators.len()].clone()
    }
}
