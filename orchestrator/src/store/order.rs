//! The order projection, read.

use chassis::sql::{Checked, Statement};
use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use types::OrderId;
use uuid::Uuid;

use crate::journal::Recorded;

/// An order as the projection has it, with what it is about.
#[derive(Debug, Clone)]
pub struct OrderRow {
    /// Which.
    pub order: OrderId,
    /// As in `COMPLETED`.
    pub status: String,
    /// Why.
    pub status_reason: String,
    /// Details, JSON.
    pub status_metadata: String,
    /// Somebody wants it taken back.
    pub cancel_requested: bool,
    /// The saga's version.
    pub version: i64,
    /// When it was accepted.
    pub create_time: DateTime<Utc>,
    /// When it last changed.
    pub update_time: DateTime<Utc>,
    /// The first journal row: what it is about.
    pub started: Vec<Recorded>,
}

type Row = (Uuid, String, String, String, bool, i64, DateTime<Utc>, DateTime<Utc>, String);

static GET: Statement<(Vec<Uuid>,), Row> = Statement::new(
    "select o.order_id, o.status, o.status_reason, o.status_metadata, o.cancel_requested, o.version, o.create_time, \
            o.update_time, j.events \
     from orchestrator.\"order\" o join orchestrator.journal j on j.saga_id = o.order_id and j.version = 1 \
     where o.order_id = any ($1)",
);

static LIST: Statement<(Option<String>, Option<String>, Option<String>, Option<Uuid>, i64), Row> =
    Statement::new(
        "select o.order_id, o.status, o.status_reason, o.status_metadata, o.cancel_requested, o.version, o.create_time, \
            o.update_time, j.events \
     from orchestrator.\"order\" o join orchestrator.journal j on j.saga_id = o.order_id and j.version = 1 \
     where ($1::text is null or o.merchant_id = $1) and ($2::text is null or o.customer_id = $2) \
       and ($3::text is null or o.status = $3) and ($4::uuid is null or o.order_id < $4) \
     order by o.order_id desc limit $5",
    );

static AT_RISK: Statement<(), (String, i64)> = Statement::new(
    "select o.currency::text, sum(o.total_minor)::bigint \
     from orchestrator.\"order\" o join orchestrator.saga s on s.saga_id = o.order_id \
     where s.state = 'PARKED' and not s.ended group by o.currency",
);

pub(super) fn statements() -> Vec<&'static dyn Checked> {
    vec![&GET, &LIST, &AT_RISK]
}

/// What the orders of parked sagas come to, by currency, in minor units.
///
/// # Errors
/// What the database said.
pub async fn at_risk(connection: &mut PgConnection) -> sqlx::Result<Vec<(String, i64)>> {
    AT_RISK.all(connection, ()).await
}

fn read(row: Row) -> sqlx::Result<OrderRow> {
    let (
        id,
        status,
        status_reason,
        status_metadata,
        cancel_requested,
        version,
        create_time,
        update_time,
        events,
    ) = row;
    Ok(OrderRow {
        order: OrderId::from_uuid(id),
        status,
        status_reason,
        status_metadata,
        cancel_requested,
        version,
        create_time,
        update_time,
        started: serde_json::from_str(&events).map_err(|e| sqlx::Error::Decode(e.into()))?,
    })
}

/// Some orders; those that are not there are left out.
///
/// # Errors
/// What the database said.
pub async fn get(connection: &mut PgConnection, orders: &[OrderId]) -> sqlx::Result<Vec<OrderRow>> {
    let ids = orders.iter().map(|o| o.uuid()).collect();
    GET.all(connection, (ids,)).await?.into_iter().map(read).collect()
}

/// What to list.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Of this merchant.
    pub merchant: Option<String>,
    /// Of this customer.
    pub customer: Option<String>,
    /// In this status.
    pub status: Option<String>,
    /// Older than this one.
    pub before: Option<OrderId>,
}

/// A page of orders, newest first.
///
/// # Errors
/// What the database said.
pub async fn list(connection: &mut PgConnection, filter: Filter, limit: i64) -> sqlx::Result<Vec<OrderRow>> {
    let before = filter.before.map(OrderId::uuid);
    LIST.all(connection, (filter.merchant, filter.customer, filter.status, before, limit))
        .await?
        .into_iter()
        .map(read)
        .collect()
}
