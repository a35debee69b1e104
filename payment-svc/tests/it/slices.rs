//! Slices: neighbours do not harm each other, and bad items stand alone.

use std::collections::HashMap;

use proto::{
    payment::v1::{ChargeRequest, RefundRequest},
    step::{Answer, turned_away},
};
use sqlx::Executor as _;
use tonic::Code;

use super::world::{CHARGED, NOTHING, World, charge_item, new_saga};

#[tokio::test]
async fn one_bad_item_does_not_harm_its_slice() {
    let (world, process) = World::patient().await;
    let poison = new_saga();
    let trigger = format!(
        "create function payments.poison() returns trigger language plpgsql as $$ begin \
           if new.saga_id = '{}' then raise exception 'poison'; end if; return new; end $$; \
         create trigger poison before insert on payments.attempt for each row execute function payments.poison();",
        poison.uuid()
    );
    world.connect().await.execute(sqlx::raw_sql(sqlx::AssertSqlSafe(trigger))).await.unwrap();
    let sagas: Vec<_> = (0..49).map(|_| new_saga()).chain([poison]).collect();
    let items = sagas.iter().map(|saga| charge_item(*saga, "tok_approve")).collect();
    let answers: HashMap<_, _> = process.charges(items).await.into_iter().collect();
    assert_eq!(answers.len(), 50);
    for saga in sagas {
        let answer = &answers[&saga.to_string()];
        if saga == poison {
            assert!(matches!(answer, Answer::TurnedAway(away) if away.code() == turned_away::Code::Failed));
            assert_eq!(world.heard(saga).await, 0);
        } else {
            assert!(matches!(answer, Answer::Done(_)), "{answer:?}");
            assert_eq!((world.book(saga).await, world.heard(saga).await), (CHARGED, 1));
        }
    }
}

#[tokio::test]
async fn the_same_step_with_another_body_is_turned_away() {
    let (world, process) = World::patient().await;
    let saga = new_saga();
    process.charge(saga, "tok_approve").await;
    let answer = process.charge(saga, "tok_decline").await;
    assert!(matches!(answer, Answer::TurnedAway(away) if away.code() == turned_away::Code::Mismatch));
    assert_eq!((world.book(saga).await, world.heard(saga).await), (CHARGED, 1));
}

#[tokio::test]
async fn a_card_number_is_turned_away_and_left_nowhere() {
    let (world, process) = World::with_one().await;
    let saga = new_saga();
    let answer = process.charge(saga, "4242424242424242").await;
    let Answer::TurnedAway(away) = answer else { panic!("{answer:?}") };
    assert_eq!(away.code(), turned_away::Code::Invalid);
    assert!(away.message.contains("card number") && !away.message.contains("4242"), "{}", away.message);
    assert_eq!((world.state(saga).await.as_str(), world.book(saga).await), ("", NOTHING));
}

#[tokio::test]
async fn a_slice_has_a_length() {
    let (_world, process) = World::with_one().await;
    let empty = process.steps.clone().charge(ChargeRequest { items: vec![] }).await;
    assert_eq!(empty.err().unwrap().code(), Code::InvalidArgument);
    let items = vec![super::world::refund_item(new_saga()); 513];
    let long = process.steps.clone().refund(RefundRequest { items }).await;
    assert_eq!(long.err().unwrap().code(), Code::InvalidArgument);
}
