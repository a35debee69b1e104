//! What is done to money: sold, taken back, lost on the way to the provider, confirmed late.

use std::time::Duration;

use proto::{ledger::v1::CloseAccountRequest, order::v1::Order};

use super::scene::{Scene, id, impatient};
use crate::Spec;

pub(super) async fn sale() -> Scene {
    let mut scene = Scene::new().await;
    scene.sell_to_the_end(&Spec::of(2)).await;
    scene
}

/// The books have a second lock, which keeps what is not level from being committed at all.
pub(super) async fn sale_without_trigger() -> Scene {
    let mut scene = Scene::new().await;
    scene.run("alter table ledger.entry disable trigger entry_balance").await;
    scene.sell_to_the_end(&Spec::of(2)).await;
    scene
}

/// Two orders of a merchant whose account is closed in between: the second is charged, and then everything is taken
/// back.
pub(super) async fn refuse_the_second(scene: &mut Scene) {
    scene.sell_to_the_end(&Spec::of(1).merchant("m_2")).await;
    let close = CloseAccountRequest { account_id: "merchant:m_2:EUR".into(), reason: "x".into() };
    scene.world.ledger().close_account(close).await.unwrap();
    scene.sell_to_the_end(&Spec::of(2).merchant("m_2")).await;
}

pub(super) async fn taken_back() -> Scene {
    let mut scene = Scene::new().await;
    refuse_the_second(&mut scene).await;
    scene
}

pub(super) async fn lost_charge() -> Scene {
    let mut scene = Scene::with(impatient).await;
    scene.sell_to_the_end(&Spec::of(1).token("tok_timeout_after")).await;
    scene
}

pub(super) async fn lost_charge_cancelled() -> Scene {
    // Late enough for the cancel to come first.
    let mut scene = Scene::with(|settings| {
        impatient(settings);
        settings.payment.look = Duration::from_secs(3);
    })
    .await;
    let order = scene.sell(&Spec::of(1).token("tok_timeout_after")).await;
    scene.until("exists (select from payments.attempt where state = 'IN_DOUBT')").await;
    scene.world.cancel(&order.order_id).await.unwrap();
    scene.ends(&order).await;
    scene
}

pub(super) async fn late_money() -> Scene {
    let mut scene = Scene::with(|settings| {
        impatient(settings);
        settings.payment.sends = 1;
    })
    .await;
    let order = scene.sell_to_the_end(&Spec::of(1).token("tok_never_answers")).await;
    scene.until(&format!("(select ended from orchestrator.saga where saga_id = '{}')", id(&order))).await;
    scene.run("update simulator.charge set state = 'CHARGED', effect_time = now()").await;
    scene.hope_for("exists (select from payments.attempt where state = 'REFUNDED')").await;
    scene
}

/// An order whose provider takes its time.
pub(super) async fn slow(scene: &mut Scene) -> Order {
    let order = scene.sell(&Spec::of(1).token("tok_slow")).await;
    scene.until("exists (select from orchestrator.saga where state = 'WAITING')").await;
    order
}

pub(super) async fn settled() -> Scene {
    let mut scene = Scene::new().await;
    let order = slow(&mut scene).await;
    scene.settle().await;
    scene.ends(&order).await;
    scene
}
