//! `amends.inventory.v1.Inventory`: stock for people. What it shows may be as old as the cache's time to live.

use std::{sync::Arc, time::Duration};

use chassis::{batcher::Batcher, cache::Cache, clock};
use prost::Message as _;
use proto::{
    error,
    inventory::v1::{
        GetStockRequest, ListStockRequest, ListStockResponse, RestockRequest, Stock,
        inventory_server::Inventory,
    },
    page,
};
use sqlx::PgPool;
use tonic::{Request, Response, Status};
use types::{IdempotencyKey, NoAnswer, Sku};

use crate::{
    commands::restock::{self, Restock, Restocked},
    store::people,
    wire,
};

/// The most that one Restock puts in.
const MAX_RESTOCK: i64 = 1_000_000_000;

/// The door.
#[derive(Clone)]
pub(crate) struct People {
    pub(crate) pool: PgPool,
    pub(crate) restock: Batcher<Restock>,
    pub(crate) cache: Arc<dyn Cache>,
    /// How old a shown stock may be; zero: always read.
    pub(crate) ttl: Duration,
}

#[tonic::async_trait]
impl Inventory for People {
    async fn get_stock(&self, request: Request<GetStockRequest>) -> Result<Response<Stock>, Status> {
        let sku = sku(&request.get_ref().sku)?;
        if let Some(stock) = self.remembered(&sku).await {
            return Ok(Response::new(stock));
        }
        let mut connection = self.pool.acquire().await.map_err(database)?;
        let found = people::get(&mut connection, vec![sku.to_string()]).await.map_err(database)?.pop();
        drop(connection);
        let stock = wire::stock(found.ok_or_else(|| error::not_found("stock", sku.as_str()))?);
        self.remember(&stock).await;
        Ok(Response::new(stock))
    }

    async fn list_stock(
        &self,
        request: Request<ListStockRequest>,
    ) -> Result<Response<ListStockResponse>, Status> {
        let request = request.into_inner();
        let size = page::size(request.page_size)?;
        let after = page::cursor(&[], &request.page_token)?.unwrap_or_default();
        let mut connection = self.pool.acquire().await.map_err(database)?;
        // One more than shown tells whether there is a next page.
        let mut found = people::list(&mut connection, after, size + 1).await.map_err(database)?;
        let shown = usize::try_from(size).unwrap_or(usize::MAX);
        let more = found.len() > shown;
        found.truncate(shown);
        let last = found.last().filter(|_| more);
        let next_page_token = last.map(|last| page::token(&[], &last.sku)).unwrap_or_default();
        let stocks = found.into_iter().map(wire::stock).collect();
        Ok(Response::new(ListStockResponse { stocks, next_page_token }))
    }

    async fn restock(&self, request: Request<RestockRequest>) -> Result<Response<Stock>, Status> {
        let item = restock_item(request.get_ref())?;
        let (request_id, sku) = (item.request_id.to_string(), item.sku.to_string());
        match self.restock.submit(item, None).await.map_err(no_answer)? {
            Restocked::Done(stock) => {
                let stock = wire::stock(stock);
                self.remember(&stock).await;
                Ok(Response::new(stock))
            }
            Restocked::Reused => Err(error::already_exists(
                "IDEMPOTENCY_KEY_REUSED",
                format!("request_id {request_id} was used for another restock: take a new one"),
                [("request_id", request_id)],
            )),
            Restocked::TooMuch => Err(error::precondition(
                "STOCK_TOO_LARGE",
                format!("the stock of {sku} would not fit 64 bits"),
                [("sku", sku)],
            )),
        }
    }
}

impl People {
    async fn remembered(&self, sku: &Sku) -> Option<Stock> {
        if self.ttl.is_zero() {
            return None;
        }
        Stock::decode(self.cache.get(&cache_key(sku.as_str())).await?.as_slice()).ok()
    }

    async fn remember(&self, stock: &Stock) {
        if !self.ttl.is_zero() {
            self.cache.set(&cache_key(&stock.sku), stock.encode_to_vec(), self.ttl).await;
        }
    }
}

fn cache_key(sku: &str) -> String {
    format!("inventory.stock.{sku}")
}

fn sku(text: &str) -> Result<Sku, Status> {
    text.parse().map_err(|e: types::KeyError| error::invalid("sku", "BAD_SKU", &e.to_string()))
}

/// What Restock asks for.
pub(crate) fn restock_item(request: &RestockRequest) -> Result<restock::Item, Status> {
    let mut violations = Vec::new();
    let mut bad = |field: &str, reason: &str, why: String| {
        violations.push(error::Violation::new(field, reason, why));
    };
    // Without an id of the caller's every call is a restock of its own.
    let text = match request.request_id.as_str() {
        "" => clock::new_uuid().to_string(),
        given => given.to_owned(),
    };
    let request_id = text.parse::<IdempotencyKey>();
    if let Err(e) = &request_id {
        bad("request_id", "BAD_REQUEST_ID", e.to_string());
    }
    let sku = request.sku.parse::<Sku>();
    if let Err(e) = &sku {
        bad("sku", "BAD_SKU", e.to_string());
    }
    let quantity = request.quantity;
    if !(1..=MAX_RESTOCK).contains(&quantity) {
        bad("quantity", "OUT_OF_RANGE", format!("must be 1 to {MAX_RESTOCK}, is {quantity}"));
    }
    match (request_id, sku) {
        (Ok(request_id), Ok(sku)) if violations.is_empty() => Ok(restock::Item { request_id, sku, quantity }),
        _ => Err(error::invalid_fields(violations)),
    }
}

fn database(error: sqlx::Error) -> Status {
    use chassis::database::Trouble;
    tracing::warn!(%error, "stock cannot be read");
    match error.into() {
        Trouble::Away(_) | Trouble::Unavailable(_) | Trouble::Again(_) => {
            error::unavailable("DATABASE_UNAVAILABLE", "the database is away", Duration::from_secs(1))
        }
        Trouble::Failed(_) => error::internal("stock cannot be read"),
    }
}

fn no_answer(none: NoAnswer) -> Status {
    match none {
        NoAnswer::Overloaded { retry_after } => {
            error::exhausted("OVERLOADED", "too much to do", retry_after, [])
        }
        NoAnswer::TooLate | NoAnswer::Away(_) | NoAnswer::Unavailable(_) => {
            error::unavailable("DATABASE_UNAVAILABLE", "the database is away", Duration::from_secs(1))
        }
        NoAnswer::Failed(_) => error::internal("this restock cannot be processed"),
    }
}
