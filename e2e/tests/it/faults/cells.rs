//! The cells of the table, from the catalog.

use std::fmt;

use e2e::{
    Spec,
    faults::{Direction, Fault, Plan, Spot},
};
use orchestrator::{
    catalog::Kind,
    saga::{Definition, StepDef, StepKind},
};

use super::expect::{self, End, Refusal, Review, Way};

/// Why a saga goes back after the step whose compensation is looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Turn {
    /// This later step refuses, by its own rule.
    Refused(String),
    /// The step itself brings no answer, though it was done.
    Doubt,
    /// A customer cancels while these steps, all before the pivot that come last, are held.
    Cancelled(Vec<String>),
    /// As refused, while a person is asked.
    RefusedUnderReview(String),
    /// A customer cancels while a person is asked.
    CancelledUnderReview,
    /// As refused, while the call that asks a person is not answered.
    RefusedInFlight(String),
}

/// One cell: a fault, where, and how it must end.
#[derive(Debug, Clone)]
pub(super) struct Cell {
    pub(super) kind: &'static str,
    pub(super) version: u32,
    pub(super) step: String,
    pub(super) participant: &'static str,
    /// When its saga has gone back, it can never run any more.
    pub(super) is_fenced: bool,
    /// Its participant is told so by a message that nobody answers.
    pub(super) is_withdrawn: bool,
    pub(super) direction: Direction,
    pub(super) fault: Fault,
    /// How often it happens; `u32::MAX` until something heals it.
    pub(super) times: u32,
    pub(super) turn: Option<Turn>,
    pub(super) end: End,
    /// What is left of the review; of steps that are withdrawn.
    pub(super) review: Option<Review>,
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, version, step, direction, fault, times, turn, .. } = self;
        write!(f, "{kind}:{version} {step} {direction}: {fault}")?;
        match times {
            &u32::MAX => write!(f, ", for good")?,
            times => write!(f, ", {times} times")?,
        }
        match turn {
            None => {}
            Some(Turn::Refused(by)) => write!(f, ", turned round by {by}")?,
            Some(Turn::Doubt) => write!(f, ", turned round by doubt")?,
            Some(Turn::Cancelled(_)) => write!(f, ", turned round by a cancel")?,
            Some(Turn::RefusedUnderReview(by)) => write!(f, ", turned round by {by} under review")?,
            Some(Turn::CancelledUnderReview) => write!(f, ", turned round by a cancel under review")?,
            Some(Turn::RefusedInFlight(by)) => write!(f, ", turned round by {by} meanwhile")?,
        }
        match &self.end {
            End::Parked(_, way, _) => write!(f, ", {way:?}"),
            _ => Ok(()),
        }
    }
}

impl Cell {
    pub(super) fn needs_breaker(&self) -> bool {
        self.fault == Fault::BreakerOpen
    }

    /// Where its fault happens.
    pub(super) fn spot(&self, saga: &str) -> Spot {
        Spot { saga: saga.into(), step: self.step.clone(), direction: self.direction }
    }

    /// The order that it is about.
    pub(super) fn order(&self) -> Spec {
        let plain = match self.turn {
            Some(Turn::RefusedUnderReview(_) | Turn::CancelledUnderReview | Turn::RefusedInFlight(_)) => {
                expect::reviewed(self.kind)
            }
            _ => expect::plain(self.kind),
        };
        let refuses = match &self.turn {
            Some(Turn::Refused(by) | Turn::RefusedUnderReview(by) | Turn::RefusedInFlight(by)) => Some(by),
            None if self.fault == Fault::Refuse => Some(&self.step),
            _ => None,
        };
        match refuses.map(|step| expect::facts(self.kind, step).refusal) {
            Some(Refusal::ByRule { order, .. }) => order(plain),
            Some(Refusal::AtTheDoor) | None => plain,
        }
    }

    /// What is planned for it: its own fault, and what makes it turn round.
    pub(super) fn plans(&self) -> Vec<Plan> {
        let forward = |step: &str, fault| Plan {
            step: step.into(),
            direction: Direction::Forward,
            fault,
            times: u32::MAX,
        };
        let mut plans = match &self.turn {
            None | Some(Turn::Refused(_) | Turn::CancelledUnderReview) => Vec::new(),
            Some(Turn::Doubt) => vec![forward(&self.step, Fault::TimeoutAfter)],
            Some(Turn::Cancelled(held)) => held.iter().map(|step| forward(step, Fault::Hold)).collect(),
            Some(Turn::RefusedUnderReview(by) | Turn::RefusedInFlight(by)) => {
                vec![forward(by, Fault::Hold)]
            }
        };
        // What is refused is so until a person has repaired it, however often it is tried meanwhile.
        let lasts = self.direction == Direction::Back && self.fault == Fault::Refuse;
        let by_rule = || matches!(expect::facts(self.kind, &self.step).refusal, Refusal::ByRule { .. });
        let is_own_rule = self.direction == Direction::Forward && self.fault == Fault::Refuse && by_rule();
        if !is_own_rule && self.fault != Fault::BreakerOpen {
            let Self { step, direction, fault, times, .. } = self.clone();
            plans.push(Plan { step, direction, fault, times: if lasts { u32::MAX } else { times } });
        }
        plans
    }
}

