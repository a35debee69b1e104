//! Breakers: one for each participant, so their cells are played in worlds of their own, some participants at a time.
//!
//! A participant lets nobody in, and an order that is no cell opens its breaker. The cells come to it only then: those of
//! later stages are held one stage before. An open breaker must stop them without spending anything, for as long as it
//! lasts: until it heals, until the order's deadline turns it round, or, after the pivot, past the deadline. What goes
//! back goes by message, and no breaker is in its way.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use e2e::{
    BusKind,
    faults::{Direction, Fault, Plan, Spot},
};
use orchestrator::{catalog::Kind, saga::Definition};
use proto::{order::v1::Order, saga::v1::Saga};
use types::SagaId;

use super::{
    cells::{Cell, Turn},
    expect::{self, End},
    judge,
    scene::Scene,
    table::Played,
};

/// Of orders whose participant stays away: long enough to come to it on a busy machine.
const DEADLINE: Duration = Duration::from_secs(15);

/// Plays what heals and what lasts, each in a world of its own.
pub(super) async fn all(kind: Arc<dyn Kind>, cells: Vec<Cell>) -> Vec<Played> {
    let (lasting, healing): (Vec<_>, Vec<_>) = cells.into_iter().partition(|cell| cell.times == u32::MAX);
    let (healed, lasted) = tokio::join!(world(&*kind, healing, None), world(&*kind, lasting, Some(DEADLINE)));
    [healed, lasted].concat()
}

async fn world(kind: &dyn Kind, cells: Vec<Cell>, deadline: Option<Duration>) -> Vec<Played> {
    if cells.is_empty() {
        return Vec::new();
    }
    let scene = Scene::open(kind, BusKind::Local, |settings| {
        settings.breaker_failures = 1;
        settings.breaker_cool_down = Duration::from_secs(3);
        settings.order_deadline = deadline.unwrap_or(settings.order_deadline);
    });
    let scene = scene.await;
    let mut played = Vec::new();
    for (down, cells) in rounds(kind.definition(), cells) {
        played.extend(round(&scene, kind.definition(), &down, cells).await);
    }
    judge::all(&scene, played).await
}

/// The step at which a cell is held until its participant's breaker is open: in the stage before, at another's.
fn held_at(definition: &Definition, cell: &Cell) -> Option<(String, &'static str)> {
    if cell.turn.is_some() {
        return None;
    }
    let own = definition.steps.iter().find(|step| step.name.as_str() == cell.step)?;
    let before = definition.steps.iter().rev();
    let mut before = before.filter(|step| step.stage + 1 == own.stage && step.participant != own.participant);
    before.next().map(|step| (step.name.to_string(), step.participant))
}

