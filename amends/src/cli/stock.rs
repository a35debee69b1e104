//! `amends stock …`: what is on the shelves.
//!
//! Read next: `server.rs`.

use clap::{Args, Subcommand};
use proto::inventory::v1::{
    GetStockRequest, ListStockRequest, RestockRequest, Stock, inventory_client::InventoryClient,
};
use serde_json::{Value, json};
use tonic::transport::Channel;

use super::{
    failure::Failure,
    output::Table,
    server::{Rows, Server, Whose, ask},
    value::{time, time_json},
};

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Show the stock of a SKU
    #[command(after_help = "Example:\n  amends stock get P1001")]
    Get(Named),
    /// List all stock
    #[command(after_help = "Example:\n  amends stock list --limit 0 --json")]
    List(Rows),
    /// Add stock; makes the SKU known
    #[command(after_help = "Example:\n  amends stock restock P1001 500 --request-id delivery-4711")]
    Restock(Restock),
}

#[derive(Debug, Args)]
pub(crate) struct Named {
    /// Which
    sku: String,
}

#[derive(Debug, Args)]
pub(crate) struct Restock {
    /// Which
    sku: String,
    /// How many pieces more
    quantity: i64,
    /// Makes it safe to repeat; drawn if not given
    #[arg(long, value_name = "KEY")]
    request_id: Option<String>,
}

impl Command {
    pub(crate) async fn run(self, server: &Server) -> Result<(), Failure> {
        let screen = server.screen();
        let mut client = InventoryClient::<Channel>::new(server.connect_to(Whose::Inventory).await?);
        let stock = match self {
            Self::Get(Named { sku }) => client.get_stock(ask(GetStockRequest { sku })).await?.into_inner(),
            Self::Restock(Restock { sku, quantity, request_id }) => {
                let request_id = request_id.unwrap_or_else(|| chassis::clock::new_uuid().to_string());
                client.restock(ask(RestockRequest { request_id, sku, quantity })).await?.into_inner()
            }
            Self::List(rows) => {
                let fetch = |page_size, page_token| {
                    let mut client = client.clone();
                    async move {
                        let request = ask(ListStockRequest { page_size, page_token });
                        let page = client.list_stock(request).await?.into_inner();
                        Ok((page.stocks, page.next_page_token))
                    }
                };
                let stocks = rows.collect(screen, fetch).await?;
                let document = || json!({ "stocks": stocks.iter().map(document).collect::<Vec<_>>() });
                return screen.one(document, table(&stocks));
            }
        };
        screen.one(|| document(&stock), table(std::slice::from_ref(&stock)))
    }
}

fn document(stock: &Stock) -> Value {
    json!({
        "sku": stock.sku,
        "available": stock.available,
        "reserved": stock.reserved,
        "sold": stock.sold,
        "total": stock.total,
        "version": stock.version,
        "update_time": time_json(stock.update_time.as_ref()),
    })
}

fn table(stocks: &[Stock]) -> Table<6> {
    let rows = stocks.iter().map(|stock| {
        [
            stock.sku.clone(),
            stock.available.to_string(),
            stock.reserved.to_string(),
            stock.sold.to_string(),
            stock.total.to_string(),
            time(stock.update_time.as_ref()),
        ]
    });
    Table::new(["SKU", ">AVAILABLE", ">RESERVED", ">SOLD", ">TOTAL", "UPDATED"], rows)
}
