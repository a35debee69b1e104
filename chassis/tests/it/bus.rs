//! One contract for both kinds of bus, each with a real outbox and relay in front of it.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use chassis::{
    bus::{Bus, DEAD_NOTICE, Exchange, Handler, Message, Queue, Verdict, header, local::LocalBus},
    database::Schema,
    outbox::{Outbox, Relay, RelayOptions},
    stop::Stop,
    testbed::TestDatabase,
};
use sqlx::PgPool;

use crate::broker::{Script, subscribe, with_broker};

const TINY: Schema = Schema {
    name: "tiny",
    role: "amends_tiny",
    migrations: &[(
        1,
        "first",
        concat!(
            chassis::outbox_ddl!("tiny"),
            "create table tiny.effect (effect_id uuid constraint effect_pk primary key);"
        ),
    )],
    grants: chassis::row_grants!("tiny"),
};

/// Commits an effect once, as a participant does, and now and then says that it cannot.
struct Participant {
    pool: PgPool,
    script: Arc<Script>,
}

#[async_trait]
impl Handler for Participant {
    async fn handle(&self, message: &Message) -> Verdict {
        match self.script.handle(message).await {
            Verdict::Done => {}
            other => return other,
        }
        let insert =
            sqlx::query("insert into tiny.effect values ($1) on conflict do nothing").bind(message.id);
        match insert.execute(&self.pool).await {
            Ok(_) => Verdict::Done,
            Err(error) => Verdict::Unavailable(error.to_string()),
        }
    }
}

struct House {
    pool: PgPool,
    outbox: Outbox,
    relay: Relay,
}

impl House {
    async fn new(bus: Arc<dyn Bus>, stop: &Stop) -> Self {
        let pool = TestDatabase::create(&[TINY]).await.pool(&TINY).await;
        let outbox = Outbox::new("tiny", "tiny");
        let options = RelayOptions {
            sweep_age: Duration::from_millis(300),
            sweep_every: Duration::from_millis(200),
            ..RelayOptions::default()
        };
        let relay = Relay::new(chassis::database::Warm::new(&pool), outbox.clone(), bus, options, stop);
        Self { pool, outbox, relay }
    }

    async fn commit(&self, messages: &[Message]) {
        let mut transaction = self.pool.begin().await.unwrap();
        self.outbox.insert(&mut transaction, messages).await.unwrap();
        transaction.commit().await.unwrap();
    }

    async fn rows(&self) -> i64 {
        sqlx::query_scalar("select count(*) from tiny.outbox").fetch_one(&self.pool).await.unwrap()
    }

