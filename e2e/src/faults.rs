//! Faults put between an orchestrator and its participants, one step or compensation of one saga at a time.
//!
//! An [`Injector`] stands at two places: at the participants' doors (`door.rs`), where it takes a slice apart so that
//! only the item that is meant meets its fault, and between the bus and its consumers (`mail.rs`), because
//! compensations and their answers are messages. What is planned is keyed by saga, step and direction, so that a
//! thousand sagas with a fault each run side by side in one world. It counts what it really did: a plan that was never
//! carried out shows. Calls of sagas that nobody has told it of wait until somebody does.

mod door;
mod fault;
mod frames;
mod injector;
mod mail;

pub use fault::{Direction, Fault, Garbage};
pub use injector::{Count, Injector, Plan, Spot};

pub(crate) use door::guard;
pub(crate) use mail::FaultyBus;
