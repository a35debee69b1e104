//! What must always hold, and what must happen somewhere, or a run says nothing.

use std::collections::BTreeSet;

use chassis::barrier::Outcome as Was;
use stateright::{Model as _, Property};

use super::{
    bounds::Model,
    owner::{Reply, Wire},
    world::{Breach, World},
};
use crate::saga::{Back, Label, Outcome, Phase, StepKind};

pub(super) fn is_pending(world: &World, step: usize) -> bool {
    world.places[step].record.as_ref().is_some_and(|record| record.forward == Was::Pending)
}

type Law = fn(&Model, &World) -> bool;

fn always(name: &'static str, law: Law) -> Property<Model> {
    Property::always(name, law)
}

fn sometimes(name: &'static str, sight: Law) -> Property<Model> {
    Property::sometimes(name, sight)
}

/// The laws, and what this model's budget lets happen.
pub(super) fn all(model: &Model) -> Vec<Property<Model>> {
    let mut all = laws();
    let seen = seen(model);
    all.extend(sights().into_iter().filter(|sight| seen.contains(sight.name)));
    all
}

fn laws() -> Vec<Property<Model>> {
    vec![
        always("I3: an effect is made once at most, and taken back once at most", |_, world| {
            world.places.iter().all(|place| place.made <= 1 && place.taken_back <= place.made)
        }),
        always("I5: one end, which never changes", |_, world| !world.has(Breach::AfterTheEnd)),
        always("I6: no effect after its compensation", |_, world| !world.has(Breach::AfterItsCompensation)),
        always("I10: versions rise by one", |_, world| !world.has(Breach::Version)),
        always("I10: no lower epoch writes after a higher", |_, world| !world.has(Breach::Epoch)),
        always("every fact fits where it is recorded and where it is written", |_, world| {
            !world.has(Breach::Illegal)
        }),
        always("a step after the pivot finds what it closes", |_, world| !world.has(Breach::NothingToClose)),
        always("after COMPLETED everything is there", |_, world| {
            world.saga.phase != Phase::Ended(Outcome::Completed)
                || world.places.iter().all(|place| place.made == 1 && place.taken_back == 0)
        }),
        always("after COMPENSATED nothing is left", nothing_is_left),
        always("nothing is called after the pivot before it is passed", |model, world| {
            world.saga.pivot_passed
                || model
                    .definition
                    .steps
                    .iter()
                    .zip(world.places.iter())
                    .all(|(def, place)| def.kind != StepKind::Final || place.made == 0)
        }),
        always("it goes on, or ends, or waits for a person", is_not_stuck),
    ]
}

fn nothing_is_left(model: &Model, world: &World) -> bool {
    if world.saga.phase != Phase::Ended(Outcome::Compensated) {
        return true;
    }
    model.definition.steps.iter().zip(world.places.iter()).enumerate().all(|(step, (def, place))| {
        match def.kind {
            StepKind::Compensated { .. } => place.made == place.taken_back && !is_pending(world, step),
            StepKind::Pivot | StepKind::Final => place.made == 0 && !is_pending(world, step),
            StepKind::Harmless | StepKind::Withdrawn { .. } => true,
        }
    })
}

/// Without bad luck and without anybody's wish something happens, unless it is at its end, waits for a person, or its
/// owner is dead and may not be replaced.
fn is_not_stuck(model: &Model, world: &World) -> bool {
    if world.is_orphan || matches!(world.saga.phase, Phase::Ended(_)) {
        return true;
    }
    let Some(owner) = world.owners.last().filter(|owner| owner.epoch == world.epoch) else { return false };
    if owner.waits_for_a_person() {
        return true;
    }
    let mut acts = Vec::new();
    model.actions(world, &mut acts);
    acts.into_iter().any(|act| !act.is_optional() && model.next_state(world, act).is_some())
}

