//! What is done to owners: they end in the middle of a commit, do not hear that they were passed over, lose answers.

use std::time::Duration;

use chassis::{batcher::Command as _, clock};
use orchestrator::{
    journal::{self, Recorded, Transition},
    saga::Event,
    shard::{self, ShardRow},
    signal::{Said, Signal, StoreSignals},
};
use proto::{order::v1::Order, risk::v1::DecideReviewRequest};
use uuid::Uuid;

use super::{
    money::slow,
    scene::{Scene, let_go, saga},
};
use crate::{Builder, BusKind, Kind, Spec, eventually, proxy::CutAt};

/// The owner has done everything up to the pivot, and the journal heard of the beginning only.
pub(super) async fn taken_over() -> Scene {
    let mut scene = Scene::new().await;
    let stock = scene.hold("select from inventory.stock for update").await;
    let order = scene.sell(&Spec::of(2)).await;
    scene.until("exists (select from orchestrator.journal where version > 1)").await;
    // From here on its commits hang.
    let commits = scene.hold("select from orchestrator.saga for update").await;
    let_go(stock).await;
    scene.until("exists (select from ledger.transaction where kind = 'POST' and outcome = 'DONE')").await;
    // What must not be called yet.
    scene.give_time_for("exists (select from inventory.reservation where state = 'SOLD')").await;
    scene.world.take_down(Kind::Inventory).await;
    scene.world.orchestrators.remove(0).node.stop().await;
    let waiters = "not exists (select from pg_locks l join pg_database d on d.oid = l.database \
        where d.datname = current_database() and not l.granted)";
    scene.until(waiters).await;
    let_go(commits).await;
    // Heard by whoever comes next, before inventory lets it go on.
    let said = Said::Cancel { reason: "changed my mind".into() };
    let signal = Signal { id: clock::new_uuid(), saga: saga(&order), said };
    let pool = scene.world.ground.database.pool(&orchestrator::SCHEMA).await;
    StoreSignals { pool, bell: Default::default() }.run(&[signal]).await.unwrap();
    scene.world.add_orchestrator().await;
    scene.until("exists (select from orchestrator.journal where events like '%TurnedRound%')").await;
    scene.world.bring_back(Kind::Inventory).await;
    scene.ends(&order).await;
    scene
}

/// The next owner takes the shard of a saga over and writes; the shard.
async fn pass_over(scene: &mut Scene, order: &Order) -> i16 {
    let (shard, epoch): (i16, i64) = sqlx::query_as(
        "select s.shard_id, f.epoch from orchestrator.saga s join orchestrator.fence f using (shard_id)",
    )
    .fetch_one(&mut scene.database)
    .await
    .unwrap();
    let (mut first, mut second) = (scene.hand().await, scene.hand().await);
    let owner = Some(scene.world.orchestrators[0].instance);
    let row = ShardRow { shard, owner, released: false, epoch };
    let taken = shard::acquire(&mut first, &mut second, &row, Uuid::now_v7()).await.unwrap();
    assert_eq!(taken, Some(epoch + 1));
    let heard = Event::AttemptFailed {
        step: "screen".parse().unwrap(),
        doubt: false,
        spent: false,
        reason: "asked again by the next owner".into(),
        not_before: 0,
    };
    // With a bug the former owner may still write what it had in hand; so read, and try again.
    eventually("the next owner writes", || async {
        let mut hand = scene.hand().await;
        let stored = journal::load(&mut hand, &[saga(order)]).await.unwrap().remove(0);
        let at = clock::now().timestamp_millis();
        let transition = Transition {
            saga: saga(order),
            shard,
            epoch: epoch + 1,
            version: stored.version,
            commit_id: clock::new_uuid(),
            events: vec![Recorded { at, trace: String::new(), event: heard.clone() }],
            state: "WAITING",
            reason: "REVIEW".into(),
            ended: false,
            projection: None,
            messages: vec![],
            signals: vec![],
            is_fresh: true,
        };
        let won = journal::commit(&mut hand, &[transition]).await.unwrap();
        (won == [saga(order)]).then_some(())
    })
    .await;
    shard
}

/// The owner's lease cannot be renewed, so it never looks; its commits go on.
pub(super) async fn not_the_owner() -> Scene {
    let mut scene = Scene::new().await;
    let order = scene.sell(&Spec::of(900).wait(20)).await;
    scene.until("exists (select from orchestrator.saga where state = 'WAITING')").await;
    let lease = scene.hold("select from orchestrator.instance for update").await;
    let shard = pass_over(&mut scene, &order).await;
    // Heard by the one who does not know that the shard is not its own any more.
    let approve = DecideReviewRequest {
        saga_id: order.saga_id.clone(),
        approve: true,
        reviewer: "ada".into(),
        reason: "fine".into(),
    };
    scene.world.reviews().decide_review(approve).await.unwrap();
    tokio::time::sleep(Duration::from_secs(3)).await;
    // The next owner is gone, and the first one looks again.
    scene
        .run(&format!(
            "update orchestrator.shard set owner_id = null, released = true where shard_id = {shard}"
        ))
        .await;
    let_go(lease).await;
    scene.ends(&order).await;
    scene
}

pub(super) async fn lost_commit_answer() -> Scene {
    let mut scene = Scene::built(Builder::new(BusKind::Local).behind_a_proxy(), |_| ()).await;
    let order = slow(&mut scene).await;
    let proxy = scene.world.ground.proxy.as_ref().unwrap();
    proxy.cut_at_commit(1, CutAt::After);
    scene.settle().await;
    scene.ends(&order).await;
    let cut = scene.world.ground.proxy.as_ref().unwrap().cut_so_far();
    assert_eq!(cut, 1, "the trial is void: no commit was cut");
    scene
}
