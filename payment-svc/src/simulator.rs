//! A payment provider to try everything against: it keeps a book, answers late, loses answers, and forgets nothing.
//!
//! What it does to a charge follows from the token ([`rules::Manner`]); what really happened stands in its book, schema
//! `simulator`, committed on its own pool and never in payment-svc's transaction, so that an auditor can judge
//! payment-svc by it. The rules are pure (`rules.rs`), the batches are in `book.rs`, the SQL in `store.rs`. It must be
//! deaf to whoever gives up waiting, as a provider is: what it has begun it ends.

mod book;
pub mod rules;
mod store;

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use chassis::{
    batcher::{Batcher, Limits, Ticket},
    database::Warm,
    quick::Hunch,
    sql::Checked,
    stop::Stop,
};
use sqlx::PgPool;
use types::NoAnswer;

use crate::{
    domain::{Fault, Said},
    provider::{ChargeOrder, Provider, RefundOrder},
};
use book::{LookUp, TakeCharge, TakeRefund};
use rules::Reply;

/// Settings of the simulator.
#[derive(clap::Args, Debug, Clone)]
#[group(skip)]
pub struct Settings {
    /// How long an answer takes, half of it before the effect and half after.
    #[arg(id = "simulator_latency", long = "simulator-latency", env = "AMENDS_SIMULATOR_LATENCY",
        default_value = "20ms", value_parser = humantime::parse_duration)]
    pub latency: Duration,
    /// After what time a charge with `tok_slow` is made; until then it is pending.
    #[arg(id = "simulator_slow", long = "simulator-slow", env = "AMENDS_SIMULATOR_SLOW",
        default_value = "60s", value_parser = humantime::parse_duration)]
    pub slow: Duration,
    /// How long a connection stays open on which no answer will come.
    #[arg(id = "simulator_hang", long = "simulator-hang", env = "AMENDS_SIMULATOR_HANG",
        default_value = "30s", value_parser = humantime::parse_duration)]
    pub hang: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            latency: Duration::from_millis(20),
            slow: Duration::from_secs(60),
            hang: Duration::from_secs(30),
        }
    }
}

/// The simulator. Any number of processes may run one over the same book.
pub struct Simulator {
    charges: Batcher<TakeCharge>,
    refunds: Batcher<TakeRefund>,
    looks: Batcher<LookUp>,
    settings: Settings,
}

/// Every statement, for the SQL check.
pub(crate) fn statements() -> Vec<&'static dyn Checked> {
    store::statements()
}

impl Simulator {
    /// Opens for business over a book.
    #[must_use]
    pub fn new(settings: Settings, pool: PgPool, stop: &Stop) -> Self {
        let limits = Limits::default();
        Self {
            charges: Batcher::new(
                Arc::new(TakeCharge { pool: Warm::new(&pool), slow: settings.slow, hunch: Hunch::default() }),
                limits,
                stop,
            ),
            refunds: Batcher::new(Arc::new(TakeRefund { pool: pool.clone() }), limits, stop),
            looks: Batcher::new(Arc::new(LookUp { pool }), limits, stop),
            settings,
        }
    }

    async fn answer<T>(&self, ticket: Ticket<T>) -> Result<T, Fault> {
        let answer = ticket.await.map_err(|none| match none {
            NoAnswer::Overloaded { .. } | NoAnswer::TooLate | NoAnswer::Away(_) => {
                Fault::NotSent(none.to_string())
            }
            NoAnswer::Failed(_) | NoAnswer::Unavailable(_) => Fault::Unknown(none.to_string()),
        })?;
        tokio::time::sleep(self.settings.latency / 2).await;
        Ok(answer)
    }

    async fn deliver(&self, reply: Reply) -> Result<Said, Fault> {
        match reply {
            Reply::Says(said) => Ok(said),
            Reply::Error(why) => Err(Fault::NotSent(why.to_owned())),
            Reply::Wrong(why) => Err(Fault::Unknown(why.to_owned())),
            Reply::Silence => {
                tokio::time::sleep(self.settings.hang).await;
                Err(Fault::Unknown("the connection was closed without an answer".to_owned()))
            }
        }
    }
}

#[async_trait]
impl Provider for Simulator {
    fn name(&self) -> &'static str {
        "simulator"
    }

    async fn charge(&self, order: &ChargeOrder) -> Result<Said, Fault> {
        tokio::time::sleep(self.settings.latency / 2).await;
        let reply = self.answer(self.charges.submit(order.clone(), None)).await?;
        self.deliver(reply).await
    }

    async fn refund(&self, order: &RefundOrder) -> Result<Said, Fault> {
        tokio::time::sleep(self.settings.latency / 2).await;
        let reply = self.answer(self.refunds.submit(order.clone(), None)).await?;
        self.deliver(reply).await
    }

    async fn look_up(&self, key: &str) -> Result<Option<Said>, Fault> {
        tokio::time::sleep(self.settings.latency / 2).await;
        self.answer(self.looks.submit(key.to_owned(), None)).await
    }
}
