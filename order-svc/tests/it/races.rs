//! Several at once: two processes, both directions, and an item that cannot be processed.

use futures_util::future::join;
use proto::{
    order::v1::{CompleteDone, OpenDone},
    step::{Answer, BackAnswer, turned_away::Code},
};
use sqlx::Executor as _;

use crate::house::*;

#[tokio::test]
async fn one_item_that_cannot_be_processed_does_not_harm_its_slice() {
    let house = House::new().await;
    let sagas = sagas(50);
    let poison = sagas[23];
    let mut owner = house.database.connect().await;
    let trigger = format!(
        "create function orders.choke() returns trigger language plpgsql as \
           $$ begin if new.saga_id = '{}' then raise exception 'poison'; end if; return new; end $$; \
         create trigger choke before insert on orders.document for each row execute function orders.choke()",
        poison.uuid()
    );
    owner.execute(sqlx::raw_sql(sqlx::AssertSqlSafe(trigger))).await.unwrap();

    let items: Vec<_> = sagas.iter().map(|saga| open_item(*saga)).collect();
    for (saga, answer) in sagas.iter().zip(house.open(items.clone()).await) {
        if *saga == poison {
            assert_eq!(away(&answer), Some(Code::Failed));
        } else {
            assert_eq!(answer, Answer::Done(OpenDone {}));
            assert_eq!(house.history(*saga).await, ["CREATED"]);
        }
    }
    owner.execute("drop trigger choke on orders.document").await.unwrap();
    assert!(house.open(items).await.iter().all(|answer| *answer == Answer::Done(OpenDone {})));
}

#[tokio::test]
async fn two_processes_with_the_same_items_have_one_effect_and_say_the_same() {
    let one = House::new().await;
    let other = one.beside().await;
    let sagas = sagas(100);
    let items: Vec<_> = sagas.iter().map(|saga| open_item(*saga)).collect();
    let backwards = items.iter().rev().cloned().collect();
    let (first, second) = join(one.open(items), other.open(backwards)).await;
    assert!(first.iter().chain(&second).all(|answer| *answer == Answer::Done(OpenDone {})));

    let items: Vec<_> = sagas.iter().map(|saga| complete_item(*saga)).collect();
    let backwards = items.iter().rev().cloned().collect();
    let (first, second) = join(one.complete(items), other.complete(backwards)).await;
    assert!(first.iter().chain(&second).all(|answer| *answer == Answer::Done(CompleteDone {})));
    for saga in sagas {
        assert_eq!(one.history(saga).await.len(), 4);
    }
}

#[tokio::test]
async fn a_cancel_beside_its_open_ends_with_nothing_open() {
    let one = House::new().await;
    let other = one.beside().await;
    for round in 0..4 {
        let sagas = sagas(40);
        let items: Vec<_> = sagas.iter().map(|saga| open_item(*saga)).collect();
        let cancels: Vec<_> = sagas.iter().map(|saga| cancel_item(*saga)).collect();
        let here = if round % 2 == 0 { &one } else { &other };
        let (forward, back) = join(one.open(items.clone()), here.cancel(cancels)).await;
        for (saga, pair) in sagas.iter().zip(forward.iter().zip(&back)) {
            let document = one.document(*saga).await;
            match pair {
                (Answer::Done(_), BackAnswer::Done(_)) => assert_eq!(document.unwrap().status, "CANCELLED"),
                (Answer::Fenced, BackAnswer::NotApplied) => assert!(document.is_err()),
                other => panic!("{other:?}"),
            }
        }
        assert!(one.open(items).await.iter().all(|answer| *answer == Answer::Fenced));
    }
}

#[tokio::test]
async fn of_a_complete_and_a_cancel_only_one_happens() {
    let one = House::new().await;
    let other = one.beside().await;
    let sagas = sagas(40);
    one.open(sagas.iter().map(|saga| open_item(*saga)).collect()).await;
    let (completed, mut cancelled) = join(
        one.complete(sagas.iter().map(|saga| complete_item(*saga)).collect()),
        other.cancel(sagas.iter().rev().map(|saga| cancel_item(*saga)).collect()),
    )
    .await;
    cancelled.reverse();
    for (saga, pair) in sagas.iter().zip(completed.iter().zip(&cancelled)) {
        let document = one.document(*saga).await.unwrap();
        match pair {
            (Answer::Done(_), BackAnswer::TurnedAway(_)) => assert_eq!(document.status, "COMPLETED"),
            (Answer::TurnedAway(_), BackAnswer::Done(_)) => assert_eq!(document.status, "CANCELLED"),
            other => panic!("{other:?}"),
        }
    }
}
