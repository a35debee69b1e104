//! The story of a saga, as pure functions: facts go in, moves come out.
//!
//! ```text
//! apply : State × Event            → State | IllegalEvent
//! next  : Definition × State × now → [Move]
//! ```
//!
//! Nothing below this module is async, reads a clock, draws an id or does I/O; time is an argument, in milliseconds since
//! 1970. What an event does is in [`state`], what follows from a state is in [`next`], and what a saga looks like is a
//! [`definition`]. The [`driver`](crate::driver) performs the moves; recovery is the same functions over a loaded
//! journal.

pub mod definition;
pub mod event;
pub mod moment;
pub mod next;
pub mod state;
pub mod step;

#[cfg(test)]
mod tests;

pub use definition::{Definition, Retry, StepDef, StepKind};
pub use event::{Event, Outcome, Resolution};
pub use moment::Moment;
pub use next::{Move, next, waits_for_facts, withdrawals};
pub use state::{Back, Forward, IllegalEvent, Label, Phase, Rare, State, StepState, Why};
