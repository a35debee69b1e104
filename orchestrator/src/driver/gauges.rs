//! What the loop shows of its sagas: how many are in which state, and how long the oldest command is unanswered.
//!
//! It looks at every saga, so it does so once a second and not at every turn. It only looks.

use std::collections::HashMap;

use types::SagaId;

use super::live::Live;
use crate::{metrics, saga::Label};

const EVERY_MS: i64 = 1000;

const SHOWN: [Label; 4] = [Label::Running, Label::Waiting, Label::Compensating, Label::Parked];

/// When it looks next.
#[derive(Debug, Default)]
pub(super) struct Gauges {
    next: i64,
}

impl Gauges {
    pub(super) fn look(&mut self, sagas: &HashMap<SagaId, Box<Live>>, waiting: usize, now: i64) {
        if now < self.next {
            return;
        }
        self.next = now + EVERY_MS;
        metrics::in_flight(sagas.len(), waiting);
        let mut counts = [0_u32; SHOWN.len()];
        let mut oldest = now;
        for saga in sagas.values() {
            let label = saga.label();
            if let Some(place) = SHOWN.iter().position(|shown| *shown == label) {
                counts[place] += 1;
            }
            oldest = saga.oldest_command().map_or(oldest, |sent| sent.min(oldest));
        }
        for (label, count) in SHOWN.into_iter().zip(counts) {
            metrics::state(label.as_str(), count);
        }
        metrics::compensation_lag(now - oldest);
    }
}
