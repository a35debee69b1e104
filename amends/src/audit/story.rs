//! A saga's journal, read by its stored form and not by the code that wrote it.
//!
//! Only what the invariants ask is kept; the saga's input is passed over. Faults of the journal itself (I10) are noted
//! while it is read.

use std::collections::BTreeSet;

use serde::Deserialize;
use uuid::Uuid;

use super::rows::End;

/// An event with the fields that matter here. Names of steps and ids hold nothing that JSON would escape.
#[derive(Debug, Deserialize)]
struct Fact<'t> {
    at: i64,
    event: &'t str,
    #[serde(default)]
    step: Option<&'t str>,
    #[serde(default)]
    action: Option<&'t str>,
    #[serde(default)]
    outcome: Option<&'t str>,
    #[serde(default)]
    message_id: Option<&'t str>,
    #[serde(default)]
    deadline: Option<i64>,
    #[serde(default)]
    compensation: bool,
}

/// What a journal tells.
#[derive(Debug, Default, Hash)]
pub(super) struct Story {
    /// The last row's.
    pub(super) version: i64,
    /// The last row's.
    pub(super) epoch: i64,
    /// The last row's.
    pub(super) commit_id: Uuid,
    /// What is wrong with it.
    pub(super) faults: Vec<String>,
    /// Every `Finished`, in order.
    pub(super) ends: Vec<End>,
    /// What was decided after the end.
    pub(super) after_end: Vec<String>,
    /// Milliseconds since 1970, with time under review added.
    pub(super) deadline: Option<i64>,
    /// Which step waits for a reviewer, and since when.
    pub(super) review: Option<(String, i64)>,
    /// Steps whose compensation was sent, with the ids of the commands.
    pub(super) sent: Vec<(String, String)>,
    /// Steps whose compensation was answered.
    pub(super) answered: BTreeSet<String>,
    /// Steps whose command went to the dead queue.
    pub(super) dead: BTreeSet<String>,
    /// Steps, and compensations, that a person gave an outcome.
    pub(super) resolved: BTreeSet<(String, bool)>,
    /// The pivot was passed.
    pub(super) pivot: bool,
    turned: bool,
    begun: bool,
    /// The facts of the last row, as they stand there.
    last: String,
}

/// What may still be heard after the end; it changes nothing. Only in the commit of the end itself: the row is closed
/// then.
const LATE: [&str; 8] = [
    "AttemptFailed",
    "StepPending",
    "StepDone",
    "StepRefused",
    "StepFenced",
    "CommandAnswered",
    "CommandDead",
    "CancelRequested",
];

