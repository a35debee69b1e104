//! Money that was charged and given back without a sale.

use chassis::bus::{Bus as _, Exchange, Message, Published};
use prost::Message as _;
use proto::{money::Money, payment::v1::PaymentRefunded};
use types::SagaId;

use crate::bed::{Bed, done, payment, reversal, saga, sale};

pub(crate) fn refunded(saga: SagaId, minor: i64) -> PaymentRefunded {
    PaymentRefunded {
        payment_id: payment(saga),
        saga_id: saga.to_string(),
        step: "charge".into(),
        order_id: saga.order().to_string(),
        merchant_id: "m_1".into(),
        amount: Some(Money { minor_units: minor, currency_code: "EUR".into() }),
        provider_reference: "ch_1".into(),
        refund_reference: "re_1".into(),
    }
}

pub(crate) fn event(body: &PaymentRefunded) -> Message {
    Message::new(
        Exchange::Events,
        "payment.refunded",
        "amends.payment.v1.PaymentRefunded",
        "payment",
        body.encode_to_vec(),
    )
}

async fn tell(bed: &Bed, body: &PaymentRefunded) -> Published {
    bed.ledger.bus.publish(&[event(body)]).await.remove(0)
}

fn through_suspense(minor: i64) -> [(String, i64); 4] {
    [
        ("provider_clearing:EUR".into(), minor),
        ("suspense:EUR".into(), -minor),
        ("suspense:EUR".into(), minor),
        ("provider_clearing:EUR".into(), -minor),
    ]
}

#[tokio::test]
async fn a_refund_without_a_posting_is_booked_once() {
    let bed = Bed::new().await;
    let saga = saga();
    for _ in 0..3 {
        assert_eq!(tell(&bed, &refunded(saga, 700)).await, Published::Safe);
    }
    assert_eq!(bed.entries().await, through_suspense(700));
    assert_eq!(bed.transactions().await, [("charge".into(), "SUSPENSE".into(), "DONE".into())]);
    bed.audit().await;
}

#[tokio::test]
async fn a_refund_after_a_tombstone_or_a_refusal_is_booked() {
    let bed = Bed::new().await;
    done(bed.ledger.post(vec![sale(saga(), 1, 0)]).await.remove(0));
    let before = bed.entries().await.len();
    let (blocked, refused) = (saga(), saga());
    bed.ledger.reverse(vec![reversal(blocked)]).await;
    bed.closed("merchant:m_1:EUR", true).await;
    bed.ledger.post(vec![sale(refused, 700, 0)]).await;
    for saga in [blocked, refused] {
        assert_eq!(tell(&bed, &refunded(saga, 700)).await, Published::Safe);
    }
    let entries = bed.entries().await;
    assert_eq!(entries[before..before + 4], through_suspense(700));
    assert_eq!(entries[before + 4..], through_suspense(700));
    bed.audit().await;
}

#[tokio::test]
async fn a_refund_of_a_sale_books_nothing_whether_reverse_came_or_not() {
    let bed = Bed::new().await;
    let (reversed, not_yet) = (saga(), saga());
    bed.ledger.post(vec![sale(reversed, 700, 0), sale(not_yet, 700, 0)]).await;
    bed.ledger.reverse(vec![reversal(reversed)]).await;
    for saga in [reversed, not_yet] {
        assert_eq!(tell(&bed, &refunded(saga, 700)).await, Published::Safe);
    }
    bed.ledger.reverse(vec![reversal(not_yet)]).await;
    assert_eq!(tell(&bed, &refunded(not_yet, 700)).await, Published::Safe);
    assert_eq!(bed.entries().await.len(), 8);
    bed.audit().await;
}

#[tokio::test]
async fn an_event_that_says_something_else_is_dead() {
    let bed = Bed::new().await;
    let saga = saga();
    tell(&bed, &refunded(saga, 700)).await;
    let bad = [
        refunded(saga, 701),
        refunded(saga, 0),
        PaymentRefunded { amount: None, ..refunded(saga, 1) },
        PaymentRefunded { saga_id: "x".into(), ..refunded(saga, 1) },
        PaymentRefunded { step: String::new(), ..refunded(saga, 1) },
        PaymentRefunded { payment_id: saga.to_string(), ..refunded(saga, 1) },
    ];
    for body in bad {
        let published = tell(&bed, &body).await;
        assert!(matches!(published, Published::Dead(_)), "{body:?}: {published:?}");
    }
    let mut unknown = event(&refunded(saga, 700));
    unknown.kind = "amends.payment.v1.Other".into();
    assert!(matches!(&bed.ledger.bus.publish(&[unknown]).await[..], [Published::Dead(_)]));
    assert_eq!(bed.entries().await, through_suspense(700));
}

#[tokio::test]
async fn a_posting_that_comes_after_all_leaves_nothing_once_it_is_reversed() {
    let bed = Bed::new().await;
    let saga = saga();
    tell(&bed, &refunded(saga, 700)).await;
    done(bed.ledger.post(vec![sale(saga, 700, 100)]).await.remove(0));
    bed.ledger.reverse(vec![reversal(saga)]).await;
    tell(&bed, &refunded(saga, 700)).await;
    let entries = bed.entries().await;
    for account in ["provider_clearing:EUR", "suspense:EUR", "merchant:m_1:EUR", "tax_payable:EUR"] {
        let sum: i64 = entries.iter().filter(|(id, _)| id == account).map(|(_, amount)| amount).sum();
        assert_eq!(sum, 0, "{account}");
    }
    bed.audit().await;
}
