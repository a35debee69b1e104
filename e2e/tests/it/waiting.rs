//! Orders that wait: for a person, for the provider.

use std::time::Duration;

use e2e::{Builder, BusKind, Kind, Spec, World, eventually};
use proto::{
    order::v1::{Order, OrderStatus},
    risk::v1::DecideReviewRequest,
};
use sqlx::{Acquire as _, Executor as _};

/// 9 × 1,000 × 1.2 = 10,800.00: above what is approved by itself.
async fn an_order_under_review(world: &World) -> Order {
    let order = world.create(&Spec::of(900).wait(20)).await;
    assert_eq!(order.status(), OrderStatus::UnderReview, "{order:?}");
    order
}

async fn decide(world: &World, order: &Order, approve: bool) {
    let request = DecideReviewRequest {
        saga_id: order.saga_id.clone(),
        approve,
        reviewer: "ada".into(),
        reason: "called them".into(),
    };
    world.reviews().decide_review(request).await.unwrap();
}

async fn a_review_is_approved(bus: BusKind) {
    let world = World::on(bus).await;
    let order = an_order_under_review(&world).await;
    decide(&world, &order, true).await;
    world.completes(&order.order_id).await;
    world.audit().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_approved_review_completes_in_process() {
    a_review_is_approved(BusKind::Local).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_approved_review_completes_over_rabbitmq() {
    a_review_is_approved(BusKind::Amqp).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_declined_review_cancels_and_releases() {
    let world = World::local().await;
    let order = an_order_under_review(&world).await;
    decide(&world, &order, false).await;
    let order = world.is_cancelled(&order.order_id).await;
    assert_eq!(order.status_reason, "REVIEW_DECLINED");
    assert_eq!(world.stock("P1001").await.reserved, 0);
    world.audit().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_review_that_nobody_decides_is_declined_at_its_deadline() {
    let short = |s: &mut amends::stack::Settings| s.risk.risk_review_deadline = Duration::from_secs(2);
    let world = Builder::new(BusKind::Local).settings(short).start().await;
    let order = an_order_under_review(&world).await;
    let order = world.is_cancelled(&order.order_id).await;
    assert_eq!(order.status_reason, "REVIEW_EXPIRED");
    world.audit().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_wait_survives_the_loss_of_every_orchestrator() {
    let lease = |s: &mut amends::stack::Settings| s.orchestrator.lease = Duration::from_secs(2);
    let mut world = Builder::new(BusKind::Local).settings(lease).start().await;
    let order = an_order_under_review(&world).await;
    let first = world.orchestrators.remove(0);
    first.node.stop().await;
    decide(&world, &order, true).await;
    world.add_orchestrator().await;
    world.completes(&order.order_id).await;
    world.audit().await;
}

async fn a_slow_provider(bus: BusKind, cancelled: bool) {
    let slow = |s: &mut amends::stack::Settings| s.payment.simulator.slow = Duration::from_secs(4);
    let world = Builder::new(bus).settings(slow).start().await;
    let order = world.create(&Spec::of(2).token("tok_slow").wait(20)).await;
    assert_eq!(order.status(), OrderStatus::AwaitingPayment, "{order:?}");
    if cancelled {
        let order = world.cancel(&order.order_id).await.unwrap();
        assert!(order.cancel_requested);
        let order = world.is_cancelled(&order.order_id).await;
        assert_eq!(order.status_reason, "CANCEL_REQUESTED");
        // It was charged all the same, and given back: net zero.
        assert_eq!(world.book(&order).await, (2400, 2400));
        assert_eq!(world.stock("P1001").await.available, 1000);
    } else {
        let order = world.completes(&order.order_id).await;
        assert_eq!(world.book(&order).await, (2400, 0));
    }
    world.audit().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_late_settlement_completes_the_order_in_process() {
    a_slow_provider(BusKind::Local, false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_late_settlement_completes_the_order_over_rabbitmq() {
    a_slow_provider(BusKind::Amqp, false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_order_whose_charge_comes_late_nets_to_zero_in_process() {
    a_slow_provider(BusKind::Local, true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_order_whose_charge_comes_late_nets_to_zero_over_rabbitmq() {
    a_slow_provider(BusKind::Amqp, true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancel_while_it_runs_makes_amends() {
    let mut world = World::local().await;
    // Charged and waiting for the ledger: far enough to have something to give back.
    world.take_down(e2e::Kind::Ledger).await;
    let order = world.create(&Spec::of(3)).await;
    eventually("it was charged", || async {
        let stock = world.stock("P1001").await;
        (stock.reserved == 3 && world.saga(&order.order_id).await.steps[3].state == "DONE").then_some(())
    })
    .await;
    world.cancel(&order.order_id).await.unwrap();
    world.bring_back(e2e::Kind::Ledger).await;
    let order = world.is_cancelled(&order.order_id).await;
    assert_eq!(world.book(&order).await, (3600, 3600));
    assert_eq!(world.stock("P1001").await.available, 1000);
    let again = world.cancel(&order.order_id).await.unwrap();
    assert_eq!(again.status(), OrderStatus::Cancelled);
    world.audit().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_has_completed_cannot_be_cancelled() {
    let world = World::local().await;
    let order = world.create(&Spec::of(1).wait(20)).await;
    world.completes(&order.order_id).await;
    let status = world.cancel(&order.order_id).await.unwrap_err();
    assert_eq!(status.code(), tonic::Code::FailedPrecondition);
    world.audit().await;
}

/// Waits for a condition, in SQL.
async fn until(world: &World, condition: &str) {
    let mut owner = world.ground.database.connect().await;
    let until = tokio::time::Instant::now() + Duration::from_secs(60);
    let ask = format!("select {condition}");
    while !sqlx::query_scalar::<_, bool>(sqlx::AssertSqlSafe(ask.clone()))
        .fetch_one(&mut owner)
        .await
        .unwrap()
    {
        assert!(tokio::time::Instant::now() < until, "not {condition}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancel_heard_while_the_pivot_is_being_committed_is_not_lost_with_its_owner() {
    let mut world = World::local().await;
    let (mut first, mut second) =
        (world.ground.database.connect().await, world.ground.database.connect().await);
    let mut stock = first.begin().await.unwrap();
    stock.execute("select from inventory.stock for update").await.unwrap();
    let order = world.create(&Spec::of(2)).await;
    until(&world, "exists (select from orchestrator.journal where version > 1)").await;
    // From here on the owner's commits hang: it decides to pass the pivot, and cannot.
    let mut commits = second.begin().await.unwrap();
    commits.execute("select from orchestrator.saga for update").await.unwrap();
    stock.rollback().await.unwrap();
    until(&world, "exists (select from ledger.transaction where kind = 'POST' and outcome = 'DONE')").await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    let cancelled = world.cancel(&order.order_id).await.unwrap();
    assert!(cancelled.cancel_requested, "{cancelled:?}");
    // The owner goes with what it had in hand; the next one hears of the cancel before it can reserve.
    world.take_down(Kind::Inventory).await;
    world.orchestrators.remove(0).node.stop().await;
    let waiting = "not exists (select from pg_locks l join pg_database d on d.oid = l.database \
        where d.datname = current_database() and not l.granted)";
    until(&world, waiting).await;
    commits.rollback().await.unwrap();
    world.add_orchestrator().await;
    until(&world, "exists (select from orchestrator.journal where events like '%CancelRequested%')").await;
    world.bring_back(Kind::Inventory).await;
    world.is_cancelled(&order.order_id).await;
    world.audit().await;
}
