//! More headers than a call may have, on a connection that others use.
//!
//! HTTP/2 takes 16 KiB of them. What is above is refused by itself; what takes more frames than h2 counts (a flood of
//! CONTINUATION) costs its sender the connection, and with it whatever he has in flight there. Nobody else is touched.

use chassis::grpc::Callee;
use e2e::{
    Spec, World,
    doors::{
        Method,
        call::{Answer, Call},
    },
};
use proto::order::v1::{Order, OrderStatus, WatchOrderRequest, orders_client::OrdersClient};
use tokio::task::JoinHandle;
use tonic::{Code, Status};

/// Above the limit, in as many frames as h2 takes.
const ABOVE: [usize; 2] = [17_000, 60_000];

/// In more.
const FLOOD: usize = 200_000;

/// Asks for an order by no name, with a header of this many bytes.
async fn ask(callee: &Callee, header: usize) -> Answer {
    let get = Method::all().into_iter().find(|method| method.name() == "Orders/GetOrder").unwrap();
    let mut call = Call::of(&get, &[]);
    call.headers.insert("x-much", "m".repeat(header).parse().unwrap());
    call.send(callee.clone()).await
}

/// Watches an order to its end, or to that of the connection.
async fn watch(callee: &Callee, order: &Order) -> JoinHandle<Result<Order, Status>> {
    let request = WatchOrderRequest { order_id: order.order_id.clone() };
    let mut watching = OrdersClient::new(callee.clone()).watch_order(request).await.unwrap().into_inner();
    let mut seen = watching.message().await.unwrap().unwrap();
    tokio::spawn(async move {
        while let Some(change) = watching.message().await? {
            seen = change;
        }
        Ok(seen)
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn more_headers_than_a_call_may_have_are_refused_alone() {
    let world = World::local().await;
    let shared = world.orchestrator(0);
    let order = world.create(&Spec::of(900)).await;
    let neighbour = watch(&shared, &order).await;
    for header in ABOVE {
        let answer = ask(&shared, header).await;
        assert!(answer.status.message().starts_with("HTTP 431"), "{header}: {answer:?}");
        assert_eq!(ask(&shared, 0).await.code(), Code::InvalidArgument);
    }
    world.cancel(&order.order_id).await.unwrap();
    assert_eq!(neighbour.await.unwrap().unwrap().status(), OrderStatus::Cancelled);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_headers_costs_its_sender_the_connection_and_nobody_else() {
    let world = World::local().await;
    let (sender, other) = (world.orchestrator(0), world.orchestrator(0));
    let order = world.create(&Spec::of(900)).await;
    let (lost, kept) = (watch(&sender, &order).await, watch(&other, &order).await);
    let answer = ask(&sender, FLOOD).await;
    assert_eq!(answer.code(), Code::Unavailable, "{answer:?}");
    assert!(answer.status.message().starts_with("no response"), "{answer:?}");
    // He is told by the end of every call of his, and the door is open to him again: what he sends before his side has
    // heard of the end is lost with the connection, what he sends after it goes over a new one.
    let end = lost.await.unwrap().unwrap_err();
    assert!(matches!(end.code(), Code::Unavailable | Code::Unknown | Code::Internal), "{end:?}");
    let mut unheard = 0;
    let answer = loop {
        let answer = ask(&sender, 0).await;
        if answer.code() != Code::Unavailable || unheard == 5 {
            break answer;
        }
        unheard += 1;
    };
    assert_eq!(answer.code(), Code::InvalidArgument, "after {unheard}: {answer:?}");
    assert_eq!(ask(&other, 0).await.code(), Code::InvalidArgument);
    world.cancel(&order.order_id).await.unwrap();
    assert_eq!(kept.await.unwrap().unwrap().status(), OrderStatus::Cancelled);
    world.completes(&world.create(&Spec::of(1).wait(20)).await.order_id).await;
}
