//! Tables, golden file and properties of the pure core.
//!
//! The properties run the order saga against participants that keep the real barrier rules, with an old driver that may
//! still perform any of its calls at any later time.

use std::collections::{BTreeMap, HashMap, HashSet};

use chassis::barrier;
use proptest::prelude::*;
use types::StepName;

use super::{definition::DefinitionError, *};
use crate::catalog::{Kind, order::OrderSaga};

const DEADLINE: i64 = 30 * 60 * 1000;

fn order() -> Definition {
    OrderSaga::new(DEADLINE, 60_000).definition().clone()
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
    Event::StepDone { step: name(step), output: String::new() }
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
    }
}

/// Participants that keep the real barrier rules, and nothing else.
#[derive(Default)]
struct World {
    records: HashMap<usize, barrier::Record>,
    refuses: HashSet<usize>,
    /// Effects that hold now.
    effects: HashSet<usize>,
    /// How often each effect was made.
    made: HashMap<usize, u32>,
}

impl World {
    fn call(&mut self, definition: &Definition, step: usize) -> Event {
        let name = definition.steps[step].name.clone();
        let done = Event::StepDone { step: name.clone(), output: String::new() };
        let refused =
            Event::StepRefused { step: name.clone(), reason: "NO".into(), metadata: BTreeMap::new() };
        match barrier::forward(self.records.get(&step), &[1]) {
            barrier::Forward::Fresh => {
                let refuses = self.refuses.contains(&step) && definition.steps[step].kind != StepKind::Final;
                let forward = if refuses { barrier::Outcome::Refused } else { barrier::Outcome::Done };
                self.records.insert(step, barrier::Record { forward, forward_hash: vec![1], back: None });
                if refuses {
                    return refused;
                }
                self.effects.insert(step);
                *self.made.entry(step).or_default() += 1;
                done
            }
            barrier::Forward::Done => done,
            barrier::Forward::Refused => refused,
            barrier::Forward::Fenced => Event::StepFenced { step: name },
            other => panic!("{other:?}"),
        }
    }

    fn compensate(&mut self, definition: &Definition, step: usize) -> Event {
        let step_name = definition.steps[step].name.clone();
        let applied = match barrier::back(self.records.get(&step)) {
            barrier::Back::TakeBack => {
                assert!(self.effects.remove(&step), "taken back once");
                self.records.get_mut(&step).unwrap().back = Some(barrier::Outcome::Done);
                true
            }
            barrier::Back::Tombstone => {
                let blocked = barrier::Outcome::Blocked;
                let record = barrier::Record { forward: blocked, forward_hash: vec![], back: Some(blocked) };
                self.records.insert(step, record);
                false
            }
            barrier::Back::Block => {
                self.records.get_mut(&step).unwrap().back = Some(barrier::Outcome::Blocked);
                false
            }
            barrier::Back::Done => true,
            barrier::Back::NotApplied => false,
            other => panic!("{other:?}"),
        };
        Event::CommandAnswered { step: step_name, applied }
    }
}

/// What the run does next, drawn by proptest.
#[derive(Debug, Clone)]
enum Act {
    /// The owner performs one of its moves and hears the answer.
    Go(u8),
    /// The owner performs one of its moves and the answer is lost.
    GoDeaf(u8),
    /// The owner dies: what was not committed is lost, its calls may still be under way.
    Die,
    /// An old owner performs one of the calls it may have made.
    Stale(u8),
    /// The customer cancels.
    Cancel,
    /// Somebody sends a command again.
    Repeat(u8),
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let act = prop_oneof![
        8 => any::<u8>().prop_map(Act::Go),
        2 => any::<u8>().prop_map(Act::GoDeaf),
        2 => Just(Act::Die),
        2 => any::<u8>().prop_map(Act::Stale),
        1 => Just(Act::Cancel),
        1 => any::<u8>().prop_map(Act::Repeat),
    ];
    prop::collection::vec(act, 0..60)
}

struct Run {
    definition: Definition,
    world: World,
    state: State,
    committed: Vec<(Event, i64)>,
    progress: Vec<(Event, i64)>,
    now: i64,
    /// Those who owned it before and may still be awake, with what they knew.
    old_owners: Vec<State>,
}

impl Run {
    fn new(refuses: HashSet<usize>) -> Self {
        let definition = order();
        let start = started(&definition);
        let state = State::start(&start, 0).unwrap();
        let world = World { refuses, ..World::default() };
        Self {
            definition,
            world,
            state,
            committed: vec![(start, 0)],
            progress: vec![],
            now: 0,
            old_owners: vec![],
        }
    }

    /// What may wait rides along; what must be durable is committed with all before it.
    fn record(&mut self, event: Event) {
        self.state.apply(&event, self.now).unwrap();
        let critical = event.is_critical();
        self.progress.push((event, self.now));
        if critical {
            self.committed.append(&mut self.progress);
        }
    }