/// Everything that is worth seeing.
fn sights() -> Vec<Property<Model>> {
    let mut sights = vec![
        sometimes("COMPLETED", |_, world| world.saga.phase == Phase::Ended(Outcome::Completed)),
        sometimes("COMPENSATED by a refusal of step 0", refused_at::<0>),
        sometimes("COMPENSATED by a refusal of step 1", refused_at::<1>),
        sometimes("COMPENSATED by a refusal of step 2", refused_at::<2>),
        sometimes("COMPENSATED by a refusal of step 3", refused_at::<3>),
        sometimes("COMPENSATED by a refusal of step 4", refused_at::<4>),
        sometimes("COMPENSATED by a cancel", |_, w| compensated_by(w, "CANCEL_REQUESTED")),
        sometimes("COMPENSATED by an operator", |_, w| compensated_by(w, "FORCED")),
        sometimes("COMPENSATED by the deadline", |_, w| compensated_by(w, "DEADLINE_EXCEEDED")),
        sometimes("COMPENSATED by a budget that ended in doubt", |_, w| compensated_by(w, "STEP_FAILED")),
        sometimes("PARKED by a dead command", |_, world| {
            world.saga.phase == Phase::Back && world.saga.label() == Label::Parked
        }),
        sometimes("PARKED because a pivot is in doubt", |_, world| {
            world.saga.parked.as_ref().is_some_and(|parked| parked.reason == "PIVOT_IN_DOUBT")
        }),
        sometimes("COMPENSATED after it was parked and tried again", |_, world| {
            world.saga.phase == Phase::Ended(Outcome::Compensated)
                && world.signals.dead.iter().any(Option::is_some)
                && world.saga.steps.iter().any(|step| step.commands() > 1)
        }),
    ];
    sights.extend(races());
    sights
}

/// Where two things meet that should not have.
fn races() -> Vec<Property<Model>> {
    vec![
        sometimes("a tombstone is written", |_, world| {
            world
                .places
                .iter()
                .any(|p| p.record.as_ref().is_some_and(|record| record.forward == Was::Blocked))
        }),
        sometimes("FENCED is answered", |_, world| {
            world.owners.iter().any(|owner| owner.replies.contains(&Some(Reply::Fenced)))
        }),
        // The version is right: nothing else would keep it out.
        sometimes("a stale owner's write is kept out by the fence alone", |_, world| {
            let mut stale = world.owners.iter().filter(|owner| owner.epoch < world.epoch);
            stale.any(|owner| {
                owner
                    .flight
                    .as_ref()
                    .is_some_and(|(commit, wire)| *wire == Wire::Sent && commit.version == world.version)
            })
        }),
        sometimes("it is taken over while a call is under way", |_, world| {
            world.owners.len() == 2 && world.owners[0].under_way() & world.owners[1].under_way() != 0
        }),
        sometimes("a command reaches a participant that has done it", |_, world| {
            let steps = world.saga.steps.iter().zip(world.places.iter());
            steps.into_iter().any(|(step, place)| {
                let has_done = place.record.as_ref().is_some_and(|record| record.back == Some(Was::Done));
                has_done && step.commands() > 1 && matches!(step.back(), Back::Sent { .. })
            })
        }),
        sometimes("a commit landed and nobody knows", |_, world| {
            world.owners.iter().any(|owner| {
                owner.flight.as_ref().is_some_and(|(commit, wire)| {
                    *wire == Wire::Lost && world.wrote == commit.epoch && world.version == commit.version + 1
                })
            })
        }),
        sometimes("a dead owner's commit lands after somebody took over and is refused", |_, world| {
            world.ghosts.iter().any(|ghost| ghost.epoch < world.epoch && ghost.version == world.version)
        }),
        sometimes("it is wanted back while it takes its time", |_, world| {
            world.places.iter().any(|place| {
                place
                    .record
                    .as_ref()
                    .is_some_and(|r| r.forward == Was::Pending && r.back == Some(Was::Started))
            })
        }),
        sometimes("a settlement precedes its pending", |_, world| {
            world.owners.iter().any(|owner| {
                let settled = world.signals.settled.iter().enumerate();
                let settled = settled.filter(|(_, settled)| settled.is_some());
                settled
                    .into_iter()
                    .any(|(step, _)| owner.replies[step] == Some(Reply::Pending) && !owner.is_pending(step))
            })
        }),
        sometimes("a review is withdrawn", |_, world| world.withdrawn != 0),
    ]
}