/// Which participants are away together: nobody whom another cell has to pass first.
fn rounds(definition: &Definition, cells: Vec<Cell>) -> Vec<(Vec<&'static str>, Vec<Cell>)> {
    let mut by_participant: BTreeMap<&'static str, Vec<Cell>> = BTreeMap::new();
    for cell in cells {
        by_participant.entry(cell.participant).or_default().push(cell);
    }
    let mut rounds: Vec<(Vec<&'static str>, Vec<Cell>)> = Vec::new();
    for (participant, cells) in by_participant {
        let passes = |cells: &[Cell], by: &[&str]| {
            cells.iter().any(|cell| held_at(definition, cell).is_some_and(|(_, at)| by.contains(&at)))
        };
        let free =
            rounds.iter_mut().find(|(down, others)| !passes(&cells, down) && !passes(others, &[participant]));
        match free {
            Some((down, others)) => {
                down.push(participant);
                others.extend(cells);
            }
            None => rounds.push((vec![participant], cells)),
        }
    }
    rounds
}

type Outcome = (Cell, Result<SagaId, String>);

async fn round(
    scene: &Arc<Scene>,
    definition: &Definition,
    down: &[&'static str],
    cells: Vec<Cell>,
) -> Vec<Outcome> {
    let held = |cell: &Cell| held_at(definition, cell).map(|(step, _)| step);
    let (later, first): (Vec<_>, Vec<_>) =
        cells.into_iter().partition(|cell| cell.turn.is_some() || held(cell).is_some());
    let mut placed = Vec::new();
    for cell in later {
        let order = scene.place(&cell).await;
        if let Some(step) = held(&cell) {
            let plan = Plan { step, direction: Direction::Forward, fault: Fault::Hold, times: u32::MAX };
            scene.injector.expect(&order.saga_id, vec![plan]);
        }
        placed.push((cell, order));
    }
    let mut opened = Ok(());
    for (cell, order) in &placed {
        for step in held_steps(cell).into_iter().chain(held(cell)) {
            opened = opened.and(scene.meets(&forward(&order.saga_id, &step), 1).await);
        }
    }
    // The last in the table first: an order has to come to it.
    let stage = |participant: &&str| {
        let theirs = definition.steps.iter().filter(|step| step.participant == *participant);
        theirs.map(|step| step.stage).min()
    };
    let mut in_turn = down.to_vec();
    in_turn.sort_by_key(|participant| std::cmp::Reverse(stage(participant)));
    for participant in in_turn {
        scene.injector.set_down(participant, true);
        opened = opened.and(open(scene, definition.kind, participant).await);
    }
    for cell in first {
        let order = scene.place(&cell).await;
        placed.push((cell, order));
    }
    let playing = placed.into_iter().map(|(cell, order)| {
        let (held, scene, opened) = (held(&cell), Arc::clone(scene), opened.clone());
        async move {
            if let Some(step) = held {
                scene.injector.heal(&forward(&order.saga_id, &step));
            }
            let outcome = match opened {
                Ok(()) => meets(&scene, &cell, &order).await,
                Err(why) => Err(why),
            };
            (cell, order, outcome)
        }
    });
    let met = futures_util::future::join_all(playing).await;
    for participant in down {
        scene.injector.set_down(participant, false);
    }
    let ending = met.into_iter().map(|(cell, order, met)| {
        let scene = Arc::clone(scene);
        async move {
            let outcome = match met {
                Ok(()) => ended(&scene, &cell, &order.saga_id).await,
                Err(why) => Err(why),
            };
            (cell, outcome)
        }
    });
    futures_util::future::join_all(ending).await
}

fn held_steps(cell: &Cell) -> Vec<String> {
    match &cell.turn {
        Some(Turn::Cancelled(held)) => held.clone(),
        _ => Vec::new(),
    }
}

fn forward(saga: &str, step: &str) -> Spot {
    Spot { saga: saga.into(), step: step.into(), direction: Direction::Forward }
}

/// An order that is no cell meets the participant who is away.
async fn open(scene: &Scene, kind: &str, down: &str) -> Result<(), String> {
    let order = scene.world.create(&expect::plain(kind)).await;
    scene.injector.expect(&order.saga_id, Vec::new());
    let is_open = |saga: &Saga| {
        saga.steps
            .iter()
            .any(|step| step.participant == down && step.attempts > 0 && step.breaker != "CLOSED")
    };
    scene.saga_is(&order.saga_id, "met an open breaker", is_open).await.map(drop)
}

/// It comes to the open breaker, and stands there.
async fn meets(scene: &Scene, cell: &Cell, order: &Order) -> Result<(), String> {
    let saga_id = &order.saga_id;
    if cell.turn.is_some() {
        let saga = scene.saga(saga_id).await;
        if breaker(&saga, cell) == "CLOSED" {
            return Err("its participant's breaker was not open".into());
        }
        scene.world.cancel(&order.order_id).await.map_err(|status| status.to_string())?;
        scene.ended(saga_id).await?;
        let saga = scene.saga(saga_id).await;
        return match breaker(&saga, cell) {
            "CLOSED" => Err("its participant's breaker did not stay open".into()),
            _ => Ok(()),
        };
    }
    scene
        .saga_is(saga_id, "stands before an open breaker", |saga| {
            let own = saga.steps.iter().find(|step| step.name == cell.step).unwrap();
            let earlier = saga.steps.iter().filter(|step| step.stage < own.stage);
            earlier.into_iter().all(|step| step.state == "DONE")
                && own.state != "DONE"
                && own.breaker == "OPEN"
        })
        .await?;
    match cell.end {
        End::Cancelled(_) => scene.ended(saga_id).await,
        End::GoesOn(_) => {
            // Past the deadline, and a moment longer.
            tokio::time::sleep(DEADLINE + Duration::from_secs(2)).await;
            let saga = scene.saga(saga_id).await;
            let state = saga.state().as_str_name();
            if state == "RUNNING" && saga.pivot_passed { Ok(()) } else { Err(format!("it is {state}")) }
        }
        End::Completed | End::Parked(..) => Ok(()),
    }
}

fn breaker<'s>(saga: &'s Saga, cell: &Cell) -> &'s str {
    saga.steps
        .iter()
        .find(|step| step.name == cell.step)
        .map(|step| step.breaker.as_str())
        .unwrap_or_default()
}

/// And no attempt was spent but by calls that went out, as probes do.
async fn ended(scene: &Scene, cell: &Cell, saga_id: &str) -> Result<SagaId, String> {
    scene.ended(saga_id).await?;
    let saga = scene.saga(saga_id).await;
    let arrivals = scene.injector.count(&forward(saga_id, &cell.step)).arrivals;
    let attempts = saga.steps.iter().find(|step| step.name == cell.step).map_or(0, |step| step.attempts);
    if attempts > arrivals {
        return Err(format!("{attempts} attempts were spent, and {arrivals} calls came"));
    }
    Ok(saga_id.parse().unwrap())
}
