//! Tables and the golden file of the pure core. The properties are in `property.rs`.

mod model;
mod property;

use std::collections::{BTreeMap, HashSet};

use types::StepName;

use super::{definition::DefinitionError, *};
use crate::catalog::{Kind, order::OrderSaga};

const DEADLINE: i64 = 30 * 60 * 1000;

fn order() -> Definition {
    OrderSaga::version(2, DEADLINE, 60_000).unwrap().definition().clone()
}

fn name(text: &str) -> StepName {
    text.parse().unwrap()
}

fn started(definition: &Definition) -> Event {
    Event::Started {
        kind: definition.kind.into(),
        version: definition.version,
        hash: definition.hash(),
        steps: definition.steps.iter().map(|s| s.name.clone()).collect(),
        skipped: vec![],
        deadline: DEADLINE,
        input: "{}".into(),
    }
}

fn fresh() -> State {
    State::start(&started(&order()), 0).unwrap()
}

fn done(step: &str) -> Event {
    Event::StepDone { step: name(step), output: "".into() }
}

fn refused(step: &str, reason: &str) -> Event {
    Event::StepRefused { step: name(step), reason: reason.into(), metadata: BTreeMap::new() }
}

fn after(events: &[Event]) -> State {
    let mut state = fresh();
    for event in events {
        state.apply(event, 1).unwrap();
    }
    state
}

fn calls(state: &State) -> Vec<String> {
    next(&order(), state, 1)
        .into_iter()
        .filter_map(|m| match m {
            Move::Call(step) => Some(order().steps[step].name.to_string()),
            _ => None,
        })
        .collect()
}

#[test]
fn stages_run_in_order_and_their_steps_side_by_side() {
    assert_eq!(calls(&fresh()), ["open", "reserve", "screen"]);
    assert_eq!(calls(&after(&[done("open"), done("screen")])), ["reserve"]);
    let booked = [done("open"), done("reserve"), done("screen"), done("charge")];
    assert_eq!(calls(&after(&booked[..3])), ["charge"]);
    assert_eq!(calls(&after(&booked)), ["post"]);
}

#[test]
fn the_pivot_is_passed_before_anything_final_is_called() {
    let mut state = after(&[done("open"), done("reserve"), done("screen"), done("charge"), done("post")]);
    assert_eq!(next(&order(), &state, 1), [Move::PassPivot]);
    state.apply(&Event::PivotPassed, 2).unwrap();
    assert_eq!(calls(&state), ["commit", "complete"]);
    state.apply(&done("commit"), 3).unwrap();
    state.apply(&done("complete"), 3).unwrap();
    assert_eq!(next(&order(), &state, 3), [Move::Finish(Outcome::Completed)]);
}

#[test]
fn a_refusal_takes_back_the_called_siblings_and_the_earlier_stages_but_not_itself() {
    let mut state = after(&[done("open"), done("screen")]);
    for step in &mut state.steps[..3] {
        step.called = true;
    }
    state.apply(&refused("reserve", "OUT_OF_STOCK"), 1).unwrap();
    let moves = next(&order(), &state, 1);
    let [Move::TurnRound { reason, take_back, .. }] = moves.as_slice() else { panic!("{moves:?}") };
    assert_eq!((reason.as_str(), take_back.as_slice()), ("OUT_OF_STOCK", &[0][..]));
}

fn turned(take_back: &[&str]) -> Event {
    let take_back = take_back.iter().map(|s| name(s)).collect();
    Event::TurnedRound { reason: "X".into(), metadata: BTreeMap::new(), take_back }
}

fn answered(step: &str) -> Event {
    Event::CommandAnswered { step: name(step), applied: true }
}

fn commands(state: &State) -> Vec<String> {
    next(&order(), state, 1)
        .into_iter()
        .filter_map(|m| match m {
            Move::Compensate(step) => Some(order().steps[step].name.to_string()),
            _ => None,
        })
        .collect()
}

#[test]
fn compensations_go_in_exact_reverse_and_cancel_goes_last() {
    let mut state = after(&[
        done("open"),
        done("reserve"),
        done("charge"),
        turned(&["open", "reserve", "charge", "post"]),
    ]);
    for expected in ["post", "charge", "reserve", "open"] {
        assert_eq!(commands(&state), [expected]);
        state.apply(&answered(expected), 2).unwrap();
    }
    assert_eq!(next(&order(), &state, 3), [Move::Finish(Outcome::Compensated)]);
}

