//! One step after the other: what each does once, and what it says when asked again.

use proto::{
    order::v1::{CancelDone, CompleteDone, OpenDone, OpenItem},
    step::{Answer, BackAnswer, turned_away::Code},
};

use crate::house::*;

#[tokio::test]
async fn a_document_is_opened_and_completed_once_however_often_it_is_asked_for() {
    let house = House::new().await;
    let saga = new_saga();
    for _ in 0..2 {
        assert_eq!(house.open(vec![open_item(saga)]).await, [Answer::Done(OpenDone {})]);
        assert_eq!(house.history(saga).await, ["CREATED"]);
    }
    let open = house.document(saga).await.unwrap();
    assert_eq!((open.status.as_str(), open.total_minor, open.tax_minor), ("OPEN", 1500, 250));
    assert_eq!(open.lines, open_item(saga).lines);
    assert_eq!((open.customer_id.as_str(), open.merchant_id.as_str()), ("c_1", "m_1"));
    assert_eq!((open.order_id, open.saga_id), (saga.order().to_string(), saga.to_string()));

    let mut later = complete_item(saga);
    later.history.truncate(1);
    for item in [complete_item(saga), later] {
        assert_eq!(house.complete(vec![item]).await, [Answer::Done(CompleteDone {})]);
        let expected = ["CREATED", "INVENTORY_RESERVED", "PAYMENT_SUCCESS", "COMPLETED"];
        assert_eq!(house.history(saga).await, expected);
    }
    let complete = house.document(saga).await.unwrap();
    assert_eq!((complete.status.as_str(), complete.cancel_reason.as_str()), ("COMPLETED", ""));
    assert_eq!(complete.history[3], change("COMPLETED", 3));
    assert_eq!(house.open(vec![open_item(saga)]).await, [Answer::Done(OpenDone {})]);
}

#[tokio::test]
async fn a_cancelled_document_says_why_and_is_never_opened_again() {
    let house = House::new().await;
    let saga = new_saga();
    house.open(vec![open_item(saga)]).await;
    for reason in ["OUT_OF_STOCK\0\n", "another"] {
        let item = proto::order::v1::CancelItem { reason: reason.into(), ..cancel_item(saga) };
        assert_eq!(house.cancel(vec![item]).await, [BackAnswer::Done(CancelDone {})]);
        let cancelled = house.document(saga).await.unwrap();
        assert_eq!(
            (cancelled.status.as_str(), cancelled.cancel_reason.as_str()),
            ("CANCELLED", "OUT_OF_STOCK")
        );
        assert_eq!(house.history(saga).await, ["CREATED", "CANCELLED"]);
    }
    assert_eq!(house.open(vec![open_item(saga)]).await, [Answer::Fenced]);
    assert_eq!(away(&house.complete(vec![complete_item(saga)]).await[0]), Some(Code::Failed));
    assert_eq!(house.document(saga).await.unwrap().status, "CANCELLED");
}

#[tokio::test]
async fn a_cancel_that_comes_first_leaves_a_tombstone() {
    let house = House::new().await;
    let saga = new_saga();
    for _ in 0..2 {
        assert_eq!(house.cancel(vec![cancel_item(saga)]).await, [BackAnswer::NotApplied]);
        assert_eq!(house.open(vec![open_item(saga)]).await, [Answer::Fenced]);
    }
    assert_eq!(house.document(saga).await.unwrap_err().code(), tonic::Code::NotFound);
    assert_eq!(away(&house.complete(vec![complete_item(saga)]).await[0]), Some(Code::Failed));
}

#[tokio::test]
async fn another_body_under_the_same_key_is_turned_away() {
    let house = House::new().await;
    let saga = new_saga();
    house.open(vec![open_item(saga)]).await;
    let with = |change: fn(&mut OpenItem)| {
        let mut item = open_item(saga);
        change(&mut item);
        item
    };
    for other in [
        with(|item| item.customer_id = "c_2".into()),
        with(|item| item.merchant_id = "m_2".into()),
        with(|item| item.currency_code = "USD".into()),
        with(|item| item.lines.swap(0, 1)),
        with(|item| {
            item.tax_minor += 1;
            item.total_minor += 1;
        }),
    ] {
        assert_eq!(away(&house.open(vec![other]).await[0]), Some(Code::Mismatch));
    }
    assert_eq!(house.document(saga).await.unwrap().customer_id, "c_1");
}

#[tokio::test]
async fn neither_a_complete_without_document_nor_a_cancel_of_a_complete_order_happens() {
    let house = House::new().await;
    let saga = new_saga();
    assert_eq!(away(&house.complete(vec![complete_item(saga)]).await[0]), Some(Code::Failed));
    // That it was turned away does not stand in the way of the document.
    house.open(vec![open_item(saga)]).await;
    house.complete(vec![complete_item(saga)]).await;
    match &house.cancel(vec![cancel_item(saga)]).await[0] {
        BackAnswer::TurnedAway(away) => assert_eq!(away.code(), Code::Failed),
        other => panic!("{other:?}"),
    }
    let mut other_step = complete_item(saga);
    other_step.header.as_mut().unwrap().step = "finish".into();
    assert_eq!(away(&house.complete(vec![other_step]).await[0]), Some(Code::Failed));
    assert_eq!(house.document(saga).await.unwrap().status, "COMPLETED");
}

#[tokio::test]
async fn items_that_cannot_be_valid_are_turned_away_one_by_one() {
    let house = House::new().await;
    let good = open_item(new_saga());
    let bad = |change: fn(&mut OpenItem)| {
        let mut item = open_item(new_saga());
        change(&mut item);
        item
    };
    let items = vec![
        bad(|item| item.header = None),
        bad(|item| item.header.as_mut().unwrap().step = "Open".into()),
        bad(|item| item.order_id = new_saga().order().to_string()),
        bad(|item| item.order_id = String::new()),
        bad(|item| item.customer_id = "c\0".into()),
        bad(|item| item.merchant_id = String::new()),
        bad(|item| item.currency_code = "eur".into()),
        bad(|item| item.lines.clear()),
        bad(|item| item.lines[0].quantity = -2),
        bad(|item| item.lines[0].line_total_minor += 1),
        bad(|item| item.lines[0].unit_price_minor = i64::MAX),
        bad(|item| item.lines[0].sku = "\0".into()),
        bad(|item| item.subtotal_minor -= 1),
        bad(|item| item.tax_minor = -1),
        bad(|item| item.total_minor = i64::MAX),
        good,
    ];
    let count = items.len();
    let answers = house.open(items).await;
    for (index, answer) in answers[..count - 1].iter().enumerate() {
        assert_eq!(away(answer), Some(Code::Invalid), "{index}: {answer:?}");
    }
    assert_eq!(answers[count - 1], Answer::Done(OpenDone {}));

    for history in [
        vec![change("DONE", 0)],
        vec![proto::order::v1::StatusChange { time: None, ..change("COMPLETED", 0) }],
        vec![change("COMPLETED", i64::MAX - 2_000_000_000)],
        vec![change("COMPLETED", 0); 101],
    ] {
        let item = proto::order::v1::CompleteItem { history, ..complete_item(new_saga()) };
        assert_eq!(away(&house.complete(vec![item]).await[0]), Some(Code::Invalid));
    }
}
