//! The scenarios: every row of "what ends as what", on real Postgres and RabbitMQ, each ending with the auditor.
//!
//! Modules by behaviour. `laws` repeats, refuses and reorders every step; `processes` kills and stops the real binary.

#![expect(
    clippy::unwrap_used,
    clippy::print_stderr,
    clippy::disallowed_methods,
    reason = "a scenario fails by panicking, shows what the auditor said, and is told by the environment"
)]

mod bad_headers;
mod bad_input;
mod bad_messages;
mod bad_states;
mod bad_table;
mod doubt;
mod faults;
mod golden;
mod hang_ups;
mod happy;
mod idempotency;
mod laws;
mod outage;
mod ownership;
mod plans;
mod processes;
mod reconnect;
mod refusals;
mod secrets;
mod seeded;
mod several;
mod short_ways;
mod slices;
mod stack;
mod statements;
mod strangers;
mod sweep;
mod telemetry;
mod verbs;
mod versions;
mod waiting;
