//! Reviews: a person decides, or the deadline does; once.

use std::time::Duration;

use chassis::bus::{Bus as _, Exchange, Message, Published};
use prost::{Message as _, Name as _};
use proto::{
    risk::v1::{
        DecideReviewRequest, GetReviewRequest, ListReviewsRequest, Review, ReviewState, ScreenDone,
        WithdrawItem,
    },
    step::{Answer, StepAnswer, StepHeader, step_answer},
};
use sqlx::Executor as _;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;
use types::SagaId;

use crate::bed::{Bed, Running, approved, deadline, eventually, order, pending, saga};

async fn get(risk: &Running, saga: SagaId) -> Review {
    let request = GetReviewRequest { saga_id: saga.to_string() };
    risk.reviews.clone().get_review(request).await.unwrap().into_inner()
}

async fn list(risk: &Running, request: ListReviewsRequest) -> Vec<String> {
    let mut request = ListReviewsRequest { page_size: 2, ..request };
    let mut seen = Vec::new();
    loop {
        let page = risk.reviews.clone().list_reviews(request.clone()).await.unwrap().into_inner();
        assert!(page.reviews.len() <= 2);
        seen.extend(page.reviews.into_iter().map(|review| review.saga_id));
        if page.next_page_token.is_empty() {
            return seen;
        }
        request.page_token = page.next_page_token;
    }
}

fn decided(status: &Status) -> (String, String) {
    assert_eq!(status.code(), Code::FailedPrecondition, "{status:?}");
    let info = status.get_details_error_info().unwrap();
    assert_eq!(info.reason, "REVIEW_DECIDED");
    (info.metadata["state"].clone(), info.metadata["reviewer"].clone())
}

fn about(answer: &StepAnswer, saga: SagaId) -> step_answer::Outcome {
    assert_eq!((&answer.saga_id, answer.step.as_str()), (&saga.to_string(), "screen"));
    assert_eq!(answer.direction, i32::from(step_answer::Direction::Forward));
    assert!(answer.command_id.is_empty() && answer.time.is_some());
    answer.outcome.clone().unwrap()
}

#[tokio::test]
async fn a_review_shows_what_a_person_needs_to_decide() {
    let bed = Bed::new().await;
    let saga = saga();
    let answer = bed.risk.screen(vec![order(saga, 1_234_567)]).await;
    let review = get(&bed.risk, saga).await;
    assert_eq!(review.saga_id, saga.to_string());
    assert_eq!(review.order_id, saga.order().to_string());
    assert_eq!((review.customer_id.as_str(), review.merchant_id.as_str()), ("c_1", "m_1"));
    assert_eq!(review.amount.as_ref().unwrap().minor_units, 1_234_567);
    assert_eq!((review.state(), review.rule.as_str()), (ReviewState::Open, "AMOUNT_REVIEW"));
    assert_eq!(review.expire_time, pending(&answer[0]).until);
    assert!(review.create_time.is_some() && review.decide_time.is_none());
    let by_order = GetReviewRequest { saga_id: saga.order().to_string() };
    assert_eq!(bed.risk.reviews.clone().get_review(by_order).await.unwrap().into_inner(), review);
}

