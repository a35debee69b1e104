//! Every method of every service, as the descriptors know it, and what to say to it: well ([`good`]) and badly ([`bad`]).
//!
//! A new method or field is here by being in the `.proto` files. Calls are made byte by byte ([`call`]), so that what no
//! generated client would send can be sent. Scenarios: `tests/it/bad_table.rs`, `bad_states.rs`, `hang_ups.rs`.

pub mod bad;
pub mod call;
pub mod drops;
pub mod exceptions;
pub mod good;
pub mod prints;
pub mod transport;

use std::sync::LazyLock;

use chassis::grpc::Callee;
use prost_reflect::{DescriptorPool, MessageDescriptor, MethodDescriptor};

use crate::{Kind, World};

static POOL: LazyLock<DescriptorPool> = LazyLock::new(|| {
    DescriptorPool::decode(proto::DESCRIPTORS).expect("the descriptors are those of the build")
});

/// One RPC.
#[derive(Debug, Clone)]
pub struct Method(MethodDescriptor);

impl Method {
    /// All that Amends serves.
    #[must_use]
    pub fn all() -> Vec<Self> {
        POOL.services().flat_map(|service| service.methods().map(Self).collect::<Vec<_>>()).collect()
    }

    /// As in `Orders/CreateOrder`.
    #[must_use]
    pub fn name(&self) -> String {
        format!("{}/{}", self.0.parent_service().name(), self.0.name())
    }

    /// As in `/amends.order.v1.Orders/CreateOrder`.
    #[must_use]
    pub fn path(&self) -> String {
        format!("/{}/{}", self.service(), self.0.name())
    }

    /// As in `amends.order.v1.Orders`.
    #[must_use]
    pub fn service(&self) -> String {
        self.0.parent_service().full_name().to_owned()
    }

    #[must_use]
    pub fn input(&self) -> MessageDescriptor {
        self.0.input()
    }

    #[must_use]
    pub fn output(&self) -> MessageDescriptor {
        self.0.output()
    }

    /// A step or a compensation: what is wrong with an item is said in its reply.
    #[must_use]
    pub fn is_step(&self) -> bool {
        self.0.parent_service().name().ends_with("Steps")
    }

    /// Whether it may be called without changing anything.
    #[must_use]
    pub fn only_reads(&self) -> bool {
        ["Get", "List", "Watch", "Quote"].iter().any(|verb| self.0.name().starts_with(verb))
    }

    /// Which participant serves it; none: the orchestrator.
    #[must_use]
    pub fn served_by(&self) -> Option<Kind> {
        let service = self.service();
        match service.as_str() {
            "amends.order.v1.Orders" | "amends.saga.v1.Sagas" => None,
            _ => Some(match service.split('.').nth(1).unwrap() {
                "order" => Kind::Order,
                "inventory" => Kind::Inventory,
                "risk" => Kind::Risk,
                "payment" => Kind::Payment,
                "ledger" => Kind::Ledger,
                "notification" => Kind::Notification,
                other => panic!("who serves amends.{other}?"),
            }),
        }
    }

    /// Who serves it, in this process: what the caller drops, the handler is dropped with.
    #[must_use]
    pub fn inside(&self, world: &World) -> Callee {
        self.served_by().map_or_else(
            || world.orchestrators[0].node.inside.clone(),
            |kind| world.node(kind).inside.clone(),
        )
    }

    /// The pools of who serves it.
    #[must_use]
    pub fn pools<'w>(&self, world: &'w World) -> &'w [sqlx::PgPool] {
        self.served_by().map_or(&world.orchestrators[0].node.pools, |kind| &world.node(kind).pools)
    }

    /// Who serves it, over the network.
    #[must_use]
    pub fn callee(&self, world: &World) -> Callee {
        self.served_by().map_or_else(|| world.orchestrator(0), |kind| world.callee(kind))
    }
}
