//! The attempts as people see them.

use std::collections::BTreeSet;

use proto::payment::v1::{AttemptState, GetAttemptRequest, ListAttemptsRequest};
use tonic::Code;

use super::world::{AMOUNT, World, charge_item, new_saga, payment};

fn get(name: impl ToString) -> GetAttemptRequest {
    GetAttemptRequest { payment_id: name.to_string() }
}

#[tokio::test]
async fn an_attempt_is_found_by_each_of_its_names() {
    let (_world, process) = World::patient().await;
    let saga = new_saga();
    process.charge(saga, "tok_approve").await;
    let mut door = process.attempts.clone();
    let attempt = door.get_attempt(get(payment(saga))).await.unwrap().into_inner();
    assert_eq!(attempt.state(), AttemptState::Succeeded);
    assert_eq!((attempt.saga_id.clone(), attempt.step.as_str()), (saga.to_string(), "charge"));
    assert_eq!(
        (attempt.order_id.clone(), attempt.provider.as_str()),
        (saga.order().to_string(), "simulator")
    );
    assert_eq!(attempt.amount.as_ref().unwrap().minor_units, AMOUNT);
    assert_eq!((attempt.sends, attempt.wanted_back, attempt.next_look_time), (1, false, None));
    for name in [saga.to_string(), saga.order().to_string()] {
        assert_eq!(door.get_attempt(get(name)).await.unwrap().into_inner(), attempt);
    }
}

#[tokio::test]
async fn what_nobody_charged_is_not_found() {
    let (_world, process) = World::with_one().await;
    let mut door = process.attempts.clone();
    for name in [payment(new_saga()).to_string(), new_saga().to_string()] {
        assert_eq!(door.get_attempt(get(name)).await.unwrap_err().code(), Code::NotFound);
    }
    for bad in ["", "pay_", "pay_x", "rsv_01h2xcejqtf2nbrexx3vqjhp41", "pay_01h2xcejqtf2nbrexx3vqjhp4\0"] {
        assert_eq!(door.get_attempt(get(bad)).await.unwrap_err().code(), Code::InvalidArgument, "{bad:?}");
    }
}

#[tokio::test]
async fn attempts_are_listed_page_by_page_and_by_state() {
    let (_world, process) = World::patient().await;
    let mut door = process.attempts.clone();
    let tokens = ["tok_approve", "tok_decline", "tok_approve", "tok_decline", "tok_approve"];
    let items = tokens.iter().map(|token| charge_item(new_saga(), token)).collect();
    process.charges(items).await;
    process.refund(new_saga()).await;
    for (state, expected) in [
        (AttemptState::Unspecified, 6),
        (AttemptState::Succeeded, 3),
        (AttemptState::Declined, 2),
        (AttemptState::Blocked, 1),
        (AttemptState::InDoubt, 0),
    ] {
        let mut request = ListAttemptsRequest { page_size: 2, state: state.into(), ..Default::default() };
        let mut seen = BTreeSet::new();
        loop {
            let page = door.list_attempts(request.clone()).await.unwrap().into_inner();
            assert!(page.attempts.len() <= 2);
            for attempt in page.attempts {
                assert!(state == AttemptState::Unspecified || attempt.state() == state);
                assert!(seen.insert(attempt.payment_id), "shown twice");
            }
            request.page_token = page.next_page_token;
            if request.page_token.is_empty() {
                break;
            }
        }
        assert_eq!(seen.len(), expected, "{state:?}");
    }
}

#[tokio::test]
async fn a_bad_list_request_says_what_is_wrong() {
    let (_world, process) = World::with_one().await;
    let mut door = process.attempts.clone();
    for bad in [
        ListAttemptsRequest { page_size: -1, ..Default::default() },
        ListAttemptsRequest { state: 99, ..Default::default() },
        ListAttemptsRequest { page_token: "x".into(), ..Default::default() },
    ] {
        assert_eq!(door.list_attempts(bad).await.unwrap_err().code(), Code::InvalidArgument);
    }
}