#[tokio::test]
async fn the_first_decision_counts_and_tells_the_saga() {
    let bed = Bed::new().await;
    let (yes, no) = (saga(), saga());
    bed.risk.screen(vec![order(yes, 1_000_000), order(no, 1_000_000)]).await;

    let review = bed.risk.decide(yes, true, "ana").await.unwrap();
    assert_eq!((review.state(), review.reviewer.as_str()), (ReviewState::Approved, "ana"));
    assert_eq!(review, get(&bed.risk, yes).await);
    for approve in [true, false] {
        let status = bed.risk.decide(yes, approve, "bob").await.unwrap_err();
        assert_eq!(decided(&status), ("APPROVED".into(), "ana".into()));
    }
    assert_eq!(bed.risk.screen(vec![order(yes, 1_000_000)]).await, [approved("REVIEWER")]);
    let step_answer::Outcome::Done(bytes) = about(&bed.risk.heard.wait(1).await[0], yes) else {
        panic!("not done")
    };
    assert_eq!(ScreenDone::decode(bytes.as_slice()).unwrap().approved_by, "REVIEWER");

    let review = bed.risk.decide(no, false, "bob").await.unwrap();
    assert_eq!((review.state(), review.reason.as_str()), (ReviewState::Declined, "looked at it"));
    let status = bed.risk.decide(no, true, "ana").await.unwrap_err();
    assert_eq!(decided(&status), ("DECLINED".into(), "bob".into()));
    let answers = bed.risk.heard.wait(2).await;
    let step_answer::Outcome::Refused(refused) = about(&answers[1], no) else { panic!("not refused") };
    assert_eq!(refused.reason, "REVIEW_DECLINED");
    assert_eq!(
        (refused.metadata["reviewer"].as_str(), refused.metadata["reason"].as_str()),
        ("bob", "looked at it")
    );
    assert_eq!(bed.risk.screen(vec![order(no, 1_000_000)]).await, [Answer::Refused(refused)]);
    assert_eq!(bed.risk.heard.now().len(), 2);
}

#[tokio::test]
async fn a_review_that_nobody_decides_expires_and_tells_the_saga() {
    let bed = Bed::with(deadline(Duration::from_millis(50))).await;
    let saga = saga();
    bed.risk.screen(vec![order(saga, 1_000_000)]).await;
    let answers = bed.risk.heard.wait(1).await;
    let step_answer::Outcome::Refused(refused) = about(&answers[0], saga) else { panic!("not refused") };
    assert_eq!(refused.reason, "REVIEW_EXPIRED");
    let review = get(&bed.risk, saga).await;
    assert_eq!(review.state(), ReviewState::Expired);
    assert!(review.reviewer.is_empty() && review.decide_time.is_some());
    let status = bed.risk.decide(saga, true, "ana").await.unwrap_err();
    assert_eq!(decided(&status), ("EXPIRED".into(), String::new()));
    assert_eq!(bed.risk.screen(vec![order(saga, 1_000_000)]).await, [Answer::Refused(refused)]);
}

#[tokio::test]
async fn a_decision_after_the_deadline_finds_the_review_expired() {
    let bed = Bed::with(deadline(Duration::ZERO)).await;
    let saga = saga();
    bed.risk.screen(vec![order(saga, 1_000_000)]).await;
    // Whoever comes first after the deadline, this or the clock, writes it down.
    let status = bed.risk.decide(saga, true, "ana").await.unwrap_err();
    assert_eq!(decided(&status), ("EXPIRED".into(), String::new()));
    bed.risk.heard.wait(1).await;
    tokio::time::sleep(Duration::from_millis(1200)).await;
    assert_eq!(bed.risk.heard.now().len(), 1);
}

#[tokio::test]
async fn what_is_due_is_ended_by_the_next_process_after_a_restart() {
    let bed = Bed::with(deadline(Duration::from_secs(3600))).await;
    let sagas: Vec<_> = (0..30).map(|_| saga()).collect();
    bed.risk.screen(sagas.iter().map(|saga| order(*saga, 1_000_000)).collect()).await;
    bed.risk.stop.request();
    bed.database.connect().await.execute("update risk.screening set expire_time = now()").await.unwrap();
    assert_eq!(list(&bed.risk, ListReviewsRequest::default()).await.len(), 30);
    let next = Running::on(&bed.database, deadline(Duration::ZERO)).await;
    assert_eq!(next.heard.wait(30).await.len(), 30);
    let expired = ListReviewsRequest { state: ReviewState::Expired.into(), ..Default::default() };
    assert_eq!(list(&next, expired).await.len(), 30);
    assert_eq!(bed.risk.heard.now(), []);
}

