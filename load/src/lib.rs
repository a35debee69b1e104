//! Orders in great number, for whoever wants to know how fast an Amends is: `bench` and `amends bench`.
//!
//! A load ([`Load`]) is a pace, a mix of orders and how they spread. *Closed*: so many in flight, the next one when one is
//! answered; it finds the most that can be done. *Open*: orders are due at constant intervals whatever is answered, and each
//! is timed from when it was due, so that a pause of the subject is seen by everybody who would have come in it. An order
//! that comes to another end than was due is counted as wrong, never as fast.
//!
//! It must never make its subject look better than its users would see it. Read next: `put.rs`, then `doors.rs`.

mod answers;
mod closed;
mod doors;
mod flags;
pub mod mix;
mod open;
mod put;

pub use answers::Answers;
pub use doors::{Doors, furnish, greet};
pub use flags::Flags;
pub use put::{Load, Measured, Outcome, Pace, Subject, Watch, put};
