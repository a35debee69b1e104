//! The bus over a real RabbitMQ.

use std::{collections::HashSet, sync::Arc, time::Duration};

use async_trait::async_trait;
use chassis::{
    bus::{
        Bus, DEAD_NOTICE, Exchange, Handler, Message, Published, Queue, Verdict,
        amqp::{AmqpBus, Events, Options},
        header,
    },
    clock::new_uuid,
    stop::Stop,
};
use lapin::{BasicProperties, message::Delivery, types::AMQPValue};
use tokio::sync::Semaphore;

use crate::{
    broker::{Broker, Script, quick, subscribe, with_broker},
    wire::Wire,
};

fn command(body: &[u8]) -> Message {
    Message::new(
        Exchange::Commands,
        "inventory",
        "amends.inventory.v1.ReleaseItem",
        "orchestrator",
        body.into(),
    )
    .with(header::SAGA, "saga_1")
    .with(header::STEP, "reserve")
}

fn event(key: &str) -> Message {
    Message::new(Exchange::Events, key, "amends.order.v1.OrderChanged", "orchestrator", vec![1])
        .with(header::SUBJECT, "ord_1")
}

fn ids(messages: &[Message]) -> HashSet<uuid::Uuid> {
    messages.iter().map(|message| message.id).collect()
}

async fn publish_all(bus: &AmqpBus, messages: &[Message]) {
    assert_eq!(bus.publish(messages).await, vec![Published::Safe; messages.len()]);
}

