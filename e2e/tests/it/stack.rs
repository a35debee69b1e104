//! Every service a process of its own: owners that sleep past their lease, poison in every queue, a refund that
//! overtakes its charge.

use std::time::Duration;

use chassis::{
    bus::{Binding, Bus as _, Exchange, Message, amqp::AmqpBus},
    stop::Stop,
    testbed::variable,
};
use e2e::{
    Spec, eventually_within,
    load::{Line, Pace, Shop},
    process::folder,
    soak,
    stack::{Member, Options, Ports, Stack},
};
use lapin::{BasicProperties, Connection, ConnectionProperties, options, types::FieldTable};
use proto::order::v1::{CancelOrderRequest, GetOrderRequest, OrderStatus, orders_client::OrdersClient};

async fn stack(orchestrators: usize, more: &[(&str, &str)]) -> Stack {
    let quick = soak::QUICK.iter().chain(more);
    let environment = quick.map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    let tail = false;
    Stack::start(Options { orchestrators, ports: Ports::Any, tail, environment, folder: folder("stack") })
        .await
}

/// How many shards a member owns, as the database has it.
async fn owned(stack: &Stack, member: Member) -> i64 {
    let mut connection = stack.databases.connect(&orchestrator::SCHEMA).await;
    let count = sqlx::query_as(
        "select count(*) from orchestrator.shard s join orchestrator.instance i on i.instance_id = s.owner_id \
         where i.address = $1",
    );
    let (owned,): (i64,) = count.bind(stack.address(member)).fetch_one(&mut connection).await.unwrap();
    owned
}

