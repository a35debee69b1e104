//! The attempts for people: one, or a list, newest saga first. What is in doubt is a state like any other.

use proto::{
    error, page,
    payment::v1::{
        Attempt, AttemptState, GetAttemptRequest, ListAttemptsRequest, ListAttemptsResponse,
        attempts_server::Attempts,
    },
    time::stamp,
};
use sqlx::PgPool;
use std::time::Duration;
use tonic::{Request, Response, Status};
use types::{Currency, Money, OrderId, PaymentId, SagaId, StepName};
use uuid::Uuid;

use crate::store::{self, ViewRow};

/// Serves `amends.payment.v1.Attempts`.
pub(crate) struct AttemptDoor {
    pub(crate) pool: PgPool,
}

#[tonic::async_trait]
impl Attempts for AttemptDoor {
    async fn get_attempt(&self, request: Request<GetAttemptRequest>) -> Result<Response<Attempt>, Status> {
        let name = request.into_inner().payment_id;
        let mut connection = self.pool.acquire().await.map_err(|error| trouble(&error))?;
        let row = if let Ok(payment) = name.parse::<PaymentId>() {
            store::BY_PAYMENT.maybe(&mut connection, (payment.uuid(),)).await
        } else if let Ok(saga) = name.parse::<SagaId>() {
            store::BY_SAGA.maybe(&mut connection, (saga.uuid(),)).await
        } else {
            return Err(error::invalid("payment_id", "BAD_ID", "must be pay_…, saga_… or ord_…"));
        };
        let row = row.map_err(|error| trouble(&error))?;
        row.map(|row| Response::new(view(row))).ok_or_else(|| error::not_found("payment", &name))
    }

    async fn list_attempts(
        &self,
        request: Request<ListAttemptsRequest>,
    ) -> Result<Response<ListAttemptsResponse>, Status> {
        let request = request.into_inner();
        let size = page::size(request.page_size)?;
        let state = AttemptState::try_from(request.state)
            .map_err(|_| error::invalid("state", "UNKNOWN_STATE", "is not a state of an attempt"))?;
        let state =
            Some(state).filter(|state| *state != AttemptState::Unspecified).map(|state| state.as_str_name());
        let arguments = ["attempts", state.unwrap_or_default()];
        let (saga, step) = after(page::cursor(&arguments, &request.page_token)?)?;
        let mut connection = self.pool.acquire().await.map_err(|error| trouble(&error))?;
        let rows = match state {
            Some(state @ "STARTED") => {
                store::LIST_STARTED.all(&mut connection, (saga, step, state.to_owned(), size + 1)).await
            }
            Some(state) if state != "SUCCEEDED" => {
                store::LIST_STATE.all(&mut connection, (saga, step, state.to_owned(), size + 1)).await
            }
            state => store::LIST.all(&mut connection, (saga, step, state.map(str::to_owned), size + 1)).await,
        };
        let mut rows = rows.map_err(|error| trouble(&error))?;
        let size = usize::try_from(size).unwrap_or(usize::MAX);
        let more = rows.len() > size;
        rows.truncate(size);
        let next_page_token = match rows.last() {
            Some((_, saga, step, ..)) if more => page::token(&arguments, &format!("{saga}/{step}")),
            _ => String::new(),
        };
        let attempts = rows.into_iter().map(view).collect();
        Ok(Response::new(ListAttemptsResponse { attempts, next_page_token }))
    }
}

/// The row that was shown last, from a cursor.
fn after(cursor: Option<String>) -> Result<(Option<Uuid>, Option<String>), Status> {
    let Some(cursor) = cursor else { return Ok((None, None)) };
    let read = || {
        let (saga, step) = cursor.split_once('/')?;
        Some((saga.parse::<Uuid>().ok()?, step.parse::<StepName>().ok()?.to_string()))
    };
    read()
        .map(|(saga, step)| (Some(saga), Some(step)))
        .ok_or_else(|| error::invalid("page_token", "BAD_PAGE_TOKEN", "is not a token of this list"))
}

fn view(row: ViewRow) -> Attempt {
    let (
        payment,
        saga,
        step,
        order,
        minor,
        currency,
        state,
        provider,
        reference,
        decline,
        sends,
        wanted_back,
        ..,
    ) = row;
    let (create_time, update_time, next_look_time) = (row.12, row.13, row.14);
    let currency = currency.and_then(|code| code.parse::<Currency>().ok());
    Attempt {
        payment_id: PaymentId::from_uuid(payment).to_string(),
        saga_id: SagaId::from_uuid(saga).to_string(),
        step,
        order_id: order.map(|order| OrderId::from_uuid(order).to_string()).unwrap_or_default(),
        amount: minor.zip(currency).map(|(minor, currency)| Money::new(minor, currency).into()),
        state: AttemptState::from_str_name(&state).unwrap_or(AttemptState::Unspecified).into(),
        provider: provider.unwrap_or_default(),
        provider_reference: reference.unwrap_or_default(),
        decline_code: decline.unwrap_or_default(),
        sends,
        wanted_back,
        create_time: Some(stamp(create_time)),
        update_time: Some(stamp(update_time)),
        next_look_time: next_look_time.map(stamp),
    }
}

fn trouble(error: &sqlx::Error) -> Status {
    match error {
        sqlx::Error::Io(_) | sqlx::Error::PoolTimedOut | sqlx::Error::PoolClosed => {
            tracing::warn!(%error, "the attempts cannot be read now");
            error::unavailable(
                "DATABASE_UNAVAILABLE",
                "the attempts cannot be read now",
                Duration::from_secs(1),
            )
        }
        _ => {
            tracing::error!(%error, "the attempts cannot be read");
            error::internal("the attempts cannot be read")
        }
    }
}
