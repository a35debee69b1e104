//! What follows from what is known.
//!
//! The same answer for a saga that has just moved and for one that was just loaded: recovery is the normal path. A
//! driver performs the moves it is given, records what came of them, and asks again.

use std::collections::BTreeMap;

use chassis::seeded::{self, Bug};

use super::{
    definition::{Definition, StepDef, StepKind},
    event::Outcome,
    state::{Back, Forward, Phase, State, StepState},
};

/// What to do next. Steps are positions in the definition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Move {
    /// Call the step.
    Call(usize),
    /// Send the command that takes the step back.
    Compensate(usize),
    /// Nothing before that time (milliseconds since 1970), unless somebody says something.
    WaitUntil(i64),
    /// Decide that from here it only goes forward.
    PassPivot,
    /// Decide to go back.
    TurnRound {
        /// UPPER_SNAKE.
        reason: String,
        /// Details.
        metadata: BTreeMap<String, String>,
        /// The steps to take back.
        take_back: Vec<usize>,
    },
    /// Decide the end.
    Finish(Outcome),
    /// Leave it to a person.
    Park {
        /// UPPER_SNAKE.
        reason: &'static str,
        /// For people.
        detail: String,
    },
}

/// What follows. Decisions come alone; calls and waits come together.
#[must_use]
pub fn next(definition: &Definition, state: &State, now: i64) -> Vec<Move> {
    if state.parked.is_some() {
        return Vec::new();
    }
    match state.phase {
        Phase::Ended(_) => Vec::new(),
        Phase::Forward => forward(definition, state, now),
        Phase::Back => back(definition, state, now),
    }
}

fn forward(definition: &Definition, state: &State, now: i64) -> Vec<Move> {
    let may_turn = !state.pivot_passed && !pivot_called(definition, state);
    if let Some(decision) = refusal(definition, state).or_else(|| wish(definition, state, may_turn)) {
        return vec![decision];
    }
    let stage = definition
        .steps
        .iter()
        .zip(&state.steps)
        .find(|(_, step)| !is_passed(step))
        .map(|(def, _)| def.stage);
    let Some(stage) = stage else {
        // Every step is done; a saga whose pivot is its end passes it on the way.
        return vec![if state.pivot_passed { Move::Finish(Outcome::Completed) } else { Move::PassPivot }];
    };
    if stage >= definition.pivot && !state.pivot_passed {
        return vec![Move::PassPivot];
    }
    let may_time_out = may_turn && state.review_since.get().is_none();
    if may_time_out && now >= state.deadline {
        return vec![turn(definition, state, "DEADLINE_EXCEEDED".into(), BTreeMap::new())];
    }
    let mut moves = Vec::new();
    let steps = definition.steps.iter().zip(&state.steps).enumerate();
    for (position, (def, step)) in steps.filter(|(_, (def, _))| def.stage == stage) {
        match act(def, step, position, now) {
            Act::Nothing => {}
            Act::Do(one) => moves.push(one),
            Act::GiveUp => return vec![give_up(definition, state, position, may_turn)],
            Act::Park(one) => return vec![one],
        }
    }
    if may_time_out {
        moves.push(Move::WaitUntil(state.deadline));
    }
    moves
}

/// Refusals first: they name the reason best.
fn refusal(definition: &Definition, state: &State) -> Option<Move> {
    definition.steps.iter().zip(&state.steps).find_map(|(def, step)| match &step.forward {
        Forward::Refused(why) if state.pivot_passed => Some(Move::Park {
            reason: "REFUSED_AFTER_PIVOT",
            detail: format!("{} refused: {}", def.name, why.reason),
        }),
        Forward::Refused(why) => {
            let mut metadata = why.metadata.clone();
            metadata.insert("step".into(), def.name.to_string());
            Some(turn(definition, state, why.reason.clone(), metadata))
        }
        Forward::Idle
        | Forward::Pending { .. }
        | Forward::Done { .. }
        | Forward::Fenced
        | Forward::Skipped => None,
    })
}

/// Somebody wants it taken back, and it can be.
fn wish(definition: &Definition, state: &State, may_turn: bool) -> Option<Move> {
    if !may_turn {
        return None;
    }
    if state.compensation_forced {
        return Some(turn(definition, state, "FORCED".into(), BTreeMap::new()));
    }
    let why = state.cancel_requested.as_ref()?;
    Some(turn(
        definition,
        state,
        "CANCEL_REQUESTED".into(),
        BTreeMap::from([("why".into(), why.to_string())]),
    ))
}

fn give_up(definition: &Definition, state: &State, position: usize, may_turn: bool) -> Move {
    let (name, step) = (&definition.steps[position].name, &state.steps[position]);
    if !may_turn {
        let detail = format!("{name} brought nothing in {} attempts: {}", step.attempts, step.last_failure());
        return Move::Park { reason: "PIVOT_IN_DOUBT", detail };
    }
    let metadata = BTreeMap::from([
        ("step".to_owned(), name.to_string()),
        ("attempts".to_owned(), step.attempts.to_string()),
        ("last_failure".to_owned(), step.last_failure().to_owned()),
    ]);
    turn(definition, state, "STEP_FAILED".into(), metadata)
}

enum Act {
    Nothing,
    Do(Move),
    GiveUp,
    Park(Move),
}

