//! Processes die at any line, run side by side, or come late: the book says one charge.

use std::{sync::Arc, time::Duration};

use payment_svc::Settings;
use proto::step::{Answer, turned_away};
use types::SagaId;

use super::world::{
    CHARGED, GIVEN_BACK, NOTHING, World, eventually, in_a_process_that_dies, new_saga, payment, settings,
};

/// What a process meant to wait for must not keep the test waiting.
async fn look_now(world: &World, saga: SagaId) {
    sqlx::query("update payments.attempt set next_look_time = now() where saga_id = $1")
        .bind(saga.uuid())
        .execute(&mut world.connect().await)
        .await
        .unwrap();
}

/// A process that dies while its first call is out.
async fn dies_while_calling(world: &Arc<World>, saga: SagaId, token: &'static str) {
    let inside = Arc::clone(world);
    in_a_process_that_dies(move || async move {
        // Nobody but this process's death ends the call.
        let process = inside
            .start(Settings {
                call_timeout: Duration::from_secs(60),
                patience: Duration::from_millis(100),
                ..settings()
            })
            .await;
        let asking = process.clone();
        process.stop.spawn(async move { drop(asking.charge(saga, token).await) });
        eventually("a send", async || inside.heard(saga).await == 1).await;
    })
    .await;
    look_now(world, saga).await;
}

#[tokio::test]
async fn what_a_dead_process_charged_is_found_by_the_next() {
    let world = Arc::new(World::new().await);
    let saga = new_saga();
    dies_while_calling(&world, saga, "tok_timeout_after").await;
    assert_eq!((world.state(saga).await.as_str(), world.book(saga).await), ("STARTED", CHARGED));
    let next = world.start(settings()).await;
    world.eventually_state(saga, "SUCCEEDED").await;
    assert!(matches!(next.charge(saga, "tok_timeout_after").await, Answer::Done(_)));
    assert_eq!((world.book(saga).await, world.heard(saga).await), (CHARGED, 1));
}

#[tokio::test]
async fn what_a_dead_process_did_not_charge_is_sent_again_past_the_horizon() {
    let world = Arc::new(World::new().await);
    let saga = new_saga();
    dies_while_calling(&world, saga, "tok_timeout_before").await;
    let next = world.start(settings()).await;
    assert!(matches!(next.charge_to_the_end(saga, "tok_timeout_before").await, Answer::Done(_)));
    assert_eq!((world.book(saga).await, world.heard(saga).await), (CHARGED, 2));
}

#[tokio::test]
async fn a_compensation_after_a_crash_waits_until_it_is_known() {
    let world = Arc::new(World::new().await);
    let saga = new_saga();
    dies_while_calling(&world, saga, "tok_timeout_after").await;
    let next = world.start(settings()).await;
    next.command(saga).await;
    world.eventually_state(saga, "REFUNDED").await;
    assert_eq!((world.book(saga).await, world.events().await), (GIVEN_BACK, 1));
}

#[tokio::test]
async fn a_process_that_stops_in_good_order_leaves_its_calls_to_the_next() {
    let world = World::new().await;
    let saga = new_saga();
    // It is told to stop before it looks.
    let (patience, look) = (Duration::from_millis(100), Duration::from_secs(60));
    let first = world.start(Settings { patience, look, ..settings() }).await;
    let asking = first.clone();
    first.stop.spawn(async move {
        drop(
            asking
                .steps
                .clone()
                .charge(proto::payment::v1::ChargeRequest {
                    items: vec![super::world::charge_item(saga, "tok_timeout_after")],
                })
                .await,
        )
    });
    eventually("a send", async || world.heard(saga).await == 1).await;
    first.end().await;
    assert_eq!(world.state(saga).await, "IN_DOUBT", "what it knew in the end is recorded");
    look_now(&world, saga).await;
    let next = world.start(settings()).await;
    assert!(matches!(next.charge_to_the_end(saga, "tok_timeout_after").await, Answer::Done(_)));
    assert_eq!((world.book(saga).await, world.heard(saga).await), (CHARGED, 1));
}

