//! The simulator: all of Amends in one process, from a seed.
//!
//! The pure parts of all services and the engine run over simulated time, network, disk commits and crashes. What decides
//! is the product's own code, never a copy: the driver with the saga core and the order saga (`orchestrator::driver`,
//! `saga`, `catalog`), who owns what (`shard::plan`, `Watch`), the barrier, the services' `domain` and `wire`, the payment
//! attempt, the provider's rules. What is around them (transactions, group commit, outbox, broker, leases) is modelled
//! here, each part naming the rule of DESIGN sections 4 to 6 that it keeps.
//!
//! A run has two phases. In the *storm* everything goes wrong that [`weather`] says, and nothing may be lost or doubled;
//! then all is *calm*, a minimal core is left, and everything must come to an end or be parked with a reason. The
//! [`judge`] looks after every commit. A campaign is void unless each fault and each state of [`mark`] occurred, and
//! [`bug`] holds the bugs that it must find.
//!
//! Where to look: [`world`] (time, the queue of deeds, a run), [`process`] and [`disk`] (what fails), [`network`],
//! [`broker`] and [`relay`] (what is said), [`orchestrator`] and [`services`] (who decides), [`provider`], [`people`].
//! Nothing depends on this crate.

pub mod broker;
pub mod bug;
pub mod campaign;
pub mod disk;
pub mod judge;
pub mod luck;
pub mod mark;
pub mod network;
pub mod options;
pub mod orchestrator;
pub mod people;
pub mod process;
pub mod provider;
pub mod relay;
pub mod services;
pub mod weather;
pub mod world;

pub use bug::Bug;
pub use world::{Outcome, run};