#[test]
fn a_parked_compensation_lets_the_others_go_on_but_not_cancel() {
    let mut state = after(&[turned(&["open", "reserve", "charge"])]);
    state.apply(&Event::CommandDead { step: name("charge"), reason: "poison".into() }, 2).unwrap();
    assert_eq!(state.label(), Label::Parked);
    assert_eq!(commands(&state), ["reserve"]);
    state.apply(&answered("reserve"), 3).unwrap();
    assert!(next(&order(), &state, 3).is_empty());
    state.apply(&Event::Retried { actor: "a".into(), reason: "b".into() }, 4).unwrap();
    assert_eq!(commands(&state), ["charge"]);
}

#[test]
fn an_unanswered_command_is_sent_again_as_a_new_message() {
    let mut state = after(&[turned(&["charge"])]);
    state.apply(&Event::CommandSent { step: name("charge"), message_id: "m1".into() }, 1000).unwrap();
    assert_eq!(next(&order(), &state, 1001), [Move::WaitUntil(61_000)]);
    assert_eq!(next(&order(), &state, 61_000), [Move::Compensate(3)]);
}

#[test]
fn the_death_of_a_command_counts_though_it_was_sent_again_and_not_after_a_retry() {
    let sent = |id: &str| Event::CommandSent { step: name("charge"), message_id: id.into() };
    let mut state = after(&[done("open"), done("reserve"), done("screen"), done("charge")]);
    let charge = order().position(&name("charge")).unwrap();
    state.apply(&turned(&["open", "reserve", "charge"]), 1).unwrap();
    for event in [sent("first"), sent("second")] {
        state.apply(&event, 1).unwrap();
    }
    assert!(state.steps[charge].is_failed_by("first") && state.steps[charge].is_failed_by("second"));
    assert!(!state.steps[charge].is_failed_by("another's"));
    state.apply(&Event::CommandDead { step: name("charge"), reason: "poison".into() }, 2).unwrap();
    assert!(!state.steps[charge].is_failed_by("second"), "it is parked already");
    state.apply(&Event::Retried { actor: "ada".into(), reason: "repaired".into() }, 3).unwrap();
    state.apply(&sent("third"), 3).unwrap();
    assert!(!state.steps[charge].is_failed_by("second"), "that was before it was repaired");
    assert!(state.steps[charge].is_failed_by("third"));
    state.apply(&answered("charge"), 4).unwrap();
    assert!(!state.steps[charge].is_failed_by("third"), "it is answered");
}

#[test]
fn doubt_is_sticky_until_a_final_outcome() {
    let failed = |doubt| Event::AttemptFailed {
        step: name("charge"),
        doubt,
        spent: true,
        reason: "?".into(),
        not_before: 0,
    };
    let mut state = after(&[failed(true), failed(false)]);
    assert!(state.steps[3].doubt);
    state
        .apply(&Event::StepPending { step: name("charge"), until: 9, action: "SETTLEMENT".into() }, 2)
        .unwrap();
    assert!(state.steps[3].doubt);
    state.apply(&done("charge"), 3).unwrap();
    assert!(!state.steps[3].doubt);
}

#[test]
fn a_budget_that_ends_turns_the_saga_round() {
    let failed = Event::AttemptFailed {
        step: name("reserve"),
        doubt: false,
        spent: true,
        reason: "poison".into(),
        not_before: 0,
    };
    let state = after(&vec![failed; 6]);
    let moves = next(&order(), &state, 1);
    assert!(
        matches!(moves.as_slice(), [Move::TurnRound { reason, .. }] if reason == "STEP_FAILED"),
        "{moves:?}"
    );
}

/// Or the model would take them for two, and each that follows.
#[test]
fn states_that_say_the_same_are_the_same() {
    let after_a_retry = |not_before| {
        let failed = Event::AttemptFailed {
            step: name("reserve"),
            doubt: false,
            spent: true,
            reason: String::new(),
            not_before,
        };
        after(&[failed, Event::Retried { actor: "ann".into(), reason: "?".into() }])
    };
    assert_eq!(after_a_retry(5), after_a_retry(0));
}

#[test]
fn time_under_review_is_not_counted() {
    let pending = Event::StepPending { step: name("screen"), until: i64::MAX, action: "REVIEW".into() };
    let mut state = after(&[done("open"), done("reserve")]);
    state.apply(&pending, 1000).unwrap();
    assert!(!matches!(next(&order(), &state, DEADLINE * 5).as_slice(), [Move::TurnRound { .. }]));
    state.apply(&done("screen"), DEADLINE * 5).unwrap();
    assert_eq!(state.deadline, DEADLINE + DEADLINE * 5 - 1000);
    assert_eq!(state.label(), Label::Running);
}

