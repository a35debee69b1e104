//! I10: versions and epochs; and I5: one end, and everybody says the same.

use chrono::DateTime;

use super::Case;
use crate::audit::{
    report::Invariant::{I5, I10},
    rows::{End, Order, Saga},
    story::Story,
};

pub(super) fn judge(case: &mut Case<'_>) {
    let bundle = case.bundle;
    match (&bundle.saga, &bundle.story) {
        (Some(saga), Some(story)) => {
            case.tally.checked(I10, 1);
            versions(case, saga, story);
            one_end(case, saga, story);
            open(case, saga, story);
        }
        (Some(_), None) => case.certain(I10, "has no journal"),
        (None, Some(_)) => case.certain(I10, "has a journal and no saga"),
        (None, None) => {}
    }
    order(case);
    document(case);
}

fn versions(case: &mut Case<'_>, saga: &Saga, story: &Story) {
    story.faults.iter().for_each(|fault| case.certain(I10, fault));
    let rows = [
        ("version", saga.version.to_string(), story.version.to_string()),
        ("epoch", saga.epoch.to_string(), story.epoch.to_string()),
        ("commit", saga.commit_id.to_string(), story.commit_id.to_string()),
    ];
    for (what, row, journal) in rows.iter().filter(|(_, row, journal)| row != journal) {
        case.certain(I10, &format!("its {what} is {row}, the journal's last {journal}"));
    }
}

fn one_end(case: &mut Case<'_>, saga: &Saga, story: &Story) {
    if story.ends.len() > 1 {
        case.certain(I5, &format!("finished {} times: {:?}", story.ends.len(), story.ends));
    }
    if !story.after_end.is_empty() {
        case.certain(I5, &format!("went on after its end: {}", story.after_end.join(", ")));
    }
    let end = story.ends.first().copied();
    if saga.end() != end || saga.ended != end.is_some() {
        let ended = if saga.ended { "ended" } else { "not ended" };
        let text = format!("its row says {} and {ended}, its journal {}", saga.state, name(end));
        case.certain(I5, &text);
    }
}

fn name(end: Option<End>) -> &'static str {
    match end {
        Some(End::Completed) => "COMPLETED",
        Some(End::Compensated) => "COMPENSATED",
        None => "no end",
    }
}

/// Not at its end: parked with a reason, or still in its time.
fn open(case: &mut Case<'_>, saga: &Saga, story: &Story) {
    if saga.ended {
        return;
    }
    let rule = case.bench.rule;
    if saga.state == "PARKED" {
        if saga.reason.is_empty() {
            case.certain(I5, "is parked without a reason");
        }
        let text = format!("{} is parked: {}", case.bundle.name(), saga.reason);
        return case.tally.inform(I5, text);
    }
    let what = format!("is still {} {}", saga.state, saga.reason);
    if rule.quiescent {
        return case.suspect(I5, what.trim_end());
    }
    if let Some((step, _)) = &story.review {
        let text = format!("{} waits for a reviewer of {step}", case.bundle.name());
        return case.tally.inform(I5, text);
    }
    let deadline = story.deadline.and_then(DateTime::from_timestamp_millis);
    if rule.is_past(deadline.unwrap_or(saga.create_time), rule.saga_grace) {
        case.certain(I5, &format!("{}, long past its deadline", what.trim_end()));
    }
}

/// The projection against the saga.
fn order(case: &mut Case<'_>) {
    let bundle = case.bundle;
    case.tally.checked(I5, u64::from(bundle.order.is_some()));
    match (&bundle.order, &bundle.saga) {
        (Some(_), None) => case.certain(I5, "the order has no saga"),
        (None, Some(saga)) if saga.kind == "order" => case.certain(I5, "the saga has no order"),
        (Some(order), Some(saga)) => projection(case, order, saga),
        (None, _) => {}
    }
}

fn projection(case: &mut Case<'_>, order: &Order, saga: &Saga) {
    if order.end() != saga.end() {
        case.certain(I5, &format!("the order is {}, its saga {}", order.status, saga.state));
    }
    if order.version > saga.version {
        let text = format!("the order shows version {}, its saga is at {}", order.version, saga.version);
        case.certain(I10, &text);
    }
}

/// The commercial document against the end, which Cancel declares when every other command is answered. What it may not say of a cancelled order is judged in `barriers.rs`.
fn document(case: &mut Case<'_>) {
    let bundle = case.bundle;
    let Some(order) = &bundle.order else {
        if bundle.documents.iter().any(|document| document.forward == "DONE") {
            case.suspect(I5, "order-svc has a document, and there is no order");
        }
        return;
    };
    let is_open = bundle.saga.as_ref().is_some_and(|saga| !saga.ended);
    for document in bundle.documents.iter().filter(|document| is_open && document.back.is_some()) {
        let unanswered = |story: &Story| story.unanswered(&document.step);
        if let Some(step) = bundle.story.as_ref().and_then(unanswered) {
            case.suspect(
                I5,
                &format!("its document is cancelled, and nobody has answered that {step} is taken back"),
            );
        }
    }
    if case.settled == Some(End::Completed) {
        let completed = bundle.documents.iter().any(|document| {
            document.status.as_deref() == Some("COMPLETED") && document.total == Some(order.total)
        });
        if !completed {
            let said: Vec<_> =
                bundle.documents.iter().map(|d| d.status.as_deref().unwrap_or("a tombstone")).collect();
            let text = format!(
                "COMPLETED over {}, and order-svc has no such document but [{}]",
                order.total,
                said.join(", ")
            );
            case.suspect(I5, &text);
        }
    }
}
