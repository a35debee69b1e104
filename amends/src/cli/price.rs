//! `amends price …`: the price list.
//!
//! Read next: `server.rs`.

use clap::{Args, Subcommand};
use proto::order::v1::{ListPricesRequest, Price, SetPriceRequest, catalog_client::CatalogClient};
use serde_json::{Value, json};
use tonic::transport::Channel;
use types::Currency;

use super::{
    failure::Failure,
    output::Table,
    server::{Rows, Server, Whose, ask},
    value::{amount, money, money_json, time, time_json},
};

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// List prices
    #[command(after_help = "Examples:\n  amends price list\n  amends price list --currency EUR --json")]
    List(List),
    /// Set or replace the price of a SKU in a currency
    #[command(after_help = "Example:\n  amends price set P1001 19.99 EUR --title 'Espresso cup'")]
    Set(Set),
}

#[derive(Debug, Args)]
pub(crate) struct List {
    /// Only in this currency
    #[arg(long, value_name = "CODE")]
    currency: Option<Currency>,
    #[command(flatten)]
    rows: Rows,
}

#[derive(Debug, Args)]
pub(crate) struct Set {
    /// Which
    sku: String,
    /// The price of one, with the currency's decimals
    amount: String,
    /// ISO 4217 code
    currency: Currency,
    /// What it is, for people
    #[arg(long)]
    title: String,
}

impl Command {
    pub(crate) async fn run(self, server: &Server) -> Result<(), Failure> {
        let screen = server.screen();
        match self {
            Self::List(List { currency, rows }) => {
                let client = client(server).await?;
                let currency = currency.map(|c| c.to_string()).unwrap_or_default();
                let fetch = |page_size, page_token| {
                    let request =
                        ListPricesRequest { page_size, page_token, currency_code: currency.clone() };
                    let mut client = client.clone();
                    async move {
                        let page = client.list_prices(ask(request)).await?.into_inner();
                        Ok((page.prices, page.next_page_token))
                    }
                };
                let prices = rows.collect(screen, fetch).await?;
                let document = || json!({ "prices": prices.iter().map(document).collect::<Vec<_>>() });
                screen.one(document, table(&prices))
            }
            Self::Set(Set { sku, amount: text, currency, title }) => {
                let price = amount(&text, currency).map_err(Failure::Usage)?;
                let request = ask(SetPriceRequest { sku, title, unit_price: Some(price) });
                let price = client(server).await?.set_price(request).await?.into_inner();
                screen.one(|| document(&price), table(std::slice::from_ref(&price)))
            }
        }
    }
}

async fn client(server: &Server) -> Result<CatalogClient<Channel>, Failure> {
    Ok(CatalogClient::new(server.connect_to(Whose::Order).await?))
}

fn document(price: &Price) -> Value {
    json!({
        "sku": price.sku,
        "title": price.title,
        "unit_price": money_json(price.unit_price.as_ref()),
        "update_time": time_json(price.update_time.as_ref()),
    })
}

fn table(prices: &[Price]) -> Table<4> {
    let rows = prices.iter().map(|price| {
        [
            price.sku.clone(),
            money(price.unit_price.as_ref()),
            price.title.clone(),
            time(price.update_time.as_ref()),
        ]
    });
    Table::new(["SKU", ">UNIT PRICE", "TITLE", "UPDATED"], rows)
}
