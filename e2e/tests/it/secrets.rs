//! I11: tokens go through seven processes, their databases, a broker and their logs, and can be read nowhere.

use std::{path::Path, time::Duration};

use amends::audit::{self, Invariant, Room, Sources};
use chassis::testbed::variable;
use e2e::{
    Spec,
    load::{Line, Pace, Shop},
    process::folder,
    soak,
    stack::{Options, Ports, Stack},
};
use lapin::{Channel, Connection, ConnectionProperties, options, types::FieldTable};
use proto::order::v1::{CreateOrderRequest, orders_client::OrdersClient};
use tonic::Code;

const CANARY: &str = "tok_canary7Qz4711";
const CARD: &str = "4111111111111111";

/// A queue that hears everything that is published.
async fn spy(channel: &Channel, prefix: &str) -> String {
    let name = format!("{prefix}spy");
    let exclusive = options::QueueDeclareOptions { exclusive: true, ..Default::default() };
    channel.queue_declare(name.clone().into(), exclusive, FieldTable::default()).await.unwrap();
    let services = ["order", "inventory", "risk", "payment", "ledger", "notification"];
    let commands = services.map(|service| ("amends.commands", service));
    for (exchange, key) in
        commands.into_iter().chain([("amends.replies", "orchestrator"), ("amends.events", "#")])
    {
        let exchange = format!("{prefix}{exchange}");
        let bound = channel.queue_bind(
            name.clone().into(),
            exchange.into(),
            key.into(),
            options::QueueBindOptions::default(),
            FieldTable::default(),
        );
        bound.await.unwrap();
    }
    name
}

/// Everything in a queue, headers and all.
async fn drain(channel: &Channel, queue: &str) -> Vec<Vec<u8>> {
    let mut messages = Vec::new();
    let look = options::BasicGetOptions { no_ack: true };
    while let Some(got) = channel.basic_get(queue.into(), look).await.unwrap() {
        let mut bytes = format!("{:?}", got.delivery.properties).into_bytes();
        bytes.extend_from_slice(&got.delivery.data);
        messages.push(bytes);
    }
    messages
}

fn holds(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}

async fn leaks(stack: &Stack, logs: &Path) -> Vec<String> {
    let sources = Sources::of(|room: Room| stack.databases.owner(room.schema()))
        .with_letters(stack.databases.owner("notifications"));
    let options = audit::Options {
        canaries: vec![CANARY.into(), CARD.into()],
        logs: vec![logs.to_owned()],
        ..Default::default()
    };
    let report = audit::run(&sources, &options).await.unwrap();
    let judged = report.judged(Invariant::I11).unwrap();
    assert!(judged.checked > 500, "{}", judged.checked);
    judged.violations.first.clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn no_token_and_no_card_number_can_be_read_in_any_database_queue_letter_or_log() {
    let house = folder("secrets");
    let more = [(
        "AMENDS_LOG",
        "info,amends=trace,orchestrator=trace,payment_svc=trace,ledger_svc=trace,chassis=trace",
    )];
    let environment =
        soak::QUICK.iter().chain(&more).map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    let options =
        Options { orchestrators: 2, ports: Ports::Any, tail: false, environment, folder: house.clone() };
    let stack = Stack::start(options).await;
    let prefix = format!("{}.", stack.databases.prefix());
    let url = variable("AMENDS_TEST_AMQP_URL");
    let broker = Connection::connect(&url, ConnectionProperties::default()).await.unwrap();
    let channel = broker.create_channel().await.unwrap();
    let spy = spy(&channel, &prefix).await;
    let line = Line::to(stack.doors());
    line.doors().prepare().await.unwrap();
    let shop = Shop::at(&line);

    // Card numbers are refused at the door, wherever they are written.
    let mut orders = OrdersClient::new(line.orchestrator());
    let wrong: [fn(&mut CreateOrderRequest); 3] = [
        |request| request.customer_id = CARD.into(),
        |request| drop(request.metadata.insert("note".into(), format!("pay with {CARD}"))),
        |request| request.payment = Spec::of(1).token("4111-1111-1111-1111").request().payment,
    ];
    for change in wrong {
        let mut request = Spec::of(1).request();
        change(&mut request);
        let status = orders.create_order(request).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
        assert!(!format!("{status:?}").contains("1111"), "{status:?}");
    }

    // Orders of every kind, and one with a token that nobody else has. Half way, and at the end, nothing is to be seen.
    let canary = Spec::of(1).token(CANARY).wait(20).request();
    let order = orders.create_order(canary.clone()).await.unwrap().into_inner();
    assert_eq!(order.status_reason, "INVALID_TOKEN");
    let again = orders.create_order(canary).await.unwrap().into_inner();
    assert_eq!(
        again.order_id, order.order_id,
        "the same request is the same order, whatever a token is turned into"
    );
    let selling = tokio::spawn({
        let shop = shop.clone();
        async move { shop.sell(52, Pace { places: 16, per_second: Some(10) }).await }
    });
    e2e::eventually("half of them are acknowledged", || async { (shop.acknowledged() >= 26).then_some(()) })
        .await;
    assert_eq!(leaks(&stack, &house).await, [""; 0]);
    selling.await.unwrap();
    shop.ends(Duration::from_secs(120)).await;
    stack.audit(None).await.unwrap();
    assert_eq!(leaks(&stack, &house).await, [""; 0]);

    let mut messages = drain(&channel, &spy).await;
    assert!(messages.len() > 52, "{} messages were heard", messages.len());
    for queue in amends::stack::queues() {
        messages.extend(drain(&channel, &format!("{prefix}{}.dead", queue.name)).await);
    }
    for message in &messages {
        let text = String::from_utf8_lossy(message);
        assert!(!holds(message, "tok_") && !holds(message, CARD), "{text}");
    }
    // The logs are there.
    let logs = std::fs::read_dir(&house).unwrap().filter_map(Result::ok);
    let lines: usize = logs
        .filter(|entry| entry.path().extension().is_some_and(|extension| extension == "log"))
        .map(|entry| std::fs::read_to_string(entry.path()).unwrap().lines().count())
        .sum();
    assert!(lines > 100, "{lines} lines");
    stack.stop().await;
}
