//! The tables of the order saga, one per version. A table that a saga may have been started under is never changed.

use types::StepName;

use crate::saga::{Retry, StepDef, StepKind};

/// The steps of a version; none when there is no such version.
///
/// - 1: as first released.
/// - 2: a saga that goes back while a person is asked withdraws the review.
pub(super) fn steps(version: u32) -> Option<Vec<StepDef>> {
    let screen = match version {
        1 => StepKind::Harmless,
        2 => StepKind::Withdrawn { message: "Withdraw" },
        _ => return None,
    };
    let taken_back_by = |command| StepKind::Compensated { command, declares_end: false };
    Some(vec![
        step("open", "order", 0, StepKind::Compensated { command: "Cancel", declares_end: true }),
        step("reserve", "inventory", 0, taken_back_by("Release")),
        step("screen", "risk", 0, screen),
        step("charge", "payment", 1, taken_back_by("Refund")),
        step("post", "ledger", 2, taken_back_by("Reverse")),
        step("commit", "inventory", 3, StepKind::Final),
        step("complete", "order", 3, StepKind::Final),
    ])
}

#[expect(clippy::expect_used, reason = "the names below are constants and valid; a test builds the table")]
fn step(name: &str, participant: &'static str, stage: usize, kind: StepKind) -> StepDef {
    let retry = match kind {
        StepKind::Final => Retry { budget: 0, first_ms: 200, cap_ms: 10_000 },
        StepKind::Compensated { .. } | StepKind::Harmless | StepKind::Withdrawn { .. } | StepKind::Pivot => {
            Retry { budget: 6, first_ms: 200, cap_ms: 5_000 }
        }
    };
    let name: StepName = name.parse().expect("a valid step name");
    StepDef { name, participant, stage, kind, retry, call_ms: 5_000 }
}
