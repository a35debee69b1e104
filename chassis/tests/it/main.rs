//! What the chassis does with real services: Postgres, RabbitMQ, Redis.
//!
//! Every test has a name space of its own on the shared servers and leaves nothing behind in RabbitMQ.

#![expect(clippy::unwrap_used, reason = "a test may fail loudly")]

mod amqp;
mod broker;
mod bus;
mod pool;
mod redis;
mod sight;
mod wire;
