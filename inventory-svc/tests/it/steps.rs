//! One step after the other: what each does once, and what it says when asked again.

use proto::{
    inventory::v1::{CommitDone, ReleaseDone},
    step::{Answer, BackAnswer, turned_away::Code},
};

use crate::house::*;

#[tokio::test]
async fn a_reservation_is_made_and_sold_once_however_often_it_is_asked_for() {
    let house = House::new().await;
    house.restock("A", 10).await;
    house.restock("B", 10).await;
    let saga = new_saga();
    let item = reserve_item(saga, &[("B", 1), ("A", 2), ("B", 3)]);
    let first = house.reserve(vec![item.clone()]).await;
    assert!(matches!(&first[0], Answer::Done(done) if done.reservation_id.starts_with("rsv_")), "{first:?}");
    // Another hold_until is not another request.
    let again = proto::inventory::v1::ReserveItem {
        hold_until: Some(proto::time::stamp(chassis::clock::now())),
        ..item
    };
    assert_eq!(house.reserve(vec![again]).await, first);
    assert_eq!((house.stock("A").await, house.stock("B").await), ((8, 2, 0), (6, 4, 0)));
    for _ in 0..2 {
        assert_eq!(house.commit(vec![commit_item(saga)]).await, [Answer::Done(CommitDone {})]);
        assert_eq!((house.stock("A").await, house.stock("B").await), ((8, 0, 2), (6, 0, 4)));
    }
    // A reservation that was sold still says what it said.
    assert_eq!(house.reserve(vec![reserve_item(saga, &[("A", 2), ("B", 4)])]).await, first);
    house.assert_conserved().await;
}

#[tokio::test]
async fn a_release_gives_back_once_and_its_reservation_never_comes_again() {
    let house = House::new().await;
    house.restock("A", 10).await;
    let saga = new_saga();
    let item = reserve_item(saga, &[("A", 4)]);
    house.reserve(vec![item.clone()]).await;
    for _ in 0..2 {
        assert_eq!(house.release(vec![release_item(saga)]).await, [BackAnswer::Done(ReleaseDone {})]);
        assert_eq!(house.stock("A").await, (10, 0, 0));
    }
    assert_eq!(house.reserve(vec![item]).await, [Answer::Fenced]);
    assert_eq!(away(&house.commit(vec![commit_item(saga)]).await[0]), Some(Code::Failed));
    assert_eq!(house.stock("A").await, (10, 0, 0));
    house.assert_conserved().await;
}

#[tokio::test]
async fn a_release_that_comes_first_leaves_a_tombstone() {
    let house = House::new().await;
    house.restock("A", 10).await;
    let saga = new_saga();
    for _ in 0..2 {
        assert_eq!(house.release(vec![release_item(saga)]).await, [BackAnswer::NotApplied]);
    }
    let item = reserve_item(saga, &[("A", 4)]);
    assert_eq!(house.reserve(vec![item.clone()]).await, [Answer::Fenced]);
    assert_eq!(house.reserve(vec![item]).await, [Answer::Fenced]);
    assert_eq!(house.stock("A").await, (10, 0, 0));
}

