//! The nouns that the crates of Amends say to each other: ids, money, keys, step names, traces.
//!
//! Nothing here is async, reads a clock, draws a random number or does I/O. A value of one of these types is a valid
//! one: parsing happens once, at the door.

pub mod card;
mod id;
mod key;
mod money;
mod step;
mod trace;

pub use id::{IdError, OrderId, PaymentId, ReservationId, SagaId, TransactionId};
pub use key::{IdempotencyKey, KeyError, PartyId, Sku};
pub use money::{Currency, Money, MoneyError};
pub use step::{Direction, NoAnswer, StepKey, StepName};
pub use trace::traceparent;
