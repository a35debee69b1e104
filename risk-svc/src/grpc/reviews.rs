//! `amends.risk.v1.Reviews`: what waits for a person, and the person's decision.

use chassis::batcher::Batcher;
use chrono::DateTime;
use proto::{
    error, page,
    risk::v1::{
        DecideReviewRequest, GetReviewRequest, ListReviewsRequest, ListReviewsResponse, Review,
        ReviewState as WireState, reviews_server::Reviews,
    },
};
use sqlx::PgPool;
use tonic::{Request, Response, Status};
use types::{NoAnswer, SagaId};
use uuid::Uuid;

use super::{remark, status, unavailable};
use crate::{
    commands::review::{Item, Knocking, Reply},
    domain::{Knock, ReviewState},
    store::review::{self, After},
    wire,
};

/// Serves it.
#[derive(Clone)]
pub(crate) struct Desk {
    pub(crate) pool: PgPool,
    pub(crate) knocking: Batcher<Knocking>,
}

#[tonic::async_trait]
impl Reviews for Desk {
    async fn list_reviews(
        &self,
        request: Request<ListReviewsRequest>,
    ) -> Result<Response<ListReviewsResponse>, Status> {
        let request = request.into_inner();
        let Some(state) = state(request.state)? else {
            return Ok(Response::new(ListReviewsResponse::default()));
        };
        let size = page::size(request.page_size)?;
        let arguments = ["reviews", state.as_str()];
        let after = after(page::cursor(&arguments, &request.page_token)?)?;
        let mut connection = self.pool.acquire().await.map_err(status)?;
        let mut found = review::list(&mut connection, state, after, size + 1).await.map_err(status)?;
        let next_page_token = page::next(&mut found, size, &arguments, cursor);
        let reviews = found.into_iter().map(wire::review).collect();
        Ok(Response::new(ListReviewsResponse { reviews, next_page_token }))
    }

    async fn get_review(&self, request: Request<GetReviewRequest>) -> Result<Response<Review>, Status> {
        let saga = saga(&request.into_inner().saga_id)?;
        let mut connection = self.pool.acquire().await.map_err(status)?;
        let found = review::of_saga(&mut connection, saga).await.map_err(status)?;
        let found = found.ok_or_else(|| error::not_found("review", &saga.to_string()))?;
        Ok(Response::new(wire::review(found)))
    }

    async fn decide_review(&self, request: Request<DecideReviewRequest>) -> Result<Response<Review>, Status> {
        let DecideReviewRequest { saga_id, approve, reviewer, reason } = request.into_inner();
        let saga = saga(&saga_id)?;
        // Who is declined may ask why.
        let least = usize::from(!approve);
        let bad = [remark("reviewer", &reviewer, 1, 128), remark("reason", &reason, least, 500)];
        let bad: Vec<_> = bad.into_iter().filter_map(Result::err).collect();
        if !bad.is_empty() {
            return Err(error::invalid_fields(bad));
        }
        let item = Item { saga, step: None, knock: Knock::Decision { approve }, reviewer, reason };
        match self.knocking.submit(item, None).await {
            Ok(Reply::Heard(review)) => Ok(Response::new(wire::review(*review))),
            Ok(Reply::Stands(review)) => Err(stands(&wire::review(*review))),
            Ok(Reply::Absent) => Err(error::not_found("review", &saga.to_string())),
            Err(none) => Err(no_answer(none)),
        }
    }
}

/// Somebody, or the deadline, was faster.
fn stands(review: &Review) -> Status {
    let state = review.state().as_str_name();
    let who = match review.state() {
        WireState::Withdrawn => "the saga, which turned round",
        _ if review.reviewer.is_empty() => "the deadline",
        _ => review.reviewer.as_str(),
    };
    error::precondition(
        "REVIEW_DECIDED",
        format!("the review of {} is {state} already, by {who}", review.saga_id),
        [
            ("saga_id", review.saga_id.clone()),
            ("state", state.to_owned()),
            ("reviewer", review.reviewer.clone()),
            ("reason", review.reason.clone()),
        ],
    )
}

fn no_answer(none: NoAnswer) -> Status {
    match none {
        NoAnswer::Overloaded { retry_after } => {
            error::exhausted("OVERLOADED", "too much to do", retry_after, [])
        }
        // It may have been committed: a repeat says what stands.
        NoAnswer::TooLate | NoAnswer::Away(_) | NoAnswer::Unavailable(_) => unavailable(),
        NoAnswer::Failed(_) => error::internal("the decision cannot be stored"),
    }
}

fn saga(text: &str) -> Result<SagaId, Status> {
    text.parse().map_err(|why: types::IdError| error::invalid("saga_id", "BAD_SAGA_ID", &why.to_string()))
}

/// The state that is asked for; none when no review is ever in it.
fn state(number: i32) -> Result<Option<ReviewState>, Status> {
    let state = WireState::try_from(number)
        .map_err(|_| error::invalid("state", "UNKNOWN_STATE", "is not a state of a review"))?;
    Ok(match state {
        WireState::Unspecified | WireState::Open => Some(ReviewState::Open),
        WireState::Approved => Some(ReviewState::Approved),
        WireState::Declined => Some(ReviewState::Declined),
        WireState::Expired => Some(ReviewState::Expired),
        WireState::Withdrawn => Some(ReviewState::Withdrawn),
    })
}

fn cursor(review: &review::Review) -> String {
    let key = &review.key;
    format!("{} {} {}", review.create_time.timestamp_micros(), key.saga, key.step)
}

fn after(cursor: Option<String>) -> Result<After, Status> {
    let Some(cursor) = cursor else {
        return Ok((DateTime::UNIX_EPOCH, Uuid::nil(), String::new()));
    };
    read_cursor(&cursor).ok_or_else(|| error::invalid("page_token", "BAD_PAGE_TOKEN", "names no review"))
}

pub(crate) fn read_cursor(cursor: &str) -> Option<After> {
    let mut parts = cursor.splitn(3, ' ');
    let time = DateTime::from_timestamp_micros(parts.next()?.parse().ok()?)?;
    let saga: SagaId = parts.next()?.parse().ok()?;
    Some((time, saga.uuid(), parts.next()?.to_owned()))
}