#[test]
fn past_its_deadline_a_saga_turns_round_and_after_the_pivot_it_does_not() {
    assert!(matches!(next(&order(), &fresh(), DEADLINE).as_slice(), [Move::TurnRound { .. }]));
    let state = after(&[
        done("open"),
        done("reserve"),
        done("screen"),
        done("charge"),
        done("post"),
        Event::PivotPassed,
    ]);
    assert!(next(&order(), &state, DEADLINE * 2).iter().all(|m| matches!(m, Move::Call(_))));
}

#[test]
fn a_settlement_may_precede_its_pending() {
    let state = after(&[
        done("charge"),
        Event::StepPending { step: name("charge"), until: 9, action: "SETTLEMENT".into() },
    ]);
    assert!(matches!(state.steps[3].forward, Forward::Done { .. }));
}

#[test]
fn fenced_while_going_forward_parks() {
    let state = after(&[Event::StepFenced { step: name("reserve") }]);
    assert!(matches!(next(&order(), &state, 1).as_slice(), [Move::Park { reason: "FENCED", .. }]));
}

#[test]
fn a_refusal_after_the_pivot_is_asked_again_or_resolved() {
    let definition = order();
    let before = ["open", "reserve", "screen", "charge", "post"].map(done);
    let state = after(&[before.to_vec(), vec![Event::PivotPassed, refused("commit", "NO")]].concat());
    let [Move::Park { reason, detail }] = &*next(&definition, &state, 1) else { panic!("{state:?}") };
    let parked = Event::Parked { reason: (*reason).into(), detail: detail.clone() };
    assert_eq!(*reason, "REFUSED_AFTER_PIVOT");
    let mut parked_state = state;
    parked_state.apply(&parked, 1).unwrap();
    let commit = definition.position(&name("commit")).unwrap();
    assert!(parked_state.may_resolve(commit, false));

    let mut retried = parked_state.clone();
    retried.apply(&Event::Retried { actor: "ada".into(), reason: "repaired".into() }, 1).unwrap();
    assert!(calls(&retried).contains(&"commit".to_owned()), "{retried:?}");

    let resolved = Event::Resolved {
        step: name("commit"),
        compensation: false,
        resolution: Resolution::Done,
        output: String::new(),
        actor: "ada".into(),
        reason: "done by hand".into(),
        evidence: "ticket 7".into(),
    };
    parked_state.apply(&resolved, 1).unwrap();
    assert_eq!(parked_state.steps[commit].forward, Forward::Done { output: "".into() });
    assert_eq!(calls(&parked_state), ["complete"]);
}

#[test]
fn an_end_never_changes() {
    let ended = Event::Finished { outcome: Outcome::Compensated };
    let mut state = after(&[turned(&[]), ended.clone()]);
    let before = state.clone();
    for late in [
        done("charge"),
        refused("reserve", "X"),
        answered("open"),
        Event::CancelRequested { reason: String::new() },
    ] {
        state.apply(&late, 9).unwrap();
        assert_eq!(state, before);
    }
    for illegal in [ended, Event::PivotPassed, turned(&[]), started(&order())] {
        assert!(state.apply(&illegal, 9).is_err(), "{illegal:?}");
    }
}

#[test]
fn a_pivot_step_is_not_turned_round_once_it_may_have_been_called() {
    let mut definition = order();
    definition.steps[4].kind = StepKind::Pivot;
    definition.check().unwrap();
    let mut state = after(&[done("open"), done("reserve"), done("screen"), done("charge")]);
    state.apply(&Event::CancelRequested { reason: "x".into() }, 1).unwrap();
    assert!(matches!(next(&definition, &state, 1).as_slice(), [Move::TurnRound { .. }]));
    state.steps[4].called = true;
    assert_eq!(next(&definition, &state, DEADLINE * 2), [Move::Call(4)]);
    state.steps[4].attempts = 6;
    assert!(matches!(next(&definition, &state, 1).as_slice(), [Move::Park { reason: "PIVOT_IN_DOUBT", .. }]));
    state.apply(&refused("post", "CLOSED"), 2).unwrap();
    assert!(matches!(next(&definition, &state, 1).as_slice(), [Move::TurnRound { .. }]));
}