#[tokio::test]
async fn a_refusal_is_stored_and_stays() {
    let house = House::new().await;
    house.restock("A", 3).await;
    let (short, unknown) = (new_saga(), new_saga());
    let items = vec![reserve_item(short, &[("A", 4)]), reserve_item(unknown, &[("A", 1), ("Z", 1)])];
    let first = house.reserve(items.clone()).await;
    let reasons: Vec<_> = first
        .iter()
        .map(|answer| match answer {
            Answer::Refused(refused) => (refused.reason.as_str(), refused.metadata.clone()),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(reasons[0].0, "OUT_OF_STOCK");
    for (name, value) in [("sku", "A"), ("requested", "4"), ("available", "3")] {
        assert_eq!(reasons[0].1[name], value);
    }
    assert_eq!((reasons[1].0, reasons[1].1["sku"].as_str()), ("UNKNOWN_SKU", "Z"));
    house.restock("A", 100).await;
    house.restock("Z", 100).await;
    assert_eq!(house.reserve(items.clone()).await, first);
    assert_eq!(away(&house.commit(vec![commit_item(short)]).await[0]), Some(Code::Failed));
    // What was refused cannot be given back, and then never be reserved.
    assert_eq!(house.release(vec![release_item(short)]).await, [BackAnswer::NotApplied]);
    assert_eq!(house.release(vec![release_item(short)]).await, [BackAnswer::NotApplied]);
    assert_eq!(house.reserve(vec![items[0].clone()]).await, [Answer::Fenced]);
    house.assert_conserved().await;
}

#[tokio::test]
async fn in_a_slice_what_does_not_fit_is_refused_and_the_others_go_on() {
    let house = House::new().await;
    house.restock("A", 5).await;
    let wants = [3, 3, 2, 1];
    let items = wants.iter().map(|quantity| reserve_item(new_saga(), &[("A", *quantity)])).collect();
    let answers = house.reserve(items).await;
    let done: Vec<_> = answers.iter().map(|answer| matches!(answer, Answer::Done(_))).collect();
    assert_eq!(done, [true, false, true, false]);
    assert_eq!(house.stock("A").await, (0, 5, 0));
    house.assert_conserved().await;
}

#[tokio::test]
async fn another_body_under_the_same_key_is_turned_away() {
    let house = House::new().await;
    house.restock("A", 10).await;
    let (saga, other) = (new_saga(), new_saga());
    house.reserve(vec![reserve_item(saga, &[("A", 1)])]).await;
    for lines in [&[("A", 2)], &[("B", 1)]] {
        assert_eq!(away(&house.reserve(vec![reserve_item(saga, lines)]).await[0]), Some(Code::Mismatch));
    }
    house.commit(vec![commit_item(saga)]).await;
    let mut another = commit_item(saga);
    another.order_id = other.order().to_string();
    assert_eq!(away(&house.commit(vec![another]).await[0]), Some(Code::Mismatch));
    assert_eq!(house.stock("A").await, (9, 0, 1));
}

#[tokio::test]
async fn neither_a_commit_without_reservation_nor_a_release_of_what_is_sold_happens() {
    let house = House::new().await;
    house.restock("A", 10).await;
    let saga = new_saga();
    assert_eq!(away(&house.commit(vec![commit_item(saga)]).await[0]), Some(Code::Failed));
    // That it was turned away does not stand in the way of the reservation.
    house.reserve(vec![reserve_item(saga, &[("A", 1)])]).await;
    house.commit(vec![commit_item(saga)]).await;
    match &house.release(vec![release_item(saga)]).await[0] {
        BackAnswer::TurnedAway(away) => assert_eq!(away.code(), Code::Failed),
        other => panic!("{other:?}"),
    }
    assert_eq!(house.stock("A").await, (9, 0, 1));
    house.assert_conserved().await;
}

#[tokio::test]
async fn items_that_cannot_be_valid_are_turned_away_one_by_one() {
    let house = House::new().await;
    house.restock("A", 10).await;
    let good = reserve_item(new_saga(), &[("A", 1)]);
    let bad = |change: fn(&mut proto::inventory::v1::ReserveItem)| {
        let mut item = reserve_item(new_saga(), &[("A", 1)]);
        change(&mut item);
        item
    };
    let items = vec![
        bad(|item| item.header = None),
        bad(|item| item.header.as_mut().unwrap().saga_id = "saga_x".into()),
        bad(|item| item.header.as_mut().unwrap().step = "Reserve\0".into()),
        bad(|item| item.order_id = "pay_01h2xcejqtf2nbrexx3vqjhp41".into()),
        bad(|item| item.lines.clear()),
        bad(|item| item.lines = vec![item.lines[0].clone(); 101]),
        bad(|item| item.lines[0].sku = "A B".into()),
        bad(|item| item.lines[0].sku = "A\0".into()),
        bad(|item| item.lines[0].quantity = 0),
        bad(|item| item.lines[0].quantity = -1),
        bad(|item| {
            item.lines[0].quantity = i64::MAX;
            item.lines.push(item.lines[0].clone());
        }),
        bad(|item| item.hold_until = None),
        bad(|item| item.hold_until = Some(proto::time::stamp(chrono::DateTime::<chrono::Utc>::MAX_UTC))),
        good.clone(),
    ];
    let count = items.len();
    let answers = house.reserve(items).await;
    for (index, answer) in answers[..count - 1].iter().enumerate() {
        assert_eq!(away(answer), Some(Code::Invalid), "{index}: {answer:?}");
    }
    assert!(matches!(answers[count - 1], Answer::Done(_)));
    let most = house.reserve(vec![reserve_item(new_saga(), &[("A", i64::MAX)])]).await;
    assert!(matches!(&most[0], Answer::Refused(refused) if refused.reason == "OUT_OF_STOCK"));
    assert_eq!(house.stock("A").await, (9, 1, 0));
}