#[tokio::test]
async fn one_poisoned_review_does_not_keep_others_open() {
    let bed = Bed::with(deadline(Duration::from_millis(1))).await;
    let bad = saga();
    let poison = format!(
        "create function risk.poison() returns trigger language plpgsql as \
         $$ begin if new.saga_id = '{}' then raise exception 'poison'; end if; return new; end $$; \
         create trigger poison before update on risk.screening for each row execute function risk.poison();",
        bad.uuid()
    );
    bed.database.connect().await.execute(sqlx::raw_sql(sqlx::AssertSqlSafe(poison))).await.unwrap();
    let items = (0..9).map(|i| order(if i == 4 { bad } else { saga() }, 1_000_000)).collect();
    bed.risk.screen(items).await;
    let answers = bed.risk.heard.wait(8).await;
    assert!(answers.iter().all(|answer| answer.saga_id != bad.to_string()));
    assert_eq!(get(&bed.risk, bad).await.state(), ReviewState::Open);
}

#[tokio::test]
async fn reviews_are_listed_open_ones_first_come_first_in_pages() {
    let bed = Bed::new().await;
    let mut sagas = Vec::new();
    for _ in 0..5 {
        let saga = saga();
        bed.risk.screen(vec![order(saga, 1_000_000), order(crate::bed::saga(), 1)]).await;
        sagas.push(saga.to_string());
    }
    assert_eq!(list(&bed.risk, ListReviewsRequest::default()).await, sagas);
    let middle: SagaId = sagas[2].parse().unwrap();
    bed.risk.decide(middle, true, "ana").await.unwrap();
    for (state, expected) in [
        (ReviewState::Approved, vec![sagas.remove(2)]),
        (ReviewState::Open, sagas),
        (ReviewState::Declined, vec![]),
        (ReviewState::Withdrawn, vec![]),
    ] {
        let request = ListReviewsRequest { state: state.into(), ..Default::default() };
        assert_eq!(list(&bed.risk, request).await, expected, "{state:?}");
    }
}

#[tokio::test]
async fn what_was_told_leaves_the_outbox() {
    let bed = Bed::new().await;
    let saga = saga();
    bed.risk.screen(vec![order(saga, 1_000_000)]).await;
    bed.risk.decide(saga, true, "ana").await.unwrap();
    bed.risk.heard.wait(1).await;
    eventually(async || {
        let mut owner = bed.database.connect().await;
        let left: i64 =
            sqlx::query_scalar("select count(*) from risk.outbox").fetch_one(&mut owner).await.unwrap();
        (left == 0).then_some(())
    })
    .await;
}

#[tokio::test]
async fn doors_refuse_what_cannot_be() {
    let bed = Bed::new().await;
    let mut reviews = bed.risk.reviews.clone();
    let known = saga();
    bed.risk.screen(vec![order(known, 1_000_000)]).await;
    let long = "x".repeat(501);
    for (saga_id, approve, reviewer, reason, code) in [
        ("", true, "ana", "r", Code::InvalidArgument),
        ("pay_01h2xcejqtf2nbrexx3vqjhp41", true, "ana", "r", Code::InvalidArgument),
        (known.to_string().as_str(), true, "", "r", Code::InvalidArgument),
        (known.to_string().as_str(), true, "a\0", "r", Code::InvalidArgument),
        (known.to_string().as_str(), true, &long, "r", Code::InvalidArgument),
        (known.to_string().as_str(), false, "ana", "", Code::InvalidArgument),
        (known.to_string().as_str(), true, "ana", &long, Code::InvalidArgument),
        (saga().to_string().as_str(), true, "ana", "r", Code::NotFound),
    ] {
        let request = DecideReviewRequest {
            saga_id: saga_id.into(),
            approve,
            reviewer: reviewer.into(),
            reason: reason.into(),
        };
        let status = reviews.decide_review(request).await.unwrap_err();
        assert_eq!(status.code(), code, "{saga_id} {reviewer:?} {reason:?}");
    }
    for request in [
        ListReviewsRequest { state: 99, ..Default::default() },
        ListReviewsRequest { page_size: -1, ..Default::default() },
        ListReviewsRequest { page_token: "0123456789abcdef00".into(), ..Default::default() },
    ] {
        assert_eq!(reviews.list_reviews(request).await.unwrap_err().code(), Code::InvalidArgument);
    }
    let absent = reviews.get_review(GetReviewRequest { saga_id: saga().to_string() }).await.unwrap_err();
    assert_eq!(absent.code(), Code::NotFound);
    // Nothing of that has ended the review.
    let review = bed.risk.decide(known, true, "ana").await.unwrap();
    assert_eq!(review.state(), ReviewState::Approved);
}