#[test]
fn definitions_that_could_lose_something_do_not_start() {
    let broken = |change: fn(&mut Definition)| {
        let mut definition = order();
        change(&mut definition);
        definition.check().unwrap_err()
    };
    assert!(matches!(broken(|d| d.steps[3].kind = StepKind::Final), DefinitionError::Uncompensated(_)));
    assert!(matches!(broken(|d| d.steps[5].kind = StepKind::Harmless), DefinitionError::Refusable(_)));
    assert!(matches!(broken(|d| d.steps[1].name = d.steps[0].name.clone()), DefinitionError::Twice(_)));
    assert!(matches!(broken(|d| d.steps[0].stage = 1), DefinitionError::Stages));
    assert!(matches!(broken(|d| d.steps[0].kind = StepKind::Pivot), DefinitionError::Pivot(_)));
    assert!(matches!(broken(|d| d.steps.clear()), DefinitionError::Stages));
}

#[test]
fn every_stored_event_reads_as_it_was_written() {
    let golden = include_str!("golden.jsonl");
    let events: Vec<Event> = golden.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let kinds: HashSet<_> = events.iter().map(std::mem::discriminant).collect();
    assert_eq!(kinds.len(), 17, "each variant is pinned");
    for (event, line) in events.iter().zip(golden.lines()) {
        assert_eq!(serde_json::to_string(event).unwrap(), line);
        let stored: serde_json::Value = serde_json::from_str(line).unwrap();
        assert_eq!(stored["event"], event.name());
    }
}

#[test]
fn the_first_row_keeps_the_trace_where_there_is_one_and_reads_without() {
    use crate::journal::Recorded;
    let event = started(&order());
    let row = |trace: &str| Recorded { at: 1, trace: trace.to_owned(), event: event.clone() };
    let without = serde_json::to_string(&row("")).unwrap();
    assert!(!without.contains("trace"), "{without}");
    for one in [row(""), row("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")] {
        let text = serde_json::to_string(&one).unwrap();
        assert_eq!(serde_json::from_str::<Recorded>(&text).unwrap(), one);
        // A build that does not know of traces reads the rest.
        assert_eq!(serde_json::from_str::<Event>(&text).unwrap(), event);
    }
}

#[test]
fn a_table_that_a_saga_may_have_been_started_under_never_changes() {
    let hashes: Vec<_> =
        OrderSaga::all(DEADLINE, 60_000).iter().map(|order| order.definition().hash()).collect();
    assert_eq!(hashes, [-9_080_488_411_051_299_747, -8_396_689_897_906_451_150]);
}

#[test]
fn only_a_review_that_somebody_still_looks_at_is_withdrawn() {
    let pending = Event::StepPending { step: name("screen"), until: 9, action: "REVIEW".into() };
    let screened = |events: &[Event], version| {
        let definition = OrderSaga::version(version, DEADLINE, 60_000).unwrap().definition().clone();
        withdrawals(&definition, &after(events))
    };
    assert_eq!(screened(&[pending.clone(), turned(&["open"])], 2), [2]);
    assert!(screened(&[pending.clone(), turned(&["open"])], 1).is_empty(), "version 1 says nothing");
    assert!(screened(&[pending, done("screen"), turned(&["open"])], 2).is_empty());
    assert!(screened(&[turned(&["open"])], 2).is_empty(), "it was never called");
    let definition = order();
    let journal = [started(&definition), turned(&["open"])];
    let loaded = State::load(journal.iter().map(|event| (event, 1))).unwrap();
    assert_eq!(withdrawals(&definition, &loaded), [2], "an earlier owner may have called it");
}

#[test]
fn what_a_clock_that_was_ahead_wrote_keeps_nobody_waiting() {
    const HOUR: i64 = 3_600_000;
    let failed = |not_before| Event::AttemptFailed {
        step: name("reserve"),
        doubt: true,
        spent: true,
        reason: "?".into(),
        not_before,
    };
    let is_called = |not_before| calls(&after(&[failed(not_before)])).contains(&"reserve".to_owned());
    assert!(is_called(HOUR) && !is_called(4_000) && is_called(1));

    let mut state = after(&[refused("reserve", "NO")]);
    let Move::TurnRound { reason, metadata, .. } = next(&order(), &state, 1).remove(0) else { panic!() };
    let turned = Event::TurnedRound { reason, metadata, take_back: vec![name("open")] };
    state.apply(&turned, 1).unwrap();
    let sent = Event::CommandSent { step: name("open"), message_id: "m".into() };
    for (at, again) in [(HOUR, true), (1, false)] {
        state.apply(&sent, at).unwrap();
        let moves = next(&order(), &state, 2);
        assert_eq!(moves.iter().any(|one| matches!(one, Move::Compensate(_))), again, "{at}: {moves:?}");
    }
}
