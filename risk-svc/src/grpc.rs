//! The gRPC doors: the saga's step here, [`reviews`] and [`rules`] for people. The only place that builds a `Status`.

pub(crate) mod reviews;
pub(crate) mod rules;

use std::time::Duration;

use chassis::{batcher::Batcher, database::Trouble, telemetry::step_span};
use proto::{
    error::{self, Violation},
    risk::v1::{ScreenReply, ScreenRequest, risk_steps_server::RiskSteps},
    step::{self, Replies},
};
use tonic::{Request, Response, Status};
use tracing::Instrument as _;
use types::PartyId;

use crate::{commands::screen::Screen, wire};

/// Items of a slice at most.
const MAX_SLICE: usize = 512;

/// Serves `amends.risk.v1.RiskSteps`.
#[derive(Clone)]
pub(crate) struct Steps {
    pub(crate) screen: Batcher<Screen>,
}

#[tonic::async_trait]
impl RiskSteps for Steps {
    type ScreenStream = Replies<ScreenReply>;

    async fn screen(&self, request: Request<ScreenRequest>) -> Result<Response<Self::ScreenStream>, Status> {
        step::serve(request.into_inner().items, MAX_SLICE, |item, header| {
            let span =
                step_span("amends.risk.v1.RiskSteps/Screen", &header.key, header.attempt, &header.trace);
            let remaining = header.remaining;
            Ok(self.screen.submit(wire::screen(item, header)?, remaining).instrument(span))
        })
    }
}

/// Text by a person: within `least` and `most` characters, none of them a control character.
fn remark(field: &str, text: &str, least: usize, most: usize) -> Result<(), Violation> {
    if (least..=most).contains(&text.chars().count()) && !text.chars().any(char::is_control) {
        return Ok(());
    }
    let description = format!("must have {least} to {most} characters, none of them a control character");
    Err(Violation::new(field, "BAD_TEXT", description))
}

fn customer(text: &str) -> Result<PartyId, Violation> {
    text.parse()
        .map_err(|why: types::KeyError| Violation::new("customer_id", "BAD_CUSTOMER_ID", why.to_string()))
}

/// What trouble with the database is to a caller. Logged here, because nobody else sees it.
fn status(trouble: impl Into<Trouble>) -> Status {
    match trouble.into() {
        Trouble::Away(why) | Trouble::Unavailable(why) | Trouble::Again(why) => {
            tracing::warn!(why, "the database is away");
            unavailable()
        }
        Trouble::Failed(why) => {
            tracing::error!(why, "the database cannot be read");
            error::internal("risk-svc cannot read its rows")
        }
    }
}

fn unavailable() -> Status {
    error::unavailable("DATABASE_UNAVAILABLE", "risk-svc's database is away", Duration::from_secs(1))
}
