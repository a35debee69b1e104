//! The rules of a charge and its way back: pure, so that every order of events can be tried without I/O.
//!
//! An [`Attempt`] is the record; [`Attempt::apply`] moves it by one [`Event`] and says what to do [`Next`]; the
//! barrier's questions are [`Attempt::asked`] and [`Attempt::take_back`]. Nothing here may name a database, a wire or a
//! clock: `now` is an argument, and it is the database's. Read [`mod@attempt`] first, then `charge.rs` (until it is
//! known whether money was taken), then `back.rs` (until it is known that it went back).

mod attempt;
mod back;
mod charge;
mod policy;
mod said;
#[cfg(test)]
mod tests;
mod token;

pub use attempt::{
    Asked, Attempt, Business, CommandId, Event, Next, PROVIDER_UNAVAILABLE, State, TakeBack, charge_key,
    payment_of, refund_key,
};
pub use policy::{Policy, after};
pub use said::{Category, Decline, Fault, Said};
pub use token::{Token, TokenError};
