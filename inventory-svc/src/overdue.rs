//! The alarm for holds that outlive their time. A saga's hold ends only by its own Commit or Release: this looks,
//! counts and says so, and never drops one.

use std::time::Duration;

use chassis::{clock, stop::Stop};
use chrono::{DateTime, Utc};
use sqlx::PgPool;

use crate::store::reservation;

/// Looks every so often until the process stops.
pub(crate) async fn watch(pool: PgPool, every: Duration, stop: Stop) {
    let mut said = 0;
    while stop.sleep(every).await {
        match look(&pool).await {
            Ok((count, since)) => {
                metrics::gauge!("amends_inventory_overdue_holds")
                    .set(f64::from(i32::try_from(count).unwrap_or(i32::MAX)));
                if count > said {
                    tracing::warn!(holds = count, hold.until.first = ?since, "reservations are held past their time: look at their sagas");
                }
                said = count;
            }
            Err(error) => tracing::warn!(%error, "cannot look for overdue holds"),
        }
    }
}

async fn look(pool: &PgPool) -> sqlx::Result<(i64, Option<DateTime<Utc>>)> {
    let mut connection = pool.acquire().await?;
    reservation::overdue(&mut connection, clock::now()).await
}
