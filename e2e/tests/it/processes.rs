//! The real binary: killed at any moment, stopped past its lease, woken.

use std::{path::Path, time::Duration};

use chassis::grpc::Callee;
use e2e::{
    Builder, BusKind, Kind, Spec, eventually, eventually_within,
    load::{Doors, Line, Pace, Shop},
    process::{self, Process, folder},
};
use proto::{
    inventory::v1::{GetStockRequest, inventory_client::InventoryClient},
    notification::v1::{DeliveryState, ListDeliveriesRequest, notifications_client::NotificationsClient},
    order::v1::{CancelOrderRequest, GetOrderRequest, Order, OrderStatus, orders_client::OrdersClient},
    risk::v1::{DecideReviewRequest, reviews_client::ReviewsClient},
    saga::v1::{GetSagaRequest, SagaState, sagas_client::SagasClient},
};
use sqlx::{Connection as _, Executor as _, PgConnection};

/// Fast enough for a test: the provider is given up on in seconds.
const QUICK: [&str; 12] = [
    "--payment-horizon",
    "3s",
    "--payment-patience",
    "600ms",
    "--payment-call-timeout",
    "900ms",
    "--payment-look",
    "200ms",
    "--simulator-slow",
    "2s",
    "--answer-after",
    "5s",
];

async fn order(callee: &Callee, order_id: &str) -> Option<Order> {
    let request = GetOrderRequest { order_id: order_id.into() };
    OrdersClient::new(callee.clone()).get_order(request).await.ok().map(tonic::Response::into_inner)
}

async fn ends(callee: &Callee, order_id: &str) -> Order {
    eventually_within(Duration::from_secs(90), "the order ends", || async {
        order(callee, order_id)
            .await
            .filter(|o| matches!(o.status(), OrderStatus::Completed | OrderStatus::Cancelled))
    })
    .await
}

