//! The clock of reviews: every second, those whose deadline has passed are ended.
//!
//! What is due stands in the database, so a restart forgets nothing, and of several processes each may look. Ending is
//! the same command as a person's decision. Read next: [`crate::commands::review`].

use std::time::Duration;

use chassis::{batcher::Batcher, database::Trouble, stop::Stop};
use futures_util::future::join_all;
use sqlx::PgPool;
use types::SagaId;

use crate::{
    commands::review::{Item, Knocking},
    domain::Knock,
    store::review,
};

/// How often.
const EVERY: Duration = Duration::from_secs(1);
/// How many are ended at a time.
const MOST: i64 = 200;

/// Looks until it is told to stop.
pub(crate) async fn watch(pool: PgPool, knocking: Batcher<Knocking>, stop: Stop) {
    while stop.sleep(EVERY).await {
        if let Err(trouble) = expire(&pool, &knocking).await {
            tracing::warn!(error = %trouble, "cannot look for reviews that are due");
        }
    }
}

async fn expire(pool: &PgPool, knocking: &Batcher<Knocking>) -> Result<(), Trouble> {
    let due = review::due(&mut *pool.acquire().await?, MOST).await?;
    let tickets = due.into_iter().filter_map(|(saga, step)| {
        let saga = SagaId::from_uuid(saga);
        let (reviewer, reason) = (String::new(), String::new());
        let step = Some(step.parse().ok()?);
        Some(async move {
            let item = Item { saga, step, knock: Knock::Clock, reviewer, reason };
            if let Err(none) = knocking.submit(item, None).await {
                tracing::warn!(saga.id = %saga, error = %none, "a review cannot be ended yet");
            }
        })
    });
    join_all(tickets).await;
    Ok(())
}
