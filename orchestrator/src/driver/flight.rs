//! A commit on its way: what has to be known of it until it is known what became of it.

use tracing::Span;
use uuid::Uuid;

/// A commit on its way.
pub(super) struct Flight {
    /// Which: a saga that left and came back is told of commits of its former self, too.
    pub(super) commit: Uuid,
    /// When what the projection shows changed with it, milliseconds since 1970; none if it did not.
    pub(super) shown_at: Option<i64>,
    /// It holds a decision.
    pub(super) decision: bool,
    /// The signals it answers.
    pub(super) signals: Vec<Uuid>,
    /// Ends when it is known what became of it.
    pub(super) span: Span,
}
