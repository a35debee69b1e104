//! The same request again.

use std::collections::HashSet;

use e2e::{Spec, World};
use tonic::Code;
use tonic_types::StatusExt as _;

#[tokio::test(flavor = "multi_thread")]
async fn the_same_request_twice_is_one_order_with_the_same_answer() {
    let world = World::local().await;
    let spec = Spec::of(2).wait(20);
    let first = world.send(&spec).await.unwrap();
    assert!(first.metadata().get("idempotent-replayed").is_none());
    let first = world.completes(&first.into_inner().order_id).await;
    let second = world.send(&spec).await.unwrap();
    assert_eq!(second.metadata().get("idempotent-replayed").unwrap(), "true");
    assert_eq!(second.into_inner(), first);
    assert_eq!(world.stock("P1001").await.sold, 2);
    world.audit().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_request_fifty_times_at_once_is_one_order() {
    let mut world = World::local().await;
    world.add_orchestrator().await;
    let spec = Spec::of(1).wait(20);
    let answers = futures_util::future::join_all((0..50).map(|i| {
        let request = spec.request();
        let mut client = proto::order::v1::orders_client::OrdersClient::new(world.orchestrator(i % 2));
        async move { client.create_order(request).await.unwrap().into_inner().order_id }
    }))
    .await;
    let distinct: HashSet<_> = answers.iter().collect();
    assert_eq!(distinct.len(), 1);
    world.completes(&answers[0]).await;
    assert_eq!(world.stock("P1001").await.sold, 1);
    world.audit().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_key_with_another_body_is_refused_and_nothing_is_new() {
    let world = World::local().await;
    let spec = Spec::of(1).key("one-key").wait(20);
    let order = world.create(&spec).await;
    world.completes(&order.order_id).await;
    let status = world.send(&Spec::of(2).key("one-key")).await.unwrap_err();
    assert_eq!(status.code(), Code::AlreadyExists);
    let info = status.get_details_error_info().unwrap();
    assert_eq!(info.reason, "IDEMPOTENCY_KEY_REUSED");
    assert_eq!(info.metadata["order_id"], order.order_id);
    // A key belongs to its merchant: another one may use the same.
    let other = world.create(&Spec::of(1).key("one-key").merchant("m_2").wait(20)).await;
    assert_ne!(other.order_id, order.order_id);
    world.completes(&other.order_id).await;
    assert_eq!(world.stock("P1001").await.sold, 2);
    world.audit().await;
}
