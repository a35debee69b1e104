//! A small catalogue, so that the first command after `amends up` is an order.
//!
//! It comes through the services' own doors, and each request may be repeated: a seeding that was cut off is simply
//! done again. It must never touch a store that somebody filled. Read next: `up.rs`,
//! `cli/furnish.rs`.

use chassis::grpc::Callee;
use proto::{
    inventory::v1::{ListStockRequest, RestockRequest, inventory_client::InventoryClient},
    money::Money,
    order::v1::{ListPricesRequest, SetPriceRequest, catalog_client::CatalogClient},
};
use tonic::Status;

/// SKU, title, and the price in minor units of EUR, USD and JPY.
const GOODS: [(&str, &str, i64, i64, i64); 10] = [
    ("P1001", "Espresso cup", 1_250, 1_390, 2_100),
    ("P1002", "Coffee beans, 1 kg", 2_190, 2_390, 3_600),
    ("P1003", "Hand grinder", 8_900, 9_900, 14_800),
    ("P1004", "Milk jug", 1_890, 1_990, 3_000),
    ("P1005", "Filter papers, 100 pieces", 490, 550, 800),
    ("P1006", "Kettle", 5_990, 6_490, 9_900),
    ("P1007", "Scales", 3_490, 3_790, 5_800),
    ("P1008", "Moka pot", 2_990, 3_290, 4_900),
    ("P1009", "Cold brew bottle", 2_450, 2_650, 4_100),
    ("P1010", "Espresso machine", 69_900, 74_900, 118_000),
];

/// Of each.
const STOCK: i64 = 1_000;

/// Whether nobody has filled the store.
///
/// # Errors
/// What a service said.
pub async fn is_wanted(services: &Callee) -> Result<bool, Status> {
    is_wanted_at(services, services).await
}

/// The same where order-svc and inventory-svc have doors of their own.
///
/// # Errors
/// What a service said.
pub async fn is_wanted_at(order: &Callee, inventory: &Callee) -> Result<bool, Status> {
    let prices = CatalogClient::new(order.clone())
        .list_prices(ListPricesRequest { page_size: 1, ..Default::default() })
        .await?;
    let stock = InventoryClient::new(inventory.clone())
        .list_stock(ListStockRequest { page_size: 1, ..Default::default() })
        .await?;
    Ok(prices.into_inner().prices.is_empty() && stock.into_inner().stocks.is_empty())
}

/// Fills the store: prices in three currencies, 1,000 pieces of each.
///
/// # Errors
/// What a service said.
pub async fn fill(services: &Callee) -> Result<(), Status> {
    fill_at(services, services).await
}

/// The same where order-svc and inventory-svc have doors of their own.
///
/// # Errors
/// What a service said.
pub async fn fill_at(order: &Callee, inventory: &Callee) -> Result<(), Status> {
    let mut catalog = CatalogClient::new(order.clone());
    let mut inventory = InventoryClient::new(inventory.clone());
    for (sku, title, eur, usd, jpy) in GOODS {
        for (currency, minor_units) in [("EUR", eur), ("USD", usd), ("JPY", jpy)] {
            let unit_price = Some(Money { minor_units, currency_code: currency.to_owned() });
            let price = SetPriceRequest { sku: sku.to_owned(), title: title.to_owned(), unit_price };
            catalog.set_price(price).await?;
        }
        // The key makes the thousand pieces a thousand, however often this is cut off and done again.
        let request_id = format!("amends-demo-{sku}");
        inventory.restock(RestockRequest { request_id, sku: sku.to_owned(), quantity: STOCK }).await?;
    }
    Ok(())
}
