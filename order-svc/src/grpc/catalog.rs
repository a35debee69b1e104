//! `amends.order.v1.Catalog`: quotes for the orchestrator; prices and documents for people.
//!
//! A quote reads what all its carts need in one statement and stores nothing.

use std::time::Duration;

use chassis::{
    clock,
    database::{Trouble, Warm},
    slots::slot,
};
use proto::{
    error,
    order::v1::{
        self, Document, GetDocumentRequest, ListPricesRequest, ListPricesResponse, QuoteRequest,
        QuoteResponse, SetPriceRequest, catalog_server::Catalog,
    },
    page,
};
use sqlx::{PgPool, Postgres, pool::PoolConnection};
use tonic::{Request, Response, Status};
use types::{Currency, Money, OrderId, Sku};

use super::MAX_SLICE;
use crate::{
    domain::MAX_PRICE,
    store::{catalog, document},
    wire,
};

/// The longest title of a price, in characters.
const MAX_TITLE: usize = 200;

/// The door.
#[derive(Clone)]
pub(crate) struct Prices {
    pub(crate) pool: PgPool,
    /// For quotes.
    pub(crate) warm: Warm,
}

#[tonic::async_trait]
impl Catalog for Prices {
    async fn quote(&self, request: Request<QuoteRequest>) -> Result<Response<QuoteResponse>, Status> {
        let items = request.into_inner().items;
        if items.is_empty() || items.len() > MAX_SLICE {
            let why = format!("must be 1 to {MAX_SLICE}, there are {}", items.len());
            return Err(error::invalid("items", "SLICE_LENGTH", &why));
        }
        let carts: Vec<_> = items.into_iter().map(wire::cart).collect();
        let wanted = carts.iter().flat_map(|(_, cart)| cart.wanted()).collect();
        let merchants = carts.iter().filter_map(|(_, cart)| cart.merchant()).collect();
        // Whoever asks has the next slice grow meanwhile.
        let place = slot().await;
        let mut connection = self.warm.connection().await.map_err(trouble)?;
        let (prices, rates) = catalog::quote(&mut connection, wanted, merchants).await.map_err(trouble)?;
        drop((connection, place));
        let replies = carts.into_iter().map(|(key, cart)| wire::quote(key, cart.quote(&prices, &rates)));
        Ok(Response::new(QuoteResponse { replies: replies.collect() }))
    }

    async fn list_prices(
        &self,
        request: Request<ListPricesRequest>,
    ) -> Result<Response<ListPricesResponse>, Status> {
        let request = request.into_inner();
        let size = page::size(request.page_size)?;
        let only = request.currency_code;
        if !only.is_empty() {
            currency("currency_code", &only)?;
        }
        let cursor = page::cursor(&[&only], &request.page_token)?.unwrap_or_default();
        // Neither half of a key has a space.
        let (sku, code) = cursor.split_once(' ').unwrap_or_default();
        let after = (sku.to_owned(), code.to_owned());
        let mut connection = self.connection().await?;
        // One more than shown tells whether there is a next page.
        let mut found =
            catalog::list(&mut connection, after, only.clone(), size + 1).await.map_err(trouble)?;
        let shown = usize::try_from(size).unwrap_or(usize::MAX);
        let more = found.len() > shown;
        found.truncate(shown);
        let last = found.last().filter(|_| more).map(|last| format!("{} {}", last.sku, last.unit.currency));
        let next_page_token = last.map(|last| page::token(&[&only], &last)).unwrap_or_default();
        let prices = found.into_iter().map(wire::price).collect();
        Ok(Response::new(ListPricesResponse { prices, next_page_token }))
    }

    async fn set_price(&self, request: Request<SetPriceRequest>) -> Result<Response<v1::Price>, Status> {
        let price = price(request.into_inner())?;
        let mut connection = self.connection().await?;
        catalog::set(&mut connection, &price).await.map_err(trouble)?;
        Ok(Response::new(wire::price(price)))
    }

    async fn get_document(&self, request: Request<GetDocumentRequest>) -> Result<Response<Document>, Status> {
        let id = request.into_inner().order_id;
        let order: OrderId =
            id.parse().map_err(|e: types::IdError| error::invalid("order_id", "BAD_ID", &e.to_string()))?;
        let mut connection = self.connection().await?;
        let found = document::get(&mut connection, order).await.map_err(trouble)?;
        let shown = found.ok_or_else(|| error::not_found("document", &id))?;
        Ok(Response::new(wire::document(order, shown)))
    }
}

impl Prices {
    async fn connection(&self) -> Result<PoolConnection<Postgres>, Status> {
        self.pool.acquire().await.map_err(|error| trouble(error.into()))
    }
}

fn currency(field: &str, code: &str) -> Result<Currency, Status> {
    code.parse().map_err(|e: types::MoneyError| error::invalid(field, "UNKNOWN_CURRENCY", &e.to_string()))
}

/// What SetPrice stores.
pub(crate) fn price(request: SetPriceRequest) -> Result<catalog::Price, Status> {
    let mut violations = Vec::new();
    let mut bad = |field: &str, reason: &str, why: String| {
        violations.push(error::Violation::new(field, reason, why));
    };
    let sku = request.sku.parse::<Sku>();
    if let Err(e) = &sku {
        bad("sku", "BAD_SKU", e.to_string());
    }
    let title = request.title;
    let length = title.chars().count();
    if length == 0 || length > MAX_TITLE || title.chars().any(char::is_control) {
        bad(
            "title",
            "BAD_TITLE",
            format!("must be 1 to {MAX_TITLE} characters, none of them a control character"),
        );
    }
    let unit = request.unit_price.unwrap_or_default();
    if !(1..=MAX_PRICE).contains(&unit.minor_units) {
        let why = format!("must be 1 to {MAX_PRICE}, is {}", unit.minor_units);
        bad("unit_price.minor_units", "OUT_OF_RANGE", why);
    }
    let currency = unit.currency_code.parse::<Currency>();
    if let Err(e) = &currency {
        bad("unit_price.currency_code", "UNKNOWN_CURRENCY", e.to_string());
    }
    match (sku, currency) {
        (Ok(sku), Ok(currency)) if violations.is_empty() => Ok(catalog::Price {
            sku,
            title,
            unit: Money::new(unit.minor_units, currency),
            update_time: clock::now(),
        }),
        _ => Err(error::invalid_fields(violations)),
    }
}

fn trouble(trouble: Trouble) -> Status {
    tracing::warn!(error = %trouble, "the catalog cannot be read or written");
    match trouble {
        Trouble::Away(_) | Trouble::Unavailable(_) | Trouble::Again(_) => {
            error::unavailable("DATABASE_UNAVAILABLE", "the database is away", Duration::from_secs(1))
        }
        Trouble::Failed(_) => error::internal("the catalog cannot be read or written"),
    }
}
