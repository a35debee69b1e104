//! Two releases side by side: each saga ends by the definition it was started under.

use std::time::{Duration, Instant};

use chassis::testbed::variable;
use e2e::{
    Spec, eventually, eventually_within,
    load::{Line, Pace, Shop},
    process::{PROGRAM, folder},
    soak,
    stack::{Member, Options, Ports, Stack},
};
use proto::{
    order::v1::{CancelOrderRequest, GetOrderRequest, Order, OrderStatus, orders_client::OrdersClient},
    risk::v1::{DecideReviewRequest, GetReviewRequest, ReviewState, reviews_client::ReviewsClient},
    saga::v1::{GetSagaRequest, sagas_client::SagasClient},
};

/// As the release before this one: it knows nothing of version 2.
const BEFORE: [(&str, &str); 1] = [("AMENDS_DEFINITIONS", "order:1")];

struct Releases(Stack);

impl Releases {
    async fn under_review(&self, at: Member) -> Order {
        let mut orders = OrdersClient::new(self.0.callee(at));
        let order =
            orders.create_order(Spec::of(1).line("P2001", 1).wait(20).request()).await.unwrap().into_inner();
        assert_eq!(order.status(), OrderStatus::UnderReview, "{order:?}");
        order
    }

    async fn version(&self, at: Member, order: &Order) -> i32 {
        let request = GetSagaRequest { saga_id: order.saga_id.clone() };
        let saga = SagasClient::new(self.0.callee(at)).get_saga(request).await.unwrap().into_inner();
        saga.definition_version
    }

    async fn approve(&self, order: &Order) {
        let decision = DecideReviewRequest {
            saga_id: order.saga_id.clone(),
            approve: true,
            reviewer: "ada".into(),
            reason: "fine".into(),
        };
        ReviewsClient::new(self.0.callee(Member::Risk)).decide_review(decision).await.unwrap();
    }

    async fn cancel(&self, at: Member, order: &Order) {
        let cancel = CancelOrderRequest { order_id: order.order_id.clone(), reason: String::new() };
        OrdersClient::new(self.0.callee(at)).cancel_order(cancel).await.unwrap();
    }

    async fn ends(&self, at: Member, order: &Order, end: OrderStatus) {
        let request = GetOrderRequest { order_id: order.order_id.clone() };
        eventually_within(Duration::from_secs(60), &format!("it ends as {end:?}"), || async {
            let order = OrdersClient::new(self.0.callee(at)).get_order(request.clone()).await.ok()?;
            (order.get_ref().status() == end).then_some(())
        })
        .await;
    }

