//! How fast it is, measured against code that has no orchestrator.
//!
//! A run puts one load (the crate [`load`]) on one subject: Amends behind its public door ([`subject`]), or the hand-written
//! baseline ([`baseline`]), which does the same five writes in a row and could not recover from anything. Both run on
//! the same Postgres with everything on that makes a commit durable; with anything off there is no result, nor where orders
//! left no journal, key or message behind. A run of Amends ends with its auditor, and a violation voids it. Figures are
//! ratios to the baseline that ran in turn with them (A B A B), because a machine has slow minutes.
//!
//! It must never make the subject look better than its users would see it: open loops measure from the time at which an
//! order was due, and what was not answered counts. Read next: `plan.rs`, then the crate `load`.

pub mod baseline;
pub mod compare;
mod exchanges;
mod flame;
pub mod growth;
mod meter;
pub mod ordeal;
pub mod page;
pub mod plan;
mod progress;
pub mod pure;
pub mod report;
pub mod running;
mod stack;
pub mod store;
pub mod subject;
pub mod table;
