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
