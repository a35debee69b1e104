//! What every process of Amends stands on. No word of orders or payments stands here, and no proto message.
//!
//! Where to look: [`database`] and [`sql`] (pool, migrations, checked statements), [`batcher`] (how a command gets its
//! slice), [`quick`] (its short way), [`barrier`] (at most once, never after its compensation), [`outbox`] and [`bus`] (reliable messages),
//! [`grpc`] and [`http`] (a process's doors), [`breaker`], [`cache`] and [`limiter`] (over [`redis_link`] or alone),
//! [`keyring`] (secrets that rows and messages carry unread), [`clock`], [`config`], [`telemetry`], [`stop`]; and for
//! proofs [`crash`] and [`seeded`].

pub mod barrier;
pub mod batcher;
pub mod breaker;
pub mod bus;
pub mod cache;
pub mod clock;
pub mod config;
pub mod crash;
pub mod database;
pub mod grpc;
pub mod http;
pub mod keyring;
pub mod limiter;
pub mod outbox;
pub mod quick;
pub mod redis_link;
pub mod seeded;
pub mod slots;
pub mod sql;
pub mod stop;
pub mod telemetry;
pub mod testbed;