#[tokio::test]
async fn two_processes_asked_for_the_same_charges_at_once_charge_each_once() {
    let world = World::new().await;
    let (one, other) = (world.start(settings()).await, world.start(settings()).await);
    let sagas: Vec<_> = (0..40).map(|_| new_saga()).collect();
    let items =
        || sagas.iter().map(|saga| super::world::charge_item(*saga, "tok_approve")).collect::<Vec<_>>();
    let (left, right) = tokio::join!(one.charges(items()), other.charges(items()));
    for (_, answer) in left.iter().chain(&right) {
        assert!(matches!(answer, Answer::Done(_) | Answer::Pending(_)), "{answer:?}");
    }
    for saga in sagas {
        let answers =
            (one.charge_to_the_end(saga, "tok_approve").await, other.charge(saga, "tok_approve").await);
        assert_eq!(answers.0, answers.1);
        assert!(matches!(answers.0, Answer::Done(_)));
        assert_eq!((world.book(saga).await, world.heard(saga).await), (CHARGED, 1));
    }
}

#[tokio::test]
async fn two_resolvers_over_one_charge_in_doubt_send_it_again_once() {
    let world = World::new().await;
    let (one, _other) = (world.start(settings()).await, world.start(settings()).await);
    let sagas: Vec<_> = (0..4).map(|_| new_saga()).collect();
    let items = sagas.iter().map(|saga| super::world::charge_item(*saga, "tok_timeout_before")).collect();
    one.charges(items).await;
    for saga in sagas {
        world.eventually_state(saga, "SUCCEEDED").await;
        assert_eq!((world.book(saga).await, world.heard(saga).await), (CHARGED, 2));
    }
}

#[tokio::test]
async fn money_that_shows_up_after_the_refusal_goes_back_by_itself() {
    let world = World::new().await;
    let process = world.start(Settings { sends: 1, ..settings() }).await;
    let saga = new_saga();
    process.charge(saga, "tok_never_answers").await;
    world.eventually_state(saga, "DECLINED").await;
    assert_eq!(world.book(saga).await, NOTHING);
    // The request was held up somewhere and arrives after all.
    sqlx::query(
        "update simulator.charge set state = 'CHARGED', effect_time = now() where idempotency_key = $1",
    )
    .bind(format!("{}:charge:1", payment(saga)))
    .execute(&mut world.connect().await)
    .await
    .unwrap();
    world.eventually_state(saga, "REFUNDED").await;
    assert_eq!((world.book(saga).await, world.events().await), (GIVEN_BACK, 1));
    assert!(matches!(process.charge(saga, "tok_never_answers").await, Answer::Refused(_)), "a refusal stays");
}

#[tokio::test]
async fn while_the_breaker_is_open_nothing_is_begun_and_what_was_begun_ends_later() {
    let world = World::new().await;
    let process = world.start(settings()).await;
    let mut sagas = Vec::new();
    let mut rounds = 0..10;
    // It stays open for a quarter of a second at least: a busy machine may need longer to say that five are in doubt, and then
    // the next call is its probe.
    let (late, away) = loop {
        rounds.next().expect("the breaker is closed");
        let silent: Vec<_> = (0..5).map(|_| new_saga()).collect();
        let items =
            silent.iter().map(|saga| super::world::charge_item(*saga, "tok_timeout_before")).collect();
        process.charges(items).await;
        sagas.extend(silent);
        let late = new_saga();
        match process.charge(late, "tok_approve").await {
            Answer::TurnedAway(away) => break (late, away),
            Answer::Done(_) => {}
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(away.code(), turned_away::Code::Overloaded);
    assert!(away.retry_after_ms > 0);
    assert_eq!((world.state(late).await.as_str(), world.heard(late).await), ("", 0));
    for saga in sagas {
        world.eventually_state(saga, "SUCCEEDED").await;
        assert_eq!(world.book(saga).await, CHARGED);
    }
}
