//! What is done to stock: reserved twice, released twice, wanted in vain, wanted too late.

use std::time::Duration;

use proto::{
    inventory::v1::{
        ReleaseItem, ReleaseRequest, ReserveItem, ReserveLine, ReserveRequest,
        inventory_steps_client::InventoryStepsClient,
    },
    order::v1::{Order, OrderStatus},
    step::StepHeader,
};

use super::{
    money::refuse_the_second,
    scene::{Scene, let_go},
};
use crate::{Builder, BusKind, Kind, Meddling, Record, Spec};

pub(super) async fn lost_answers() -> Scene {
    let record = Record::default();
    let builder = Builder::new(BusKind::Local).meddling(Meddling::LoseFirstAnswer, &record);
    let mut scene = Scene::built(builder, |_| ()).await;
    scene.sell_to_the_end(&Spec::of(1)).await;
    assert_eq!(record.methods().len(), 7, "the trial is void: not every answer was lost");
    scene
}

/// More than there is, and cheap enough to need no review.
fn too_much() -> Spec {
    Spec::of(1).line("P1003", 1001)
}

pub(super) async fn out_of_stock() -> Scene {
    let mut scene = Scene::new().await;
    scene.sell_to_the_end(&too_much()).await;
    scene
}

fn header(order: &Order) -> Option<StepHeader> {
    let saga_id = order.saga_id.clone();
    Some(StepHeader { saga_id, step: "reserve".into(), attempt: 1, ..StepHeader::default() })
}

/// What a stale owner may still say.
async fn reserve(scene: &Scene, order: &Order) {
    let item = ReserveItem {
        header: header(order),
        order_id: order.order_id.clone(),
        lines: vec![ReserveLine { sku: "P1001".into(), quantity: 1 }],
        hold_until: Some(prost_types::Timestamp { seconds: 4_000_000_000, nanos: 0 }),
    };
    let request = ReserveRequest { items: vec![item] };
    let mut inventory = InventoryStepsClient::new(scene.world.callee(Kind::Inventory));
    inventory.reserve(request).await.unwrap().into_inner().message().await.unwrap().unwrap();
}

async fn release(scene: &Scene, order: &Order) {
    let item =
        ReleaseItem { header: header(order), order_id: order.order_id.clone(), reason: "said again".into() };
    let request = ReleaseRequest { items: vec![item] };
    let mut inventory = InventoryStepsClient::new(scene.world.callee(Kind::Inventory));
    inventory.release(request).await.unwrap().into_inner().message().await.unwrap().unwrap();
}

/// The reservation is on its way while its saga is taken back, and arrives in the end.
pub(super) async fn late_step() -> Scene {
    // The release is not sent again: its repeat would mend what the step leaves.
    let mut scene = Scene::with(|s| s.orchestrator.answer_after = Duration::from_secs(600)).await;
    scene.world.take_down(Kind::Inventory).await;
    let order = scene.sell(&Spec::of(1)).await;
    scene.world.cancel(&order.order_id).await.unwrap();
    scene.until("exists (select from orchestrator.outbox where routing_key = 'inventory')").await;
    scene.world.bring_back(Kind::Inventory).await;
    scene.ends(&order).await;
    reserve(&scene, &order).await;
    scene
}

/// Somebody else's goods are reserved meanwhile: without them the counters would refuse to go below zero.
pub(super) async fn said_twice() -> Scene {
    let mut scene = Scene::built(Builder::new(BusKind::Local).doubled(), |_| ()).await.waiting();
    let held = scene.sell(&Spec::of(900).wait(20)).await;
    assert_eq!(held.status(), OrderStatus::UnderReview);
    let sold = scene.sell_to_the_end(&Spec::of(1)).await;
    refuse_the_second(&mut scene).await;
    release(&scene, &sold).await;
    scene
}

/// What waits while the first exchanges hang goes in one slice; on a busy machine some are late, or the first run out of
/// their time, so it is done three times.
pub(super) async fn mixed_slice() -> Scene {
    let mut scene = Scene::new().await;
    for _ in 0..3 {
        let stock = scene.hold("select from inventory.stock for update").await;
        for i in 0..8 {
            scene.sell(&if i % 2 == 0 { Spec::of(1) } else { too_much() }).await;
        }
        // Their calls are queued a moment after they are stored.
        tokio::time::sleep(Duration::from_millis(500)).await;
        let_go(stock).await;
    }
    scene.all_end().await;
    scene
}