async fn withdraw(risk: &Running, saga: SagaId) -> Published {
    let header =
        StepHeader { saga_id: saga.to_string(), step: "screen".into(), attempt: 1, ..Default::default() };
    let item = WithdrawItem {
        header: Some(header),
        order_id: saga.order().to_string(),
        reason: "CANCEL_REQUESTED".into(),
    };
    let kind = WithdrawItem::full_name();
    let message = Message::new(Exchange::Commands, "risk", &kind, "orchestrator", item.encode_to_vec());
    risk.bus.publish(&[message]).await.remove(0)
}

#[tokio::test]
async fn a_saga_that_goes_back_withdraws_its_review() {
    let bed = Bed::new().await;
    let saga = saga();
    let item = order(saga, 1_234_567);
    pending(&bed.risk.screen(vec![item.clone()]).await[0]);
    for _ in 0..2 {
        assert!(matches!(withdraw(&bed.risk, saga).await, Published::Safe));
        let review = get(&bed.risk, saga).await;
        assert_eq!((review.state(), review.reason.as_str()), (ReviewState::Withdrawn, "CANCEL_REQUESTED"));
        assert!(review.reviewer.is_empty() && review.decide_time.is_some());
    }
    let late = bed.risk.decide(saga, true, "ada").await.unwrap_err();
    assert_eq!(decided(&late), ("WITHDRAWN".into(), String::new()));
    let again = bed.risk.screen(vec![item]).await;
    assert!(
        matches!(&again[0], Answer::Refused(refused) if refused.reason == "REVIEW_WITHDRAWN"),
        "{again:?}"
    );
    let request = ListReviewsRequest { state: ReviewState::Withdrawn.into(), ..Default::default() };
    assert_eq!(list(&bed.risk, request).await, [saga.to_string()]);
}

#[tokio::test]
async fn what_is_decided_or_unknown_is_not_withdrawn() {
    let bed = Bed::new().await;
    let (unknown, saga) = (saga(), saga());
    bed.risk.screen(vec![order(saga, 1_234_567)]).await;
    bed.risk.decide(saga, true, "ada").await.unwrap();
    assert!(matches!(withdraw(&bed.risk, saga).await, Published::Safe));
    assert_eq!(get(&bed.risk, saga).await.state(), ReviewState::Approved);
    assert!(matches!(withdraw(&bed.risk, unknown).await, Published::Safe));
    let garbage = Message::new(Exchange::Commands, "risk", "what", "orchestrator", vec![0xff]);
    assert!(matches!(bed.risk.bus.publish(&[garbage]).await.remove(0), Published::Dead(_)));
}

#[tokio::test]
async fn a_withdrawal_that_comes_first_fences_a_late_screening() {
    let bed = Bed::new().await;
    let saga = saga();
    for _ in 0..2 {
        assert!(matches!(withdraw(&bed.risk, saga).await, Published::Safe));
        let late = bed.risk.screen(vec![order(saga, 1_234_567)]).await;
        assert_eq!(late, [Answer::Fenced]);
    }
    let request = GetReviewRequest { saga_id: saga.to_string() };
    let absent = bed.risk.reviews.clone().get_review(request).await.unwrap_err();
    assert_eq!(absent.code(), Code::NotFound, "there is nothing to decide");
    assert_eq!(bed.screenings().await, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_withdrawal_and_its_screening_at_once_leave_no_open_review() {
    let bed = Bed::new().await;
    for _ in 0..30 {
        let saga = saga();
        let (screened, withdrawn) =
            tokio::join!(bed.risk.screen(vec![order(saga, 1_234_567)]), withdraw(&bed.risk, saga));
        assert!(matches!(withdrawn, Published::Safe));
        assert!(matches!(screened[0], Answer::Pending(_) | Answer::Fenced), "{screened:?}");
    }
    let open = ListReviewsRequest { state: ReviewState::Open.into(), ..Default::default() };
    assert!(list(&bed.risk, open).await.is_empty());
}
