//! Taking sagas from their journals: what acquiring a shard does, and what a sweep repeats.
//!
//! There is no second path: a saga that was loaded gets the same moves from the same functions as one that has just
//! moved. This only reads, and counts how often a saga was in hand when its owner died (see [`resume`]).

use std::collections::{HashMap, HashSet};

use chassis::seeded::{Bug, is};
use sqlx::PgPool;
use tokio::sync::mpsc;
use types::SagaId;

use crate::{
    journal::{self, Stored},
    store::resume,
};

/// Sagas to be loaded.
#[derive(Debug)]
pub struct Wanted {
    /// Which.
    pub sagas: Vec<SagaId>,
    /// Those of them whose owner died with work in hand.
    pub resumed: Vec<SagaId>,
    /// The shards that this instance owns, with their epochs.
    pub owned: Vec<(i16, i64)>,
    /// Shards that somebody else took over while this instance only slept: nothing in them killed it.
    pub acquitted: Vec<i16>,
}

/// Sagas that were asked for.
#[derive(Debug)]
pub struct Loaded {
    /// Which were asked for.
    pub asked: Vec<SagaId>,
    /// Those that are there, in shards that are still owned; none when the database could not be asked.
    pub stored: Option<Vec<Stored>>,
    /// How often each was resumed without 30 s of life in between.
    pub resumes: HashMap<SagaId, i32>,
}

/// Sagas read in one go: few at first, so that they move soon, then twice as many each time up to the most, since each go
/// waits for a commit and a read while those that were read before are being driven. Not more: should one of them kill this
/// process, all that were counted as resumed are suspected with it.
const FIRST_CHUNK: usize = 200;
const LARGEST_CHUNK: usize = 800;

/// Loads what is wanted until nobody wants anything.
pub(crate) async fn run(
    pool: PgPool,
    mut wanted: mpsc::UnboundedReceiver<Wanted>,
    loaded: mpsc::UnboundedSender<Loaded>,
) {
    while let Some(want) = wanted.recv().await {
        if !want.acquitted.is_empty()
            && let Err(error) = acquit(&pool, &want.acquitted).await
        {
            tracing::warn!(%error, "sagas that were taken over count as if their owner had died");
        }
        let in_hand: HashSet<SagaId> = want.resumed.into_iter().collect();
        let mut chunks = Chunks { rest: &want.sagas, size: FIRST_CHUNK };
        while let Some(asked) = chunks.next() {
            let resumed: Vec<SagaId> = asked.iter().copied().filter(|s| in_hand.contains(s)).collect();
            let (stored, resumes) = match load(&pool, asked, &resumed, &want.owned).await {
                Ok((stored, resumes)) => (Some(stored), resumes),
                Err(error) => {
                    tracing::warn!(sagas = asked.len(), %error, "cannot load sagas; the next sweep tries again");
                    chunks.size = FIRST_CHUNK;
                    (None, HashMap::new())
                }
            };
            if loaded.send(Loaded { asked: asked.to_vec(), stored, resumes }).is_err() {
                return;
            }
        }
    }
}

/// Sagas in growing pieces.
struct Chunks<'s> {
    rest: &'s [SagaId],
    /// Of the next.
    size: usize,
}

impl<'s> Iterator for Chunks<'s> {
    type Item = &'s [SagaId];

    fn next(&mut self) -> Option<&'s [SagaId]> {
        let (chunk, rest) = self.rest.split_at_checked(self.size).unwrap_or((self.rest, &[]));
        self.rest = rest;
        self.size = (2 * self.size).min(LARGEST_CHUNK);
        (!chunk.is_empty()).then_some(chunk)
    }
}

async fn acquit(pool: &PgPool, shards: &[i16]) -> sqlx::Result<()> {
    resume::acquit(&mut *pool.acquire().await?, shards).await
}

async fn load(
    pool: &PgPool,
    asked: &[SagaId],
    resumed: &[SagaId],
    owned: &[(i16, i64)],
) -> sqlx::Result<(Vec<Stored>, HashMap<SagaId, i32>)> {
    let mut connection = pool.acquire().await?;
    let resumes = match resumed {
        [] => HashMap::new(),
        resumed => resume::count(&mut connection, resumed, owned).await?.into_iter().collect(),
    };
    let stored = if is(Bug::NoEpochCheck) {
        journal::load(&mut connection, asked).await?
    } else {
        journal::load_owned(&mut connection, asked, owned).await?
    };
    Ok((stored, resumes))
}

/// What to do with the open sagas of a shard: pure.
#[derive(Debug, PartialEq, Eq, Default)]
pub(crate) struct Plan {
    /// Load these: they are not in the registry.
    pub load: Vec<SagaId>,
    /// Of those, the ones whose owner died with work in hand.
    pub resumed: Vec<SagaId>,
}

/// Sorts what was found: only absent ids are taken, and only after a death does work in hand count as resumed.
pub(crate) fn plan(
    found: &[(SagaId, i16, String)],
    is_known: impl Fn(SagaId) -> bool,
    died: impl Fn(i16) -> bool,
) -> Plan {
    let mut plan = Plan::default();
    for (saga, shard, state) in found {
        if is_known(*saga) {
            continue;
        }
        plan.load.push(*saga);
        if died(*shard) && matches!(state.as_str(), "RUNNING" | "COMPENSATING") {
            plan.resumed.push(*saga);
        }
    }
    plan
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    #[test]
    fn every_saga_is_read_once_in_growing_chunks() {
        let sagas: Vec<_> = (0..5000).map(|n| SagaId::from_uuid(Uuid::from_u128(n))).collect();
        for count in [0, 1, 199, 200, 201, 600, 5000] {
            let read: Vec<_> = Chunks { rest: &sagas[..count], size: FIRST_CHUNK }.collect();
            assert_eq!(read.concat(), &sagas[..count]);
        }
        let sizes: Vec<_> = Chunks { rest: &sagas[..3000], size: FIRST_CHUNK }.map(<[_]>::len).collect();
        assert_eq!(sizes, [200, 400, 800, 800, 800]);
    }

    #[test]
    fn only_absent_sagas_are_loaded_and_only_work_in_hand_counts_as_resumed() {
        let saga = |n| SagaId::from_uuid(Uuid::from_u128(n));
        let found = [
            (saga(1), 0, "RUNNING".to_owned()),
            (saga(2), 0, "WAITING".to_owned()),
            (saga(3), 1, "COMPENSATING".to_owned()),
            (saga(4), 1, "RUNNING".to_owned()),
        ];
        let plan = plan(&found, |s| s == saga(4), |shard| shard == 0);
        assert_eq!(plan.load, [saga(1), saga(2), saga(3)]);
        assert_eq!(plan.resumed, [saga(1)]);
    }
}
