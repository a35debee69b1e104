//! I6: what was taken back leaves no effect, in each participant's record and by the end of its saga.

use std::collections::{BTreeMap, BTreeSet};

use super::Case;
use crate::audit::{report::Invariant::I6, rows::End};

pub(super) fn judge(case: &mut Case<'_>) {
    documents(case);
    reservations(case);
    attempts(case);
    postings(case);
}

fn documents(case: &mut Case<'_>) {
    for document in &case.bundle.documents {
        case.tally.checked(I6, 1);
        let (step, status) = (&document.step, document.status.as_deref().unwrap_or_default());
        let is_live = document.complete.is_some() || matches!(status, "OPEN" | "COMPLETED");
        if document.back.is_some() && is_live {
            case.certain(I6, &format!("{step} was taken back, and its document is {status}"));
        } else if case.settled == Some(End::Compensated) && is_live {
            case.suspect(I6, &format!("COMPENSATED, and the document of {step} is {status}"));
        }
    }
}

/// By the record alone; by the order it is I4.
fn reservations(case: &mut Case<'_>) {
    for reservation in &case.bundle.reservations {
        case.tally.checked(I6, 1);
        let state = reservation.state.as_deref().unwrap_or_default();
        // The state follows from the outcomes; a hand that changed those may have changed the rule as well.
        let is_live = reservation.commit.is_some()
            || matches!(state, "RESERVED" | "SOLD")
            || (reservation.forward == "DONE" && reservation.back.as_deref() == Some("BLOCKED"));
        if reservation.back.is_some() && is_live {
            let text = format!("{} was taken back, and its stock is {state}", reservation.step);
            case.certain(I6, &text);
        }
    }
}

fn attempts(case: &mut Case<'_>) {
    for attempt in &case.bundle.attempts {
        case.tally.checked(I6, 1);
        let (step, state) = (&attempt.step, attempt.state.as_str());
        let is_live = match attempt.back.as_deref() {
            Some("DONE") => state != "REFUNDED",
            // Money that was seen after all is on its way back, or there.
            Some("BLOCKED") => !matches!(state, "BLOCKED" | "DECLINED" | "REFUNDING" | "REFUNDED"),
            _ => false,
        };
        if is_live {
            case.certain(I6, &format!("{step} was taken back, and its charge is {state}"));
        } else if case.settled == Some(End::Compensated) && state == "SUCCEEDED" {
            case.suspect(I6, &format!("COMPENSATED, and {step} is {state}"));
        }
        let net = case.bench.book.line(attempt.payment).net();
        if matches!(attempt.back.as_deref(), Some("DONE" | "BLOCKED")) && net != 0 {
            case.suspect(I6, &format!("{step} was taken back, and the provider holds {net} of it"));
        }
    }
}

fn postings(case: &mut Case<'_>) {
    let bundle = case.bundle;
    let steps: BTreeSet<&str> = bundle.postings.iter().map(|posting| posting.step.as_str()).collect();
    for step in steps {
        case.tally.checked(I6, 1);
        let rows = || bundle.postings.iter().filter(|posting| posting.step == step);
        let is_booked = rows().any(|posting| posting.is("POST", "DONE"));
        let is_back = rows().any(|posting| posting.kind == "REVERSE");
        if is_back && is_booked && !rows().any(|posting| posting.is("REVERSE", "DONE")) {
            case.certain(I6, &format!("{step} was taken back as not booked, and is booked"));
        }
        if is_back && !is_level(rows().filter(|posting| posting.kind != "SUSPENSE").flat_map(|p| &p.entries))
        {
            case.certain(I6, &format!("{step} was taken back, and its entries do not cancel each other"));
        }
        if case.settled == Some(End::Compensated) && is_booked && !is_back {
            case.suspect(I6, &format!("COMPENSATED, and {step} is booked without its reversal"));
        }
    }
}

/// Whether these entries leave every account as it was.
fn is_level<'e>(entries: impl Iterator<Item = &'e (String, i64)>) -> bool {
    let mut sums: BTreeMap<&str, i128> = BTreeMap::new();
    for (account, amount) in entries {
        *sums.entry(account).or_default() += i128::from(*amount);
    }
    sums.values().all(|sum| *sum == 0)
}
