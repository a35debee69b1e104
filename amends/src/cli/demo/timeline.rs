//! Journal events as lines that a person reads: when, what, and why.

use std::fmt;

use proto::saga::v1::JournalEntry;
use serde_json::{Value, json};

use crate::cli::output::plain;

/// What was shown of a saga so far.
#[derive(Debug, Default)]
pub(super) struct Timeline {
    version: i64,
    began: Option<i64>,
}

/// One event.
#[derive(Debug)]
pub(super) struct Line {
    /// Milliseconds since the start.
    after: i64,
    text: String,
    /// As the journal has it.
    pub(super) event: Value,
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "+{:>7} ms  {}", self.after, plain(&self.text))
    }
}

impl Timeline {
    /// The lines of an entry; none when it was shown before.
    pub(super) fn lines(&mut self, entry: &JournalEntry) -> Vec<Line> {
        if entry.version <= self.version {
            return Vec::new();
        }
        self.version = entry.version;
        entry.events.iter().map(|event| self.line(event)).collect()
    }

    fn line(&mut self, event: &str) -> Line {
        let event: Value = serde_json::from_str(event).unwrap_or_else(|_| json!({ "event": event }));
        let at = event["at"].as_i64().unwrap_or_default();
        let began = *self.began.get_or_insert(at);
        Line { after: at - began, text: text(&event), event }
    }
}

fn text(event: &Value) -> String {
    let of = |name: &str| event[name].as_str().unwrap_or_default().to_owned();
    let step = of("step");
    let reason = match of("reason") {
        reason if reason.is_empty() => reason,
        reason => format!(": {reason}"),
    };
    match of("event").as_str() {
        "Started" => "the order is accepted".into(),
        "StepDone" => format!("{step} is done"),
        "StepRefused" => format!("{step} is refused{reason}"),
        "StepPending" => format!("{step} waits ({})", of("action")),
        "StepFenced" => format!("{step} is fenced: its compensation came first"),
        "AttemptFailed" if event["doubt"] == json!(true) => {
            format!("{step} is in doubt{reason}")
        }
        "AttemptFailed" => format!("{step} was not heard{reason}"),
        "CancelRequested" => format!("somebody cancels{reason}"),
        "TurnedRound" => {
            let back: Vec<_> =
                event["take_back"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
            format!("turning round{reason}; to be taken back: {}", back.join(", "))
        }
        "CommandSent" => format!("{step} is to be taken back: the command is sent"),
        "CommandAnswered" if event["applied"] == json!(true) => format!("{step} is taken back"),
        "CommandAnswered" => format!("{step} had nothing to take back"),
        "PivotPassed" => "from here only forward".into(),
        "Finished" => format!("ended: {}", of("outcome")),
        "Parked" => format!("parked{reason}"),
        other => format!("{other} {step}{reason}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_event_is_shown_once_with_its_time() {
        let events = vec![
            json!({ "at": 1000, "event": "Started" }).to_string(),
            json!({ "at": 1012, "event": "StepRefused", "step": "charge", "reason": "CARD_DECLINED" })
                .to_string(),
        ];
        let entry = JournalEntry { version: 1, events, ..Default::default() };
        let mut timeline = Timeline::default();
        let lines: Vec<_> = timeline.lines(&entry).iter().map(ToString::to_string).collect();
        assert_eq!(
            lines,
            ["+      0 ms  the order is accepted", "+     12 ms  charge is refused: CARD_DECLINED"]
        );
        assert!(timeline.lines(&entry).is_empty(), "again");
    }
}
