//! What carts cost: asked of order-svc by the slice, remembered for a second.
//!
//! A question stores nothing and may be asked again: a catalog that is being restarted fails no order.

use std::time::Duration;

use chassis::{batcher::Command, database::Trouble, grpc::TRACED_BY_ITEM, telemetry};
use prost::Message as _;
use proto::{
    error::{self, Violation},
    local,
    order::v1::{
        QuoteInvalid, QuoteItem, QuoteRequest, Quoted, catalog_client::CatalogClient, quote_reply::Outcome,
    },
};
use tokio::time::Instant;
use tonic::{Code, Request, Status, metadata::MetadataValue};
use tracing::Instrument as _;
use types::NoAnswer;

use super::{Doors, create::Checked, stopping};
use crate::participants::Peer;

/// A quote is worth this much of the customer's time (a catalog is back within it after a restart), with pauses of this
/// length between the tries.
const WITHIN: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(100);

/// One exchange may take this long: those who came meanwhile wait behind it.
const EXCHANGE: Duration = Duration::from_secs(2);

/// Quotes, remembered for at most a second.
pub(crate) type Quotes = moka::future::Cache<Vec<u8>, Quoted>;

pub(crate) fn quotes() -> Quotes {
    moka::future::Cache::builder().max_capacity(10_000).time_to_live(Duration::from_secs(1)).build()
}

/// A cart, with what names it.
pub(crate) struct Cart {
    name: Vec<u8>,
    item: QuoteItem,
}

/// Asks order-svc.
pub(crate) struct AskForPrices {
    pub(crate) catalog: Peer<local::Catalog>,
    /// What was answered is remembered from here, once for all who asked.
    pub(crate) quotes: Quotes,
}

impl Command for AskForPrices {
    type Item = Cart;
    type Reply = Outcome;
    type Key = Vec<u8>;
    const NAME: &'static str = "quote";
    const USES_DATABASE: bool = false;
    /// Many want the same cart, and all at once when the catalog is back: one after the other they would be late.
    const COPY: Option<fn(&Outcome) -> Outcome> = Some(Clone::clone);

    fn key(cart: &Cart) -> Vec<u8> {
        cart.name.clone()
    }

    async fn run(&self, carts: &[Cart]) -> Result<Vec<Outcome>, Trouble> {
        let mut request =
            Request::new(QuoteRequest { items: carts.iter().map(|cart| cart.item.clone()).collect() });
        // One in another process is told, and may hang all the same.
        let answer = tokio::time::timeout(EXCHANGE, async {
            match &self.catalog {
                Peer::Remote(callee) => {
                    request.set_timeout(EXCHANGE);
                    request.metadata_mut().insert(TRACED_BY_ITEM, MetadataValue::from_static("1"));
                    CatalogClient::new(callee.clone()).quote(request).await
                }
                Peer::Local(catalog) => catalog.quote(request).await,
            }
        });
        let answer = answer.await.unwrap_or_else(|_| Err(Status::deadline_exceeded("no quote in time")));
        let replies = answer.map_err(|status| trouble(&status))?.into_inner().replies;
        let outcomes: Vec<Outcome> = replies
            .into_iter()
            .map(|reply| reply.outcome.ok_or_else(|| Trouble::Failed("a quote without an outcome".into())))
            .collect::<Result<_, _>>()?;
        for (cart, outcome) in carts.iter().zip(&outcomes) {
            if let Outcome::Quoted(quoted) = outcome {
                self.quotes.insert(cart.name.clone(), quoted.clone()).await;
            }
        }
        Ok(outcomes)
    }
}

fn trouble(status: &Status) -> Trouble {
    let says = format!("{:?}: {}", status.code(), status.message());
    match status.code() {
        Code::Unavailable | Code::Unknown | Code::Cancelled | Code::Internal | Code::DeadlineExceeded => {
            Trouble::Away(says)
        }
        _ => Trouble::Failed(says),
    }
}

impl Doors {
    /// What the cart costs, or what is wrong with it.
    pub(super) async fn quote(&self, checked: &Checked) -> Result<Result<Quoted, Vec<Violation>>, Status> {
        let item = checked.quote_item();
        let name = item.encode_to_vec();
        if let Some(quoted) = self.quotes.get(&name).await {
            return Ok(Ok(quoted));
        }
        // The exchange is of all who wait; the wait is a part of each one's trace.
        let span = telemetry::part_span(format_args!("quote"), "client");
        match self.ask_for_prices(&name, &item).instrument(span).await? {
            Outcome::Quoted(quoted) => Ok(Ok(quoted)),
            Outcome::Invalid(invalid) => Ok(Err(violations(invalid))),
        }
    }

    async fn ask_for_prices(&self, name: &[u8], item: &QuoteItem) -> Result<Outcome, Status> {
        let until = Instant::now() + WITHIN;
        loop {
            let cart = Cart { name: name.to_vec(), item: item.clone() };
            let left = until.saturating_duration_since(Instant::now()).max(PAUSE);
            let none = match self.prices.submit(cart, Some(left)).await {
                Ok(outcome) => return Ok(outcome),
                Err(NoAnswer::Overloaded { retry_after }) => {
                    return Err(error::exhausted("OVERLOADED", "too much to do", retry_after, []));
                }
                Err(none) => none,
            };
            if self.stop.is_wanted() {
                return Err(stopping());
            }
            if matches!(none, NoAnswer::Failed(_) | NoAnswer::TooLate) || Instant::now() + PAUSE >= until {
                tracing::warn!(error = %none, "no quote");
                return Err(error::unavailable(
                    "QUOTE_UNAVAILABLE",
                    "prices cannot be had now; nothing was stored",
                    Duration::from_secs(1),
                ));
            }
            // Jittered: those who wait must not come back all at once.
            tokio::time::sleep(PAUSE.mul_f64(rand::random_range(0.5..3.0))).await;
        }
    }
}

fn violations(invalid: QuoteInvalid) -> Vec<Violation> {
    let ours = |field: &str| field.replace("expected_unit_price", "unit_price");
    let violations = invalid.violations.into_iter();
    violations.map(|v| Violation::new(ours(&v.field), v.reason, v.description)).collect()
}
