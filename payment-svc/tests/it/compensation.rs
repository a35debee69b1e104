//! What takes a charge back: in any order, as often as it comes, and what the book says then.

use chassis::bus::{Exchange, Message, Verdict};
use prost::{Message as _, Name as _};
use proto::{
    payment::v1::{PaymentRefunded, RefundDone, RefundItem},
    step::{Answer, BackAnswer, StepAnswer, step_answer},
};

use super::world::{AMOUNT, CHARGED, GIVEN_BACK, NOTHING, World, new_saga, payment, refund_item};

fn of_compensation(answers: &[StepAnswer]) -> Vec<&StepAnswer> {
    answers.iter().filter(|answer| answer.direction() == step_answer::Direction::Compensation).collect()
}

#[tokio::test]
async fn a_charge_is_given_back_once_however_often_it_is_asked() {
    let (world, process) = World::patient().await;
    let saga = new_saga();
    process.charge(saga, "tok_approve").await;
    let first = process.refund(saga).await;
    let BackAnswer::Done(done) = &first else { panic!("{first:?}") };
    assert!(done.refund_reference.starts_with("re_"));
    assert_eq!(process.refund(saga).await, first);
    let command = process.command(saga).await;
    assert_eq!(world.book(saga).await, GIVEN_BACK);
    assert_eq!(world.state(saga).await, "REFUNDED");
    assert_eq!(world.events().await, 1);
    let answers = world.answers(saga).await;
    let again = answers.iter().find(|answer| answer.command_id == command.to_string()).unwrap();
    let Some(step_answer::Outcome::Done(body)) = &again.outcome else { panic!("{again:?}") };
    assert_eq!(&RefundDone::decode(&**body).unwrap(), done);
    assert!(matches!(process.charge(saga, "tok_approve").await, Answer::Fenced), "never the stored DONE");
}

#[tokio::test]
async fn the_event_says_what_went_back_and_whose_it_was() {
    let (world, process) = World::patient().await;
    let saga = new_saga();
    let Answer::Done(charged) = process.charge(saga, "tok_approve").await else { panic!() };
    process.refund(saga).await;
    let (kind, body, headers): (String, Vec<u8>, String) =
        sqlx::query_as("select kind, body, headers from payments.outbox where exchange = 'events'")
            .fetch_one(&mut world.connect().await)
            .await
            .unwrap();
    assert_eq!(kind, PaymentRefunded::full_name());
    assert!(headers.contains(&saga.order().to_string()), "{headers}");
    let event = PaymentRefunded::decode(&*body).unwrap();
    assert_eq!(event.payment_id, payment(saga).to_string());
    assert_eq!((event.saga_id, event.step), (saga.to_string(), "charge".to_owned()));
    assert_eq!((event.order_id, event.merchant_id), (saga.order().to_string(), "m_1".to_owned()));
    assert_eq!(event.amount.unwrap().minor_units, AMOUNT);
    assert_eq!(event.provider_reference, charged.provider_reference);
}

#[tokio::test]
async fn a_compensation_first_leaves_a_tombstone_and_the_late_charge_is_fenced() {
    let (world, process) = World::with_one().await;
    let saga = new_saga();
    let command = process.command(saga).await;
    assert_eq!(process.refund(saga).await, BackAnswer::NotApplied);
    assert_eq!(process.charge(saga, "tok_approve").await, Answer::Fenced);
    assert_eq!((world.book(saga).await, world.heard(saga).await), (NOTHING, 0));
    assert_eq!(world.state(saga).await, "BLOCKED");
    let answers = world.answers(saga).await;
    assert!(matches!(&*answers, [answer] if answer.command_id == command.to_string()
        && matches!(answer.outcome, Some(step_answer::Outcome::NotApplied(_)))));
    assert_eq!(world.events().await, 0);
}

#[tokio::test]
async fn a_declined_charge_has_nothing_to_give_back() {
    let (world, process) = World::with_one().await;
    let saga = new_saga();
    process.charge(saga, "tok_decline").await;
    assert_eq!(process.refund(saga).await, BackAnswer::NotApplied);
    assert_eq!(process.refund(saga).await, BackAnswer::NotApplied);
    assert_eq!(process.charge(saga, "tok_decline").await, Answer::Fenced);
    assert_eq!((world.book(saga).await, world.events().await), (NOTHING, 0));
}

#[tokio::test]
async fn a_slow_charge_that_is_wanted_back_is_charged_and_given_back_with_one_answer() {
    let (world, process) = World::with_one().await;
    let saga = new_saga();
    assert!(matches!(process.charge(saga, "tok_slow").await, Answer::Pending(_)));
    let command = process.command(saga).await;
    assert!(of_compensation(&world.answers(saga).await).is_empty(), "not before the money is back");
    assert_eq!(world.book(saga).await, NOTHING);
    world.eventually_state(saga, "REFUNDED").await;
    assert_eq!(world.book(saga).await, GIVEN_BACK);
    let answers = world.answers(saga).await;
    let back = of_compensation(&answers);
    assert!(matches!(&*back, [answer] if answer.command_id == command.to_string()
        && matches!(answer.outcome, Some(step_answer::Outcome::Done(_)))));
    assert_eq!(
        answers.len() - back.len(),
        1,
        "and the charge's own outcome, because somebody was told to wait"
    );
    assert_eq!(world.events().await, 1);
}

