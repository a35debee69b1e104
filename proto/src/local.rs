//! A participant as its own process calls it: the handlers that serve the wire, without the wire.
//!
//! A slice is handed over as it is and answered as it is: no request and no reply is encoded, and what a handler does is the same.

use std::sync::Arc;

use crate::{inventory::v1 as inventory, ledger::v1 as ledger, order::v1 as order};
use crate::{payment::v1 as payment, risk::v1 as risk, step::Replies};

/// order-svc's prices.
pub type Catalog = Arc<dyn order::catalog_server::Catalog>;

/// order-svc's.
pub type OrderSteps = Arc<
    dyn order::order_steps_server::OrderSteps<
            OpenStream = Replies<order::OpenReply>,
            CompleteStream = Replies<order::CompleteReply>,
            CancelStream = Replies<order::CancelReply>,
        >,
>;

/// inventory-svc's.
pub type InventorySteps = Arc<
    dyn inventory::inventory_steps_server::InventorySteps<
            ReserveStream = Replies<inventory::ReserveReply>,
            CommitStream = Replies<inventory::CommitReply>,
            ReleaseStream = Replies<inventory::ReleaseReply>,
        >,
>;

/// risk-svc's.
pub type RiskSteps = Arc<dyn risk::risk_steps_server::RiskSteps<ScreenStream = Replies<risk::ScreenReply>>>;

/// payment-svc's.
pub type PaymentSteps = Arc<
    dyn payment::payment_steps_server::PaymentSteps<
            ChargeStream = Replies<payment::ChargeReply>,
            RefundStream = Replies<payment::RefundReply>,
        >,
>;

/// ledger-svc's.
pub type LedgerSteps = Arc<
    dyn ledger::ledger_steps_server::LedgerSteps<
            PostStream = Replies<ledger::PostReply>,
            ReverseStream = Replies<ledger::ReverseReply>,
        >,
>;
