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

use std::io::Write as _;

use stateright::{Checker, HasDiscoveries, Model as _, report::WriteReporter};

use self::bounds::{Budget, Model, Mutation};
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

const NONE: Budget = Budget {
    crashes: 0,
    takeovers: 0,
    reloads: 0,
    timeouts: 0,
    lost_commits: 0,
    refusals: 0,
    pendings: 0,
    reminders: 0,
    resends: 0,
    deaths: 0,
    cancels: 0,
    retries: 0,
    forces: 0,
    deadlines: 0,
};

#[test]
fn probe() {
    let which = std::env::var("M").unwrap_or_default();
    let n = |k: &str| std::env::var(k).ok().and_then(|v| v.parse().ok()).unwrap_or(0u8);
    let budget = Budget {
        crashes: n("CRASH"),
        takeovers: n("TAKE"),
        reloads: n("RELOAD"),
        timeouts: n("TIMEOUT"),
        lost_commits: n("LOST"),
        refusals: n("REFUSE"),
        pendings: n("PEND"),
        reminders: n("REMIND"),
        resends: n("RESEND"),
        deaths: n("DEAD"),
        cancels: n("CANCEL"),
        retries: n("RETRY"),
        forces: n("FORCE"),
        deadlines: n("LATE"),
    };
    let model = match which.as_str() {
        "pivot" => pivot(budget),
        "line" => line(budget),
        "order" => whole(budget),
        _ => small(budget),
    };
    let mutation = match std::env::var("MUT").unwrap_or_default().as_str() {
        "BarrierOff" => Some(Mutation::BarrierOff),
        "NoTombstone" => Some(Mutation::NoTombstone),
        "NoFence" => Some(Mutation::NoFence),
        "NoCompare" => Some(Mutation::NoCompare),
        "ForgetsCalls" => Some(Mutation::ForgetsCalls),
        "ForgetsDoubt" => Some(Mutation::ForgetsDoubt),
        "HastyCommands" => Some(Mutation::HastyCommands),
        "HastyCalls" => Some(Mutation::HastyCalls),
        "EndsUnanswered" => Some(Mutation::EndsUnanswered),
        "HastyPivot" => Some(Mutation::HastyPivot),
        _ => None,
    };
    let model = Model { mutation, ..model };
    let checker = model.checker().threads(1).finish_when(HasDiscoveries::AnyFailures);
    let mut out = std::io::stderr();
    let names;
    if std::env::var("DFS").is_ok() {
        let c = checker.spawn_dfs().join();
        eprintln!("unique {} depth {}", c.unique_state_count(), c.max_depth());
        names = c.discoveries().into_iter().map(|(k, p)| (k, p.into_actions())).collect::<Vec<_>>();
    } else {
        let c = checker.spawn_bfs().join();
        eprintln!("unique {} total {} depth {}", c.unique_state_count(), c.state_count(), c.max_depth());
        for p in c.model().properties() {
            if c.discovery(p.name).is_none() == (p.expectation == stateright::Expectation::Sometimes) {
                eprintln!("BAD {}", p.name);
            }
        }
        names = c.discoveries().into_iter().map(|(k, p)| (k, p.into_actions())).collect::<Vec<_>>();
    }
    for (k, p) in names {
        if std::env::var("V").is_ok()
            || k.starts_with('I')
            || k.starts_with("after")
            || k.starts_with("it goes")
            || k.starts_with("a step")
            || k.starts_with("every")
            || k.starts_with("nothing")
        {
            writeln!(out, "{k}: {p:?}").unwrap();
        }
    }
}