fn act(def: &StepDef, step: &StepState, position: usize, now: i64) -> Act {
    if step.calling {
        return Act::Nothing;
    }
    match &step.forward {
        Forward::Done { .. } | Forward::Skipped | Forward::Refused { .. } => Act::Nothing,
        Forward::Fenced => Act::Park(Move::Park {
            reason: "FENCED",
            detail: format!("{} says that its compensation came first, but this saga goes forward", def.name),
        }),
        Forward::Pending { until, .. } if now < *until => Act::Do(Move::WaitUntil(*until)),
        Forward::Idle if def.retry.budget > 0 && step.attempts >= def.retry.budget => Act::GiveUp,
        Forward::Idle | Forward::Pending { .. } if is_early(def, step, now) => {
            Act::Do(Move::WaitUntil(step.not_before()))
        }
        Forward::Idle | Forward::Pending { .. } => Act::Do(Move::Call(position)),
    }
}

/// No wait between two attempts is longer than this, whatever a participant asks for: in milliseconds.
const LONGEST_WAIT: i64 = 60_000;

/// Whether it is too early for the next attempt. One that lies further ahead than any wait was written by a clock that
/// was ahead itself: whoever goes by the right time must not wait for it.
fn is_early(def: &StepDef, step: &StepState, now: i64) -> bool {
    now < step.not_before() && step.not_before() - now <= def.retry.cap_ms.max(LONGEST_WAIT)
}

fn is_passed(step: &StepState) -> bool {
    matches!(step.forward, Forward::Done { .. } | Forward::Skipped)
}

/// Whether the step that is itself the pivot may have been called: it may once every stage before it is done.
fn pivot_called(definition: &Definition, state: &State) -> bool {
    definition.steps.iter().zip(&state.steps).any(|(def, step)| {
        def.kind == StepKind::Pivot
            && (step.called || step.calling)
            && definition.steps.iter().zip(&state.steps).all(|(d, s)| d.stage >= def.stage || is_passed(s))
    })
}

/// Whether a call of this step has to wait until every fact so far is durable.
///
/// A step that is itself the pivot must not have been called in secret: whoever takes the saga over tells by the facts
/// before it whether it may have been, and turns round where they are not there.
#[must_use]
pub fn waits_for_facts(definition: &Definition, step: usize) -> bool {
    definition.steps[step].kind == StepKind::Pivot
}

/// Every called step that has a compensation is taken back; not one that was refused, since it left nothing.
fn turn(definition: &Definition, state: &State, reason: String, metadata: BTreeMap<String, String>) -> Move {
    let take_back = definition
        .steps
        .iter()
        .zip(&state.steps)
        .enumerate()
        .filter(|(_, (def, step))| {
            let left_nothing = matches!(step.forward, Forward::Refused { .. } | Forward::Skipped);
            def.command().is_some() && step.called && !left_nothing
        })
        .map(|(position, _)| position)
        .collect();
    Move::TurnRound { reason, metadata, take_back }
}

/// The steps whose participants are told that the saga goes back: somebody is asked there and need not decide, or would
/// be by a call that has no answer yet.
#[must_use]
pub fn withdrawals(definition: &Definition, state: &State) -> Vec<usize> {
    let steps = definition.steps.iter().zip(&state.steps).enumerate();
    steps
        .filter(|(_, (def, step))| {
            let may_be_asked = match step.forward {
                Forward::Pending { .. } => true,
                Forward::Idle => step.called,
                Forward::Done { .. } | Forward::Refused { .. } | Forward::Fenced | Forward::Skipped => false,
            };
            matches!(def.kind, StepKind::Withdrawn { .. }) && may_be_asked
        })
        .map(|(position, _)| position)
        .collect()
}

fn back(definition: &Definition, state: &State, now: i64) -> Vec<Move> {
    let wanted: Vec<_> = definition
        .steps
        .iter()
        .zip(&state.steps)
        .enumerate()
        .filter(|(_, (_, step))| *step.back() != Back::None && !step.is_taken_back())
        .filter(|(_, (_, step))| step.back().sent_at().is_none() || !seeded::is(Bug::FinishedBeforeAnswers))
        .collect();
    // The command that declares the end goes last, and only when every other one was answered.
    let (last, others): (Vec<_>, Vec<_>) =
        wanted.into_iter().partition(|(_, (def, _))| def.declares_end() && !seeded::is(Bug::CancelSentFirst));
    let open = |step: &StepState| !matches!(step.back(), Back::Parked { .. });
    let moves: Vec<_> =
        match others.iter().filter(|(_, (_, step))| open(step)).map(|(_, (def, _))| def.stage).max() {
            Some(stage) => others
                .iter()
                .filter(|(_, (def, step))| def.stage == stage && open(step))
                .map(|(position, (_, step))| send(definition, step, *position, now))
                .collect(),
            None if others.is_empty() => last
                .iter()
                .filter(|(_, (_, step))| open(step))
                .map(|(position, (_, step))| send(definition, step, *position, now))
                .collect(),
            // Only parked ones are left besides the last: a person is needed.
            None => Vec::new(),
        };
    if moves.is_empty() && others.is_empty() && last.is_empty() {
        return vec![Move::Finish(Outcome::Compensated)];
    }
    moves
}

fn send(definition: &Definition, step: &StepState, position: usize, now: i64) -> Move {
    match step.back() {
        Back::Sent { at } => {
            let times = 1_i64 << step.commands().saturating_sub(1).min(4);
            let due = at.saturating_add(definition.answer_ms.saturating_mul(times.min(10)));
            // Sent in a future that is further away than a moment: by a clock that was ahead.
            let is_ahead = *at - now > LONGEST_WAIT;
            if now >= due || is_ahead { Move::Compensate(position) } else { Move::WaitUntil(due) }
        }
        Back::None | Back::Wanted | Back::Done | Back::NotApplied | Back::Parked { .. } => {
            Move::Compensate(position)
        }
    }
}
