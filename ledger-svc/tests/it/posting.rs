//! Post: once, with the same answer for ever.

use proto::step::{Answer, turned_away::Code};
use types::TransactionId;

use crate::bed::{Bed, done, header, reversal, saga, sale};

#[tokio::test]
async fn a_sale_is_booked_and_its_repeat_changes_nothing() {
    let bed = Bed::new().await;
    let saga = saga();
    let first = done(bed.ledger.post(vec![sale(saga, 11_900, 1_900)]).await.remove(0));
    let expected = TransactionId::from_uuid(saga.derive(&"post".parse().unwrap()));
    assert_eq!(first.transaction_id, expected.to_string());
    let repeat = done(bed.ledger.post(vec![sale(saga, 11_900, 1_900)]).await.remove(0));
    assert_eq!(repeat, first);
    assert_eq!(
        bed.entries().await,
        [
            ("provider_clearing:EUR".into(), 11_900),
            ("merchant:m_1:EUR".into(), -10_000),
            ("tax_payable:EUR".into(), -1_900)
        ]
    );
    bed.audit().await;
}

#[tokio::test]
async fn a_sale_of_nothing_is_done_without_entries() {
    let bed = Bed::new().await;
    let saga = saga();
    done(bed.ledger.post(vec![sale(saga, 0, 0)]).await.remove(0));
    assert_eq!(bed.entries().await, []);
    assert!(matches!(bed.ledger.reverse(vec![reversal(saga)]).await[0], proto::step::BackAnswer::Done(_)));
}

#[tokio::test]
async fn a_refusal_is_stored_and_stays() {
    let bed = Bed::new().await;
    done(bed.ledger.post(vec![sale(saga(), 100, 0)]).await.remove(0));
    bed.closed("merchant:m_1:EUR", true).await;
    let refused = saga();
    let answer = bed.ledger.post(vec![sale(refused, 100, 0)]).await.remove(0);
    let Answer::Refused(refusal) = &answer else { panic!("{answer:?}") };
    assert_eq!(refusal.reason, "ACCOUNT_CLOSED");
    assert_eq!(refusal.metadata["account"], "merchant:m_1:EUR");
    // In another currency the merchant's account is another one.
    let dollars = saga();
    let mut item = sale(dollars, 100, 0);
    item.total.as_mut().unwrap().currency_code = "USD".into();
    done(bed.ledger.post(vec![item]).await.remove(0));
    bed.closed("merchant:m_1:EUR", false).await;
    assert_eq!(bed.ledger.post(vec![sale(refused, 100, 0)]).await[0], answer);
    done(bed.ledger.post(vec![sale(saga(), 100, 0)]).await.remove(0));
    // A compensation of what was refused finds nothing to take back, and fences the step.
    let back = bed.ledger.reverse(vec![reversal(refused)]).await;
    assert_eq!(back, [proto::step::BackAnswer::NotApplied]);
    assert_eq!(bed.ledger.post(vec![sale(refused, 100, 0)]).await, [Answer::Fenced]);
    bed.audit().await;
}

#[tokio::test]
async fn another_body_is_turned_away() {
    let bed = Bed::new().await;
    let saga = saga();
    done(bed.ledger.post(vec![sale(saga, 100, 10)]).await.remove(0));
    let answer = bed.ledger.post(vec![sale(saga, 100, 11)]).await.remove(0);
    assert!(
        matches!(&answer, Answer::TurnedAway(away) if away.code == i32::from(Code::Mismatch)),
        "{answer:?}"
    );
    // Another step of the same saga is another posting.
    let mut other = sale(saga, 100, 11);
    other.header = header(saga, "post_again");
    done(bed.ledger.post(vec![other]).await.remove(0));
    assert_eq!(bed.entries().await.len(), 6);
}

#[tokio::test]
async fn bad_input_is_turned_away_and_names_the_field() {
    let bed = Bed::new().await;
    type Spoil = fn(&mut proto::ledger::v1::PostItem);
    let table: &[(&str, Spoil)] = &[
        ("header", |item| item.header = None),
        ("header.saga_id", |item| item.header.as_mut().unwrap().saga_id = "pay_x".into()),
        ("header.step", |item| item.header.as_mut().unwrap().step = "Post".into()),
        ("order_id", |item| item.order_id = "saga_01h2xcejqtf2nbrexx3vqjhp41".into()),
        ("merchant_id", |item| item.merchant_id = String::new()),
        ("merchant_id", |item| item.merchant_id = "m:1".into()),
        ("merchant_id", |item| item.merchant_id = "m\0".into()),
        ("total", |item| item.total = None),
        ("total", |item| item.total.as_mut().unwrap().currency_code = "eur".into()),
        ("total", |item| item.total.as_mut().unwrap().minor_units = -1),
        ("tax_minor", |item| item.tax_minor = -1),
        ("tax_minor", |item| item.tax_minor = 101),
        ("payment_id", |item| item.payment_id = String::new()),
    ];
    for (field, spoil) in table {
        let mut item = sale(saga(), 100, 10);
        spoil(&mut item);
        let answer = bed.ledger.post(vec![item]).await.remove(0);
        let Answer::TurnedAway(away) = &answer else { panic!("{field}: {answer:?}") };
        assert_eq!(away.code, i32::from(Code::Invalid));
        assert!(away.message.starts_with(field), "{field}: {}", away.message);
    }
    assert_eq!(bed.transactions().await, []);
}

#[tokio::test]
async fn a_sum_that_does_not_fit_harms_nobody_else() {
    let bed = Bed::new().await;
    done(bed.ledger.post(vec![sale(saga(), i64::MAX - 5, 0)]).await.remove(0));
    let answers = bed.ledger.post(vec![sale(saga(), 6, 0), sale(saga(), 5, 1)]).await;
    assert!(
        matches!(&answers[0], Answer::TurnedAway(away) if away.code == i32::from(Code::Failed)),
        "{answers:?}"
    );
    assert!(matches!(&answers[1], Answer::Done(_)), "{answers:?}");
    bed.audit().await;
}