    /// Waits until all of these have had their effect.
    async fn until_done(&self, messages: &[Message]) {
        let wanted: Vec<_> = messages.iter().map(|message| message.id).collect();
        let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
        loop {
            let done: i64 = sqlx::query_scalar("select count(*) from tiny.effect where effect_id = any ($1)")
                .bind(&wanted)
                .fetch_one(&self.pool)
                .await
                .unwrap();
            if usize::try_from(done) == Ok(wanted.len()) {
                return;
            }
            assert!(tokio::time::Instant::now() < deadline, "only {done} are done");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Waits until the outbox holds this many rows.
    async fn until_left(&self, rows: i64) {
        let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
        while self.rows().await != rows {
            assert!(tokio::time::Instant::now() < deadline, "{} rows are left", self.rows().await);
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

fn command(body: u8) -> Message {
    Message::new(Exchange::Commands, "inventory", "k", "tiny", vec![body])
        .with(header::SAGA, "saga_1")
        .with(header::STEP, "reserve")
}

fn event() -> Message {
    Message::new(Exchange::Events, "order.completed", "k", "tiny", vec![])
}

/// The contract. `bus` has no subscribers yet.
async fn keeps_the_contract(bus: Arc<dyn Bus>, stop: &Stop) {
    let house = House::new(Arc::clone(&bus), stop).await;
    let away = || Verdict::Unavailable("away".into());
    let script = Script::answering([]);
    let participant = Participant { pool: house.pool.clone(), script: Arc::clone(&script) };
    bus.subscribe(Queue::commands("inventory"), Arc::new(participant)).await.unwrap();
    let (replies, first, second) = (
        Script::answering([]),
        Script::answering([away()]),
        Script::answering([Verdict::Retry("busy".into())]),
    );
    subscribe(&*bus, Queue::replies(), &replies).await;
    subscribe(&*bus, Queue::events("notification", &["order.#"]), &first).await;
    subscribe(&*bus, Queue::events("ledger", &["order.*"]), &second).await;

    only_what_is_committed_is_delivered(&house, &script).await;
    a_failed_delivery_comes_again(&house, &script).await;
    a_dead_command_is_told(&house, &script, &replies).await;

    let said = event();
    house.commit(std::slice::from_ref(&said)).await;
    for script in [&first, &second] {
        let seen = script.until(|seen| seen.len() >= 2).await;
        assert!(seen.iter().all(|m| m.id == said.id && m.routing_key == "order.completed"));
    }
}

async fn only_what_is_committed_is_delivered(house: &House, script: &Script) {
    let (never, handed, left) = (command(0), command(1), command(2));
    let mut transaction = house.pool.begin().await.unwrap();
    house.outbox.insert(&mut transaction, std::slice::from_ref(&never)).await.unwrap();
    tokio::time::sleep(Duration::from_millis(700)).await;
    transaction.rollback().await.unwrap();
    house.commit(&[handed.clone(), left.clone()]).await;
    // `left` is what a crash between commit and hand-over leaves to the sweep.
    house.relay.hand(vec![handed.clone()]);
    house.until_left(0).await;
    script.until(|seen| [handed.id, left.id].iter().all(|id| seen.iter().any(|m| m.id == *id))).await;
    assert!(script.seen().iter().all(|m| m.id != never.id));
}

async fn a_failed_delivery_comes_again(house: &House, script: &Script) {
    for verdict in [Verdict::Retry("busy".into()), Verdict::Unavailable("away".into())] {
        let counts = matches!(verdict, Verdict::Retry(_));
        script.then([verdict]);
        let message = command(3);
        house.commit(std::slice::from_ref(&message)).await;
        house.relay.hand(vec![message.clone()]);
        let seen = script.until(|seen| seen.iter().filter(|m| m.id == message.id).count() >= 2).await;
        let last = seen.iter().rfind(|m| m.id == message.id).unwrap();
        assert_eq!(last.attempt, u32::from(counts), "only a failure of its own counts");
        house.until_left(0).await;
        house.until_done(std::slice::from_ref(&message)).await;
    }
    let many: Vec<_> = (0..100).map(command).collect();
    script.then((0..5).map(|_| Verdict::Unavailable("away".into())));
    house.commit(&many).await;
    house.relay.hand(many.clone());
    house.until_left(0).await;
    house.until_done(&many).await;
}

async fn a_dead_command_is_told(house: &House, script: &Script, replies: &Script) {
    script.then([Verdict::Dead("unknown kind".into())]);
    let dead = command(4);
    house.commit(std::slice::from_ref(&dead)).await;
    house.relay.hand(vec![dead.clone()]);
    let notice = replies.has_seen(1).await.remove(0);
    assert_eq!(notice.kind, DEAD_NOTICE);
    assert_eq!(notice.headers[header::COMMAND_ID], dead.id.to_string());
    assert_eq!(notice.headers[header::REASON], "unknown kind");
    assert_eq!(notice.headers[header::SAGA], "saga_1");
}

#[tokio::test]
async fn the_bus_in_this_process_keeps_the_contract() {
    let stop = Stop::new();
    keeps_the_contract(Arc::new(LocalBus::new()), &stop).await;
    stop.request();
    assert!(stop.finish(Duration::from_secs(10)).await);
}

#[tokio::test]
async fn the_bus_over_rabbitmq_keeps_the_contract() {
    with_broker(|broker| async move {
        let bus = broker.bus().await;
        keeps_the_contract(Arc::new(bus), &broker.stop).await;
    })
    .await;
}

#[tokio::test]
async fn what_a_death_left_goes_at_once_and_not_before_everybody_has_subscribed() {
    let (bus, stop) = (Arc::new(LocalBus::closed()), Stop::new());
    let pool = TestDatabase::create(&[TINY]).await.pool(&TINY).await;
    let outbox = Outbox::new("tiny", "tiny");
    let (fresh, claimed) = (event(), event());
    let mut transaction = pool.begin().await.unwrap();
    outbox.insert(&mut transaction, &[fresh.clone(), claimed.clone()]).await.unwrap();
    transaction.commit().await.unwrap();
    let claim =
        "update tiny.outbox set not_before = now() + interval '30 seconds' where outbox_id = any ($1)";
    sqlx::query(claim).bind(vec![claimed.id]).execute(&pool).await.unwrap();

    // Nothing is ever as old as that: only the look at the start takes it.
    let options = RelayOptions { sweep_age: Duration::from_secs(3600), ..RelayOptions::default() };
    let relay = Relay::new(
        chassis::database::Warm::new(&pool),
        outbox.clone(),
        Arc::clone(&bus) as Arc<dyn Bus>,
        options,
        &stop,
    );
    let house = House { pool, outbox, relay };
    let free = "select count(*) from tiny.outbox where not_before is null";
    let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
    while sqlx::query_scalar::<_, i64>(free).fetch_one(&house.pool).await.unwrap() != 0 {
        assert!(tokio::time::Instant::now() < deadline, "the relay does not look");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // It has them in hand. An event that nobody takes is safe: had they gone now, nobody would ever hear of them.
    let script = Script::answering([]);
    subscribe(&*bus, Queue::events("notification", &["order.#"]), &script).await;
    bus.open();
    script.until(|seen| [&fresh, &claimed].iter().all(|m| seen.iter().any(|s| s.id == m.id))).await;
    house.until_left(0).await;
    stop.request();
    assert!(stop.finish(Duration::from_secs(10)).await);
}
