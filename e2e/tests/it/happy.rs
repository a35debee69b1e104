//! Orders that complete.

use e2e::{BusKind, Spec, World, eventually};
use proto::notification::v1::DeliveryState;

async fn a_happy_order_with_several_lines(bus: BusKind) {
    let world = World::on(bus).await;
    let order = world.create(&Spec::of(2).line("P1002", 3).wait(20)).await;
    assert_eq!(order.status_reason, "");
    let order = world.completes(&order.order_id).await;
    // 2 × 10.00 + 3 × 25.50 = 96.50, and a fifth of it as tax.
    assert_eq!(order.total.as_ref().unwrap().minor_units, 11_580);
    let first = world.stock("P1001").await;
    assert_eq!((first.available, first.reserved, first.sold), (998, 0, 2));
    let second = world.stock("P1002").await;
    assert_eq!((second.available, second.reserved, second.sold), (997, 0, 3));
    assert_eq!(world.account("merchant:m_1:EUR").await.balance.unwrap().minor_units, 9650);
    assert_eq!(world.account("tax_payable:EUR").await.balance.unwrap().minor_units, 1930);
    assert_eq!(world.account("provider_clearing:EUR").await.balance.unwrap().minor_units, 11_580);
    assert_eq!(world.book(&order).await, (11_580, 0));
    let delivery = eventually("the customer was told", || async {
        let deliveries = world.deliveries(&order.order_id).await;
        deliveries.into_iter().find(|d| d.state() == DeliveryState::Sent)
    })
    .await;
    assert_eq!(delivery.template, "order.completed");
    let saga = world.saga(&order.order_id).await;
    assert!(saga.pivot_passed && saga.next.is_empty());
    for step in &saga.steps {
        assert_eq!((step.state.as_str(), step.attempts), ("DONE", 1), "{step:?}");
        assert!(step.first_time.is_some());
    }
    world.audit().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_happy_order_completes_in_process() {
    a_happy_order_with_several_lines(BusKind::Local).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_happy_order_completes_over_rabbitmq() {
    a_happy_order_with_several_lines(BusKind::Amqp).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watcher_sees_every_committed_status_to_the_end() {
    use proto::order::v1::{OrderStatus, WatchOrderRequest};
    let world = World::local().await;
    let order = world.create(&Spec::of(1)).await;
    let request = WatchOrderRequest { order_id: order.order_id.clone() };
    let mut stream = world.orders().watch_order(request).await.unwrap().into_inner();
    let mut seen = Vec::new();
    while let Some(order) = stream.message().await.unwrap() {
        seen.push(order.status());
    }
    assert_eq!(seen.last(), Some(&OrderStatus::Completed), "{seen:?}");
    world.audit().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_orders_at_once_share_their_commits() {
    let world = World::local().await;
    let orders = futures_util::future::join_all((0..60).map(|_| {
        let spec = Spec::of(1).wait(25);
        let world = &world;
        async move { world.create(&spec).await }
    }))
    .await;
    for order in &orders {
        world.completes(&order.order_id).await;
    }
    assert_eq!(world.stock("P1001").await.sold, 60);
    world.audit().await;
}
