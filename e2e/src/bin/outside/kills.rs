//! Containers killed with `docker kill` and started again, one scenario after another.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use e2e::{eventually_within, load::Pace};
use proto::order::v1::OrderStatus;

use crate::{Outside, named, stand::Stand};

/// Who is killed under load: every service, both orchestrators, and all that they stand on.
const VICTIMS: [&str; 11] = [
    "order",
    "orchestrator-1",
    "inventory",
    "redis",
    "risk",
    "payment",
    "rabbitmq",
    "ledger",
    "orchestrator-2",
    "notification",
    "postgres",
];

/// Every order is at its end this long after the last was started again.
const PROMISE: Duration = Duration::from_secs(300);

named![
    an_order_waits_for_a_ledger_that_was_killed,
    the_second_orchestrator_ends_what_the_first_began,
    whatever_is_killed_every_order_comes_to_its_end,
];

async fn an_order_waits_for_a_ledger_that_was_killed(outside: Arc<Outside>) {
    let stand = Stand::open(&outside).await;
    outside.containers.kill("ledger").await;
    let order = stand.create(&stand.spec(2)).await;
    stand.reaches(&order, OrderStatus::PaymentSuccess).await;
    outside.containers.start("ledger").await;
    stand.completes(&order).await;
    stand.has_sold(2).await;
    stand.is_booked(&order, "POST", 3).await;
}

async fn the_second_orchestrator_ends_what_the_first_began(outside: Arc<Outside>) {
    let stand = Stand::open(&outside).await;
    let mut orders = Vec::new();
    for _ in 0..8 {
        orders.push(stand.create(&stand.spec(1).token("tok_slow")).await);
    }
    outside.containers.kill("orchestrator-1").await;
    // Whichever of the two owned an order, the second ends it; the line passes over who does not answer.
    for order in &orders {
        stand.completes(order).await;
    }
    outside.containers.start("orchestrator-1").await;
    stand.has_sold(8).await;
}

async fn whatever_is_killed_every_order_comes_to_its_end(outside: Arc<Outside>) {
    eventually_within(Duration::from_secs(60), "the mix is prepared", || async {
        outside.line.doors().prepare().await.map_err(|status| eprintln!("{status}")).ok()
    })
    .await;
    let selling = tokio::spawn({
        let (shop, orders) = (outside.shop.clone(), outside.orders);
        async move { shop.sell(orders, Pace { places: 64, per_second: Some(3) }).await }
    });
    for (n, victim) in VICTIMS.iter().enumerate() {
        // Spread over the first nine tenths of the orders, so that each falls under load.
        let due = outside.orders * (n + 1) * 9 / (VICTIMS.len() + 1) / 10;
        eventually_within(PROMISE, "orders are on their way", || async {
            (outside.shop.acknowledged() >= due).then_some(())
        })
        .await;
        outside.containers.kill(victim).await;
        tokio::time::sleep(Duration::from_secs(1)).await;
        outside.containers.start(victim).await;
        eprintln!(
            "       {victim} was killed and is back, {} orders acknowledged",
            outside.shop.acknowledged()
        );
    }
    selling.await.unwrap();
    let began = Instant::now();
    let ends = outside.shop.ends(PROMISE).await;
    let orders: usize = ends.values().sum();
    let (repeated, healed) = (outside.shop.failed().len(), began.elapsed().as_secs_f64());
    eprintln!("       {orders} orders of the mix, {repeated} calls repeated, all ended after {healed:.0} s");
}