    fn die(&mut self) {
        self.old_owners.push(self.state.clone());
        self.progress.clear();
        self.state = State::load(self.committed.iter().map(|(e, at)| (e, *at))).unwrap();
    }

    fn go(&mut self, pick: u8, deaf: bool) {
        self.now += 1;
        let moves = next(&self.definition, &self.state, self.now);
        let Some(one) = moves.get(usize::from(pick) % moves.len().max(1)).cloned() else { return };
        match one {
            Move::Call(step) => {
                self.state.steps[step].called = true;
                let event = self.world.call(&self.definition, step);
                if deaf {
                    let step = self.definition.steps[step].name.clone();
                    self.record(Event::AttemptFailed {
                        step,
                        doubt: true,
                        spent: true,
                        reason: "lost".into(),
                        not_before: 0,
                    });
                } else {
                    self.record(event);
                }
            }
            Move::Compensate(step) => {
                let name = self.definition.steps[step].name.clone();
                self.record(Event::CommandSent { step: name, message_id: "m".into() });
                let answer = self.world.compensate(&self.definition, step);
                if !deaf {
                    self.record(answer);
                }
            }
            Move::WaitUntil(at) => self.now = self.now.max(at),
            Move::PassPivot => self.record(Event::PivotPassed),
            Move::TurnRound { reason, metadata, take_back } => {
                let take_back =
                    take_back.into_iter().map(|s| self.definition.steps[s].name.clone()).collect();
                self.record(Event::TurnedRound { reason, metadata, take_back });
            }
            Move::Finish(outcome) => self.record(Event::Finished { outcome }),
            Move::Park { reason, detail } => panic!("parked: {reason} {detail}"),
        }
    }

    /// An old owner goes on by what it knows and hears. It can call; it can commit nothing.
    fn stale(&mut self, pick: u8) {
        let owners = self.old_owners.len().max(1);
        let Some(known) = self.old_owners.get_mut(usize::from(pick) % owners) else { return };
        let calls: Vec<usize> = next(&self.definition, known, 0)
            .into_iter()
            .filter_map(|one| match one {
                Move::Call(step) => Some(step),
                _ => None,
            })
            .collect();
        let Some(step) = calls.get(usize::from(pick / 8) % calls.len().max(1)) else { return };
        let heard = self.world.call(&self.definition, *step);
        known.apply(&heard, self.now).unwrap();
    }

    fn act(&mut self, act: &Act) {
        match act {
            Act::Go(pick) => self.go(*pick, false),
            Act::GoDeaf(pick) => self.go(*pick, true),
            Act::Die => self.die(),
            Act::Stale(pick) => self.stale(*pick),
            Act::Cancel if !matches!(self.state.phase, Phase::Ended(_)) => {
                self.record(Event::CancelRequested { reason: "x".into() });
            }
            Act::Cancel => {}
            Act::Repeat(pick) => {
                let step = usize::from(*pick) % self.state.steps.len();
                if self.state.steps[step].back != Back::None {
                    self.world.compensate(&self.definition, step);
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// Drop uncommitted progress at any point, let old owners call what they may at any time, lose answers, repeat
    /// commands: the saga ends, each effect was made at most once, and after a compensated end none remains, whatever a
    /// stale owner does then.
    #[test]
    fn nothing_is_lost_or_doubled(refuses in prop::collection::hash_set(0_usize..5, 0..2), acts in acts(), late in prop::collection::vec(any::<u8>(), 0..10)) {
        let mut run = Run::new(refuses);
        for act in &acts {
            run.act(act);
        }
        for _ in 0..400 {
            if matches!(run.state.phase, Phase::Ended(_)) {
                break;
            }
            run.go(0, false);
        }
        for pick in &late {
            run.stale(*pick);
        }
        prop_assert!(run.world.made.values().all(|times| *times == 1), "{:?}", run.world.made);
        let harmless = 2;
        match run.state.phase {
            Phase::Ended(Outcome::Completed) => prop_assert_eq!(run.world.effects.len(), 7),
            Phase::Ended(Outcome::Compensated) => {
                run.world.effects.remove(&harmless);
                prop_assert!(run.world.effects.is_empty(), "left behind: {:?}", run.world.effects);
            }
            phase => prop_assert!(false, "no end: {phase:?}"),
        }
    }

    /// Loading what is committed gives the state that was there, but that every step may have been called.
    #[test]
    fn a_journal_is_the_state(acts in acts()) {
        let mut run = Run::new(HashSet::new());
        for act in &acts {
            run.act(act);
        }
        let journal: Vec<_> = run.committed.iter().chain(&run.progress).cloned().collect();
        let loaded = State::load(journal.iter().map(|(e, at)| (e, *at))).unwrap();
        let mut expected = run.state.clone();
        for step in &mut expected.steps {
            step.called = true;
        }
        prop_assert_eq!(loaded, expected);
    }
}
