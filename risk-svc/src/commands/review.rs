//! How a review ends: by a person, by its deadline, or because its saga goes back. All knock at the same command, so that
//! one of them counts.
//!
//! The end, the outcome of the step and the message that tells the saga are one commit.

use std::collections::BTreeSet;

use chassis::{
    batcher::Command,
    database::{self, Trouble},
    outbox::{Outbox, Relay},
};
use chrono::{DateTime, SecondsFormat, Utc};
use prost::Message as _;
use proto::{risk::v1::ScreenDone, step::step_answer};
use sqlx::PgPool;
use types::{SagaId, StepKey, StepName};

use crate::{
    domain::{self, Knock, ReviewState},
    store::{
        self,
        review::{self, Ended, Review},
        rule,
    },
    wire,
};

/// Who knocks at which review.
#[derive(Debug, Clone)]
pub(crate) struct Item {
    pub(crate) saga: SagaId,
    /// None: the saga's only one, or the one that is open.
    pub(crate) step: Option<StepName>,
    pub(crate) knock: Knock,
    /// Of a decision.
    pub(crate) reviewer: String,
    /// Of a decision; may be empty.
    pub(crate) reason: String,
}

/// What came of it.
#[derive(Debug, Clone)]
pub(crate) enum Reply {
    /// It ended by this, or goes on: as it now is.
    Heard(Box<Review>),
    /// It had ended before.
    Stands(Box<Review>),
    /// There is none.
    Absent,
}

/// The command.
pub(crate) struct Knocking {
    pub(crate) pool: PgPool,
    pub(crate) outbox: Outbox,
    pub(crate) relay: Relay,
}

impl Command for Knocking {
    type Item = Item;
    type Reply = Reply;
    type Key = SagaId;
    const NAME: &'static str = "risk.review";

    fn key(item: &Item) -> SagaId {
        item.saga
    }

    async fn run(&self, items: &[Item]) -> Result<Vec<Reply>, Trouble> {
        let mut sagas: Vec<_> = items.iter().map(|item| item.saga.uuid()).collect();
        sagas.sort_unstable();
        let mut connection = database::acquire(&self.pool).await?;
        let now = rule::now(&mut connection).await?;
        // First, and by itself: a screening that is on its way finds the tombstone, or is found open below.
        let withdrawn: BTreeSet<_> = items.iter().filter_map(withdrawn).collect();
        if !withdrawn.is_empty() {
            store::bury(&mut connection, withdrawn, now).await?;
        }
        let mut transaction = database::begin(&mut connection).await?;
        let found = review::lock_of_sagas(&mut transaction, sagas).await?;
        let (mut ended, mut messages, mut replies) = (Vec::new(), Vec::new(), Vec::new());
        for item in items {
            let Some(review) = meant(&found, item) else {
                replies.push(Reply::Absent);
                continue;
            };
            let Some(state) = domain::end(review.state, review.expire_time, item.knock, now) else {
                replies.push(Reply::Stands(Box::new(review.clone())));
                continue;
            };
            let end = end(review.clone(), state, item, now);
            let after = Box::new(end.0.review.clone());
            // Who comes to decide after the deadline is told what stands.
            let in_time = state != ReviewState::Expired || item.knock == Knock::Clock;
            replies.push(if in_time { Reply::Heard(after) } else { Reply::Stands(after) });
            messages.push(wire::late_answer(&review.key, end.1, &review.trace, now));
            ended.push(end.0);
        }
        if !ended.is_empty() {
            review::end(&mut transaction, &ended).await?;
            self.outbox.insert(&mut transaction, &messages).await?;
        }
        database::commit(transaction).await?;
        for Ended { review, .. } in &ended {
            metrics::counter!("amends_risk_reviews_total", "state" => review.state.as_str()).increment(1);
        }
        self.relay.hand(messages);
        Ok(replies)
    }
}

/// The step whose review is withdrawn.
fn withdrawn(item: &Item) -> Option<StepKey> {
    let step = item.step.clone().filter(|_| item.knock == Knock::Withdrawal)?;
    Some(StepKey { saga: item.saga, step })
}

/// The review that an item means: of its step, or else the open one, or else the latest.
fn meant<'r>(found: &'r [Review], item: &Item) -> Option<&'r Review> {
    found
        .iter()
        .filter(|review| review.key.saga == item.saga)
        .filter(|review| item.step.as_ref().is_none_or(|step| *step == review.key.step))
        .max_by_key(|review| (review.state == ReviewState::Open, review.create_time))
}

/// The review as it is after its end, and what its saga is told.
fn end(before: Review, state: ReviewState, item: &Item, now: DateTime<Utc>) -> (Ended, step_answer::Outcome) {
    let is_decision = matches!(state, ReviewState::Approved | ReviewState::Declined);
    let reviewer = is_decision.then(|| item.reviewer.clone());
    let reason =
        (state != ReviewState::Expired).then(|| item.reason.clone()).filter(|reason| !reason.is_empty());
    let review = Review { state, reviewer, reason, decide_time: Some(now), ..before };
    let refused = match state {
        ReviewState::Approved | ReviewState::Open => None,
        ReviewState::Declined => Some(wire::refused(
            "REVIEW_DECLINED",
            [("reviewer", item.reviewer.as_str()), ("reason", item.reason.as_str())],
        )),
        ReviewState::Expired => {
            let time = review.expire_time.to_rfc3339_opts(SecondsFormat::Secs, true);
            Some(wire::refused("REVIEW_EXPIRED", [("expire_time", time.as_str())]))
        }
        ReviewState::Withdrawn => Some(wire::refused("REVIEW_WITHDRAWN", [("reason", item.reason.as_str())])),
    };
    match refused {
        None => {
            let reply = ScreenDone { approved_by: "REVIEWER".into() }.encode_to_vec();
            let outcome = step_answer::Outcome::Done(reply.clone());
            (Ended { review, outcome: "DONE", reply }, outcome)
        }
        Some(refused) => {
            let reply = refused.encode_to_vec();
            (Ended { review, outcome: "REFUSED", reply }, step_answer::Outcome::Refused(refused))
        }
    }
}
