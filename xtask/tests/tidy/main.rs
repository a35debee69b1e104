//! Tidy: the rules of the house (STYLE.md) that a test can see, read from the sources as they lie there.
//!
//! These tests must never need a service or a compiled crate of ours, so they run first and in seconds:
//! `cargo xtask tidy`. A finding names file and line and says what to do. Read next: `house.rs`, then the rule that
//! failed; each has a module of its own.

mod arrows;
mod environment;
mod finding;
mod house;
mod literals;
mod openings;
mod points;
mod programs;
mod purity;
mod seeded;
mod sizes;
mod sql;
mod unfinished;