#[tokio::test]
async fn every_command_that_waits_is_answered() {
    let (world, process) = World::with_one().await;
    let saga = new_saga();
    process.charge(saga, "tok_slow").await;
    let (first, second) = (process.command(saga).await, process.command(saga).await);
    assert!(matches!(process.refund(saga).await, BackAnswer::Pending(_)));
    world.eventually_state(saga, "REFUNDED").await;
    let answers = world.answers(saga).await;
    let mut answered: Vec<_> =
        of_compensation(&answers).iter().map(|answer| answer.command_id.clone()).collect();
    answered.sort();
    let mut asked = vec![String::new(), first.to_string(), second.to_string()];
    asked.sort();
    assert_eq!(answered, asked);
    assert_eq!((world.book(saga).await, world.events().await), (GIVEN_BACK, 1));
}

#[tokio::test]
async fn a_charge_in_doubt_that_is_wanted_back_is_given_back_if_it_was_made() {
    let (world, process) = World::with_one().await;
    let saga = new_saga();
    process.charge(saga, "tok_timeout_after").await;
    process.command(saga).await;
    world.eventually_state(saga, "REFUNDED").await;
    assert_eq!((world.book(saga).await, world.events().await), (GIVEN_BACK, 1));
}

#[tokio::test]
async fn a_charge_in_doubt_that_is_wanted_back_is_never_sent_again() {
    let (world, process) = World::with_one().await;
    let saga = new_saga();
    process.charge(saga, "tok_timeout_before").await;
    process.command(saga).await;
    world.eventually_state(saga, "BLOCKED").await;
    assert_eq!((world.book(saga).await, world.heard(saga).await), (NOTHING, 1));
    let answers = world.answers(saga).await;
    let back = of_compensation(&answers);
    assert!(
        matches!(&*back, [answer] if matches!(answer.outcome, Some(step_answer::Outcome::NotApplied(_))))
    );
}

#[tokio::test]
async fn a_refund_whose_request_or_answer_is_lost_is_found_out_and_made_once() {
    let (world, process) = World::with_one().await;
    for token in ["tok_timeout_after", "tok_timeout_before", "tok_error_once"] {
        let saga = new_saga();
        assert!(matches!(process.charge_to_the_end(saga, token).await, Answer::Done(_)), "{token}");
        assert_eq!(world.book(saga).await, CHARGED);
        let command = process.command(saga).await;
        world.eventually_state(saga, "REFUNDED").await;
        assert_eq!(world.book(saga).await, GIVEN_BACK, "{token}");
        let answers = world.answers(saga).await;
        assert!(matches!(&*of_compensation(&answers), [answer] if answer.command_id == command.to_string()));
    }
    assert_eq!(world.events().await, 3);
}

#[tokio::test]
async fn charge_and_compensation_at_once_come_to_one_end() {
    let (world, process) = World::with_one().await;
    for round in 0..12 {
        let saga = new_saga();
        let (charge, back) = if round % 2 == 0 {
            let (charge, back) = tokio::join!(process.charge(saga, "tok_approve"), process.refund(saga));
            (charge, back)
        } else {
            let (back, charge) = tokio::join!(process.refund(saga), process.charge(saga, "tok_approve"));
            (charge, back)
        };
        assert!(matches!(charge, Answer::Fenced | Answer::Done(_)), "{charge:?}");
        match back {
            BackAnswer::NotApplied => assert_eq!(world.book(saga).await, NOTHING),
            BackAnswer::Done(_) | BackAnswer::Pending(_) => {
                world.eventually_state(saga, "REFUNDED").await;
                assert_eq!(world.book(saga).await, GIVEN_BACK);
            }
            BackAnswer::TurnedAway(away) => panic!("{away:?}"),
        }
        assert_eq!(process.charge(saga, "tok_approve").await, Answer::Fenced);
    }
}

#[tokio::test]
async fn a_command_that_cannot_be_read_is_dead_at_once() {
    let (_world, process) = World::with_one().await;
    let kind = RefundItem::full_name();
    let message = |kind: &str, body| Message::new(Exchange::Commands, "payment", kind, "orchestrator", body);
    let headless = RefundItem { header: None, ..refund_item(new_saga()) };
    for bad in [
        message(&kind, vec![255, 255]),
        message("amends.payment.v1.Other", refund_item(new_saga()).encode_to_vec()),
        message(&kind, headless.encode_to_vec()),
    ] {
        assert!(matches!(process.deliver(&bad).await, Verdict::Dead(_)));
    }
}