impl Story {
    /// The next row, in the order of versions.
    pub(super) fn add(&mut self, version: i64, epoch: i64, commit_id: Uuid, events: &str) {
        if version != self.version + 1 {
            self.faults.push(format!("version {version} follows {}", self.version));
        }
        if epoch < self.epoch {
            self.faults
                .push(format!("version {version} was written under epoch {epoch}, after {}", self.epoch));
        }
        if !self.ends.is_empty() {
            self.after_end.push(format!("version {version}"));
        }
        // With the times of its facts: nobody says that again but who has forgotten that it was written.
        if self.last == events {
            self.faults.push(format!("version {version} says again what version {} said", self.version));
        }
        events.clone_into(&mut self.last);
        (self.version, self.epoch, self.commit_id) = (version, epoch, commit_id);
        match serde_json::from_str::<Vec<Fact<'_>>>(events) {
            Ok(facts) => facts.iter().for_each(|fact| self.hear(fact)),
            Err(error) => self.faults.push(format!("version {version} cannot be read: {error}")),
        }
    }

    /// Whether a person gave an outcome.
    pub(super) fn is_by_hand(&self) -> bool {
        !self.resolved.is_empty()
    }

    /// A step other than this one whose command was sent, and of which nobody has said that it is taken back.
    pub(super) fn unanswered(&self, but: &str) -> Option<String> {
        let is_over =
            |step: &String| self.answered.contains(step) || self.resolved.contains(&(step.clone(), true));
        let steps = self.sent.iter().map(|(step, _)| step);
        steps.filter(|step| *step != but).find(|step| !is_over(step)).cloned()
    }

    fn hear(&mut self, fact: &Fact<'_>) {
        let is_first = !std::mem::replace(&mut self.begun, true);
        if (fact.event == "Started") != is_first {
            let said = if is_first { "begins with" } else { "has a second" };
            self.faults.push(format!("the journal {said} {}", fact.event));
        }
        if !self.ends.is_empty() && fact.event != "Finished" && !LATE.contains(&fact.event) {
            self.after_end.push(fact.event.to_owned());
        }
        let step = || fact.step.unwrap_or_default().to_owned();
        match fact.event {
            "PivotPassed" if std::mem::replace(&mut self.pivot, true) => {
                self.faults.push("the pivot was passed twice".to_owned());
            }
            "TurnedRound" if std::mem::replace(&mut self.turned, true) => {
                self.faults.push("it turned round twice".to_owned());
            }
            "Started" => self.deadline = Some(fact.deadline.unwrap_or(i64::MAX)),
            "Finished" => match fact.outcome {
                Some("Completed") => self.ends.push(End::Completed),
                Some("Compensated") => self.ends.push(End::Compensated),
                other => self.faults.push(format!("it finished as {}", other.unwrap_or("nothing"))),
            },
            "StepPending" if fact.action == Some("REVIEW") && self.review.is_none() => {
                self.review = Some((step(), fact.at));
            }
            "StepDone" | "StepRefused" => self.reviewed(fact),
            "CommandSent" => self.sent.push((step(), fact.message_id.unwrap_or_default().to_owned())),
            "CommandAnswered" => {
                self.answered.insert(step());
            }
            "CommandDead" => {
                self.dead.insert(step());
            }
            "Resolved" => {
                self.resolved.insert((step(), fact.compensation));
                if !fact.compensation {
                    self.reviewed(fact);
                }
            }
            _ => {}
        }
    }

    /// Time under review does not count.
    fn reviewed(&mut self, fact: &Fact<'_>) {
        let Some((_, since)) = self.review.take_if(|(step, _)| fact.step == Some(step.as_str())) else {
            return;
        };
        self.deadline = self.deadline.map(|deadline| deadline.saturating_add((fact.at - since).max(0)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STARTED: &str = r#"[{"at":5,"event":"Started","kind":"order","version":1,"hash":-3,"steps":["open"],
        "deadline":1000,"input":"{\"a\":\"\\u00fc\"}"}]"#;

    fn told(rows: &[(i64, i64, &str)]) -> Story {
        let mut story = Story::default();
        rows.iter().for_each(|(version, epoch, events)| story.add(*version, *epoch, Uuid::nil(), events));
        story
    }

    #[test]
    fn a_whole_journal_has_no_faults() {
        let story = told(&[
            (1, 0, STARTED),
            (2, 1, r#"[{"at":10,"event":"StepPending","step":"screen","until":20,"action":"REVIEW"}]"#),
            (
                3,
                1,
                r#"[{"at":30,"event":"StepDone","step":"open"},{"at":40,"event":"StepDone","step":"screen"}]"#,
            ),
            (
                4,
                3,
                r#"[{"at":50,"event":"CommandSent","step":"open","message_id":"m"},
                {"at":60,"event":"CommandAnswered","step":"open","applied":true}]"#,
            ),
            (
                5,
                3,
                r#"[{"at":70,"event":"Finished","outcome":"Compensated"},{"at":71,"event":"StepFenced","step":"x"}]"#,
            ),
        ]);
        assert_eq!((story.faults.as_slice(), story.after_end.as_slice()), (&[][..], &[][..]));
        assert_eq!((story.version, story.epoch), (5, 3));
        assert_eq!(story.deadline, Some(1030));
        assert_eq!(story.ends, [End::Compensated]);
        assert_eq!(story.sent, [("open".to_owned(), "m".to_owned())]);
        assert!(story.answered.contains("open") && !story.is_by_hand());
    }

    #[test]
    fn each_fault_is_noted() {
        let fault = |rows: &[(i64, i64, &str)]| told(rows).faults.join(" ");
        assert!(fault(&[(2, 0, STARTED)]).contains("version 2 follows 0"));
        assert!(fault(&[(1, 0, STARTED), (3, 0, "[]")]).contains("version 3 follows 1"));
        assert!(fault(&[(1, 4, STARTED), (2, 3, "[]")]).contains("under epoch 3, after 4"));
        assert!(fault(&[(1, 0, STARTED), (2, 0, STARTED)]).contains("second Started"));
        assert!(fault(&[(1, 0, r#"[{"at":1,"event":"PivotPassed"}]"#)]).contains("begins with PivotPassed"));
        assert!(fault(&[(1, 0, "{")]).contains("cannot be read"));
        let pivot = |at: i64| format!(r#"[{{"at":{at},"event":"PivotPassed"}}]"#);
        let twice = |first, then| fault(&[(1, 0, STARTED), (2, 0, &pivot(first)), (3, 0, &pivot(then))]);
        assert!(twice(7, 7).contains("version 3 says again what version 2 said"));
        assert!(twice(7, 8).contains("passed twice") && !twice(7, 8).contains("again"));
        let turned = r#"[{"at":1,"event":"TurnedRound"},{"at":2,"event":"TurnedRound"}]"#;
        assert!(fault(&[(1, 0, STARTED), (2, 0, turned)]).contains("turned round twice"));
    }

    #[test]
    fn a_decision_after_the_end_is_noted_and_a_late_word_is_not() {
        let end =
            r#"[{"at":1,"event":"Finished","outcome":"Completed"},{"at":1,"event":"StepDone","step":"a"}]"#;
        assert_eq!(told(&[(1, 0, STARTED), (2, 0, end)]).after_end.len(), 0);
        assert_eq!(told(&[(1, 0, STARTED), (2, 0, end), (3, 0, "[]")]).after_end, ["version 3"]);
        let more = r#"[{"at":1,"event":"Finished","outcome":"Completed"},{"at":2,"event":"Retried"}]"#;
        assert_eq!(told(&[(1, 0, STARTED), (2, 0, more)]).after_end, ["Retried"]);
    }
}
