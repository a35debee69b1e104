//! Several at once: two processes, both directions, and an item that cannot be processed.

use futures_util::future::join;
use proto::step::{Answer, BackAnswer, turned_away::Code};
use sqlx::Executor as _;
use types::SagaId;

use crate::house::*;

fn sagas(count: usize) -> Vec<SagaId> {
    (0..count).map(|_| new_saga()).collect()
}

#[tokio::test]
async fn one_item_that_cannot_be_processed_does_not_harm_its_slice() {
    let house = House::new().await;
    house.restock("A", 100).await;
    let sagas = sagas(50);
    let poison = sagas[23];
    let mut owner = house.database.connect().await;
    let trigger = format!(
        "create function inventory.choke() returns trigger language plpgsql as \
           $$ begin if new.saga_id = '{}' then raise exception 'poison'; end if; return new; end $$; \
         create trigger choke before insert on inventory.reservation for each row execute function inventory.choke()",
        poison.uuid()
    );
    owner.execute(sqlx::raw_sql(sqlx::AssertSqlSafe(trigger))).await.unwrap();

    let items: Vec<_> = sagas.iter().map(|saga| reserve_item(*saga, &[("A", 1)])).collect();
    for (saga, answer) in sagas.iter().zip(house.reserve(items.clone()).await) {
        if *saga == poison {
            assert_eq!(away(&answer), Some(Code::Failed));
        } else {
            assert!(matches!(answer, Answer::Done(_)), "{answer:?}");
        }
    }
    assert_eq!(house.stock("A").await, (51, 49, 0));

    owner.execute("drop trigger choke on inventory.reservation").await.unwrap();
    assert!(house.reserve(items).await.iter().all(|answer| matches!(answer, Answer::Done(_))));
    assert_eq!(house.stock("A").await, (50, 50, 0));
    house.assert_conserved().await;
}

#[tokio::test]
async fn two_processes_with_the_same_items_have_one_effect_and_say_the_same() {
    let one = House::new().await;
    let other = one.beside().await;
    for sku in ["A", "B", "C"] {
        one.restock(sku, 60).await;
    }
    let sagas = sagas(100);
    let items: Vec<_> = sagas
        .iter()
        .enumerate()
        .map(|(i, saga)| {
            let sku = ["A", "B", "C"];
            reserve_item(*saga, &[(sku[i % 3], 1), (sku[(i + 1) % 3], 1)])
        })
        .collect();
    let backwards: Vec<_> = items.iter().rev().cloned().collect();
    let (first, mut second) = join(one.reserve(items), other.reserve(backwards)).await;
    second.reverse();
    assert_eq!(first, second);
    let done: Vec<_> = sagas
        .iter()
        .zip(&first)
        .filter(|(_, answer)| matches!(answer, Answer::Done(_)))
        .map(|(saga, _)| *saga)
        .collect();
    assert!(done.len() >= 85 && done.len() <= 90, "two of 180 each: {}", done.len());
    one.assert_conserved().await;

    let commits: Vec<_> = done.iter().map(|saga| commit_item(*saga)).collect();
    let (first, second) = join(one.commit(commits.clone()), other.commit(commits)).await;
    assert_eq!(first, second);
    assert!(first.iter().all(|answer| matches!(answer, Answer::Done(_))));
    one.assert_conserved().await;
}

#[tokio::test]
async fn a_release_beside_its_reservation_ends_with_nothing_held() {
    let one = House::new().await;
    let other = one.beside().await;
    one.restock("A", 1000).await;
    for round in 0..4 {
        let sagas = sagas(40);
        let items: Vec<_> = sagas.iter().map(|saga| reserve_item(*saga, &[("A", 1)])).collect();
        let releases: Vec<_> = sagas.iter().map(|saga| release_item(*saga)).collect();
        let here = if round % 2 == 0 { &one } else { &other };
        let (forward, back) = join(one.reserve(items.clone()), here.release(releases)).await;
        for (forward, back) in forward.iter().zip(&back) {
            match (forward, back) {
                (Answer::Done(_), BackAnswer::Done(_)) | (Answer::Fenced, BackAnswer::NotApplied) => {}
                other => panic!("{other:?}"),
            }
        }
        assert!(one.reserve(items).await.iter().all(|answer| *answer == Answer::Fenced));
        assert_eq!(one.stock("A").await, (1000, 0, 0));
    }
    one.assert_conserved().await;
}

#[tokio::test]
async fn of_a_commit_and_a_release_only_one_happens() {
    let one = House::new().await;
    let other = one.beside().await;
    one.restock("A", 100).await;
    let sagas = sagas(40);
    one.reserve(sagas.iter().map(|saga| reserve_item(*saga, &[("A", 1)])).collect()).await;
    let (sold, released) = join(
        one.commit(sagas.iter().map(|saga| commit_item(*saga)).collect()),
        other.release(sagas.iter().rev().map(|saga| release_item(*saga)).collect()),
    )
    .await;
    for (sold, released) in sold.iter().zip(released.iter().rev()) {
        match (sold, released) {
            (Answer::Done(_), BackAnswer::TurnedAway(_)) | (Answer::TurnedAway(_), BackAnswer::Done(_)) => {}
            other => panic!("{other:?}"),
        }
    }
    one.assert_conserved().await;
}
