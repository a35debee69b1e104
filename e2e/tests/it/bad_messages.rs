//! Bad bodies and headers into every queue: each is in the dead queue exactly once, with the reason, and stores nothing;
//! what comes after it is handled.

use std::{collections::BTreeMap, time::Duration};

use chassis::testbed::variable;
use e2e::{
    Spec, World,
    doors::{
        Method, good,
        prints::{Camera, changed},
    },
    eventually,
};
use lapin::{
    BasicProperties, Channel, Connection, ConnectionProperties,
    options::{BasicGetOptions, BasicPublishOptions, QueueDeclareOptions},
    types::{AMQPValue, FieldTable},
};
use prost::Message as _;
use prost_reflect::{DynamicMessage, Value};
use proto::{
    order::v1::OrderChanged,
    payment::v1::PaymentRefunded,
    step::{StepAnswer, step_answer},
};
use types::SagaId;
use uuid::Uuid;

/// A queue, how what it takes is sent, and a good body.
struct Target {
    queue: &'static str,
    exchange: &'static str,
    routing_key: &'static str,
    kind: &'static str,
    body: Vec<u8>,
    /// Bodies of that kind which say nothing that can be.
    nonsense: Vec<(&'static str, Vec<u8>)>,
}

/// The item of a good request of this method.
fn item(method: &str, saga: SagaId) -> DynamicMessage {
    let method = Method::all().into_iter().find(|m| m.name() == method).unwrap();
    let request =
        DynamicMessage::decode(method.input(), good::step(&method.name(), saga).as_slice()).unwrap();
    request.get_field_by_name("items").unwrap().as_list().unwrap()[0].as_message().unwrap().clone()
}

fn command(service: &'static str, method: &str, kind: &'static str, queue: &'static str) -> Target {
    let saga = SagaId::from_uuid(chassis::clock::new_uuid());
    let good = item(method, saga);
    let with = |field: &str, value: Value| {
        let mut bad = good.clone();
        let mut header = bad.get_field_by_name("header").unwrap().as_message().unwrap().clone();
        header.set_field_by_name(field, value);
        bad.set_field_by_name("header", Value::Message(header));
        bad.encode_to_vec()
    };
    let text = |text: &str| Value::String(text.into());
    let mut nonsense = vec![
        ("a saga that is none", with("saga_id", text("saga_x"))),
        ("another kind of id", with("saga_id", text("pay_01h2xcejqtf2nbrexx3vqjhp41"))),
        ("a step that is none", with("step", text("'; drop table"))),
        ("a step of 33 letters", with("step", text(&"s".repeat(33)))),
    ];
    let mut without = good.clone();
    without.clear_field_by_name("header");
    nonsense.push(("no header", without.encode_to_vec()));
    // Payment and risk look at nothing but the header.
    if ["order", "inventory", "ledger"].contains(&service) {
        let mut bad = good.clone();
        bad.set_field_by_name("order_id", text("ord_\0"));
        nonsense.push(("an order that is none", bad.encode_to_vec()));
    }
    Target {
        queue,
        exchange: "amends.commands",
        routing_key: service,
        kind,
        body: good.encode_to_vec(),
        nonsense,
    }
}

fn targets() -> Vec<Target> {
    let saga = SagaId::from_uuid(chassis::clock::new_uuid());
    vec![
        command("order", "OrderSteps/Cancel", "amends.order.v1.CancelItem", "order.commands"),
        command(
            "inventory",
            "InventorySteps/Release",
            "amends.inventory.v1.ReleaseItem",
            "inventory.commands",
        ),
        command("payment", "PaymentSteps/Refund", "amends.payment.v1.RefundItem", "payment.commands"),
        command("ledger", "LedgerSteps/Reverse", "amends.ledger.v1.ReverseItem", "ledger.commands"),
        // A withdrawal has the header of the step it withdraws.
        command("risk", "InventorySteps/Release", "amends.risk.v1.WithdrawItem", "risk.commands"),
        order_events(saga),
        refunds(saga),
        answers(saga),
    ]
}

fn money(minor_units: i64, code: &str) -> Option<proto::money::Money> {
    Some(proto::money::Money { minor_units, currency_code: code.into() })
}

fn order_events(saga: SagaId) -> Target {
    let good = OrderChanged {
        order_id: saga.order().to_string(),
        saga_id: saga.to_string(),
        status: proto::order::v1::OrderStatus::Completed.into(),
        customer_id: "c_1".into(),
        merchant_id: "m_1".into(),
        total: money(1200, "EUR"),
        version: 3,
        ..OrderChanged::default()
    };
    let bad = |change: fn(&mut OrderChanged)| {
        let mut bad = good.clone();
        change(&mut bad);
        bad.encode_to_vec()
    };
    Target {
        queue: "notification.events",
        exchange: "amends.events",
        routing_key: "order.completed",
        kind: "amends.order.v1.OrderChanged",
        nonsense: vec![
            ("an order that is none", bad(|e| e.order_id = "ord_1".into())),
            ("a long prefix that is not ASCII", bad(|e| e.order_id = format!("{}_1", "é".repeat(40)))),
            ("no customer", bad(|e| e.customer_id.clear())),
            ("no total", bad(|e| e.total = None)),
            ("no such currency", bad(|e| e.total = money(1, "ZZZ"))),
        ],
        body: good.encode_to_vec(),
    }
}

fn refunds(saga: SagaId) -> Target {
    let good = PaymentRefunded {
        payment_id: types::PaymentId::from_uuid(chassis::clock::new_uuid()).to_string(),
        saga_id: saga.to_string(),
        step: "charge".into(),
        order_id: saga.order().to_string(),
        merchant_id: "m_1".into(),
        amount: money(1200, "EUR"),
        provider_reference: "p".into(),
        refund_reference: "r".into(),
    };
    let bad = |change: fn(&mut PaymentRefunded)| {
        let mut bad = good.clone();
        change(&mut bad);
        bad.encode_to_vec()
    };
    Target {
        queue: "ledger.events",
        exchange: "amends.events",
        routing_key: "payment.refunded",
        kind: "amends.payment.v1.PaymentRefunded",
        nonsense: vec![
            ("no amount", bad(|e| e.amount = None)),
            ("a negative amount", bad(|e| e.amount = money(-1, "EUR"))),
            ("gold", bad(|e| e.amount = money(1, "XAU"))),
            ("no payment", bad(|e| e.payment_id = "pay_".into())),
            ("no step", bad(|e| e.step.clear())),
        ],
        body: good.encode_to_vec(),
    }
}

fn answers(saga: SagaId) -> Target {
    let good = StepAnswer {
        saga_id: saga.to_string(),
        step: "reserve".into(),
        outcome: Some(step_answer::Outcome::Done(Vec::new())),
        ..StepAnswer::default()
    };
    let bad = |change: fn(&mut StepAnswer)| {
        let mut bad = good.clone();
        change(&mut bad);
        bad.encode_to_vec()
    };
    Target {
        queue: "orchestrator.replies",
        exchange: "amends.replies",
        routing_key: "orchestrator",
        kind: "amends.step.v1.StepAnswer",
        nonsense: vec![
            ("no outcome", bad(|a| a.outcome = None)),
            ("a saga that is none", bad(|a| a.saga_id = "saga_".into())),
            ("a step that is none", bad(|a| a.step = "Reserve!".into())),
        ],
        body: good.encode_to_vec(),
    }
}

fn text(text: &str) -> AMQPValue {
    AMQPValue::LongString(text.into())
}

/// A message, and how it is bad.
type Bad = (String, BasicProperties, Vec<u8>);

fn good_properties(target: &Target) -> BasicProperties {
    BasicProperties::default()
        .with_message_id(Uuid::now_v7().to_string().into())
        .with_type(target.kind.into())
        .with_app_id("test".into())
        .with_delivery_mode(2)
}

fn headers(entries: Vec<(&str, AMQPValue)>) -> FieldTable {
    let mut table = FieldTable::default();
    for (name, value) in entries {
        table.insert(name.into(), value);
    }
    table
}

/// What no consumer of this queue can handle.
fn bad(target: &Target) -> Vec<Bad> {
    let good = || good_properties(target);
    let body = || target.body.clone();
    let mut all: Vec<Bad> =
        target.nonsense.iter().map(|(how, body)| ((*how).to_owned(), good(), body.clone())).collect();
    let mut say =
        |how: &str, properties: BasicProperties, body: Vec<u8>| all.push((how.to_owned(), properties, body));
    say("no properties at all", BasicProperties::default(), body());
    say("no message id", BasicProperties::default().with_type(target.kind.into()), body());
    say("an id that is no UUID", good().with_message_id("7".into()), body());
    say("no type", good().with_type("".into()), body());
    say("a stranger's type", good().with_type("amends.shipping.v1.ShipItem".into()), body());
    say("a type of 255 characters", good().with_type("t".repeat(255).into()), body());
    say("without its last byte", good(), body()[..target.body.len() - 1].to_vec());
    say("random bytes", good(), vec![0xff; 64]);
    say("a megabyte of nothing", good(), vec![0; 1 << 20]);
    say("JSON", good().with_content_type("application/json".into()), b"{\"saga_id\":1}".to_vec());
    say("an empty body", good(), Vec::new());
    let with = |entries: Vec<(&str, AMQPValue)>| good().with_headers(headers(entries));
    say("an attempt that is a word", with(vec![("x-attempt", text("three"))]), body());
    say("an attempt below nothing", with(vec![("x-attempt", AMQPValue::LongLongInt(-1))]), body());
    say("an exchange that is none", with(vec![("amends-exchange", text("elsewhere"))]), body());
    // Nothing is bad about the headers, but their message is.
    let odd = |entries| with(entries).with_type("amends.odd.v1.Odd".into());
    say(
        "the last attempt there can be",
        odd(vec![("x-attempt", AMQPValue::LongLongInt(i64::from(u32::MAX)))]),
        body(),
    );
    say(
        "a time that is none",
        odd(vec![("amends-time", text("yesterday")), ("cloudEvents_time", text("soon"))]),
        body(),
    );
    say(
        "a header that is not UTF-8",
        odd(vec![("traceparent", AMQPValue::LongString(vec![0xff, 0xfe].into()))]),
        body(),
    );
    say("60,000 bytes of headers", odd(vec![("much", text(&"m".repeat(60_000)))]), body());
    say("more headers than we would send", odd(vec![("much", text(&"m".repeat(100_000)))]), body());
    say("a timestamp after all time", odd(vec![]).with_timestamp(u64::MAX), body());
    all
}

/// A notice of a dead command has no body; its headers say all.
fn bad_notices() -> Vec<Bad> {
    let all = [
        ("amends-saga", "saga_01h2xcejqtf2nbrexx3vqjhp41"),
        ("amends-step", "reserve"),
        ("amends-command-id", "7"),
        ("amends-reason", "why"),
    ];
    let notice = |entries: Vec<(&str, AMQPValue)>| {
        BasicProperties::default()
            .with_message_id(Uuid::now_v7().to_string().into())
            .with_type("amends.dead".into())
            .with_headers(headers(entries))
    };
    let mut bad: Vec<Bad> = Vec::new();
    for (missing, _) in all {
        let left = all.iter().filter(|(name, _)| *name != missing).map(|(name, value)| (*name, text(value)));
        bad.push((format!("a notice without {missing}"), notice(left.collect()), Vec::new()));
    }
    for (name, value) in [("amends-saga", "ord"), ("amends-step", "A step")] {
        let changed = all.iter().map(|(n, v)| (*n, text(if *n == name { value } else { v })));
        bad.push((format!("a notice whose {name} is none"), notice(changed.collect()), Vec::new()));
    }
    bad
}

struct Broker {
    channel: Channel,
    prefix: String,
    _connection: Connection,
}

impl Broker {
    async fn of(world: &World) -> Self {
        let url = variable("AMENDS_TEST_AMQP_URL");
        let connection = Connection::connect(&url, ConnectionProperties::default()).await.unwrap();
        let channel = connection.create_channel().await.unwrap();
        Self { channel, prefix: world.ground.amqp_prefix().unwrap().to_owned(), _connection: connection }
    }

