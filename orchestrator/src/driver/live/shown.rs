//! What is shown of a saga: in its row, and to whoever waits for it. It only looks.

use std::sync::Arc;

use super::Live;
use crate::{
    hub::Told,
    saga::{Forward, Label},
};

impl Live {
    /// What is durable of it, for whoever waits; right when a commit has just landed and none is in flight.
    pub(in crate::driver) fn told(&self) -> Told {
        let (version, time) = self.shown_since;
        Told { version, shown: Arc::new(self.shown.clone()), time }
    }

    /// When the command left that has been unanswered for longest.
    pub(in crate::driver) fn oldest_command(&self) -> Option<i64> {
        self.state.steps.iter().filter_map(|step| step.back().sent_at()).min()
    }

    /// Why it is in this state, where there is something to say.
    pub(super) fn reason(&self, label: Label) -> String {
        let turned = || self.state.turned.as_ref().map(|why| why.reason.clone());
        let waits = || {
            self.state.steps.iter().find_map(|step| match &step.forward {
                Forward::Pending { action, .. } => Some(action.to_string()),
                Forward::Idle
                | Forward::Done { .. }
                | Forward::Refused(_)
                | Forward::Fenced
                | Forward::Skipped => None,
            })
        };
        let reason = match label {
            Label::Parked => {
                self.state.parked.as_ref().map(|p| p.reason.clone()).or_else(|| self.state.parked_back())
            }
            Label::Waiting => waits(),
            Label::Compensating | Label::Compensated => turned(),
            Label::Running | Label::Completed => None,
        };
        reason.unwrap_or_default()
    }
}
