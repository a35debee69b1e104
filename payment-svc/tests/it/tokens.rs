//! Every token of the simulator, and what the book says in the end.

use proto::step::{Answer, step_answer};

use types::SagaId;

use super::world::{CHARGED, NOTHING, World, eventually, new_saga, payment, settings};

fn reason<D: std::fmt::Debug>(answer: &Answer<D>) -> &str {
    match answer {
        Answer::Refused(refused) => &refused.reason,
        other => panic!("not refused: {other:?}"),
    }
}

#[tokio::test]
async fn an_approved_charge_is_charged_once_however_often_it_is_asked() {
    let (world, process) = World::patient().await;
    let saga = new_saga();
    let first = process.charge(saga, "tok_approve").await;
    let Answer::Done(done) = &first else { panic!("{first:?}") };
    assert_eq!(done.payment_id, payment(saga).to_string());
    assert!(done.provider_reference.starts_with("ch_"));
    assert_eq!(process.charge(saga, "tok_approve").await, first);
    assert_eq!((world.book(saga).await, world.heard(saga).await), (CHARGED, 1));
    assert!(world.answers(saga).await.is_empty(), "what went back on the stream needs no message");
}

#[tokio::test]
async fn a_decline_stays_a_decline() {
    let (world, process) = World::patient().await;
    for (token, expected) in [
        ("tok_decline", "CARD_DECLINED"),
        ("tok_insufficient_funds", "INSUFFICIENT_FUNDS"),
        ("tok_unheard_of", "INVALID_TOKEN"),
    ] {
        let saga = new_saga();
        let first = process.charge(saga, token).await;
        assert_eq!(reason(&first), expected);
        assert_eq!(process.charge(saga, token).await, first);
        assert_eq!((world.book(saga).await, world.heard(saga).await), (NOTHING, 1));
        assert_eq!(world.state(saga).await, "DECLINED");
    }
}

#[tokio::test]
async fn a_lost_answer_is_found_by_look_up_and_charged_once() {
    let world = World::new().await;
    // On a busy machine the look could come before the caller is told to wait.
    let process = world
        .start(payment_svc::Settings { look: std::time::Duration::from_millis(500), ..settings() })
        .await;
    let saga = new_saga();
    let first = process.charge(saga, "tok_timeout_after").await;
    assert!(matches!(&first, Answer::Pending(pending) if pending.action == "SETTLEMENT"), "{first:?}");
    world.eventually_state(saga, "SUCCEEDED").await;
    assert_eq!((world.book(saga).await, world.heard(saga).await), (CHARGED, 1));
    let answers = world.answers(saga).await;
    assert_eq!(answers.len(), 1);
    assert!(matches!(answers[0].outcome, Some(step_answer::Outcome::Done(_))));
    assert_eq!(answers[0].direction(), step_answer::Direction::Forward);
    assert_eq!(answers[0].command_id, "");
    assert!(matches!(process.charge(saga, "tok_timeout_after").await, Answer::Done(_)));
}

#[tokio::test]
async fn a_swallowed_request_is_sent_again_past_the_horizon_and_charged_once() {
    let (world, process) = World::with_one().await;
    let saga = new_saga();
    assert!(matches!(process.charge(saga, "tok_timeout_before").await, Answer::Pending(_)));
    assert_eq!((world.book(saga).await, world.heard(saga).await), (NOTHING, 1));
    assert!(matches!(process.charge_to_the_end(saga, "tok_timeout_before").await, Answer::Done(_)));
    assert_eq!((world.book(saga).await, world.heard(saga).await), (CHARGED, 2));
}

#[tokio::test]
async fn a_slow_charge_answers_pending_then_settles_by_message() {
    let (world, process) = World::with_one().await;
    let saga = new_saga();
    assert!(matches!(process.charge(saga, "tok_slow").await, Answer::Pending(_)));
    assert_eq!(world.state(saga).await, "PENDING");
    world.eventually_state(saga, "SUCCEEDED").await;
    assert_eq!((world.book(saga).await, world.heard(saga).await), (CHARGED, 1));
    let answers = world.answers(saga).await;
    assert!(matches!(&*answers, [answer] if matches!(answer.outcome, Some(step_answer::Outcome::Done(_)))));
}

#[tokio::test]
async fn an_error_without_effect_is_tried_again_before_the_caller_is_answered() {
    let (world, process) = World::patient().await;
    let saga = new_saga();
    let answer = process.charge(saga, "tok_error_once").await;
    assert!(matches!(answer, Answer::Done(_)), "{answer:?}");
    assert_eq!((world.book(saga).await, world.heard(saga).await), (CHARGED, 2));
}