    async fn review(&self, order: &Order) -> ReviewState {
        let request = GetReviewRequest { saga_id: order.saga_id.clone() };
        ReviewsClient::new(self.0.callee(Member::Risk)).get_review(request).await.unwrap().get_ref().state()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_releases_in_flight_together_end_each_saga_by_its_own_version() {
    // Nobody's review expires here.
    let patient = soak::QUICK.iter().filter(|(name, _)| *name != "AMENDS_RISK_REVIEW_DEADLINE");
    let environment = patient.map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    let options =
        Options { orchestrators: 0, ports: Ports::Any, tail: false, environment, folder: folder("versions") };
    let mut two = Releases(Stack::start(options).await);
    two.0.furnish().await;
    let (old, new) = (Member::Orchestrator(2), Member::Orchestrator(3));
    two.0.add_orchestrator(2, &BEFORE).await;
    two.0.add_orchestrator(3, &[]).await;
    // While one that only knows version 1 is alive, nothing else is started, by neither.
    let (kept, dropped) = (two.under_review(old).await, two.under_review(new).await);
    assert_eq!((two.version(new, &kept).await, two.version(new, &dropped).await), (1, 1));

    assert_eq!(two.0.terminate(old).await, Some(0));
    two.0.forget(old);
    let newer = eventually("the new release starts by the new table", || async {
        let order = two.under_review(new).await;
        if two.version(new, &order).await == 2 {
            return Some(order);
        }
        two.cancel(new, &order).await;
        None
    })
    .await;
    let withdrawn = two.under_review(new).await;
    for order in [&kept, &newer] {
        two.approve(order).await;
        two.ends(new, order, OrderStatus::Completed).await;
    }
    for order in [&dropped, &withdrawn] {
        two.cancel(new, order).await;
        two.ends(new, order, OrderStatus::Cancelled).await;
    }
    eventually("version 2 withdrew its review", || async {
        (two.review(&withdrawn).await == ReviewState::Withdrawn).then_some(())
    })
    .await;
    assert_eq!(two.review(&dropped).await, ReviewState::Open, "version 1 never did");

    // Back to the release before, with a saga in flight that it does not know: left untouched, until one comes that does.
    let unknown = two.under_review(new).await;
    two.0.add_orchestrator(2, &BEFORE).await;
    two.0.kill(new).await;
    two.approve(&unknown).await;
    let old_one =
        eventually_within(Duration::from_secs(40), "the old release starts by its own table", || async {
            let order = two.under_review(old).await;
            (two.version(old, &order).await == 1).then_some(order)
        })
        .await;
    two.approve(&old_one).await;
    two.ends(old, &old_one, OrderStatus::Completed).await;
    let request = GetOrderRequest { order_id: unknown.order_id.clone() };
    let untouched = OrdersClient::new(two.0.callee(old)).get_order(request).await.unwrap().into_inner();
    assert_eq!(untouched.status(), OrderStatus::UnderReview, "{untouched:?}");
    two.0.restart(new).await;
    // An owner that does not know a saga keeps it as long as it lives.
    assert_eq!(two.0.terminate(old).await, Some(0));
    two.ends(new, &unknown, OrderStatus::Completed).await;
    two.0.audit(None).await.unwrap();
    two.0.stop().await;
}

/// An older build of the program, where one is named (`cargo xtask upgrade`); otherwise this build takes its place.
fn release_before() -> String {
    std::env::var("AMENDS_TEST_OLD_BINARY").unwrap_or_else(|_| variable(PROGRAM))
}

/// Orders of every kind, while the stack becomes another; all of them end as they may.
async fn sell_while<T>(shop: &Shop, orders: usize, rolling: impl Future<Output = T>) -> T {
    let selling = tokio::spawn({
        let shop = shop.clone();
        async move { shop.sell(orders, Pace { places: 32, per_second: Some(20) }).await }
    });
    let rolled = rolling.await;
    selling.await.unwrap();
    rolled
}

#[tokio::test(flavor = "multi_thread")]
async fn two_builds_side_by_side_under_load_and_back_again() {
    let (before, this) = (release_before(), variable(PROGRAM));
    let mut environment: Vec<_> =
        soak::QUICK.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    environment.push((PROGRAM.to_owned(), before.clone()));
    // The databases are this release's from the beginning: schemas are migrated first.
    let options =
        Options { orchestrators: 1, ports: Ports::Any, tail: false, environment, folder: folder("upgrade") };
    let mut stack = Stack::start(options).await;
    stack.add_orchestrator(2, &[]).await;
    let line = Line::to(stack.doors());
    eventually("the load is prepared", || async { line.doors().prepare().await.ok() }).await;
    let shop = Shop::at(&line);

    let (first, second) = (Member::Orchestrator(1), Member::Orchestrator(2));
    let began = Instant::now();
    let said = |what: &str| eprintln!("{:>5.1} s  {what}", began.elapsed().as_secs_f64());
    sell_while(&shop, 400, async {
        said("two orchestrators of the release before");
        stack.roll(second, &this).await;
        said("one of each");
        for member in Member::SERVICES {
            stack.roll(member, &this).await;
        }
        said("every participant is of this release");
        stack.roll(first, &this).await;
        said("everything is of this release");
    })
    .await;
    sell_while(&shop, 400, async {
        stack.roll(first, &before).await;
        said("back: one of each");
        for member in Member::SERVICES {
            stack.roll(member, &before).await;
        }
        stack.roll(second, &before).await;
        said("everything is of the release before");
    })
    .await;
    let ends = shop.ends(Duration::from_secs(300)).await;
    said("every order is at its end");
    let file = folder("upgrade").join("acknowledged.jsonl");
    shop.write_acknowledged(&file);
    stack.audit(Some(file)).await.unwrap();
    said(&format!(
        "{} orders, the auditor finds nothing; {} calls were repeated",
        shop.acknowledged(),
        shop.failed().len()
    ));
    assert_eq!(ends.values().sum::<usize>(), 800);
    stack.stop().await;
}