/// Publishes as a relay does: what is not safe goes again.
async fn publish_at_last(bus: &AmqpBus, mut messages: Vec<Message>) {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
    while !messages.is_empty() {
        let mut answers = bus.publish(&messages).await.into_iter();
        messages.retain(|_| answers.next() != Some(Published::Safe));
        assert!(tokio::time::Instant::now() < deadline, "{} are not safe", messages.len());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn header_of(delivery: &Delivery, name: &str) -> Option<String> {
    match delivery.properties.headers().as_ref()?.inner().get(name)? {
        AMQPValue::LongString(text) => Some(text.to_string()),
        _ => None,
    }
}

#[tokio::test]
async fn what_is_published_arrives_as_it_was() {
    with_broker(|broker| async move {
        let bus = broker.bus().await;
        let (commands, replies, events) =
            (Script::answering([]), Script::answering([]), Script::answering([]));
        subscribe(&bus, Queue::commands("inventory"), &commands).await;
        subscribe(&bus, Queue::replies(), &replies).await;
        subscribe(&bus, Queue::events("notification", &["order.#"]), &events).await;
        let sent: Vec<_> = (0..200).map(|i| command(&[i])).collect();
        let reply =
            Message::new(Exchange::Replies, "orchestrator", "amends.step.v1.StepAnswer", "inventory", vec![]);
        publish_all(&bus, &sent).await;
        publish_all(&bus, &[reply.clone(), event("order.completed")]).await;

        let seen = commands.has_seen(200).await;
        assert_eq!(ids(&seen), ids(&sent));
        let first = seen.iter().find(|m| m.id == sent[7].id).unwrap();
        let expected = Message { time: first.time, ..sent[7].clone() };
        assert_eq!(*first, expected);
        assert_eq!((first.time - sent[7].time).num_microseconds(), Some(0));
        assert_eq!(replies.has_seen(1).await[0].id, reply.id);
        let event = &events.has_seen(1).await[0];
        assert_eq!((event.routing_key.as_str(), event.exchange), ("order.completed", Exchange::Events));
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert_eq!(commands.seen().len(), 200, "and only once");
    })
    .await;
}

#[tokio::test]
async fn a_retry_climbs_and_comes_back_to_its_own_queue_with_its_attempt_counted() {
    with_broker(|broker| async move {
        let bus = broker.bus().await;
        let retry = || Verdict::Retry("not now".into());
        let (events, others, commands, replies) = (
            Script::answering([retry(), retry()]),
            Script::answering([]),
            Script::answering([retry()]),
            Script::answering([retry()]),
        );
        subscribe(&bus, Queue::events("notification", &["order.#"]), &events).await;
        // Two queues take the same event; only the one that failed gets it again.
        subscribe(&bus, Queue::events("ledger", &["order.*"]), &others).await;
        subscribe(&bus, Queue::commands("inventory"), &commands).await;
        subscribe(&bus, Queue::replies(), &replies).await;
        let (event, command) = (event("order.cancelled"), command(&[1]));
        let reply = Message::new(Exchange::Replies, "orchestrator", "k", "inventory", vec![]);
        let begin = std::time::Instant::now();
        publish_all(&bus, &[event.clone(), command.clone(), reply.clone()]).await;

        let seen = events.has_seen(3).await;
        assert!(begin.elapsed() >= Duration::from_millis(300), "two rungs were waited out");
        assert_eq!(seen.iter().map(|m| m.attempt).collect::<Vec<_>>(), [0, 1, 2]);
        let last = Message { attempt: 0, ..seen[2].clone() };
        assert_eq!(last, seen[0], "nothing else has changed");
        for (script, sent) in [(commands, command), (replies, reply)] {
            let seen = script.has_seen(2).await;
            assert_eq!((seen[1].id, seen[1].attempt), (sent.id, 1));
            assert_eq!((seen[1].exchange, &seen[1].routing_key), (sent.exchange, &sent.routing_key));
        }
        tokio::time::sleep(Duration::from_millis(300)).await;
        assert_eq!(others.seen().len(), 1, "the others are not bothered");
        assert_eq!(events.seen().len(), 3);
    })
    .await;
}

#[tokio::test]
async fn the_last_rung_and_a_dead_verdict_end_in_the_dead_queue_and_the_saga_is_told() {
    with_broker(|broker| async move {
        let bus = broker.bus().await;
        let commands = Script::answering([
            Verdict::Dead("unknown kind".into()),
            Verdict::Retry("a".into()),
            Verdict::Retry("b".into()),
            Verdict::Retry("c".into()),
        ]);
        let (replies, events) =
            (Script::answering([]), Script::answering([Verdict::Dead("no such template".into())]));
        subscribe(&bus, Queue::commands("inventory"), &commands).await;
        subscribe(&bus, Queue::replies(), &replies).await;
        subscribe(&bus, Queue::events("notification", &["order.#"]), &events).await;

        for (reason, attempts) in [("unknown kind", "1"), ("c", "3")] {
            let told = replies.seen().len();
            let command = command(b"body");
            publish_all(&bus, std::slice::from_ref(&command)).await;
            let notice = replies.has_seen(told + 1).await.pop().unwrap();
            assert_eq!(notice.kind, DEAD_NOTICE);
            assert_eq!(notice.id, command.dead_notice("").id);
            let headers = &notice.headers;
            assert_eq!(headers[header::COMMAND_ID], command.id.to_string());
            assert_eq!(
                (headers[header::REASON].as_str(), headers[header::ATTEMPTS].as_str()),
                (reason, attempts)
            );
            assert_eq!(
                (headers[header::SAGA].as_str(), headers[header::STEP].as_str()),
                ("saga_1", "reserve")
            );
            let dead = broker.await_in("inventory.commands.dead").await;
            assert_eq!(dead.data, b"body");
            assert_eq!(header_of(&dead, header::REASON).as_deref(), Some(reason));
        }
        publish_all(&bus, &[event("order.created")]).await;
        broker.await_in("notification.events.dead").await;
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert_eq!(replies.seen().len(), 2, "nobody is told of a dead event");
    })
    .await;
}

#[tokio::test]
async fn poison_goes_to_the_dead_queue_once_and_its_neighbours_are_unharmed() {
    with_broker(|broker| async move {
        let bus = broker.bus().await;
        let good: Vec<_> = (0..10).map(|i| command(&[i])).collect();
        publish_all(&bus, &good[..5]).await;
        let id = new_uuid().to_string();
        let poison = [
            BasicProperties::default(),
            BasicProperties::default().with_message_id(id.as_str().into()),
            BasicProperties::default().with_message_id("\u{0}".into()).with_type("k".into()),
            BasicProperties::default().with_message_id(id.into()).with_type("k".into()),
        ];
        for properties in &poison {
            broker.write("inventory.commands", properties.clone(), &[0xff; 64]).await;
        }
        publish_all(&bus, &good[5..]).await;
        let commands = Script::answering([]);
        subscribe(&bus, Queue::commands("inventory"), &commands).await;
        assert_eq!(ids(&commands.has_seen(10).await), ids(&good));
        for _ in &poison {
            let dead = broker.await_in("inventory.commands.dead").await;
            assert_eq!(dead.data, [0xff; 64]);
            assert!(header_of(&dead, header::REASON).is_some());
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert!(broker.read("inventory.commands.dead").await.is_none(), "once each");
        assert!(broker.read("inventory.commands").await.is_none(), "nothing is left behind");
        assert_eq!(commands.seen().len(), 10);
    })
    .await;
}

#[tokio::test]
async fn nothing_of_a_batch_is_safe_in_which_one_comes_back_but_its_neighbours_are_the_next_time() {
    with_broker(|broker| async move {
        let bus = broker.bus().await;
        let mut batch: Vec<_> = (0..50).map(|i| command(&[i])).collect();
        batch[23].routing_key = "nobody".into();
        let answers = bus.publish(&batch).await;
        assert!(answers.iter().all(|a| matches!(a, Published::NotYet(_))), "{answers:?}");
        assert!(
            matches!(&answers[23], Published::NotYet(why) if why.contains("nobody")),
            "{:?}",
            answers[23]
        );

        for _ in 0..3 {
            let answers = bus.publish(&batch).await;
            for (place, answer) in answers.iter().enumerate() {
                assert_eq!(*answer == Published::Safe, place != 23, "{place} {answer:?}");
            }
        }
        // Once somebody takes it, it goes.
        let mut unroutable = batch.swap_remove(23);
        unroutable.routing_key = "inventory".into();
        publish_all(&bus, &[unroutable]).await;
        let unspeakable = command(&[1]).with("CC", "x");
        assert!(matches!(
            &bus.publish(&[unspeakable, command(&[2])]).await[..],
            [Published::Dead(_), Published::Safe]
        ));
    })
    .await;
}

#[tokio::test]
async fn an_event_that_none_of_ours_takes_is_for_whoever_has_bound_a_queue_and_others_wait_for_theirs() {
    with_broker(|broker| async move {
        let bus = broker.bus().await;
        // Nobody, and a stranger.
        publish_all(&bus, &[event("payment.refunded")]).await;
        broker.bind("strangers", "payment.*").await;
        let sent = event("payment.refunded");
        publish_all(&bus, &[sent.clone(), event("order.completed")]).await;
        let came = broker.await_in("strangers").await;
        assert_eq!(came.properties.message_id().as_ref().unwrap().as_str(), sent.id.to_string());
        broker.delete("strangers").await;

        // Without the queues that are to take it, it is not safe.
        broker.delete("notification.events").await;
        broker.delete("ledger.events").await;
        let late = event("order.late");
        assert!(matches!(&bus.publish(std::slice::from_ref(&late)).await[..], [Published::NotYet(_)]));
        let events = Script::answering([]);
        subscribe(&bus, Queue::events("notification", &["order.#"]), &events).await;
        publish_at_last(&bus, vec![late.clone()]).await;
        assert_eq!(ids(&events.has_seen(1).await), ids(&[late]));
    })
    .await;
}

#[tokio::test]
async fn every_event_is_wanted_unless_it_is_said_that_nobody_else_listens() {
    with_broker(|broker| async move {
        let everybody = broker.bus().await;
        let nobody_else = broker.bus_at(&broker.url, Options { events: Events::Own, ..quick() }).await;
        for (message, by_ours) in
            [(event("order.completed"), true), (event("payment.refunded"), false), (command(&[1]), true)]
        {
            assert!(everybody.is_wanted(&message), "{}", message.routing_key);
            assert_eq!(nobody_else.is_wanted(&message), by_ours, "{}", message.routing_key);
        }
        let queue = Queue::events("ledger", &["payment.refunded"]);
        subscribe(&nobody_else, queue, &Script::answering([])).await;
        assert!(nobody_else.is_wanted(&event("payment.refunded")), "one of ours came for it");
    })
    .await;
}

async fn behind_a_wire(broker: &Broker, query: &str) -> (Wire, String) {
    let (user, rest) = broker.url.split_once('@').unwrap();
    let (target, vhost) = rest.split_once('/').unwrap();
    let wire = Wire::to(target).await;
    let url = format!("{user}@{}/{vhost}{query}", wire.address);
    (wire, url)
}

#[tokio::test]
async fn a_broker_that_goes_away_and_comes_back_loses_nothing() {
    with_broker(|broker| async move {
        let (wire, url) = behind_a_wire(&broker, "").await;
        let bus = broker.bus_at(&url, quick()).await;
        let commands = Script::answering([]);
        subscribe(&bus, Queue::commands("inventory"), &commands).await;
        let mut sent = Vec::new();
        for round in 0..4 {
            let batch: Vec<_> = (0..100).map(|i| command(&[round, i])).collect();
            sent.extend(batch.iter().map(|m| m.id));
            let publishing = publish_at_last(&bus, batch);
            let breaking = async {
                tokio::time::sleep(Duration::from_millis(u64::from(round) * 7)).await;
                wire.cut();
                assert!(!matches!(bus.publish(&[command(b"now")]).await[..], [Published::Safe]));
                tokio::time::sleep(Duration::from_millis(300)).await;
                wire.mend();
            };
            tokio::join!(publishing, breaking);
        }
        commands.until(|seen| sent.iter().all(|id| ids(seen).contains(id))).await;
        assert!(bus.is_connected().await);
    })
    .await;
}

#[tokio::test]
async fn a_broker_that_went_silent_is_noticed() {
    with_broker(|broker| async move {
        let (wire, url) = behind_a_wire(&broker, "?heartbeat=1").await;
        let options = Options { confirm_within: Duration::from_millis(500), ..quick() };
        let bus = broker.bus_at(&url, options).await;
        let commands = Script::answering([]);
        subscribe(&bus, Queue::commands("inventory"), &commands).await;
        publish_at_last(&bus, vec![command(b"before")]).await;
        commands.has_seen(1).await;
        wire.silence();
        let begin = std::time::Instant::now();
        let lost = command(b"during");
        assert!(matches!(&bus.publish(std::slice::from_ref(&lost)).await[..], [Published::NotYet(_)]));
        assert!(begin.elapsed() < Duration::from_secs(2), "{:?}", begin.elapsed());
        tokio::time::sleep(Duration::from_secs(3)).await;
        wire.mend();
        publish_at_last(&bus, vec![lost.clone()]).await;
        commands.until(|seen| ids(seen).contains(&lost.id)).await;
    })
    .await;
}

#[tokio::test]
async fn a_handler_that_can_do_nothing_pauses_the_queue_and_loses_nothing() {
    with_broker(|broker| async move {
        let options = Options { window: 4, ..quick() };
        let bus = broker.bus_at(&broker.url, options).await;
        let away = || Verdict::Unavailable("the database is away".into());
        let commands = Script::answering((0..7).map(|_| away()));
        let sent: Vec<_> = (0..20).map(|i| command(&[i])).collect();
        publish_all(&bus, &sent).await;
        subscribe(&bus, Queue::commands("inventory"), &commands).await;
        let seen = commands.until(|seen| ids(seen).len() == 20).await;
        let early = ids(&seen[..7]);
        assert!(early.len() <= 4, "no more than the window was taken meanwhile: {}", early.len());
        assert!(seen.iter().all(|m| m.attempt == 0), "no attempt was spent");
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert_eq!(commands.seen().len(), 27, "and everything was done once");
    })
    .await;
}

#[tokio::test]
async fn what_is_held_for_too_long_goes_to_the_end_of_its_queue_and_spends_nothing() {
    with_broker(|broker| async move {
        let options = Options { window: 2, hold: Duration::from_millis(600), ..quick() };
        let bus = broker.bus_at(&broker.url, options).await;
        let commands = Script::answering((0..12).map(|_| Verdict::Unavailable("away".into())));
        let sent: Vec<_> = (0..4).map(|i| command(&[i])).collect();
        publish_all(&bus, &sent).await;
        subscribe(&bus, Queue::commands("inventory"), &commands).await;
        let seen = commands.until(|seen| seen.len() >= 16 && ids(seen).len() == 4).await;
        assert!(ids(&seen[..12]).len() > 2, "others had their turn");
        assert!(seen.iter().all(|m| m.attempt == 0 && m.exchange == Exchange::Commands));
    })
    .await;
}

/// Does not end with the first message before it may.
struct Slow {
    script: Arc<Script>,
    may_end: Semaphore,
}

#[async_trait]
impl Handler for Slow {
    async fn handle(&self, message: &Message) -> Verdict {
        let verdict = self.script.handle(message).await;
        if message.body.as_ref() == [0] {
            let _ended = self.may_end.acquire().await.unwrap();
        }
        verdict
    }
}

#[tokio::test]
async fn a_message_that_takes_long_holds_up_none_behind_it_and_whoever_stops_leaves_nothing_that_was_done() {
    with_broker(|broker| async move {
        let bus = broker.bus_at(&broker.url, Options { window: 4, ..quick() }).await;
        let script = Script::answering([]);
        let slow = Arc::new(Slow { script: Arc::clone(&script), may_end: Semaphore::new(0) });
        bus.subscribe(Queue::commands("inventory"), Arc::clone(&slow) as Arc<dyn Handler>).await.unwrap();
        let sent: Vec<_> = (0..100).map(|i| command(&[i])).collect();
        publish_all(&bus, &sent).await;
        // Three places are left, and each is free again only when the broker is told.
        assert_eq!(ids(&script.has_seen(100).await), ids(&sent));
        slow.may_end.add_permits(1);

        broker.stop.request();
        assert!(broker.stop.finish(Duration::from_secs(10)).await);
        assert_eq!(script.seen().len(), 100, "nothing came twice");
        assert!(broker.read("inventory.commands").await.is_none(), "and nothing will");
    })
    .await;
}

#[tokio::test]
async fn a_message_that_kills_its_consumers_is_given_up_in_the_end() {
    with_broker(|broker| async move {
        let bus = broker.bus().await;
        let suspects = [command(&[1]), command(&[2])];
        publish_all(&bus, &suspects).await;
        broker.crash_on("inventory.commands", 5).await;
        let commands = Script::answering([]);
        subscribe(&bus, Queue::commands("inventory"), &commands).await;
        assert_eq!(ids(&commands.has_seen(2).await), ids(&suspects), "a few deaths prove nothing");

        publish_all(&bus, &[event("order.created")]).await;
        broker.crash_on("notification.events", 31).await;
        let events = Script::answering([]);
        subscribe(&bus, Queue::events("notification", &["order.#"]), &events).await;
        let dead = broker.await_in("notification.events.dead").await;
        assert!(header_of(&dead, header::REASON).unwrap().contains("never answered"));
        assert!(events.seen().is_empty(), "it was not tried again");
    })
    .await;
}

#[tokio::test]
async fn a_queue_that_was_deleted_is_declared_again() {
    with_broker(|broker| async move {
        let bus = broker.bus().await;
        let commands = Script::answering([]);
        subscribe(&bus, Queue::commands("inventory"), &commands).await;
        publish_all(&bus, &[command(b"before")]).await;
        commands.has_seen(1).await;
        broker.delete("inventory.commands").await;
        let after = command(b"after");
        publish_at_last(&bus, vec![after.clone()]).await;
        commands.until(|seen| ids(seen).contains(&after.id)).await;
    })
    .await;
}

#[tokio::test]
async fn a_broker_that_refuses_is_not_waited_for_and_passwords_are_not_repeated() {
    with_broker(|broker| async move {
        let _bus = broker.bus().await;
        let wrong = broker.url.replace("guest:guest@", "guest:hunter2@");
        let connect = |url: String, queues, options| {
            let (prefix, stop) = (broker.prefix.clone(), Stop::new());
            async move { AmqpBus::connect_with(&url, &prefix, queues, options, &stop).await.err().unwrap() }
        };
        for bad in [wrong, "amqp://guest:hunter2@[".into(), "http://hunter2@x".into()] {
            let error = connect(bad, vec![], quick()).await.to_string();
            assert!(!error.contains("hunter2"), "{error}");
        }
        let stop = Stop::new();
        stop.request();
        let nowhere = AmqpBus::connect("amqp://127.0.0.1:1", "", vec![], &stop).await;
        assert!(nowhere.is_err(), "who is told to stop does not wait");
    })
    .await;
}
