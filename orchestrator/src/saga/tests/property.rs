//! The order saga against participants that keep the real barrier rules, with old owners that may still perform any of
//! their calls at any later time.

use std::collections::{BTreeMap, HashMap, HashSet};

use chassis::barrier;
use proptest::prelude::*;

use super::{order, started};
use crate::saga::*;

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
                if *self.state.steps[step].back() != Back::None {
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
