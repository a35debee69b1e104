//! How a saga looks: as JSON, as a page, as a row, as a line of a watch; and its journal.
//!
//! Events in the journal are JSON already and are shown as they are stored. Read next: `../value.rs`.

use proto::saga::v1::{JournalEntry, NextMove, Saga, Step};
use serde_json::{Value, json};

use crate::cli::{
    output::{Fields, Table, plain},
    value::{moment, time, time_json, yes},
};

/// Every field, by its name on the wire.
pub(super) fn json(saga: &Saga) -> Value {
    json!({
        "saga_id": saga.saga_id,
        "kind": saga.kind,
        "definition_version": saga.definition_version,
        "state": saga.state().as_str_name(),
        "reason": saga.reason,
        "version": saga.version,
        "shard": saga.shard,
        "epoch": saga.epoch,
        "owner": saga.owner,
        "steps": saga.steps.iter().map(step_json).collect::<Vec<_>>(),
        "next": saga.next.iter().map(move_json).collect::<Vec<_>>(),
        "create_time": time_json(saga.create_time.as_ref()),
        "update_time": time_json(saga.update_time.as_ref()),
        "deadline": time_json(saga.deadline.as_ref()),
        "pivot_passed": saga.pivot_passed,
        "unread_signals": saga.unread_signals,
    })
}

/// All sagas of a list.
pub(super) fn list_json(sagas: &[Saga]) -> Value {
    json!({ "sagas": sagas.iter().map(json).collect::<Vec<_>>() })
}

/// All entries of a journal.
pub(super) fn journal_json(entries: &[JournalEntry]) -> Value {
    let entries = entries.iter().map(|entry| {
        let event = |text: &String| serde_json::from_str(text).unwrap_or_else(|_| json!(text));
        json!({
            "version": entry.version,
            "epoch": entry.epoch,
            "time": time_json(entry.time.as_ref()),
            "events": entry.events.iter().map(event).collect::<Vec<Value>>(),
        })
    });
    json!({ "entries": entries.collect::<Vec<_>>() })
}

fn step_json(step: &Step) -> Value {
    json!({
        "name": step.name,
        "participant": step.participant,
        "stage": step.stage,
        "state": step.state,
        "attempts": step.attempts,
        "in_doubt": step.in_doubt,
        "reason": step.reason,
        "first_time": time_json(step.first_time.as_ref()),
        "last_time": time_json(step.last_time.as_ref()),
        "not_before": time_json(step.not_before.as_ref()),
        "compensation_state": step.compensation_state,
        "compensation": step.compensation,
        "compensation_attempts": step.compensation_attempts,
        "breaker": step.breaker,
        "pending_until": time_json(step.pending_until.as_ref()),
        "pending_action": step.pending_action,
    })
}

