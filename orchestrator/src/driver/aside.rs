//! Sagas that this build cannot drive: a newer one started them or wrote their journals.

use super::Driver;
use crate::{journal::Stored, signal::Signal};

impl Driver {
    /// Alarms once per saga and process: the next owner may know it.
    pub(super) fn set_aside(&mut self, stored: &Stored, illegal: Option<String>, early: &[Signal]) {
        let is_known = self.unknown.contains_key(&stored.saga);
        self.unknown.entry(stored.saga).or_default().extend(early.iter().map(|signal| signal.id));
        if is_known {
            return;
        }
        let why = stored.unreadable.clone().or(illegal).unwrap_or_else(|| "unknown definition".into());
        tracing::error!(
            saga.id = %stored.saga, kind = stored.kind, version = stored.definition_version, why,
            "this build does not know the definition or cannot read the journal; the saga is left untouched"
        );
    }
}