    async fn publish(&self, target: &Target, properties: BasicProperties, body: &[u8]) {
        let exchange = format!("{}{}", self.prefix, target.exchange);
        self.channel
            .basic_publish(
                exchange.into(),
                target.routing_key.into(),
                BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() },
                body,
                properties,
            )
            .await
            .unwrap()
            .await
            .unwrap();
    }

    async fn waiting(&self, queue: &str) -> u32 {
        let options = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
        let name = format!("{}{queue}", self.prefix);
        self.channel.queue_declare(name.into(), options, FieldTable::default()).await.unwrap().message_count()
    }

    /// The bodies in the dead queue, with how often each is there; the queue is empty then.
    async fn dead(&self, queue: &str) -> BTreeMap<Vec<u8>, usize> {
        let name = format!("{}{queue}.dead", self.prefix);
        let mut bodies = BTreeMap::new();
        while let Some(got) =
            self.channel.basic_get(name.clone().into(), BasicGetOptions { no_ack: true }).await.unwrap()
        {
            let headers = got.delivery.properties.headers().clone().unwrap_or_default();
            let reason = headers.inner().get("amends-reason").cloned();
            assert!(
                matches!(reason, Some(AMQPValue::LongString(why)) if !why.as_bytes().is_empty()),
                "{queue}: no reason"
            );
            *bodies.entry(got.delivery.data.clone()).or_default() += 1;
        }
        bodies
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_messages_are_dead_exactly_once_with_the_reason_and_store_nothing() {
    let begun = std::time::Instant::now();
    let world = World::amqp().await;
    let broker = Broker::of(&world).await;
    let mut camera = Camera::of(&world).await;
    let before = camera.at_rest().await;
    let mut count = 0;
    for target in &targets() {
        let mut bad = bad(target);
        if target.queue == "orchestrator.replies" {
            bad.extend(bad_notices());
        }
        let mut sent = BTreeMap::new();
        for (_, properties, body) in &bad {
            broker.publish(target, properties.clone(), body).await;
            *sent.entry(body.clone()).or_default() += 1_usize;
        }
        count += bad.len();
        let queue = format!("{}.dead", target.queue);
        eventually(&format!("{} in {queue}", bad.len()), || async {
            let there = broker.waiting(&queue).await;
            assert!(there as usize <= bad.len(), "{queue} has {there} of {}", bad.len());
            (there as usize == bad.len() && broker.waiting(target.queue).await == 0).then_some(())
        })
        .await;
        // Nothing comes after.
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert_eq!(broker.dead(target.queue).await, sent, "{}: each once, as it came", target.queue);
        assert_eq!(changed(&before, &camera.take().await), Vec::<String>::new(), "{}", target.queue);
    }
    // Every consumer still lives.
    let completed = world.create(&Spec::of(1).wait(20)).await;
    world.completes(&completed.order_id).await;
    let cancelled = world.create(&Spec::of(1).token("tok_decline")).await;
    world.is_cancelled(&cancelled.order_id).await;
    eventually("its letter is there", || async { world.deliveries(&completed.order_id).await.pop() }).await;
    world.audit().await;
    eprintln!("bad messages: {count} in {:.1} s", begun.elapsed().as_secs_f64());
    assert!(count >= 150, "{count}");
}
