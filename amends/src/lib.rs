//! The one binary people run.
//!
//! Where to look: [`data_dir`] (one process per folder), [`cluster`] (the private Postgres).

pub mod cluster;
pub mod data_dir;