fn move_json(next: &NextMove) -> Value {
    json!({ "move": next.r#move, "time": time_json(next.time.as_ref()) })
}

/// A page about one.
pub(super) fn text(saga: &Saga) -> String {
    let fields = Fields::default()
        .with("saga", &saga.saga_id)
        .with("kind", format!("{} v{}", saga.kind, saga.definition_version))
        .with("state", saga.state().as_str_name())
        .with("reason", &saga.reason)
        .with("pivot passed", yes(saga.pivot_passed))
        .with("version", saga.version)
        .with("shard", format!("{} (epoch {})", saga.shard, saga.epoch))
        .with("owner", &saga.owner)
        .with("created", time(saga.create_time.as_ref()))
        .with("updated", time(saga.update_time.as_ref()))
        .with("deadline", time(saga.deadline.as_ref()))
        .with("unread signals", some(i64::from(saga.unread_signals)));
    let mut text = format!("{fields}\n\n{}", steps(&saga.steps));
    for next in &saga.next {
        let time = time(next.time.as_ref());
        let at = if time.is_empty() { time } else { format!("  at {time}") };
        text.push_str(&format!("\nnext  {}{at}", plain(&next.r#move)));
    }
    text
}

fn steps(steps: &[Step]) -> Table<8> {
    let rows = steps.iter().map(|step| {
        [
            step.stage.to_string(),
            step.name.clone(),
            step.participant.clone(),
            forward(step),
            some(i64::from(step.attempts)),
            back(step),
            step.breaker.clone(),
            step.reason.clone(),
        ]
    });
    Table::new(
        [">STAGE", "STEP", "PARTICIPANT", "STATE", ">ATTEMPTS", "COMPENSATION", "BREAKER", "REASON"],
        rows,
    )
}

fn forward(step: &Step) -> String {
    let doubt = if step.in_doubt { " in doubt" } else { "" };
    let until = [("until", &step.pending_until), ("not before", &step.not_before)]
        .into_iter()
        .filter(|(_, stamp)| stamp.is_some())
        .map(|(word, stamp)| format!(" {word} {}", time(stamp.as_ref())))
        .collect::<String>();
    let action = Some(step.pending_action.as_str()).filter(|a| !a.is_empty()).map(|a| format!(" {a}"));
    format!("{}{doubt}{}{until}", step.state, action.unwrap_or_default())
}

fn back(step: &Step) -> String {
    if step.compensation.is_empty() {
        return "–".to_owned();
    }
    match step.compensation_attempts {
        0 => format!("{} {}", step.compensation, step.compensation_state),
        n => format!("{} {} ({n})", step.compensation, step.compensation_state),
    }
}

fn some(number: i64) -> String {
    if number == 0 { String::new() } else { number.to_string() }
}

/// Many, one per row.
pub(super) fn table(sagas: &[Saga]) -> Table<6> {
    let rows = sagas.iter().map(|saga| {
        [
            saga.saga_id.clone(),
            saga.kind.clone(),
            saga.state().as_str_name().to_owned(),
            time(saga.create_time.as_ref()),
            time(saga.update_time.as_ref()),
            saga.reason.clone(),
        ]
    });
    Table::new(["SAGA", "KIND", "STATE", "CREATED", "UPDATED", "REASON"], rows)
}

/// One change.
pub(super) fn line(saga: &Saga) -> String {
    let steps = saga.steps.iter().map(|step| match step.compensation_state.as_str() {
        "" | "NONE" => format!("{}={}", step.name, step.state),
        back => format!("{}={}/{back}", step.name, step.state),
    });
    let steps = steps.collect::<Vec<_>>().join(" ");
    let reason = Some(&saga.reason).filter(|r| !r.is_empty()).map(|r| format!("  ({r})")).unwrap_or_default();
    plain(&format!(
        "{}  v{:<3} {:<12}  {steps}{reason}",
        moment(saga.update_time.as_ref()),
        saga.version,
        saga.state().as_str_name()
    ))
}

/// The journal, one event per row.
pub(super) fn journal_table(entries: &[JournalEntry]) -> Table<4> {
    let rows = entries.iter().flat_map(|entry| {
        entry.events.iter().map(|event| {
            [entry.version.to_string(), entry.epoch.to_string(), moment(entry.time.as_ref()), event.clone()]
        })
    });
    Table::new([">VERSION", ">EPOCH", "TIME", "EVENT"], rows)
}

#[cfg(test)]
mod tests {
    use proto::saga::v1::SagaState;

    use super::*;

    fn saga() -> Saga {
        let step = |name: &str, state: &str, compensation: &str, back: &str| Step {
            name: name.into(),
            participant: "inventory".into(),
            stage: 1,
            state: state.into(),
            attempts: 2,
            compensation: compensation.into(),
            compensation_state: back.into(),
            ..Step::default()
        };
        Saga {
            saga_id: "saga_1".into(),
            kind: "order".into(),
            state: SagaState::Parked.into(),
            reason: "COMPENSATION_FAILED".into(),
            version: 9,
            steps: vec![
                Step { in_doubt: true, ..step("reserve", "CALLED", "Release", "PARKED") },
                step("screen", "DONE", "", "NONE"),
            ],
            next: vec![NextMove { r#move: "Compensate reserve".into(), time: None }],
            ..Saga::default()
        }
    }

    #[test]
    fn a_page_tells_steps_and_what_happens_next() {
        let text = text(&saga());
        assert!(text.contains("CALLED in doubt"), "{text}");
        assert!(text.contains("Release PARKED"), "{text}");
        assert!(text.ends_with("next  Compensate reserve"), "{text}");
        assert!(line(&saga()).ends_with("reserve=CALLED/PARKED screen=DONE  (COMPENSATION_FAILED)"));
    }

    #[test]
    fn journal_events_are_documents() {
        let entry =
            JournalEntry { version: 1, events: vec!["{\"a\":1}".into(), "x".into()], ..Default::default() };
        let json = journal_json(std::slice::from_ref(&entry));
        assert_eq!(json["entries"][0]["events"], json!([{ "a": 1 }, "x"]));
        assert_eq!(journal_table(&[entry]).to_string().lines().count(), 3);
        assert_eq!(self::json(&saga())["state"], "PARKED");
    }
}
