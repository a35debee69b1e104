//! The order projection, read.

use std::collections::HashMap;

use chassis::{
    batcher::Command,
    database::{self, Trouble},
    sql::{Checked, Statement},
};
use chrono::{DateTime, Utc};
use sqlx::{PgConnection, PgPool};
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

/// Reads orders, all that are asked for at once in one statement: those who wait for an order look again and again, and a
/// connection for each of them would leave none to the sagas.
pub struct ReadOrders {
    /// The orchestrator's own database.
    pub pool: PgPool,
}

impl Command for ReadOrders {
    type Item = OrderId;
    /// None: it is not there.
    type Reply = Option<OrderRow>;
    type Key = OrderId;

    const NAME: &'static str = "read order";
    const COPY: Option<fn(&Self::Reply) -> Self::Reply> = Some(Clone::clone);

    fn key(item: &OrderId) -> OrderId {
        *item
    }

    async fn run(&self, items: &[OrderId]) -> Result<Vec<Option<OrderRow>>, Trouble> {
        let mut connection = database::acquire(&self.pool).await?;
        let ids = items.iter().map(|order| order.uuid()).collect();
        let rows = GET.all(&mut connection, (ids,)).await?;
        let mut found = HashMap::with_capacity(rows.len());
        for row in rows {
            let row = read(row)?;
            found.insert(row.order, row);
        }
        Ok(items.iter().map(|order| found.remove(order)).collect())
    }
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
