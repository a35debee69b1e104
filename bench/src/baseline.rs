//! The same order without an orchestrator: five hand-written transactions in a row.
//!
//! Open, reserve, charge, post four ledger rows, complete; each commits with its idempotency row. A declined order posts
//! nothing, and is released and cancelled instead. It is what a careful team writes first: durable at every step, safe
//! to repeat, and lost when the process dies in between, since nobody takes it up again. Read next: `baseline/store.rs`.

mod store;

use anyhow::Context as _;
use load::{
    Outcome, Subject,
    mix::{Drawn, Due},
};
use sqlx::{PgPool, postgres::PgPoolOptions};

/// Best of those tried on two cores: more only wait for each other.
const CONNECTIONS: u32 = 16;

/// The hand-written orders, in a database of their own.
#[derive(Debug)]
pub struct Baseline {
    pool: PgPool,
}

impl Baseline {
    /// Makes its database on the server of `url` and fills it.
    ///
    /// # Errors
    /// What the server says.
    pub async fn new(url: &str) -> anyhow::Result<Self> {
        let url = store::create_database(url).await.context("the baseline's database cannot be made")?;
        // As fast as the pool can be: no ping before a connection is handed out.
        let pool = PgPoolOptions::new()
            .max_connections(CONNECTIONS)
            .test_before_acquire(false)
            .connect(&url)
            .await?;
        store::fill(&pool).await.context("the baseline's tables cannot be made")?;
        Ok(Self { pool })
    }

    /// Where it is, for the meter.
    #[must_use]
    pub fn pool(&self) -> &PgPool {
        &self.pool
    }

    /// Everything adds up, or what does not.
    ///
    /// # Errors
    /// What the server says.
    pub async fn audit(&self) -> anyhow::Result<Option<String>> {
        store::audit(&self.pool).await.context("the baseline cannot be looked at")
    }

    async fn run(&self, order: &Drawn) -> sqlx::Result<Outcome> {
        let id = chassis::clock::new_uuid();
        store::open(&self.pool, id, order).await?;
        if !store::reserve(&self.pool, id, &order.sku).await? {
            store::end(&self.pool, id, "CANCELLED").await?;
            return Ok(outcome(order, Due::Cancelled("OUT_OF_STOCK")));
        }
        let declined = order.due == Due::Cancelled("CARD_DECLINED");
        store::charge(&self.pool, id, !declined).await?;
        if declined {
            store::release(&self.pool, id, &order.sku).await?;
            store::end(&self.pool, id, "CANCELLED").await?;
            return Ok(outcome(order, Due::Cancelled("CARD_DECLINED")));
        }
        store::post(&self.pool, id, &order.merchant).await?;
        store::end(&self.pool, id, "COMPLETED").await?;
        Ok(outcome(order, Due::Completed))
    }
}

fn outcome(order: &Drawn, came: Due) -> Outcome {
    if order.due == came {
        Outcome::Met
    } else {
        Outcome::Wrong(format!("{came:?} instead of {:?}", order.due))
    }
}

impl Subject for Baseline {
    async fn order(&self, order: Drawn) -> Outcome {
        self.run(&order).await.unwrap_or_else(|error| Outcome::Wrong(error.to_string()))
    }
}
