//! How long columns are, before they are led: measured at some places, and taken to be even in between.

use std::collections::BTreeMap;

use super::{Ground, Options, world::World};
use crate::load::Kind;

/// Points of a kind, and of recoveries after a death at some of them.
#[derive(Debug, Clone, Default)]
pub struct Survey {
    /// Of each kind: how many points an order of it passes, and (first, points of the recovery) in order.
    pub kinds: BTreeMap<Kind, (u64, Vec<(u64, u64)>)>,
}

/// Recoveries that are measured of each kind.
const PLACES: u64 = 4;

impl Survey {
    /// Measures.
    pub async fn of(ground: &Ground, kinds: &[Kind], options: &Options) -> Self {
        let measured = kinds.iter().map(|kind| {
            let (ground, options, kind) = (ground.clone(), options.clone(), *kind);
            tokio::spawn(async move {
                let mut world = World::begin(&ground, &options).await;
                let (points, _) = world.measure(kind, None).await;
                let mut recoveries = Vec::new();
                for place in 0..=PLACES {
                    let first = 1 + (points - 1) * place / PLACES;
                    if let (_, Some(recovery)) = world.measure(kind, Some(first)).await {
                        recoveries.push((first, recovery));
                    }
                }
                world.end().await;
                (kind, (points, recoveries))
            })
        });
        let mut survey = Self::default();
        for measured in measured.collect::<Vec<_>>() {
            let (kind, found) = measured.await.unwrap();
            survey.kinds.insert(kind, found);
        }
        survey
    }

    /// About how many points the recovery after a death at `first` passes.
    #[must_use]
    pub fn recovery(&self, kind: Kind, first: u64) -> u64 {
        let places = &self.kinds[&kind].1;
        let below = places.iter().rev().find(|(at, _)| *at <= first);
        let above = places.iter().find(|(at, _)| *at >= first);
        match (below, above) {
            (Some(&(a, x)), Some(&(b, y))) if a < b => (x * (b - first) + y * (first - a)) / (b - a),
            (Some(&(_, x)), _) | (None, Some(&(_, x))) => x,
            (None, None) => 0,
        }
    }
}
