//! A commit on its way: what has to be known of it until it is known what became of it.

use tracing::Span;
use uuid::Uuid;

/// A commit on its way.
pub(super) struct Flight {
    /// Which: a saga that left and came back is told of commits of its former self, too.
    pub(super) commit: Uuid,
    /// It holds a decision.
    pub(super) decision: bool,
    /// The signals it answers.
    pub(super) signals: Vec<Uuid>,
    /// Ends when it is known what became of it.
    pub(super) span: Span,
}
