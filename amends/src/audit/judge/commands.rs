//! I9, the commands of an ended saga: each was answered, and the participant remembers it; or it is dead.

use std::collections::BTreeSet;

use super::Case;
use crate::audit::report::Invariant::I9;

pub(super) fn judge(case: &mut Case<'_>) {
    let bundle = case.bundle;
    let (Some(story), true) = (&bundle.story, bundle.saga.as_ref().is_some_and(|saga| saga.ended)) else {
        return;
    };
    let steps: BTreeSet<&str> = story.sent.iter().map(|(step, _)| step.as_str()).collect();
    case.tally.checked(I9, steps.len() as u64);
    for step in steps {
        let is_dead = || {
            let ids = story.sent.iter().filter(|(sent, _)| sent == step).map(|(_, id)| id);
            story.dead.contains(step) || ids.flat_map(|id| id.parse()).any(|id| case.bench.dead.contains(&id))
        };
        let is_resolved = story.resolved.contains(&(step.to_owned(), true));
        let is_answered = story.answered.contains(step);
        if !is_answered && !is_resolved && !is_dead() {
            case.certain(I9, &format!("the command that takes {step} back was sent and has no answer"));
        }
        if is_answered && case.settled.is_some() && !remembers(case, step) {
            case.suspect(I9, &format!("{step} was answered as taken back, and no participant remembers it"));
        }
    }
}

/// Whether the participant's record says that the step was taken back, or never can happen.
fn remembers(case: &Case<'_>, step: &str) -> bool {
    let bundle = case.bundle;
    let over = |back: &Option<String>| matches!(back.as_deref(), Some("DONE" | "BLOCKED"));
    bundle.documents.iter().any(|record| record.step == step && over(&record.back))
        || bundle.reservations.iter().any(|record| record.step == step && over(&record.back))
        || bundle.attempts.iter().any(|record| record.step == step && over(&record.back))
        || bundle.postings.iter().any(|record| record.step == step && record.kind == "REVERSE")
}
