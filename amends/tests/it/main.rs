//! What the program does with real files, processes and databases. One module per behaviour.
#![expect(clippy::unwrap_used, reason = "a test that cannot set its stage has nothing to say")]

mod alone;
mod audit;
mod auditor;
mod cluster;
mod commands;
mod program;
mod provision;
mod stack;
mod up;
