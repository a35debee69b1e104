//! A provider whose answer is lost.

use e2e::{BusKind, Spec, World};
use proto::order::v1::OrderStatus;

async fn charged_without_an_answer(bus: BusKind) {
    let world = World::on(bus).await;
    let order = world.create(&Spec::of(2).token("tok_timeout_after")).await;
    let order = world.completes(&order.order_id).await;
    assert_eq!(world.book(&order).await, (2400, 0), "found out by a look, charged once");
    world.audit().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_charge_whose_answer_was_lost_is_found_out_in_process() {
    charged_without_an_answer(BusKind::Local).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_charge_whose_answer_was_lost_is_found_out_over_rabbitmq() {
    charged_without_an_answer(BusKind::Amqp).await;
}

async fn ends_consistently(token: &str) {
    let world = World::local().await;
    let order = world.create(&Spec::of(2).token(token)).await;
    let order = e2e::eventually("it ends", || async {
        let order = world.order(&order.order_id).await;
        matches!(order.status(), OrderStatus::Completed | OrderStatus::Cancelled).then_some(order)
    })
    .await;
    let (charged, refunded) = world.book(&order).await;
    match order.status() {
        OrderStatus::Completed => assert_eq!((charged, refunded), (2400, 0)),
        _ => assert_eq!(charged, refunded),
    }
    assert!(charged <= 2400, "never charged twice");
    world.audit().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_that_times_out_without_charging_is_never_charged_twice() {
    ends_consistently("tok_timeout_before").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_that_fails_once_is_asked_again_with_the_same_key() {
    ends_consistently("tok_error_once").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_that_never_answers_ends_in_a_cancelled_order() {
    ends_consistently("tok_never_answers").await;
}