async fn audit(folder: &Path, more: &[&str]) {
    // What has just ended may still have a receipt on its way.
    let folder = folder.to_str().unwrap();
    let arguments = [&["audit", "--data-dir", folder, "--quiescent"], more].concat();
    eventually_within(Duration::from_secs(60), "the auditor finds nothing", || async {
        let (code, text) = process::run(&arguments, &[]).await;
        if code != Some(0) {
            eprintln!("{text}");
        }
        (code == Some(0)).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fresh_folder_sells_what_the_demo_offers_and_stops_cleanly() {
    let data = folder("up");
    let up = Process::up(&data, &[]).await;
    let callee = up.callee();
    let before = InventoryClient::new(callee.clone())
        .get_stock(GetStockRequest { sku: "P1001".into() })
        .await
        .unwrap();
    let sold = OrdersClient::new(callee.clone())
        .create_order(Spec::of(2).wait(20).request())
        .await
        .unwrap()
        .into_inner();
    assert_eq!(sold.status(), OrderStatus::Completed, "{sold:?}");
    let request = GetSagaRequest { saga_id: sold.order_id.clone() };
    let saga = SagasClient::new(callee.clone()).get_saga(request).await.unwrap().into_inner();
    assert_eq!(saga.steps.len(), 7);
    let after = eventually("the stock that people see fell", || async {
        let request = GetStockRequest { sku: "P1001".into() };
        let stock = InventoryClient::new(callee.clone()).get_stock(request).await.unwrap().into_inner();
        (stock.sold == before.get_ref().sold + 2).then_some(stock)
    })
    .await;
    assert_eq!(after.available, before.get_ref().available - 2);
    eventually("a receipt lies in the outbox", || async {
        let request = ListDeliveriesRequest { order_id: sold.order_id.clone(), ..Default::default() };
        let list =
            NotificationsClient::new(callee.clone()).list_deliveries(request).await.unwrap().into_inner();
        list.deliveries.iter().any(|d| d.state() == DeliveryState::Sent).then_some(())
    })
    .await;
    let (code, text) = process::run(&["up", "--data-dir", data.to_str().unwrap()], &[]).await;
    assert_eq!(code, Some(1), "a folder in use is not shared: {text}");
    audit(&data, &[]).await;
    assert_eq!(up.terminate().await, Some(0));
    let again = Process::up(&data, &[]).await;
    assert_eq!(order(&again.callee(), &sold.order_id).await.unwrap().status(), OrderStatus::Completed);
    again.terminate().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_review_survives_kill_minus_nine() {
    let data = folder("review");
    let up = Process::up(&data, &QUICK).await;
    let mut orders = OrdersClient::new(up.callee());
    let waiting = orders.create_order(Spec::of(900).wait(20).request()).await.unwrap().into_inner();
    assert_eq!(waiting.status(), OrderStatus::UnderReview, "{waiting:?}");
    up.kill().await;
    let up = Process::up(&data, &QUICK).await;
    let approve = DecideReviewRequest {
        saga_id: waiting.saga_id.clone(),
        approve: true,
        reviewer: "ada".into(),
        reason: "fine".into(),
    };
    ReviewsClient::new(up.callee()).decide_review(approve).await.unwrap();
    assert_eq!(ends(&up.callee(), &waiting.order_id).await.status(), OrderStatus::Completed);
    audit(&data, &[]).await;
    up.terminate().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_committed_before_kill_minus_nine_is_delivered_after_the_restart_once() {
    let data = folder("outbox");
    // It is still to be paid when it is cancelled, however busy the machine.
    let slow = QUICK.map(|flag| if flag == "2s" { "6s" } else { flag });
    let up = Process::up(&data, &slow).await;
    let mut owner = PgConnection::connect(&up.addresses["postgres"]).await.unwrap();
    let started = OrdersClient::new(up.callee())
        .create_order(Spec::of(3).token("tok_slow").wait(10).request())
        .await
        .unwrap()
        .into_inner();
    // The reservation is kept locked, so that the release, once committed to the outbox, cannot take effect.
    let mut pause = owner.begin().await.unwrap();
    pause.execute("select 1 from inventory.reservation for update").await.unwrap();
    let cancel = CancelOrderRequest { order_id: started.order_id.clone(), reason: String::new() };
    OrdersClient::new(up.callee()).cancel_order(cancel).await.unwrap();
    let mut look = PgConnection::connect(&up.addresses["postgres"]).await.unwrap();
    let committed = async {
        loop {
            let (count,): (i64,) = sqlx::query_as(
                "select count(*) from orchestrator.outbox where exchange = 'commands' and routing_key = 'inventory'",
            )
            .fetch_one(&mut look)
            .await
            .unwrap();
            if count > 0 {
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), committed).await.unwrap();
    up.kill().await;
    pause.rollback().await.unwrap();
    let up = Process::up(&data, &slow).await;
    assert_eq!(ends(&up.callee(), &started.order_id).await.status(), OrderStatus::Cancelled);
    audit(&data, &[]).await;
    up.terminate().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn mixed_orders_reach_one_end_though_the_process_is_killed_three_times() {
    let count: usize = std::env::var("AMENDS_E2E_ORDERS").ok().and_then(|n| n.parse().ok()).unwrap_or(200);
    let data = folder("chaos");
    // Short enough that a review nobody decides is seen to expire, long enough to decide one in spite of a restart.
    let flags = [&QUICK[..], &["--risk-review-deadline", "15s"]].concat();
    let up = Process::up(&data, &flags).await;
    let line = Line::to(Doors::all_at(&up.callee()));
    line.doors().prepare().await.unwrap();
    let shop = Shop::at(&line);
    let selling = tokio::spawn({
        let shop = shop.clone();
        async move { shop.sell(count, Pace { places: 32, per_second: None }).await }
    });
    let mut running = Some(up);
    for kill in 1..=3 {
        // After a fifth of the orders each, and a random moment more.
        eventually_within(Duration::from_secs(120), "orders are on their way", || async {
            (shop.acknowledged() >= count * kill / 5).then_some(())
        })
        .await;
        tokio::time::sleep(Duration::from_millis(rand::random_range(0..400))).await;
        running.take().unwrap().kill().await;
        let up = Process::up(&data, &flags).await;
        line.moved(Doors::all_at(&up.callee()));
        running = Some(up);
    }
    selling.await.unwrap();
    assert_eq!(shop.acknowledged(), count);
    let ends = shop.ends(Duration::from_secs(120)).await;
    eprintln!("{ends:?}");
    let file = data.join("acknowledged.jsonl");
    shop.write_acknowledged(&file);
    audit(&data, &["--acknowledged", file.to_str().unwrap()]).await;
    running.unwrap().terminate().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_owner_stopped_past_its_lease_in_the_middle_of_a_commit_wakes_up_to_nothing() {
    let mut world = Builder::new(BusKind::Amqp).orchestrators(0).start().await;
    let environment = |world: &e2e::World| {
        let url = |kind| format!("http://{}", world.address(kind));
        [
            ("AMENDS_ORCHESTRATOR_DATABASE_URL", world.ground.database.url(&orchestrator::SCHEMA)),
            ("AMENDS_AMQP_URL", chassis::testbed::variable("AMENDS_TEST_AMQP_URL")),
            ("AMENDS_AMQP_PREFIX", world.ground.amqp_prefix().unwrap().to_owned()),
            ("AMENDS_TOKEN_KEY", chassis::testbed::TOKEN_KEY.to_owned()),
            ("AMENDS_ORDER_URL", url(Kind::Order)),
            ("AMENDS_INVENTORY_URL", url(Kind::Inventory)),
            ("AMENDS_RISK_URL", url(Kind::Risk)),
            ("AMENDS_PAYMENT_URL", url(Kind::Payment)),
            ("AMENDS_LEDGER_URL", url(Kind::Ledger)),
            ("AMENDS_LEASE", "3s".to_owned()),
        ]
    };
    let arguments = ["orchestrator", "--grpc-listen", "127.0.0.1:0", "--http-listen", "127.0.0.1:0"];
    let first = Process::start(&arguments, &environment(&world)).await;
    // Charged, and waiting for the ledger; owned by the first.
    world.take_down(Kind::Ledger).await;
    let mut orders = OrdersClient::new(first.callee());
    let order_id = eventually("the order is accepted", || {
        let mut orders = orders.clone();
        async move { orders.create_order(Spec::of(2).request()).await.ok().map(|o| o.into_inner().order_id) }
    })
    .await;
    let charged = || async {
        let request = GetSagaRequest { saga_id: order_id.clone() };
        let saga = SagasClient::new(first.callee()).get_saga(request).await.ok()?.into_inner();
        (saga.steps[3].state == "DONE").then_some(())
    };
    eventually("it was charged", charged).await;
    // The next commit (the pivot, when the ledger is back) hangs on the saga's row; then the owner stops.
    let mut owner = world.ground.database.connect().await;
    let mut pause = owner.begin().await.unwrap();
    pause.execute("select 1 from orchestrator.saga for update").await.unwrap();
    world.bring_back(Kind::Ledger).await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    first.pause().await;
    let second = Process::start(&arguments, &environment(&world)).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    pause.rollback().await.unwrap();
    let cancel = CancelOrderRequest { order_id: order_id.clone(), reason: "late".into() };
    let cancelled = OrdersClient::new(second.callee()).cancel_order(cancel).await;
    let ended = ends(&second.callee(), &order_id).await;
    first.wake().await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    // One end, the same at both, whichever of commit and cancel came first.
    let there = order(&second.callee(), &order_id).await.unwrap();
    assert_eq!(there.status(), ended.status(), "{cancelled:?}");
    assert_eq!(order(&first.callee(), &order_id).await.unwrap().status(), ended.status());
    let stock = world.stock("P1001").await;
    match ended.status() {
        OrderStatus::Completed => assert_eq!((stock.reserved, stock.sold), (0, 2)),
        _ => assert_eq!((stock.reserved, stock.sold), (0, 0)),
    }
    // The woken one is of use again.
    let fresh = orders.create_order(Spec::of(1).wait(20).request()).await.unwrap().into_inner();
    assert_eq!(ends(&first.callee(), &fresh.order_id).await.status(), OrderStatus::Completed);
    let request = GetSagaRequest { saga_id: order_id.clone() };
    let saga = SagasClient::new(first.callee()).get_saga(request).await.unwrap().into_inner();
    assert!(matches!(saga.state(), SagaState::Completed | SagaState::Compensated));
    world.audit().await;
    first.terminate().await;
    second.terminate().await;
}
