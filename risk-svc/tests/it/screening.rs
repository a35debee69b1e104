//! Screen: once per step, with the same answer for ever.

use std::time::Duration;

use proto::step::{Answer, turned_away::Code};

use crate::bed::{Bed, approved, order, order_by, pending, saga};

#[tokio::test]
async fn a_small_order_is_approved_and_its_repeat_says_the_same() {
    let bed = Bed::new().await;
    let saga = saga();
    for _ in 0..2 {
        assert_eq!(bed.risk.screen(vec![order(saga, 999_999)]).await, [approved("RULES")]);
    }
    assert_eq!(bed.screenings().await, 1);
    assert_eq!(bed.risk.heard.now(), []);
}

#[tokio::test]
async fn a_large_order_waits_for_a_person_until_the_deadline() {
    let bed = Bed::new().await;
    let saga = saga();
    let first = bed.risk.screen(vec![order(saga, 1_000_000)]).await;
    let waits = pending(&first[0]);
    assert_eq!(waits.action, "REVIEW");
    let until = proto::time::read(waits.until.as_ref().unwrap()).unwrap();
    let left = (until - chassis::clock::now()).to_std().unwrap();
    assert!(left > Duration::from_secs(86_000) && left <= Duration::from_secs(86_400), "{left:?}");
    assert_eq!(bed.risk.screen(vec![order(saga, 1_000_000)]).await, first);
    assert_eq!(bed.screenings().await, 1);
}

#[tokio::test]
async fn the_threshold_follows_the_decimals_of_the_currency() {
    let bed = Bed::new().await;
    for (code, minor, waits) in [("JPY", 9_999, false), ("JPY", 10_000, true), ("KWD", 9_999_999, false)] {
        let mut item = order(saga(), minor);
        item.amount.as_mut().unwrap().currency_code = code.into();
        let answer = bed.risk.screen(vec![item]).await.remove(0);
        assert_eq!(matches!(answer, Answer::Pending(_)), waits, "{minor} {code}");
    }
}

#[tokio::test]
async fn a_denied_customer_is_refused_and_stays_so_for_that_step() {
    let bed = Bed::new().await;
    let mut rules = bed.risk.rules.clone();
    let deny =
        |reason: &str| proto::risk::v1::DenyRequest { customer_id: "c_bad".into(), reason: reason.into() };
    rules.deny(deny("chargebacks")).await.unwrap();
    rules.deny(deny("more of them")).await.unwrap();
    let refused = saga();
    let answers =
        bed.risk.screen(vec![order_by(refused, 1_000_000, "c_bad"), order_by(saga(), 1, "c_good")]).await;
    let Answer::Refused(refusal) = &answers[0] else { panic!("{answers:?}") };
    assert_eq!(refusal.reason, "RISK_DENIED");
    assert_eq!(refusal.metadata["customer_id"], "c_bad");
    assert_eq!(answers[1], approved("RULES"));
    for _ in 0..2 {
        rules.allow(proto::risk::v1::AllowRequest { customer_id: "c_bad".into() }).await.unwrap();
    }
    let again = bed.risk.screen(vec![order_by(refused, 1_000_000, "c_bad")]).await;
    assert_eq!(again[0], answers[0]);
    assert_eq!(bed.risk.screen(vec![order_by(saga(), 1, "c_bad")]).await, [approved("RULES")]);
}

#[tokio::test]
async fn another_body_is_turned_away_whatever_was_answered() {
    let bed = Bed::new().await;
    for minor in [1, 1_000_000] {
        let saga = saga();
        bed.risk.screen(vec![order(saga, minor)]).await;
        let answer = bed.risk.screen(vec![order(saga, minor + 1)]).await.remove(0);
        assert!(
            matches!(&answer, Answer::TurnedAway(away) if away.code == i32::from(Code::Mismatch)),
            "{answer:?}"
        );
        let mut other_step = order(saga, minor + 1);
        other_step.header.as_mut().unwrap().step = "screen_again".into();
        assert!(!matches!(bed.risk.screen(vec![other_step]).await[0], Answer::TurnedAway(_)));
    }
}

#[tokio::test]
async fn bad_input_is_turned_away_and_names_the_field() {
    type Spoil = fn(&mut proto::risk::v1::ScreenItem);
    let table: &[(&str, Spoil)] = &[
        ("header", |item| item.header = None),
        ("header.saga_id", |item| item.header.as_mut().unwrap().saga_id = "x".into()),
        ("header.step", |item| item.header.as_mut().unwrap().step = String::new()),
        ("order_id", |item| item.order_id = "ord_x".into()),
        ("customer_id", |item| item.customer_id = String::new()),
        ("customer_id", |item| item.customer_id = "c\0".into()),
        ("merchant_id", |item| item.merchant_id = "m 1".into()),
        ("amount", |item| item.amount = None),
        ("amount", |item| item.amount.as_mut().unwrap().currency_code = "XXX".into()),
        ("amount", |item| item.amount.as_mut().unwrap().minor_units = -1),
    ];
    let bed = Bed::new().await;
    for (field, spoil) in table {
        let mut item = order(saga(), 100);
        spoil(&mut item);
        let answer = bed.risk.screen(vec![item]).await.remove(0);
        let Answer::TurnedAway(away) = &answer else { panic!("{field}: {answer:?}") };
        assert_eq!(away.code, i32::from(Code::Invalid));
        assert!(away.message.starts_with(field), "{field}: {}", away.message);
    }
    assert_eq!(bed.screenings().await, 0);
}
