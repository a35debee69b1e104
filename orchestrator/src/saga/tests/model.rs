//! The model: one saga, two orchestrators, and every order in which what can happen may happen, within stated bounds.
//!
//! Real are `State::apply`, `State::load`, `next`, `withdrawals`, the definitions and `chassis::barrier`. Modelled are
//! the driver around them ([`owner`]), the commit statement, the network and the processes ([`act`]). Messages arrive in
//! any order, late, again, or never, without a bound; deaths, take-overs and time-outs are bounded ([`bounds`]). The
//! quick bounds run with every `cargo test`; the published ones by `cargo xtask model`.

mod act;
mod bounds;
mod laws;
mod mutants;
mod owner;
mod participants;
mod report;
mod world;

use self::bounds::{Budget, Model, NONE};
use super::order;
use crate::saga::{Definition, Retry, StepDef, StepKind};

/// Twice, then it gives up.
const TWICE: Retry = Retry { budget: 2, first_ms: 1, cap_ms: 1 };
const FOR_EVER: Retry = Retry { budget: 0, first_ms: 1, cap_ms: 1 };

fn step(name: &str, stage: usize, kind: StepKind) -> StepDef {
    let retry = if kind == StepKind::Final { FOR_EVER } else { TWICE };
    StepDef { name: super::name(name), participant: "somebody", stage, kind, retry, call_ms: 1 }
}

fn definition(kind: &'static str, pivot: usize, steps: Vec<StepDef>) -> Definition {
    // Nothing is sent again by the clock: that is an act of its own.
    let definition = Definition { kind, version: 1, steps, pivot, deadline_ms: 1, answer_ms: owner::FAR };
    definition.check().unwrap();
    definition
}

/// The order's shape, made small: a document that declares the end, a hold that is closed after the pivot, a charge that
/// may take its time.
fn small(budget: Budget) -> Model {
    let steps = vec![
        step("open", 0, StepKind::Compensated { command: "Cancel", declares_end: true }),
        step("hold", 0, StepKind::Compensated { command: "Release", declares_end: false }),
        step("charge", 1, StepKind::Compensated { command: "Refund", declares_end: false }),
        step("commit", 2, StepKind::Final),
    ];
    let definition = definition("small", 2, steps);
    Model { name: "small", definition, may_pend: vec![2], closes: vec![(3, 1)], budget, mutation: None }
}

/// The same without siblings, for wider bounds: one step a stage.
fn line(budget: Budget) -> Model {
    let steps = vec![
        step("hold", 0, StepKind::Compensated { command: "Release", declares_end: true }),
        step("charge", 1, StepKind::Compensated { command: "Refund", declares_end: false }),
        step("commit", 2, StepKind::Final),
    ];
    let definition = definition("line", 2, steps);
    Model { name: "line", definition, may_pend: vec![1], closes: vec![(2, 0)], budget, mutation: None }
}

/// One whose second step is itself the pivot.
fn pivot(budget: Budget) -> Model {
    let steps = vec![
        step("claim", 0, StepKind::Compensated { command: "Unclaim", declares_end: true }),
        step("refund", 1, StepKind::Pivot),
        step("mark", 2, StepKind::Final),
    ];
    let definition = definition("pivot", 2, steps);
    Model { name: "pivot", definition, may_pend: vec![1], closes: vec![(2, 0)], budget, mutation: None }
}

/// The order saga itself.
fn whole(budget: Budget) -> Model {
    let mut definition = order();
    definition.answer_ms = owner::FAR;
    for step in definition.steps.iter_mut().filter(|step| step.retry.budget > 0) {
        step.retry.budget = TWICE.budget;
    }
    Model {
        name: "order",
        definition,
        may_pend: vec![2, 3],
        closes: vec![(5, 1), (6, 0)],
        budget,
        mutation: None,
    }
}

/// In a debug build the quick bounds; `cargo xtask model` builds without debug assertions and takes the published ones.
fn holds(model: fn(Budget) -> Model, quick: Budget, published: Budget) {
    let (budget, threads) = if cfg!(debug_assertions) {
        (quick, 1)
    } else {
        (published, std::thread::available_parallelism().map_or(1, std::num::NonZero::get))
    };
    report::holds(model(budget), threads);
}

#[test]
fn owners_that_die_and_owners_that_do_not_notice() {
    let quick = Budget { takeovers: 1, reloads: 1, timeouts: 1, refusals: 1, ..NONE };
    holds(line, quick, Budget { crashes: 1, takeovers: 2, lost_commits: 1, ..quick });
}

#[test]
fn a_cancel_while_owners_change() {
    let quick = Budget { cancels: 1, takeovers: 1, refusals: 1, ..NONE };
    holds(line, quick, Budget { crashes: 1, timeouts: 1, lost_commits: 1, ..quick });
}

#[test]
fn participants_that_take_their_time() {
    let quick = Budget { pendings: 1, reminders: 1, cancels: 1, timeouts: 1, ..NONE };
    holds(line, quick, Budget { takeovers: 1, deadlines: 1, refusals: 1, ..quick });
}

#[test]
fn commands_that_die_and_people_who_help() {
    let quick = Budget { resends: 1, deaths: 1, retries: 1, forces: 1, ..NONE };
    holds(line, quick, Budget { takeovers: 1, timeouts: 1, refusals: 1, ..quick });
}

#[test]
fn siblings() {
    let quick = Budget { timeouts: 1, refusals: 1, pendings: 1, cancels: 1, ..NONE };
    holds(small, quick, Budget { takeovers: 1, ..quick });
}

#[test]
fn a_step_that_is_the_pivot() {
    let quick = Budget { cancels: 1, takeovers: 1, refusals: 1, timeouts: 1, ..NONE };
    let published = Budget { crashes: 1, takeovers: 2, timeouts: 2, lost_commits: 1, pendings: 1, ..quick };
    holds(pivot, quick, published);
}

#[test]
fn the_order_saga() {
    let quick = Budget { refusals: 1, pendings: 1, ..NONE };
    holds(whole, quick, Budget { cancels: 1, timeouts: 1, ..quick });
}

#[test]
fn the_order_saga_while_owners_change() {
    let quick = Budget { lost_commits: 1, ..NONE };
    holds(whole, quick, Budget { takeovers: 1, refusals: 1, ..NONE });
}