#[tokio::test]
async fn a_provider_that_never_answers_ends_as_unavailable_with_nothing_charged() {
    let world = World::new().await;
    let process = world.start(payment_svc::Settings { sends: 2, ..settings() }).await;
    let saga = new_saga();
    assert!(matches!(process.charge(saga, "tok_never_answers").await, Answer::Pending(_)));
    eventually("an end", async || world.state(saga).await == "DECLINED").await;
    assert_eq!((world.book(saga).await, world.heard(saga).await), (NOTHING, 2));
    let answer = process.charge(saga, "tok_never_answers").await;
    assert_eq!(reason(&answer), "PROVIDER_UNAVAILABLE");
    let answers = world.answers(saga).await;
    assert!(
        matches!(&*answers, [answer] if matches!(answer.outcome, Some(step_answer::Outcome::Refused(_))))
    );
}

#[tokio::test]
async fn a_caller_without_patience_is_told_to_wait_and_is_owed_a_message() {
    let world = World::new().await;
    let patience = std::time::Duration::from_millis(1);
    let mut settings = payment_svc::Settings { patience, ..settings() };
    settings.simulator.latency = std::time::Duration::from_millis(300);
    let process = world.start(settings).await;
    let saga = new_saga();
    let answer = process.charge(saga, "tok_approve").await;
    // With so little patience it may not even have got a slot.
    assert!(matches!(answer, Answer::Pending(_) | Answer::TurnedAway(_)), "{answer:?}");
    assert!(matches!(process.charge_to_the_end(saga, "tok_approve").await, Answer::Done(_)));
    assert_eq!((world.book(saga).await, world.heard(saga).await), (CHARGED, 1));
    assert_eq!(world.answers(saga).await.len(), 1);
}

#[tokio::test]
async fn no_token_stays_behind() {
    let (world, process) = World::with_one().await;
    let (paid, refused, open) = (new_saga(), new_saga(), new_saga());
    process.charge(paid, "tok_approve").await;
    process.charge(refused, "tok_decline").await;
    process.charge(open, "tok_slow").await;
    let tokens: i64 = sqlx::query_scalar("select count(token) from payments.attempt")
        .fetch_one(&mut world.connect().await)
        .await
        .unwrap();
    assert_eq!(tokens, 1, "only while it may have to be sent again");
    world.eventually_state(open, "SUCCEEDED").await;
    let text: String = sqlx::query_scalar(
        "select coalesce(string_agg(a::text, ' '), '') || coalesce((select string_agg(o::text, ' ') from payments.outbox o), '') \
         from payments.attempt a",
    )
    .fetch_one(&mut world.connect().await)
    .await
    .unwrap();
    assert!(!text.contains("tok_"), "{text}");
}

/// What is stored of a token.
async fn stored(world: &World, saga: SagaId) -> Option<String> {
    sqlx::query_scalar("select token from payments.attempt where saga_id = $1")
        .bind(saga.uuid())
        .fetch_one(&mut world.connect().await)
        .await
        .unwrap()
}

#[tokio::test]
async fn a_token_is_stored_encrypted_and_only_the_provider_reads_it() {
    let (world, process) = World::with_one().await;
    // As the release before sends it, and as this one does.
    for is_encrypted in [false, true] {
        let saga = new_saga();
        let sent = |token: &str| match is_encrypted {
            true => chassis::testbed::keyring().encrypt(saga.order().uuid().as_bytes(), token),
            false => token.to_owned(),
        };
        process.charge(saga, &sent("tok_timeout_before")).await;
        let kept = stored(&world, saga).await.expect("it may have to be sent again");
        assert!(kept.starts_with("enc1.test.") && !kept.contains("tok_"), "{kept}");
        world.eventually_state(saga, "SUCCEEDED").await;
        assert_eq!((stored(&world, saga).await, world.book(saga).await), (None, CHARGED));
        let again = process.charge(saga, &sent("tok_timeout_before")).await;
        assert!(matches!(again, Answer::Done(_)), "{again:?}");
    }
}

#[tokio::test]
async fn a_charge_that_the_release_before_began_is_sent_again() {
    let (world, process) = World::with_one().await;
    let saga = new_saga();
    process.charge(saga, "tok_timeout_before").await;
    sqlx::query(
        "update payments.attempt set token = 'tok_timeout_before' where saga_id = $1 and token is not null",
    )
    .bind(saga.uuid())
    .execute(&mut world.connect().await)
    .await
    .unwrap();
    world.eventually_state(saga, "SUCCEEDED").await;
    assert_eq!(world.book(saga).await, CHARGED);
}

#[tokio::test]
async fn a_token_that_was_made_for_another_order_is_turned_away() {
    let (world, process) = World::with_one().await;
    let saga = new_saga();
    let other = chassis::testbed::keyring().encrypt(new_saga().order().uuid().as_bytes(), "tok_approve");
    let answer = process.charge(saga, &other).await;
    let Answer::TurnedAway(away) = &answer else { panic!("{answer:?}") };
    assert!(away.message.contains("does not open"), "{away:?}");
    assert_eq!(world.book(saga).await, NOTHING);
}
