//! The wire: generated from `proto/`, with conversions to [`types`] and to what every step has in common.
//!
//! One module per package, named as on the wire: `proto::inventory::v1::ReserveItem`. Read [`step`] next: it says how
//! a step's request and reply look whatever the participant is.

pub mod error;
pub mod local;
pub mod money;
pub mod page;
pub mod step;
pub mod time;

#[expect(clippy::allow_attributes, clippy::too_many_lines, unreachable_pub, reason = "generated code")]
mod generated {
    pub mod money {
        pub mod v1 {
            tonic::include_proto!("amends.money.v1");
        }
    }
    pub mod step {
        pub mod v1 {
            tonic::include_proto!("amends.step.v1");
        }
    }
    pub mod order {
        pub mod v1 {
            tonic::include_proto!("amends.order.v1");
        }
    }
    pub mod inventory {
        pub mod v1 {
            tonic::include_proto!("amends.inventory.v1");
        }
    }
    pub mod risk {
        pub mod v1 {
            tonic::include_proto!("amends.risk.v1");
        }
    }
    pub mod payment {
        pub mod v1 {
            tonic::include_proto!("amends.payment.v1");
        }
    }
    pub mod ledger {
        pub mod v1 {
            tonic::include_proto!("amends.ledger.v1");
        }
    }
    pub mod notification {
        pub mod v1 {
            tonic::include_proto!("amends.notification.v1");
        }
    }
    pub mod saga {
        pub mod v1 {
            tonic::include_proto!("amends.saga.v1");
        }
    }
}
pub use generated::{inventory, ledger, notification, order, payment, risk, saga};

/// The descriptors of all packages, for reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
