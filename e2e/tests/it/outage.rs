//! Participants that are away, and breakers.

use std::time::Duration;

use e2e::{
    Builder, BusKind, Kind, Meddling, Record, Spec, World, eventually, eventually_within,
    house::{Ground, House},
    proxy::Manner,
    stack::Member,
};
use proto::order::v1::{GetOrderRequest, orders_client::OrdersClient};

#[tokio::test(flavor = "multi_thread")]
async fn orders_wait_behind_the_breaker_and_complete_when_the_participant_is_back() {
    let record = Record::default();
    let mut world = Builder::new(BusKind::Local).meddling(Meddling::Watch, &record).start().await;
    world.take_down(Kind::Ledger).await;
    let mut orders = Vec::new();
    for _ in 0..10 {
        orders.push(world.create(&Spec::of(1)).await);
    }
    let post = |saga: &proto::saga::v1::Saga| saga.steps.iter().find(|s| s.name == "post").cloned().unwrap();
    eventually("the breaker is open", || async {
        let saga = world.saga(&orders[0].order_id).await;
        (post(&saga).breaker == "OPEN").then_some(())
    })
    .await;
    let before = record.bookings().len();
    tokio::time::sleep(Duration::from_secs(30)).await;
    // Ten orders wait, and only probes go out: half open admits three.
    let probes = record.bookings().split_off(before);
    assert!(!probes.is_empty() && probes.iter().all(|items| *items <= 3), "{probes:?}");
    for order in &orders {
        assert_eq!(world.order(&order.order_id).await.status_reason, "");
    }
    world.bring_back(Kind::Ledger).await;
    for order in &orders {
        world.completes(&order.order_id).await;
        // Waiting cost no attempt: at most the few that met the falling service, and the one that was answered.
        let step = post(&world.saga(&order.order_id).await);
        assert!(step.attempts <= 2, "{step:?}");
        assert_eq!(step.breaker, "CLOSED");
    }
    world.audit().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn past_its_deadline_an_order_that_waits_for_a_participant_turns_round() {
    let short = |s: &mut amends::stack::Settings| s.orchestrator.order_deadline = Duration::from_secs(4);
    let mut world = Builder::new(BusKind::Local).settings(short).start().await;
    world.take_down(Kind::Payment).await;
    let order = world.create(&Spec::of(2)).await;
    eventually("it turned round", || async {
        let order = world.order(&order.order_id).await;
        (order.status_reason == "DEADLINE_EXCEEDED").then_some(())
    })
    .await;
    world.bring_back(Kind::Payment).await;
    world.is_cancelled(&order.order_id).await;
    assert_eq!(world.stock("P1001").await.available, 1000);
    world.audit().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn compensations_wait_for_a_participant_that_is_away() {
    let mut world = World::amqp().await;
    world.take_down(Kind::Ledger).await;
    let order = world.create(&Spec::of(2)).await;
    eventually("it was charged", || async {
        (world.saga(&order.order_id).await.steps[3].state == "DONE").then_some(())
    })
    .await;
    world.take_down(Kind::Inventory).await;
    world.cancel(&order.order_id).await.unwrap();
    world.bring_back(Kind::Ledger).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    world.bring_back(Kind::Inventory).await;
    world.is_cancelled(&order.order_id).await;
    assert_eq!(world.book(&order).await, (2400, 2400));
    world.audit().await;
}

/// Everybody who was turned away during an outage comes back at once, and asks again when he was not answered in time.
#[tokio::test(flavor = "multi_thread")]
async fn a_crowd_that_repeats_its_requests_over_a_slow_database_is_served() {
    let house = House::start(Ground::default(), 1).await;
    house.stock_up().await;
    house.database(Member::Orchestrator(1)).set(Manner::Slow(Duration::from_millis(200)));
    let doors = house.callee(Member::Orchestrator(1));
    // One connection for each would serve about twenty of them a second, and keep the others waiting past their patience.
    let crowd = (0..600).map(|_| {
        let (doors, spec) = (doors.clone(), Spec::of(1));
        tokio::spawn(async move {
            eventually_within(Duration::from_secs(60), "the order is acknowledged", || async {
                let call = async { OrdersClient::new(doors.clone()).create_order(spec.request()).await };
                tokio::time::timeout(Duration::from_secs(5), call).await.ok()?.ok()
            })
            .await;
        })
    });
    for customer in crowd.collect::<Vec<_>>() {
        customer.await.unwrap();
    }
}

/// When the catalog is back, or a cart is on everybody's mind, hundreds want the same price at once.
#[tokio::test(flavor = "multi_thread")]
async fn a_crowd_that_wants_the_same_cart_is_quoted_together() {
    let house = House::start(Ground::default(), 1).await;
    house.stock_up().await;
    house.database(Member::Order).set(Manner::Slow(Duration::from_millis(100)));
    let doors = house.callee(Member::Orchestrator(1));
    // One after the other, the fiftieth would be late: there and back takes 200 ms, and a quote may take 10 s.
    let crowd = (0..400).map(|_| {
        let mut orders = OrdersClient::new(doors.clone());
        tokio::spawn(async move { orders.create_order(Spec::of(1).request()).await.map(drop) })
    });
    for customer in crowd.collect::<Vec<_>>() {
        customer.await.unwrap().unwrap();
    }
}

/// Hundreds look at one order, or repeat one request, while the database is slow.
#[tokio::test(flavor = "multi_thread")]
async fn a_crowd_that_asks_for_the_same_order_is_answered_together() {
    let environment = vec![("AMENDS_SIMULATOR_SLOW", "60s".into())];
    let house = House::start(Ground { environment, ..Ground::default() }, 1).await;
    house.stock_up().await;
    let doors = house.callee(Member::Orchestrator(1));
    // It waits for its charge: what has not ended is not remembered.
    let spec = Spec::of(1).token("tok_slow");
    let create = || {
        let (mut orders, request) = (OrdersClient::new(doors.clone()), spec.request());
        async move { orders.create_order(request).await }
    };
    let order = create().await.unwrap().into_inner();
    // From now on repeats are about, and looked up.
    assert_eq!(create().await.unwrap().into_inner().order_id, order.order_id);
    house.database(Member::Orchestrator(1)).set(Manner::Slow(Duration::from_millis(100)));
    let get = || {
        let (mut orders, order_id) = (OrdersClient::new(doors.clone()), order.order_id.clone());
        async move { orders.get_order(GetOrderRequest { order_id }).await }
    };
    // One after the other, the last would be answered after 80 s.
    let looks = futures_util::future::join_all((0..400).map(|_| get()));
    let repeats = futures_util::future::join_all((0..400).map(|_| create()));
    let together = tokio::time::timeout(Duration::from_secs(40), async { tokio::join!(looks, repeats) });
    let (looks, repeats) = together.await.expect("nobody waits for everybody else");
    for answer in looks.into_iter().chain(repeats) {
        assert_eq!(answer.unwrap().into_inner().order_id, order.order_id);
    }
}