/// Every cell of a definition.
pub(super) fn of(kind: &dyn Kind) -> Vec<Cell> {
    let definition = kind.definition();
    definition
        .steps
        .iter()
        .flat_map(|step| [forward(definition, step), back(definition, step)].concat())
        .collect()
}

fn cell(definition: &Definition, step: &StepDef, direction: Direction) -> Cell {
    let is_withdrawn = matches!(step.kind, StepKind::Withdrawn { .. });
    Cell {
        kind: definition.kind,
        version: definition.version,
        step: step.name.to_string(),
        participant: step.participant,
        is_fenced: step.command().is_some() || is_withdrawn,
        is_withdrawn,
        direction,
        fault: Fault::Error,
        times: 1,
        turn: None,
        end: End::Completed,
        review: None,
    }
}

fn forward(definition: &Definition, step: &StepDef) -> Vec<Cell> {
    let facts = expect::facts(definition.kind, step.name.as_str());
    let faults = expect::forward(facts, &step.kind).into_iter();
    faults
        .map(|(fault, lasts, way)| {
            let end = expect::forward_end(facts, &step.kind, (fault, lasts, way));
            // What is refused is tried once, then a person repairs it.
            let times = if fault == Fault::Refuse || !lasts { 1 } else { u32::MAX };
            Cell { fault, times, end, ..cell(definition, step, Direction::Forward) }
        })
        .collect()
}

/// The last step before the pivot that can refuse by its own rule, and is not this one.
fn refuses_after(definition: &Definition, step: &StepDef, same_stage: bool) -> Option<String> {
    let can = |other: &&StepDef| {
        let by_rule = expect::facts(definition.kind, other.name.as_str()).refusal;
        let place = if same_stage { other.stage == step.stage } else { other.stage >= step.stage };
        place
            && other.stage < definition.pivot
            && other.name != step.name
            && matches!(by_rule, Refusal::ByRule { .. })
    };
    definition.steps.iter().rev().find(can).map(|step| step.name.to_string())
}

fn reason(definition: &Definition, step: &str) -> &'static str {
    match expect::facts(definition.kind, step).refusal {
        Refusal::ByRule { reason, .. } => reason,
        Refusal::AtTheDoor => "REFUSED_AT_THE_DOOR",
    }
}

fn back(definition: &Definition, step: &StepDef) -> Vec<Cell> {
    match step.kind {
        StepKind::Compensated { .. } => compensated(definition, step),
        StepKind::Withdrawn { .. } => withdrawn(definition, step),
        StepKind::Harmless | StepKind::Pivot | StepKind::Final => Vec::new(),
    }
}

fn compensated(definition: &Definition, step: &StepDef) -> Vec<Cell> {
    let last = definition.pivot - 1;
    let held = definition.steps.iter().filter(|other| other.stage == last);
    let held: Vec<_> = held.map(|other| other.name.to_string()).collect();
    let by_others = match refuses_after(definition, step, false) {
        Some(by) => {
            let why = reason(definition, &by);
            (Turn::Refused(by), why)
        }
        None => (Turn::Doubt, "STEP_FAILED"),
    };
    let turns = [by_others, (Turn::Cancelled(held), "CANCEL_REQUESTED")];
    let one = |turn: &Turn, why, (fault, times, way): (Fault, u32, Option<Way>)| {
        let cancelled = End::Cancelled(why);
        let end = match way {
            Some(way) => End::Parked("COMPENSATION_FAILED", way, Box::new(cancelled)),
            None => cancelled,
        };
        Cell { fault, times, end, turn: Some(turn.clone()), ..cell(definition, step, Direction::Back) }
    };
    let all = turns.iter().flat_map(|(turn, why)| {
        // A breaker is opened while an order is held, so there only by a cancel.
        let faults = expect::back().into_iter();
        let faults = faults
            .filter(move |(fault, ..)| *fault != Fault::BreakerOpen || matches!(turn, Turn::Cancelled(_)));
        faults.map(move |fault| one(turn, why, fault))
    });
    all.collect()
}

fn withdrawn(definition: &Definition, step: &StepDef) -> Vec<Cell> {
    let by_sibling = refuses_after(definition, step, true).map(|by| (reason(definition, &by), by));
    let one = |direction, turn, why, (fault, review): (Fault, Review)| Cell {
        fault,
        // A message that is lost is so however often it is delivered.
        times: if review == Review::Withdrawn && direction == Direction::Back { 1 } else { u32::MAX },
        turn: Some(turn),
        end: End::Cancelled(why),
        review: Some(review),
        ..cell(definition, step, direction)
    };
    let back =
        |turn: Turn, why| expect::UNANSWERED.map(|fault| one(Direction::Back, turn.clone(), why, fault));
    let mut cells = back(Turn::CancelledUnderReview, "CANCEL_REQUESTED").to_vec();
    if let Some((why, by)) = by_sibling {
        cells.extend(back(Turn::RefusedUnderReview(by.clone()), why));
        let turn = Turn::RefusedInFlight(by);
        cells.extend(expect::IN_FLIGHT.map(|fault| one(Direction::Forward, turn.clone(), why, fault)));
    }
    cells
}