#[tokio::test(flavor = "multi_thread")]
async fn an_owner_that_sleeps_past_its_lease_ten_times_under_load_doubles_nothing() {
    let stack = stack(2, &[("AMENDS_LEASE", "2s")]).await;
    let line = Line::to(stack.doors());
    line.doors().prepare().await.unwrap();
    let shop = Shop::at(&line);
    let selling = tokio::spawn({
        let shop = shop.clone();
        async move { shop.sell(400, Pace { places: 64, per_second: Some(10) }).await }
    });
    for nap in 0..10 {
        let sleeper = Member::Orchestrator(1 + nap % 2);
        eventually_within(Duration::from_secs(60), "it owns shards", || async {
            (owned(&stack, sleeper).await > 0).then_some(())
        })
        .await;
        stack.process(sleeper).pause().await;
        // Not by the clock: it sleeps until somebody else has taken all that it owned.
        eventually_within(Duration::from_secs(60), "its shards are taken over", || async {
            (owned(&stack, sleeper).await == 0).then_some(())
        })
        .await;
        stack.process(sleeper).wake().await;
    }
    selling.await.unwrap();
    shop.ends(Duration::from_secs(120)).await;
    let file = folder("naps").join("acknowledged.jsonl");
    shop.write_acknowledged(&file);
    stack.audit(Some(file)).await.unwrap();
    stack.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refund_that_comes_while_the_provider_hangs_and_then_charges_nets_to_zero() {
    // The provider takes three seconds for everything, and then does it; nobody gives up on it before.
    let slow = [("AMENDS_SIMULATOR_LATENCY", "3s"), ("AMENDS_PAYMENT_CALL_TIMEOUT", "20s")];
    let stack = stack(2, &[&slow[..], &[("AMENDS_PAYMENT_HORIZON", "25s")]].concat()).await;
    let mut orders = OrdersClient::new(stack.callee(Member::Orchestrator(1)));
    stack.furnish().await;
    let order = orders.create_order(Spec::of(2).wait(20).request()).await.unwrap().into_inner();
    assert_eq!(order.status(), OrderStatus::AwaitingPayment, "the call to the provider hangs: {order:?}");
    // At the instance that does not own it as well as at the one that does.
    let mut other = OrdersClient::new(stack.callee(Member::Orchestrator(2)));
    let cancel = CancelOrderRequest { order_id: order.order_id.clone(), reason: "too slow".into() };
    other.cancel_order(cancel).await.unwrap();
    let ended = eventually_within(Duration::from_secs(60), "it ends", || {
        let mut orders = orders.clone();
        let request = GetOrderRequest { order_id: order.order_id.clone() };
        async move {
            let order = orders.get_order(request).await.ok()?.into_inner();
            (order.status() == OrderStatus::Cancelled).then_some(order)
        }
    })
    .await;
    assert_eq!(ended.status_reason, "CANCEL_REQUESTED");
    let mut book = stack.databases.connect(&payment_svc::SIMULATOR_SCHEMA).await;
    let sums = "select coalesce(sum(charged_minor), 0)::bigint, coalesce(sum(refunded_minor), 0)::bigint from simulator.book";
    let (charged, refunded): (i64, i64) = sqlx::query_as(sums).fetch_one(&mut book).await.unwrap();
    assert_eq!((charged, refunded), (2400, 2400), "it was charged after all, and given back");
    stack.audit(None).await.unwrap();
    stack.stop().await;
}

/// How many messages lie in a queue.
async fn depth(connection: &Connection, queue: &str) -> u32 {
    let channel = connection.create_channel().await.unwrap();
    let look = options::QueueDeclareOptions { passive: true, ..Default::default() };
    let found = channel.queue_declare(queue.into(), look, FieldTable::default()).await.unwrap();
    let count = found.message_count();
    let _ = channel.close(200, "looked".into()).await;
    count
}

#[tokio::test(flavor = "multi_thread")]
async fn poison_and_strangers_in_every_queue_die_once_and_harm_nobody() {
    let stack = stack(1, &[]).await;
    let line = Line::to(stack.doors());
    line.doors().prepare().await.unwrap();
    let shop = Shop::at(&line);
    let selling = tokio::spawn({
        let shop = shop.clone();
        async move { shop.sell(104, Pace { places: 16, per_second: Some(20) }).await }
    });
    let prefix = format!("{}.", stack.databases.prefix());
    let url = variable("AMENDS_TEST_AMQP_URL");
    let connection = Connection::connect(&url, ConnectionProperties::default()).await.unwrap();
    let channel = connection.create_channel().await.unwrap();
    let stop = Stop::new();
    let bus = AmqpBus::connect(&url, &prefix, amends::stack::queues(), &stop).await.unwrap();
    let queues = amends::stack::queues();
    for queue in &queues {
        // Bytes that are nothing, straight into the queue.
        let name = format!("{prefix}{}", queue.name);
        channel
            .basic_publish(
                "".into(),
                name.into(),
                Default::default(),
                b"\xff\x00poison",
                BasicProperties::default(),
            )
            .await
            .unwrap()
            .await
            .unwrap();
        // A message that is well formed and meant for somebody else.
        let (exchange, key) = match &queue.binding {
            Binding::Commands(service) => (Exchange::Commands, service.clone()),
            Binding::Replies => (Exchange::Replies, "orchestrator".to_owned()),
            Binding::Events(patterns) => (Exchange::Events, patterns[0].clone()),
        };
        let kind = "amends.elsewhere.v1.Stranger";
        let stranger = Message::new(exchange, &key, kind, "elsewhere", b"\x0a\x03abc".to_vec());
        let published = bus.publish(&[stranger]).await;
        assert!(published.iter().all(|p| matches!(p, chassis::bus::Published::Safe)), "{published:?}");
    }
    for queue in &queues {
        let dead = format!("{prefix}{}.dead", queue.name);
        eventually_within(Duration::from_secs(60), &format!("two lie in {dead}"), || async {
            (depth(&connection, &dead).await == 2).then_some(())
        })
        .await;
    }
    selling.await.unwrap();
    shop.ends(Duration::from_secs(120)).await;
    stack.audit(None).await.unwrap();
    for queue in &queues {
        let dead = depth(&connection, &format!("{prefix}{}.dead", queue.name)).await;
        let left = depth(&connection, &format!("{prefix}{}", queue.name)).await;
        assert_eq!((dead, left), (2, 0), "{}", queue.name);
    }
    stop.request();
    stack.stop().await;
}
