//! The server that a command talks to, and how long it waits for it.
//!
//! A command calls once and retries nothing: what may be repeated safely, and with which key, is told to the person.
//! Read next: any noun, as in `order.rs`.

use std::{future::Future, sync::OnceLock, time::Duration};

use chassis::grpc::{self, Callee};
use clap::Args;
use tonic::{
    Request,
    metadata::{Ascii, MetadataValue},
    transport::{Channel, Endpoint},
};

use super::{failure::Failure, output::Screen};

/// How long a call may take. The longest that a server itself waits is 30 s (`order create --wait`).
const PATIENCE: Duration = Duration::from_secs(45);
/// The server's largest page.
const PAGE: u32 = 500;

/// What [`Server::connect`] was told; a command line is one caller.
static TRACE: OnceLock<MetadataValue<Ascii>> = OnceLock::new();

/// Where to ask and how to answer.
#[derive(Debug, Clone, Args)]
pub(crate) struct Server {
    /// Address of a running server [default: AMENDS_SERVER, or http://127.0.0.1:50051; where a service has a door of
    /// its own, AMENDS_ORDER_URL, AMENDS_INVENTORY_URL, AMENDS_RISK_URL, AMENDS_LEDGER_URL come first]
    #[arg(long, value_name = "URL", global = true)]
    server: Option<String>,
    #[command(flatten)]
    told: Told,
    /// Answer in JSON: one document, or one per line where answers come over time
    #[arg(long, global = true)]
    json: bool,
}

/// What the environment says. Flags of their own only because a variable needs one.
#[derive(Debug, Clone, Args)]
struct Told {
    #[arg(long, env = "AMENDS_SERVER", default_value = "http://127.0.0.1:50051", hide = true, global = true)]
    default_server: String,
    #[arg(long, env = "AMENDS_ORDER_URL", hide = true, global = true)]
    order_server: Option<String>,
    #[arg(long, env = "AMENDS_INVENTORY_URL", hide = true, global = true)]
    inventory_server: Option<String>,
    #[arg(long, env = "AMENDS_RISK_URL", hide = true, global = true)]
    risk_server: Option<String>,
    #[arg(long, env = "AMENDS_LEDGER_URL", hide = true, global = true)]
    ledger_server: Option<String>,
    /// The trace that this call is part of, as W3C says it.
    #[arg(long, env = "TRACEPARENT", hide = true, global = true)]
    traceparent: Option<MetadataValue<Ascii>>,
}

/// Whose doors a command knocks at. With `amends up` they are all behind one address.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Whose {
    /// The public doors.
    Orchestrator,
    /// order-svc: prices.
    Order,
    /// inventory-svc: stock.
    Inventory,
    /// risk-svc: reviews.
    Risk,
    /// ledger-svc: the books.
    Ledger,
}

impl Server {
    /// Where these doors are.
    pub(crate) fn address(&self, whose: Whose) -> &str {
        let own = match whose {
            Whose::Orchestrator => &None,
            Whose::Order => &self.told.order_server,
            Whose::Inventory => &self.told.inventory_server,
            Whose::Risk => &self.told.risk_server,
            Whose::Ledger => &self.told.ledger_server,
        };
        self.server.as_ref().or(own.as_ref()).unwrap_or(&self.told.default_server)
    }

    /// How its answers are shown.
    pub(crate) const fn screen(&self) -> Screen {
        if self.json { Screen::Json } else { Screen::Text }
    }

    /// These doors, connected when they are called.
    pub(crate) fn callee(&self, whose: Whose) -> Result<Callee, Failure> {
        let url = self.address(whose);
        let not_one = |_| Failure::Usage(format!("`{url}` is not a URL like http://127.0.0.1:50051"));
        grpc::remote(url).map_err(not_one)
    }

    /// A connection to the public doors.
    pub(crate) async fn connect(&self) -> Result<Channel, Failure> {
        self.connect_to(Whose::Orchestrator).await
    }

    /// A connection to the doors of a service.
    pub(crate) async fn connect_to(&self, whose: Whose) -> Result<Channel, Failure> {
        if let Some(trace) = &self.told.traceparent {
            let _ = TRACE.set(trace.clone());
        }
        let server = self.address(whose).to_owned();
        let endpoint = Endpoint::from_shared(server.clone())
            .map_err(|_| Failure::Usage(format!("`{server}` is not a URL like http://127.0.0.1:50051")))?;
        let unreachable = |source| Failure::Unreachable { server, source };
        endpoint.connect_timeout(Duration::from_secs(5)).connect().await.map_err(unreachable)
    }
}

/// A request with our patience.
pub(crate) fn ask<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(PATIENCE);
    if let Some(trace) = TRACE.get() {
        request.metadata_mut().insert("traceparent", trace.clone());
    }
    request
}

/// How much of a list is shown.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct Rows {
    /// Show at most this many; 0 shows all
    #[arg(long, value_name = "N", default_value_t = 50)]
    limit: u32,
}

impl Rows {
    /// Fetches page after page; `fetch` is given the page's size and token. Says so when there is more.
    pub(crate) async fn collect<T, F>(
        self,
        screen: Screen,
        mut fetch: impl FnMut(i32, String) -> F,
    ) -> Result<Vec<T>, Failure>
    where
        F: Future<Output = Result<(Vec<T>, String), Failure>>,
    {
        let mut rows = Vec::new();
        let mut token = String::new();
        loop {
            let left = match self.limit {
                0 => PAGE,
                limit => PAGE.min(limit.saturating_sub(u32::try_from(rows.len()).unwrap_or(u32::MAX))),
            };
            let (page, next) = fetch(i32::try_from(left).unwrap_or(i32::MAX), token).await?;
            rows.extend(page);
            let is_enough =
                self.limit != 0 && rows.len() >= usize::try_from(self.limit).unwrap_or(usize::MAX);
            if next.is_empty() {
                return Ok(rows);
            }
            if is_enough {
                screen.remark("(there are more: --limit 0 shows all)");
                return Ok(rows);
            }
            token = next;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn numbers(limit: u32, all: u32) -> (Vec<u32>, u32) {
        let mut calls = 0;
        let rows = Rows { limit }
            .collect(Screen::Json, |size, token| {
                calls += 1;
                let from: u32 = token.parse().unwrap_or(0);
                let to = all.min(from + u32::try_from(size).unwrap());
                let next = if to == all { String::new() } else { to.to_string() };
                std::future::ready(Ok(((from..to).collect(), next)))
            })
            .await
            .unwrap();
        (rows, calls)
    }

    #[tokio::test]
    async fn pages_are_fetched_until_there_is_enough() {
        assert_eq!(numbers(50, 20).await, ((0..20).collect(), 1));
        assert_eq!(numbers(50, 50).await, ((0..50).collect(), 1));
        assert_eq!(numbers(50, 2000).await, ((0..50).collect(), 1));
        assert_eq!(numbers(700, 2000).await, ((0..700).collect(), 2));
        assert_eq!(numbers(0, 1200).await, ((0..1200).collect(), 3));
    }
}
