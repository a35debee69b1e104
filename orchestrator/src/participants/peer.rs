//! Where a participant is: in another process, or in this one.

use chassis::grpc::Callee;
use proto::local;

/// Somebody who performs steps. `L`: how it is called in its own process ([`local`]).
#[derive(Clone)]
pub enum Peer<L> {
    /// By gRPC: messages, sizes and headers as on the wire, whether or not there is a network between.
    Remote(Callee),
    /// Its handlers, at once.
    Local(L),
}

impl<L> From<Callee> for Peer<L> {
    fn from(callee: Callee) -> Self {
        Self::Remote(callee)
    }
}

impl<L> Peer<L> {
    const fn is_local(&self) -> bool {
        matches!(self, Self::Local(_))
    }
}

/// Who performs the steps.
#[derive(Clone)]
pub struct Callees {
    /// order-svc, for what things cost.
    pub catalog: Peer<local::Catalog>,
    /// order-svc.
    pub order: Peer<local::OrderSteps>,
    /// inventory-svc.
    pub inventory: Peer<local::InventorySteps>,
    /// risk-svc.
    pub risk: Peer<local::RiskSteps>,
    /// payment-svc.
    pub payment: Peer<local::PaymentSteps>,
    /// ledger-svc.
    pub ledger: Peer<local::LedgerSteps>,
}

impl Callees {
    /// Whether all are in this process.
    #[must_use]
    pub const fn are_local(&self) -> bool {
        let steps = self.order.is_local() && self.inventory.is_local() && self.risk.is_local();
        steps && self.payment.is_local() && self.ledger.is_local() && self.catalog.is_local()
    }
}
