//! The table, as people read it.

use std::{collections::BTreeMap, fmt::Write as _};

use super::{
    cells::{Cell, Turn},
    expect::{End, Review},
};

/// A cell, and how it ended, or what was wrong.
pub(super) type Played = (Cell, Result<(), String>);

fn end(end: &End) -> String {
    match end {
        End::Completed => "completed".into(),
        End::Cancelled(reason) => format!("made good, {reason}"),
        End::Parked(reason, way, then) => {
            let way = match way {
                super::expect::Way::Retry => "repaired, Retry",
                super::expect::Way::Answered => "done by hand, answered",
                super::expect::Way::Resolve => "done by hand, Resolve",
            };
            format!("parked ({reason}); {way}; {}", self::end(then))
        }
        End::GoesOn(then) => format!("goes on trying; healed; {}", self::end(then)),
    }
}

fn turn(turn: &Turn) -> &'static str {
    match turn {
        Turn::Refused(_) | Turn::RefusedUnderReview(_) | Turn::RefusedInFlight(_) => "refusal",
        Turn::Doubt => "doubt",
        Turn::Cancelled(_) | Turn::CancelledUnderReview => "cancel",
    }
}

/// Rows of step, direction and fault; the versions of a saga that do the same share one.
pub(super) fn render(played: &[Played]) -> String {
    let mut rows: BTreeMap<_, (Vec<u32>, Vec<&'static str>, usize, usize)> = BTreeMap::new();
    for (cell, outcome) in played {
        let times = match cell.times {
            u32::MAX => "for good".to_owned(),
            times => format!("{times}×"),
        };
        let withdrawn = match cell.review {
            Some(Review::Withdrawn) => "; review withdrawn",
            Some(Review::LeftOpen) => "; review left open",
            Some(Review::Never) => "; no review",
            Some(Review::WithdrawnOrNever) => "; no open review",
            None => "",
        };
        let ends = format!("{}{withdrawn}", end(&cell.end));
        // A turn's own reason is not what the row is about.
        let ends = if cell.turn.is_some() {
            ends.split(", CANCEL_REQUESTED").next().unwrap().to_owned()
        } else {
            ends
        };
        let ends = ["OUT_OF_STOCK", "ACCOUNT_CLOSED", "STEP_FAILED"].iter().fold(ends, |ends, reason| {
            if cell.turn.is_some() { ends.replace(&format!(", {reason}"), "") } else { ends }
        });
        let key = (cell.kind, cell.step.clone(), cell.direction, cell.fault.to_string(), times, ends);
        let row = rows.entry(key).or_insert_with(|| (Vec::new(), Vec::new(), 0, 0));
        if !row.0.contains(&cell.version) {
            row.0.push(cell.version);
        }
        if let Some(turn) = cell.turn.as_ref().map(turn)
            && !row.1.contains(&turn)
        {
            row.1.push(turn);
        }
        row.2 += 1;
        row.3 += usize::from(outcome.is_ok());
    }
    let mut text =
        String::from("| saga | step | way | fault | times | turned round by | end | cells | as it says |\n");
    text.push_str("|---|---|---|---|---|---|---|---|---|\n");
    for ((kind, step, direction, fault, times, end), (versions, turns, cells, right)) in &rows {
        let versions: Vec<_> = versions.iter().map(u32::to_string).collect();
        let (versions, turns) = (versions.join(", "), turns.join(", "));
        writeln!(
            text,
            "| {kind} {versions} | {step} | {direction} | {fault} | {times} | {turns} | {end} | {cells} | {right} |"
        )
        .unwrap();
    }
    let right = played.iter().filter(|(_, outcome)| outcome.is_ok()).count();
    writeln!(text, "\n{} rows, {} cells, {right} as the table says.", rows.len(), played.len()).unwrap();
    text
}
