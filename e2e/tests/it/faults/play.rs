//! Plays the cells of a version, side by side.

use std::sync::Arc;

use e2e::{
    BusKind,
    faults::{Direction, Fault, Plan, Spot},
};
use orchestrator::catalog::Kind;
use proto::order::v1::{Order, OrderStatus};
use types::SagaId;

use super::{
    cells::{Cell, Turn},
    expect::{End, Way},
    judge,
    scene::Scene,
    table::Played,
};

/// What lasts after the pivot is watched this often before it is healed.
const LASTS: u32 = 3;

/// Plays them all in one world, and has each end judged.
pub(super) async fn all(kind: Arc<dyn Kind>, bus: BusKind, mut cells: Vec<Cell>) -> Vec<Played> {
    let scene = Scene::open(&*kind, bus, |_| {}).await;
    // What takes longest begins first.
    cells.sort_by_key(|cell| std::cmp::Reverse((cell.fault == Fault::Silence, cell.times)));
    let playing = cells.into_iter().map(|cell| {
        let (scene, played) = (Arc::clone(&scene), cell.clone());
        let playing = tokio::spawn(async move {
            let _place = scene.places.acquire().await.unwrap();
            play(&scene, &played).await
        });
        (cell, playing)
    });
    let mut played = Vec::new();
    for (cell, playing) in playing.collect::<Vec<_>>() {
        let outcome = playing.await.unwrap_or_else(|panic| Err(panic.to_string()));
        played.push((cell, outcome));
    }
    judge::all(&scene, played).await
}

async fn play(scene: &Scene, cell: &Cell) -> Result<SagaId, String> {
    let order = scene.place(cell).await;
    turn(scene, cell, &order).await?;
    ends(scene, cell, &order.saga_id, &cell.end).await?;
    it_happened(scene, cell, &order.saga_id).await?;
    late_ones(scene, cell, &order.saga_id).await?;
    Ok(order.saga_id.parse().unwrap())
}

/// Brings it to where it goes back.
async fn turn(scene: &Scene, cell: &Cell, order: &Order) -> Result<(), String> {
    let saga = &order.saga_id;
    let forward =
        |step: &str| Spot { saga: saga.clone(), step: step.to_owned(), direction: Direction::Forward };
    let is_asked = || {
        scene.saga_is(saga, "waits for a person", |saga| {
            saga.steps.iter().any(|step| step.name == cell.step && step.pending_action == "REVIEW")
        })
    };
    match &cell.turn {
        None | Some(Turn::Refused(_) | Turn::Doubt) => {}
        Some(Turn::Cancelled(held)) => {
            for step in held {
                scene.meets(&forward(step), 1).await?;
            }
            scene.world.cancel(&order.order_id).await.unwrap();
        }
        Some(Turn::RefusedUnderReview(by)) => {
            is_asked().await?;
            scene.injector.heal(&forward(by));
        }
        Some(Turn::RefusedInFlight(by)) => {
            // What takes effect has done so before it turns round.
            match cell.fault {
                Fault::TimeoutAfter | Fault::Silence => scene.meets(&cell.spot(saga), 1).await?,
                _ => scene.comes(&cell.spot(saga)).await?,
            }
            scene.injector.heal(&forward(by));
        }
        Some(Turn::CancelledUnderReview) => {
            is_asked().await?;
            scene.world.cancel(&order.order_id).await.unwrap();
        }
    }
    Ok(())
}

/// Follows it to its end, and does what a person does on the way.
async fn ends(scene: &Scene, cell: &Cell, saga: &str, end: &End) -> Result<(), String> {
    match end {
        End::Completed | End::Cancelled(_) => scene.ended(saga).await,
        End::GoesOn(then) => {
            let spot = cell.spot(saga);
            scene.meets(&spot, LASTS).await?;
            let shown = scene.saga(saga).await;
            let order = scene.world.order(saga.replace("saga_", "ord_").as_str()).await;
            let goes_on = shown.pivot_passed && order.status() == OrderStatus::PaymentSuccess;
            if !goes_on {
                return Err(format!("after {LASTS} failures it is {order:?}, {shown:?}"));
            }
            scene.injector.heal(&spot);
            Box::pin(ends(scene, cell, saga, then)).await
        }
        End::Parked(reason, way, then) => {
            let spot = cell.spot(saga);
            // It happens once more each time that somebody has it tried again, until it is repaired.
            let times = if cell.times == u32::MAX { 1 } else { cell.times };
            for left in (0..times).rev() {
                if cell.fault == Fault::Error {
                    scene.meets(&spot, 1).await?;
                    scene.up_the_ladder(saga).await;
                }
                scene.parked(saga, reason).await?;
                let before = scene.injector.count(&spot).injected;
                if left == 0 {
                    scene.injector.heal(&spot);
                }
                moved(scene, cell, saga, *way).await?;
                if left > 0 {
                    scene.meets(&spot, before + 1).await?;
                }
            }
            Box::pin(ends(scene, cell, saga, then)).await
        }
    }
}

