//! The gRPC doors: what customers were told, and telling it again. The only place that builds a `Status`.

use std::time::Duration;

use chassis::database::Trouble;
use chrono::DateTime;
use proto::{
    error,
    notification::v1::{
        self as wire, DeliveryState, ListDeliveriesRequest, ListDeliveriesResponse, ResendRequest,
        notifications_server::Notifications,
    },
    page, time,
};
use sqlx::PgPool;
use tonic::{Request, Response, Status};
use types::{IdError, OrderId};
use uuid::Uuid;

use crate::{
    hands::Hands,
    store::{self, After, Delivery},
};

/// Serves `amends.notification.v1.Notifications`.
#[derive(Clone)]
pub(crate) struct Desk {
    pub(crate) pool: PgPool,
    /// Those who send.
    pub(crate) hands: Hands,
}

#[tonic::async_trait]
impl Notifications for Desk {
    async fn list_deliveries(
        &self,
        request: Request<ListDeliveriesRequest>,
    ) -> Result<Response<ListDeliveriesResponse>, Status> {
        let ListDeliveriesRequest { page_size, page_token, order_id } = request.into_inner();
        let order = Some(order_id.as_str()).filter(|text| !text.is_empty()).map(order).transpose()?;
        let size = page::size(page_size)?;
        let arguments = ["deliveries", &order.map(|order| order.to_string()).unwrap_or_default()];
        let after = after(page::cursor(&arguments, &page_token)?)?;
        let mut connection = self.pool.acquire().await.map_err(status)?;
        let mut found = store::list(&mut connection, order, after, size + 1).await.map_err(status)?;
        let next_page_token = page::next(&mut found, size, &arguments, cursor);
        let deliveries = found.into_iter().map(show).collect();
        Ok(Response::new(ListDeliveriesResponse { deliveries, next_page_token }))
    }

    async fn resend(&self, request: Request<ResendRequest>) -> Result<Response<wire::Delivery>, Status> {
        let text = request.into_inner().delivery_id;
        let id = Uuid::try_parse(&text).map_err(|_| {
            error::invalid("delivery_id", "BAD_DELIVERY_ID", "must be the id of a delivery, a UUID")
        })?;
        let mut connection = self.pool.acquire().await.map_err(status)?;
        let found = store::resend(&mut connection, id).await.map_err(status)?;
        let found = found.ok_or_else(|| error::not_found("delivery", &id.to_string()))?;
        self.hands.wake();
        Ok(Response::new(show(found)))
    }
}

fn order(text: &str) -> Result<OrderId, Status> {
    text.parse().map_err(|why: IdError| error::invalid("order_id", "BAD_ORDER_ID", &why.to_string()))
}

fn cursor(last: &Delivery) -> String {
    format!("{} {}", last.create_time.timestamp_micros(), last.id)
}

/// Behind which delivery a page begins; without a cursor, before all of them.
fn after(cursor: Option<String>) -> Result<After, Status> {
    let Some(cursor) = cursor else { return Ok((DateTime::from_timestamp_nanos(i64::MAX), Uuid::max())) };
    let read = || {
        let (micros, id) = cursor.split_once(' ')?;
        Some((DateTime::from_timestamp_micros(micros.parse().ok()?)?, id.parse().ok()?))
    };
    // A token is sealed with its arguments: this one was made by another build.
    read().ok_or_else(|| error::invalid("page_token", "BAD_PAGE_TOKEN", "is not a token of this list"))
}

fn show(delivery: Delivery) -> wire::Delivery {
    wire::Delivery {
        delivery_id: delivery.id.to_string(),
        order_id: delivery.order.to_string(),
        template: delivery.template,
        recipient: delivery.recipient,
        subject: delivery.subject,
        state: DeliveryState::from_str_name(&delivery.state).unwrap_or_default().into(),
        attempts: delivery.attempts,
        last_error: delivery.last_error.unwrap_or_default(),
        create_time: Some(time::stamp(delivery.create_time)),
        send_time: delivery.send_time.map(time::stamp),
    }
}

/// What trouble with the database is to a caller. Logged here, because nobody else sees it.
fn status(trouble: impl Into<Trouble>) -> Status {
    match trouble.into() {
        Trouble::Away(why) | Trouble::Unavailable(why) | Trouble::Again(why) => {
            tracing::warn!(why, "the database is away");
            let message = "notification-svc's database is away";
            error::unavailable("DATABASE_UNAVAILABLE", message, Duration::from_secs(1))
        }
        Trouble::Failed(why) => {
            tracing::error!(why, "the database cannot be read");
            error::internal("notification-svc cannot read its rows")
        }
    }
}
