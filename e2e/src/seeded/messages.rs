//! What is done to messages: their handler fails, their queue is gone, their ids come late, their bodies are spoilt.

use std::time::Duration;

use chassis::testbed::variable;
use lapin::{Connection, ConnectionProperties, options::QueueDeleteOptions};

use super::{
    money::slow,
    scene::{Scene, id, let_go},
};
use crate::{Builder, BusKind, Kind};

/// Nobody needs the ledger but for this event: the order is cancelled before anything is booked.
const ANNOUNCED: &str = "exists (select from payments.attempt where state = 'REFUNDED')";

pub(super) async fn ledger_away() -> Scene {
    let mut scene = Scene::new().await;
    let order = slow(&mut scene).await;
    let role = ledger_svc::SCHEMA.role;
    scene.run(&format!("revoke insert on ledger.transaction from {role}")).await;
    // Whoever wants to write there is seen to, and only then refused.
    let books = scene.hold("lock table ledger.transaction in access exclusive mode").await;
    scene.world.cancel(&order.order_id).await.unwrap();
    scene.settle().await;
    scene.until(ANNOUNCED).await;
    let held_up =
        "exists (select from pg_locks where relation = 'ledger.transaction'::regclass and not granted)";
    scene.until(held_up).await;
    let_go(books).await;
    let tried =
        "not exists (select from payments.outbox where routing_key = 'payment.refunded' and attempt = 0)";
    scene.until(tried).await;
    tokio::time::sleep(Duration::from_millis(700)).await;
    scene.run(&format!("grant insert on ledger.transaction to {role}")).await;
    scene.ends(&order).await;
    scene
}

pub(super) async fn unroutable() -> Scene {
    let mut scene = Scene::built(Builder::new(BusKind::Amqp), |_| ()).await;
    let order = slow(&mut scene).await;
    scene.world.take_down(Kind::Ledger).await;
    let queue = format!("{}ledger.events", scene.world.ground.amqp_prefix().unwrap());
    let url = variable("AMENDS_TEST_AMQP_URL");
    let broker = Connection::connect(&url, ConnectionProperties::default()).await.unwrap();
    let channel = broker.create_channel().await.unwrap();
    channel.queue_delete(queue.into(), QueueDeleteOptions::default()).await.unwrap();
    scene.world.cancel(&order.order_id).await.unwrap();
    scene.settle().await;
    scene.until(ANNOUNCED).await;
    let tried = "not exists (select from payments.outbox where routing_key = 'payment.refunded' and not_before is null)";
    scene.until(tried).await;
    scene.world.bring_back(Kind::Ledger).await;
    scene.ends(&order).await;
    scene
}

/// Of two that drew their ids one after the other, the second committed first. Nobody takes these messages, so they go
/// as soon as they are found.
pub(super) async fn late_id() -> Scene {
    let mut scene = Scene::new().await;
    for id in ["ffffffff-0000-7000-8000-000000000002", "ffffffff-0000-7000-8000-000000000001"] {
        scene
            .run(&format!(
                "insert into orchestrator.outbox (outbox_id, exchange, routing_key, kind, body, headers, create_time) \
                 values ('{id}', 'events', 'seeded.{id}', 'seeded', '', '{{}}', now() - interval '10 seconds')"
            ))
            .await;
        let gone = format!("not exists (select from orchestrator.outbox where outbox_id = '{id}')");
        scene.hope_for(&gone).await;
    }
    scene
}

/// A release that fails is spoilt before it is tried again.
pub(super) async fn poison_command() -> Scene {
    // Nothing is sent again meanwhile.
    let mut scene = Scene::with(|s| s.orchestrator.answer_after = Duration::from_secs(600)).await;
    let order = slow(&mut scene).await;
    let role = inventory_svc::SCHEMA.role;
    scene.run(&format!("revoke update on inventory.reservation from {role}")).await;
    scene.world.cancel(&order.order_id).await.unwrap();
    scene.settle().await;
    let tried = "orchestrator.outbox where routing_key = 'inventory' and attempt > 0";
    scene.until(&format!("exists (select from {tried})")).await;
    scene
        .run("update orchestrator.outbox set body = '\\xff' where routing_key = 'inventory' and attempt > 0")
        .await;
    scene.run(&format!("grant update on inventory.reservation to {role}")).await;
    let parked = format!("(select state = 'PARKED' from orchestrator.saga where saga_id = '{}')", id(&order));
    scene.hope_for(&parked).await;
    scene
}
