//! Reverse: by gRPC and by message; before, after and again.

use chassis::bus::{Bus as _, Exchange, Message, Published, header as names};
use prost::Message as _;
use proto::{
    ledger::v1::{ReverseDone, ReverseItem},
    step::{Answer, BackAnswer, StepAnswer, step_answer},
};

use crate::bed::{Bed, done, reversal, saga, sale};

fn command(item: &ReverseItem) -> Message {
    Message::new(
        Exchange::Commands,
        "ledger",
        "amends.ledger.v1.ReverseItem",
        "orchestrator",
        item.encode_to_vec(),
    )
}

#[tokio::test]
async fn a_reversal_mirrors_the_entries_once_and_fences_the_step() {
    let bed = Bed::new().await;
    let saga = saga();
    let posted = done(bed.ledger.post(vec![sale(saga, 119, 19)]).await.remove(0));
    let BackAnswer::Done(reversed) = bed.ledger.reverse(vec![reversal(saga)]).await.remove(0) else {
        panic!("not reversed")
    };
    assert_ne!(reversed.transaction_id, posted.transaction_id);
    assert_eq!(bed.ledger.reverse(vec![reversal(saga)]).await, [BackAnswer::Done(reversed)]);
    assert_eq!(bed.ledger.post(vec![sale(saga, 119, 19)]).await, [Answer::Fenced]);
    // Fenced comes before mismatch: the saga must learn that it turned round.
    assert_eq!(bed.ledger.post(vec![sale(saga, 1, 0)]).await, [Answer::Fenced]);
    assert_eq!(
        bed.entries().await[3..],
        [
            ("provider_clearing:EUR".into(), -119),
            ("merchant:m_1:EUR".into(), 100),
            ("tax_payable:EUR".into(), 19)
        ]
    );
    bed.audit().await;
}

#[tokio::test]
async fn a_reversal_that_comes_first_leaves_a_tombstone() {
    let bed = Bed::new().await;
    let saga = saga();
    for _ in 0..2 {
        assert_eq!(bed.ledger.reverse(vec![reversal(saga)]).await, [BackAnswer::NotApplied]);
        assert_eq!(bed.ledger.post(vec![sale(saga, 119, 19)]).await, [Answer::Fenced]);
    }
    assert_eq!(bed.entries().await, []);
    let rows = bed.transactions().await;
    assert_eq!(
        rows,
        [
            ("post".into(), "POST".into(), "BLOCKED".into()),
            ("post".into(), "REVERSE".into(), "BLOCKED".into())
        ]
    );
}

#[tokio::test]
async fn a_reversal_goes_through_on_a_closed_account() {
    let bed = Bed::new().await;
    let saga = saga();
    done(bed.ledger.post(vec![sale(saga, 119, 19)]).await.remove(0));
    bed.closed("merchant:m_1:EUR", true).await;
    assert!(matches!(bed.ledger.reverse(vec![reversal(saga)]).await[0], BackAnswer::Done(_)));
    bed.audit().await;
}

#[tokio::test]
async fn a_command_is_answered_by_message_every_time_it_comes() {
    let bed = Bed::new().await;
    let (sold, never) = (saga(), saga());
    done(bed.ledger.post(vec![sale(sold, 119, 19)]).await.remove(0));
    let (first, again, other) =
        (command(&reversal(sold)), command(&reversal(sold)), command(&reversal(never)));
    for message in [&first, &again, &first, &other] {
        let published = bed.ledger.bus.publish(std::slice::from_ref(message)).await;
        assert_eq!(published, [Published::Safe]);
    }
    let answers = bed.ledger.replies.wait(4).await;
    let count = |id: uuid::Uuid| answers.iter().filter(|a| a.command_id == id.to_string()).count();
    assert_eq!((count(first.id), count(again.id), count(other.id)), (2, 1, 1));
    for answer in &answers {
        let StepAnswer { saga_id, step, direction, outcome, time, .. } = answer;
        assert_eq!((step.as_str(), *direction), ("post", i32::from(step_answer::Direction::Compensation)));
        assert!(time.is_some());
        match outcome.as_ref().unwrap() {
            step_answer::Outcome::Done(bytes) => {
                assert_eq!(*saga_id, sold.to_string());
                assert!(ReverseDone::decode(bytes.as_slice()).unwrap().transaction_id.starts_with("txn_"));
            }
            step_answer::Outcome::NotApplied(_) => assert_eq!(*saga_id, never.to_string()),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(bed.entries().await.len(), 6);
    // By gRPC the answer goes on the stream only.
    bed.ledger.reverse(vec![reversal(sold)]).await;
    assert_eq!(bed.ledger.replies.wait(4).await.len(), 4);
    bed.audit().await;
}

#[tokio::test]
async fn messages_that_can_never_be_handled_are_dead_at_once() {
    let bed = Bed::new().await;
    let mut unknown = command(&reversal(saga()));
    unknown.kind = "amends.ledger.v1.PostItem".into();
    let mut garbled = command(&reversal(saga()));
    garbled.body = vec![0xff; 9];
    let headless = command(&ReverseItem { header: None, ..reversal(saga()) });
    for message in [unknown, garbled, headless] {
        let message = message.with(names::STEP, "post");
        let published = bed.ledger.bus.publish(&[message]).await;
        assert!(matches!(&published[..], [Published::Dead(_)]), "{published:?}");
    }
    assert_eq!(bed.transactions().await, []);
}

#[tokio::test]
async fn a_remark_that_cannot_be_stored_does_not_stop_a_reversal() {
    let bed = Bed::new().await;
    let saga = saga();
    done(bed.ledger.post(vec![sale(saga, 119, 19)]).await.remove(0));
    let item = ReverseItem { reason: format!("\0{}", "x".repeat(5000)), ..reversal(saga) };
    assert!(matches!(bed.ledger.reverse(vec![item]).await[0], BackAnswer::Done(_)));
}
