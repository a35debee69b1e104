//! A load of every kind of order, sent through whatever happens, and what must have come of it.
//!
//! [`Kind`] is the mix: each kind says which ends it may reach and which one must have been seen, or the run is void.
//! [`Shop`] sends: it repeats a request with the same key until somebody acknowledges it. [`Doors`] may move to other
//! addresses while it does. Read next: `load/kind.rs`.

mod doors;
mod kind;
mod shop;

pub use doors::{Doors, Line};
pub use kind::{GOOD, Kind, Then};
pub use shop::{End, Pace, Shop};
