//! Slices with a bad item, and several processes over one database.

use proto::step::{Answer, BackAnswer, turned_away::Code};
use sqlx::Executor as _;

use crate::bed::{Bed, Running, done, reversal, saga, sale};

#[tokio::test]
async fn one_poisoned_item_never_fails_its_slice() {
    let bed = Bed::new().await;
    bed.database
        .connect()
        .await
        .execute(sqlx::raw_sql(
            "create function ledger.poison() returns trigger language plpgsql as \
             $$ begin if new.amount_minor = 666 then raise exception 'poison'; end if; return new; end $$; \
             create trigger poison before insert on ledger.entry for each row execute function ledger.poison();",
        ))
        .await
        .unwrap();
    let items: Vec<_> = (0..50).map(|i| sale(saga(), if i == 37 { 666 } else { 100 + i }, 7)).collect();
    let answers = bed.ledger.post(items.clone()).await;
    for (i, answer) in answers.iter().enumerate() {
        match answer {
            Answer::TurnedAway(away) if i == 37 => assert_eq!(away.code, i32::from(Code::Failed)),
            answer => assert!(i != 37 && matches!(answer, Answer::Done(_)), "{i}: {answer:?}"),
        }
    }
    let again = bed.ledger.post(items).await;
    assert_eq!(again[..37], answers[..37]);
    assert_eq!(bed.entries().await.len(), 49 * 3);
    bed.audit().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_processes_with_the_same_items_have_one_effect_and_say_the_same() {
    let bed = Bed::new().await;
    let other = Running::on(&bed.database).await;
    for _ in 0..5 {
        let items: Vec<_> = (0..40).map(|i| sale(saga(), 100 + i, 7)).collect();
        let mut turned = items.clone();
        turned.reverse();
        let before = bed.entries().await.len();
        let (here, mut there) = tokio::join!(bed.ledger.post(items.clone()), other.post(turned));
        there.reverse();
        assert_eq!(here, there);
        here.into_iter().for_each(|answer| drop(done(answer)));
        assert_eq!(bed.entries().await.len() - before, 120);
    }
    bed.audit().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_posting_and_its_reversal_at_once_end_consistently() {
    let bed = Bed::new().await;
    let other = Running::on(&bed.database).await;
    for _ in 0..8 {
        let sagas: Vec<_> = (0..20).map(|_| saga()).collect();
        let (posts, reversals) = tokio::join!(
            bed.ledger.post(sagas.iter().map(|saga| sale(*saga, 500, 80)).collect()),
            other.reverse(sagas.iter().rev().map(|saga| reversal(*saga)).collect())
        );
        for (saga, (post, reversal)) in sagas.iter().zip(posts.iter().zip(reversals.iter().rev())) {
            match (post, reversal) {
                (Answer::Done(_), BackAnswer::Done(_)) | (Answer::Fenced, BackAnswer::NotApplied) => {}
                // Posted, reversed, and only then answered from what is there.
                (Answer::Fenced, BackAnswer::Done(_)) => {}
                odd => panic!("{saga}: {odd:?}"),
            }
        }
        let again = bed.ledger.post(sagas.iter().map(|saga| sale(*saga, 500, 80)).collect()).await;
        assert!(again.iter().all(|answer| *answer == Answer::Fenced));
    }
    let sum: i64 = bed
        .entries()
        .await
        .iter()
        .filter(|(account, _)| account.starts_with("merchant:"))
        .map(|(_, amount)| amount)
        .sum();
    assert_eq!(sum, 0, "every posting was taken back");
    bed.audit().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_account_that_closes_in_between_refuses_what_comes_after() {
    let bed = Bed::new().await;
    done(bed.ledger.post(vec![sale(saga(), 1, 0)]).await.remove(0));
    // The lock holds the batch between its decision and its counters.
    let mut owner = bed.database.connect().await;
    owner.execute("begin").await.unwrap();
    owner
        .execute("update ledger.account set closed = true, state_time = now(), state_reason = 'test' where account_id = 'merchant:m_1:EUR'")
        .await
        .unwrap();
    let (answers, ()) = tokio::join!(bed.ledger.post(vec![sale(saga(), 100, 0)]), async {
        tokio::time::sleep(std::time::Duration::from_millis(300)).await;
        owner.execute("commit").await.unwrap();
    });
    assert!(
        matches!(&answers[0], Answer::Refused(refused) if refused.reason == "ACCOUNT_CLOSED"),
        "{answers:?}"
    );
    bed.audit().await;
}