/// A person moves what is parked.
async fn moved(scene: &Scene, cell: &Cell, saga: &str, way: Way) -> Result<(), String> {
    match way {
        Way::Retry => scene.retry(saga).await,
        Way::Answered if cell.direction == Direction::Back => {
            scene.injector.deliver_kept(saga).await;
            Ok(())
        }
        // A call has nobody any more who would hear its answer: asked again, its participant gives it.
        Way::Answered => {
            scene.injector.deliver_kept(saga).await;
            scene.retry(saga).await
        }
        Way::Resolve => {
            let Cell { step, direction, .. } = cell.clone();
            if direction == Direction::Back {
                let lost = Plan { step, direction, fault: Fault::TimeoutAfter, times: u32::MAX };
                scene.injector.expect(saga, vec![lost]);
            }
            scene.injector.deliver_kept(saga).await;
            scene.resolve(saga, cell).await
        }
    }
}

/// The fault was there, as often as it was planned.
async fn it_happened(scene: &Scene, cell: &Cell, saga: &str) -> Result<(), String> {
    let is_planned = cell
        .plans()
        .iter()
        .any(|plan| plan.step == cell.step && plan.direction == cell.direction && plan.fault == cell.fault);
    if !is_planned {
        // A participant's own rule: the journal says that it refused.
        return Ok(());
    }
    let spot = cell.spot(saga);
    // Some of it comes after the end: a caller that gives up, a message that comes again.
    let times = if cell.times == u32::MAX { 1 } else { cell.times };
    scene.injector.injected(&spot, times).await;
    let count = scene.injector.count(&spot);
    let is_exact = cell.times == u32::MAX || cell.fault == Fault::Refuse || count.injected == times;
    let again = match (cell.direction, cell.fault) {
        (Direction::Forward, _) => true,
        (_, Fault::TimeoutBefore) => cell.review.is_some() || count.arrivals > times,
        (_, Fault::TimeoutAfter | Fault::Garbage(_)) => count.answers > times,
        _ => true,
    };
    if is_exact && again { Ok(()) } else { Err(format!("what happened is {count:?}")) }
}

/// What the participants say to what they get too late.
async fn late_ones(scene: &Scene, cell: &Cell, saga: &str) -> Result<(), String> {
    let spot = cell.spot(saga);
    let says = match (cell.fault, cell.direction) {
        (Fault::Late, Direction::Forward) => {
            // What it said by message meanwhile, too: after the end it changes nothing.
            scene.injector.deliver_kept(saga).await;
            "DONE"
        }
        (Fault::AfterEnd, Direction::Forward) => {
            let goes_back = matches!(cell.end, End::Cancelled(_));
            if goes_back && cell.is_withdrawn {
                // Nobody waited for it, not even the end.
                scene.injector.handled(&Spot { direction: Direction::Back, ..spot.clone() }).await;
            }
            scene.injector.deliver_kept(saga).await;
            if goes_back && cell.is_fenced { "FENCED" } else { "DONE" }
        }
        (Fault::Late, Direction::Back) => "Done",
        (Fault::AfterEnd, Direction::Back) => {
            scene.injector.deliver_kept(saga).await;
            "Done"
        }
        _ => return Ok(()),
    };
    let injected = scene.injector.count(&spot).injected as usize;
    scene.injector.answered_late(&spot, injected).await;
    let late = scene.injector.count(&spot).late;
    // What came while the saga still went forward took effect; the rest may have met the tombstone.
    let is_right = match cell.fault {
        // An outside call may take longer than its caller is told to wait.
        Fault::Late => late.iter().any(|one| one == says || one == "PENDING"),
        _ => late.iter().all(|one| one == says),
    };
    if is_right { Ok(()) } else { Err(format!("late ones were answered {late:?}, not {says}")) }
}
