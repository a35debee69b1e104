//! Restock: more of a SKU, which may be new. The request id makes a repeat harmless.
//!
//! Here stock is locked before the request id is written, because whether the sum fits decides what is written; the
//! unique key still decides who was first, and nobody waits for this door.

use std::collections::HashMap;

use chassis::{
    batcher::Command,
    clock,
    database::{self, Trouble},
};
use sqlx::{PgConnection, PgPool};
use types::{IdempotencyKey, Sku};

use crate::store::{
    self,
    people::{self, Stock},
};

/// What is to be put in.
#[derive(Debug, Clone)]
pub(crate) struct Item {
    /// The caller's, or one drawn for it.
    pub(crate) request_id: IdempotencyKey,
    pub(crate) sku: Sku,
    /// At least 1.
    pub(crate) quantity: i64,
}

/// What became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Restocked {
    /// It is in, now or from before: the stock as it is.
    Done(Stock),
    /// The request id was used for something else.
    Reused,
    /// More than 64 bits of one SKU.
    TooMuch,
}

/// The command.
#[derive(Debug)]
pub(crate) struct Restock {
    pub(crate) pool: PgPool,
}

impl Command for Restock {
    type Item = Item;
    type Reply = Restocked;
    type Key = IdempotencyKey;

    const NAME: &'static str = "inventory.restock";

    fn key(item: &Item) -> IdempotencyKey {
        item.request_id.clone()
    }

    async fn run(&self, items: &[Item]) -> Result<Vec<Restocked>, Trouble> {
        let mut connection = database::acquire(&self.pool).await?;
        let ids = items.iter().map(|item| item.request_id.as_str().to_owned()).collect();
        let before = people::restocked(&mut connection, ids).await?;
        let fresh: Vec<_> =
            items.iter().filter(|item| !before.contains_key(item.request_id.as_str())).collect();
        let too_much = write(&mut connection, &fresh).await?;
        let skus = items.iter().map(|item| item.sku.as_str().to_owned()).collect();
        let stocks = people::get(&mut connection, skus).await?;
        let stocks: HashMap<_, _> = stocks.into_iter().map(|stock| (stock.sku.clone(), stock)).collect();
        let answers = items.iter().map(|item| match before.get(item.request_id.as_str()) {
            Some((sku, quantity)) if sku != item.sku.as_str() || *quantity != item.quantity => {
                Ok(Restocked::Reused)
            }
            _ if too_much.contains(&&item.request_id) => Ok(Restocked::TooMuch),
            _ => match stocks.get(item.sku.as_str()) {
                Some(stock) => Ok(Restocked::Done(stock.clone())),
                None => Err(Trouble::Failed(format!("stock of {} has gone", item.sku))),
            },
        });
        answers.collect()
    }
}

/// Puts in what fits; the request ids of what does not.
async fn write<'a>(
    connection: &mut PgConnection,
    items: &[&'a Item],
) -> Result<Vec<&'a IdempotencyKey>, Trouble> {
    if items.is_empty() {
        return Ok(Vec::new());
    }
    let mut transaction = database::begin(connection).await?;
    let mut shelf = store::lock(&mut transaction, items.iter().map(|item| &item.sku)).await?;
    let (mut rows, mut too_much) = (Vec::new(), Vec::new());
    for item in items {
        match shelf.add(&item.sku, item.quantity) {
            Ok(()) => {
                rows.push((item.request_id.as_str().to_owned(), item.sku.as_str().to_owned(), item.quantity))
            }
            Err(_) => too_much.push(&item.request_id),
        }
    }
    rows.sort_unstable();
    people::restock(&mut transaction, &shelf, rows, clock::now()).await?;
    database::commit(transaction).await?;
    Ok(too_much)
}
