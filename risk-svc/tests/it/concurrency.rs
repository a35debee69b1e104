//! Slices with a bad item, and several processes over one database.

use proto::{
    risk::v1::{Rule, SetRuleRequest},
    step::{Answer, turned_away::Code},
};
use risk_svc::Settings;
use sqlx::Executor as _;

use crate::bed::{Bed, Running, approved, order, saga};

#[tokio::test]
async fn one_poisoned_item_never_fails_its_slice() {
    let bed = Bed::new().await;
    bed.database
        .connect()
        .await
        .execute(sqlx::raw_sql(
            "create function risk.poison() returns trigger language plpgsql as \
             $$ begin if new.amount_minor = 666 then raise exception 'poison'; end if; return new; end $$; \
             create trigger poison before insert on risk.screening for each row execute function risk.poison();",
        ))
        .await
        .unwrap();
    let items: Vec<_> = (0..50).map(|i| order(saga(), if i == 13 { 666 } else { 1 + i })).collect();
    for _ in 0..2 {
        let answers = bed.risk.screen(items.clone()).await;
        for (i, answer) in answers.iter().enumerate() {
            match answer {
                Answer::TurnedAway(away) if i == 13 => assert_eq!(away.code, i32::from(Code::Failed)),
                answer => assert!(i != 13 && *answer == approved("RULES"), "{i}: {answer:?}"),
            }
        }
    }
    assert_eq!(bed.screenings().await, 49);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_processes_with_the_same_items_have_one_effect_and_say_the_same() {
    let bed = Bed::new().await;
    let other = Running::on(&bed.database, Settings::default()).await;
    for _ in 0..5 {
        let items: Vec<_> = (0..40).map(|i| order(saga(), if i % 4 == 0 { 2_000_000 } else { 1 })).collect();
        let mut turned = items.clone();
        turned.reverse();
        let (here, mut there) = tokio::join!(bed.risk.screen(items.clone()), other.screen(turned));
        there.reverse();
        assert_eq!(here, there);
    }
    assert_eq!(bed.screenings().await, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_processes_count_the_orders_of_a_customer_together() {
    let bed = Bed::new().await;
    let other = Running::on(&bed.database, Settings::default()).await;
    let velocity = Rule {
        kind: "VELOCITY_REVIEW".into(),
        currency_code: String::new(),
        threshold: 25,
        window_seconds: 3600,
        enabled: true,
    };
    bed.risk.rules.clone().set_rule(SetRuleRequest { rule: Some(velocity) }).await.unwrap();
    let slice = || (0..20).map(|_| order(saga(), 1)).collect::<Vec<_>>();
    let (here, there) = tokio::join!(bed.risk.screen(slice()), other.screen(slice()));
    let passed = here.iter().chain(&there).filter(|answer| **answer == approved("RULES")).count();
    assert_eq!(passed, 25);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_decisions_at_once_one_counts() {
    let bed = Bed::new().await;
    let other = Running::on(&bed.database, Settings::default()).await;
    for _ in 0..10 {
        let saga = saga();
        bed.risk.screen(vec![order(saga, 1_000_000)]).await;
        let (yes, no) = tokio::join!(bed.risk.decide(saga, true, "ana"), other.decide(saga, false, "bob"));
        assert!(yes.is_ok() != no.is_ok(), "{yes:?} {no:?}");
    }
    // Each told its own bus: together one answer per review.
    let told = async || bed.risk.heard.now().len() + other.heard.now().len();
    crate::bed::eventually(async || (told().await >= 10).then_some(())).await;
    assert_eq!(told().await, 10);
}
