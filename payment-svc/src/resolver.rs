//! Recovery as the normal path: whatever is due is looked after, whoever began it and whoever died.
//!
//! A due attempt is claimed by putting its next look off, so that any number of resolvers may run; what a look finds
//! goes the same way as what a call answers. It must never decide anything itself. See [`crate::calls`].

use std::{sync::Arc, time::Duration};

use chassis::stop::Stop;
use sqlx::PgPool;

use crate::{
    calls::Calls,
    domain::Policy,
    store::{self, Due},
};

/// Attempts claimed at once.
const CLAIM: usize = 64;

/// The loop.
pub(crate) struct Resolver {
    pub(crate) calls: Arc<Calls>,
    pub(crate) pool: PgPool,
    pub(crate) policy: Policy,
    pub(crate) every: Duration,
}

impl Resolver {
    /// Runs until `stop`.
    pub(crate) async fn run(self, stop: Stop) {
        while stop.sleep(self.every).await {
            // Nobody can be asked now; what is due stays due.
            if self.calls.closed_for() > Duration::ZERO {
                continue;
            }
            while !stop.is_wanted() {
                match self.round().await {
                    Ok(CLAIM) => {}
                    Ok(_) => break,
                    Err(error) => {
                        tracing::warn!(%error, "cannot claim attempts that are due");
                        break;
                    }
                }
            }
        }
    }

    /// Claims what there are slots for. Half of the lane stays free for refunds that are asked for.
    async fn round(&self) -> sqlx::Result<usize> {
        let lane = self.calls.lane();
        let most = lane.available_permits().div_ceil(2).min(CLAIM);
        if most == 0 {
            return Ok(0);
        }
        let lease = self.policy.call_timeout * 2 + self.policy.look;
        let due: Vec<Due> = {
            let mut connection = self.pool.acquire().await?;
            store::claim(&mut connection, lease.as_secs_f64(), i64::try_from(most).unwrap_or(i64::MAX))
                .await?
        };
        let claimed = due.len();
        for attempt in due {
            let Ok(slot) = Arc::clone(&lane).acquire_owned().await else { break };
            self.calls.look_after(attempt, slot);
        }
        Ok(claimed)
    }
}
