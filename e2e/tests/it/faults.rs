//! The table of step faults: every step and compensation of every saga in the catalog, times everything that can go
//! wrong with it, both ways, for a while and for good; and how each of them ends.
//!
//! The cells are generated from the catalog (`cells.rs`), so a new saga kind, version or step is in the table by being
//! there; what the table does not know about it (`expect.rs`) fails the test. All cells of a version run side by side in
//! one world (`scene.rs`, `play.rs`); breakers belong to a participant and not to a saga, so they have a world of their
//! own (`breakers.rs`). A cell whose fault did not happen at its step, in its direction, as often as it was planned has
//! failed, whatever its order came to. `AMENDS_FAULTS_ONLY=text` plays those whose names contain it. Ends are judged by what is stored (`judge.rs`), and the auditor has the last word.

mod breakers;
mod cells;
mod expect;
mod judge;
mod play;
mod scene;
mod table;

use std::sync::Arc;

use e2e::{
    BusKind,
    faults::{Direction, Fault},
};
use orchestrator::catalog::{Kind, Registry};

fn kinds() -> Vec<Arc<dyn Kind>> {
    let registry = Registry::all(&orchestrator::Settings::default()).unwrap();
    registry.kinds().cloned().collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_fault_at_every_step_and_compensation_ends_as_the_table_says() {
    let worlds = kinds().into_iter().map(|kind| async move {
        let (breakers, others): (Vec<_>, Vec<_>) =
            cells_of(&*kind).into_iter().partition(cells::Cell::needs_breaker);
        let (first, second) = tokio::join!(
            play::all(Arc::clone(&kind), BusKind::Local, others),
            breakers::all(Arc::clone(&kind), breakers),
        );
        [first, second].concat()
    });
    let played = futures_util::future::join_all(worlds).await.concat();
    as_the_table_says(&played);
}

/// What goes by message, over the broker: its ladder is in its queues, so nobody climbs it here.
#[tokio::test(flavor = "multi_thread")]
async fn every_fault_at_every_compensation_ends_as_the_table_says_over_rabbitmq() {
    let worlds = kinds().into_iter().map(|kind| async move {
        let mut cells = cells_of(&*kind);
        cells.retain(|cell| {
            let climbs = cell.fault == Fault::Error && cell.times == u32::MAX;
            cell.direction == Direction::Back && !climbs && !cell.needs_breaker()
        });
        play::all(kind, BusKind::Amqp, cells).await
    });
    let played = futures_util::future::join_all(worlds).await.concat();
    as_the_table_says(&played);
}

fn cells_of(kind: &dyn Kind) -> Vec<cells::Cell> {
    let mut cells = cells::of(kind);
    if let Ok(only) = std::env::var("AMENDS_FAULTS_ONLY") {
        cells.retain(|cell| cell.to_string().contains(&only));
    }
    cells
}

fn as_the_table_says(played: &[table::Played]) {
    let table = table::render(played);
    eprintln!("{table}");
    if let Ok(path) = std::env::var("AMENDS_FAULTS_TABLE") {
        std::fs::write(path, &table).unwrap();
    }
    let wrong: Vec<_> = played.iter().filter_map(|(cell, end)| Some((cell, end.as_ref().err()?))).collect();
    let told: Vec<_> = wrong.iter().map(|(cell, why)| format!("{cell}: {why}")).collect();
    assert!(wrong.is_empty(), "{} of {} cells:\n{}", wrong.len(), played.len(), told.join("\n"));
}