fn compensated_by(world: &World, reason: &str) -> bool {
    world.saga.phase == Phase::Ended(Outcome::Compensated)
        && world.saga.turned.as_ref().is_some_and(|why| why.reason == reason)
}

fn refused_at<const STEP: usize>(model: &Model, world: &World) -> bool {
    let at = |turned: &std::collections::BTreeMap<String, String>| {
        turned.get("step").is_some_and(|step| *step == model.definition.steps[STEP].name.to_string())
    };
    compensated_by(world, "NO") && world.saga.turned.as_ref().is_some_and(|why| at(&why.metadata))
}

/// What can happen within a model's bounds, by name: all of it must.
fn seen(model: &Model) -> BTreeSet<&'static str> {
    let budget = &model.budget;
    let pivot = model.definition.steps.iter().position(|def| def.kind == StepKind::Pivot);
    let refusals = [
        "COMPENSATED by a refusal of step 0",
        "COMPENSATED by a refusal of step 1",
        "COMPENSATED by a refusal of step 2",
        "COMPENSATED by a refusal of step 3",
        "COMPENSATED by a refusal of step 4",
    ];
    let refusable = model.definition.steps.iter().filter(|def| def.kind != StepKind::Final).count();
    let mut seen = BTreeSet::from(["COMPLETED"]);
    if budget.refusals > 0 {
        seen.extend(&refusals[..refusable]);
    }
    let tries = model.definition.steps[0].retry.budget;
    let two = budget.takeovers > 0;
    let wished = budget.cancels + budget.forces + budget.deadlines > 0;
    let turns = wished || budget.refusals > 0;
    // A refusal finds a sibling's call on its way, or a new owner takes back what nobody has called.
    let has_siblings = model.definition.steps.iter().filter(|def| def.stage == 0).count() > 1;
    let commands = model.definition.steps.iter().filter(|def| def.command().is_some()).count();
    let races = wished || (budget.refusals > 0 && (has_siblings || (two && commands > 1)));
    let withdraws =
        model.may_pend.iter().any(|s| matches!(model.definition.steps[*s].kind, StepKind::Withdrawn { .. }));
    let takes_time = model.may_pend.iter().any(|s| model.definition.steps[*s].command().is_some());
    let pends = budget.pendings > 0;
    for (name, can) in [
        ("COMPENSATED by a cancel", budget.cancels > 0),
        ("COMPENSATED by an operator", budget.forces > 0),
        ("COMPENSATED by the deadline", budget.deadlines > 0),
        ("COMPENSATED by a budget that ended in doubt", u32::from(budget.timeouts) >= tries),
        ("PARKED by a dead command", budget.deaths > 0 && turns),
        ("PARKED because a pivot is in doubt", pivot.is_some() && u32::from(budget.timeouts) >= tries),
        ("COMPENSATED after it was parked and tried again", budget.deaths > 0 && budget.retries > 0 && turns),
        ("a tombstone is written", races),
        ("FENCED is answered", wished || (budget.refusals > 0 && has_siblings)),
        ("a stale owner's write is kept out by the fence alone", two),
        ("it is taken over while a call is under way", two),
        ("a command reaches a participant that has done it", budget.resends > 0 && turns),
        ("a commit landed and nobody knows", budget.lost_commits > 0),
        ("a dead owner's commit lands after somebody took over and is refused", two),
        ("it is wanted back while it takes its time", pends && takes_time && wished),
        ("a settlement precedes its pending", pends),
        ("a review is withdrawn", pends && withdraws && turns),
    ] {
        if can {
            seen.insert(name);
        }
    }
    seen
}
