//! What people read and put in: stock rows as they are, and restocks with their request ids.
//!
//! Read next: `commands::restock`.

use super::*;

pub(super) static STATEMENTS: [&dyn Checked; 4] = [&GET, &LIST, &RESTOCKED, &RESTOCK];

/// Stock of a SKU, as people see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Stock {
    /// Of what.
    pub(crate) sku: String,
    /// How much.
    pub(crate) level: Level,
    /// Rises with every change.
    pub(crate) version: i64,
    /// Of the last change.
    pub(crate) update_time: DateTime<Utc>,
}

type StockRow = (String, i64, i64, i64, i64, DateTime<Utc>);

fn stock((sku, available, reserved, sold, version, update_time): StockRow) -> Stock {
    Stock { sku, level: Level { available, reserved, sold }, version, update_time }
}

static GET: Statement<(Vec<String>,), StockRow> = Statement::new(
    "select sku, available, reserved, sold, version, update_time from inventory.stock where sku = any ($1)",
);

/// Stock of these SKUs, in no order; those that are not there are left out.
pub(crate) async fn get(connection: &mut PgConnection, skus: Vec<String>) -> sqlx::Result<Vec<Stock>> {
    Ok(GET.all(connection, (skus,)).await?.into_iter().map(stock).collect())
}

static LIST: Statement<(String, i64), StockRow> = Statement::new(
    "select sku, available, reserved, sold, version, update_time from inventory.stock where sku > $1 \
     order by sku limit $2",
);

/// The first `limit` rows after a SKU; the empty text is before all.
pub(crate) async fn list(
    connection: &mut PgConnection,
    after: String,
    limit: i64,
) -> sqlx::Result<Vec<Stock>> {
    Ok(LIST.all(connection, (after, limit)).await?.into_iter().map(stock).collect())
}

static RESTOCKED: Statement<(Vec<String>,), (String, String, i64)> =
    Statement::new("select request_id, sku, quantity from inventory.restock where request_id = any ($1)");

/// What was put in under these request ids before: SKU and quantity.
pub(crate) async fn restocked(
    connection: &mut PgConnection,
    request_ids: Vec<String>,
) -> sqlx::Result<HashMap<String, (String, i64)>> {
    let rows = RESTOCKED.all(connection, (request_ids,)).await?;
    Ok(rows.into_iter().map(|(request_id, sku, quantity)| (request_id, (sku, quantity))).collect())
}

type RestockColumns =
    (DateTime<Utc>, Vec<String>, Vec<String>, Vec<i64>, Vec<String>, Vec<i64>, Vec<String>, Vec<i64>);

static RESTOCK: Statement<RestockColumns> = Statement::new(
    "with noted as (insert into inventory.restock (request_id, sku, quantity, create_time) \
       select request_id, sku, quantity, $1 \
       from unnest($2::text[], $3::text[], $4::bigint[]) as n (request_id, sku, quantity)), \
     made_known as (insert into inventory.stock (sku, available, reserved, sold, version, update_time) \
       select sku, available, 0, 0, 1, $1 from unnest($5::text[], $6::bigint[]) as k (sku, available)) \
     update inventory.stock s set available = s.available + d.available, version = s.version + 1, update_time = $1 \
     from unnest($7::text[], $8::bigint[]) as d (sku, available) where s.sku = d.sku",
);

/// Writes what changed on a shelf, SKUs that were not there included, and the restocks (request id, SKU, quantity)
/// that changed it. A request id or SKU that somebody else wrote meanwhile is `Trouble::Again`.
pub(crate) async fn restock(
    connection: &mut PgConnection,
    shelf: &Shelf,
    restocks: Vec<(String, String, i64)>,
    now: DateTime<Utc>,
) -> Result<(), Trouble> {
    let (mut old, mut new) = ((Vec::new(), Vec::new()), (Vec::new(), Vec::new()));
    for (sku, change) in shelf.changes() {
        let side = if shelf.knew(sku) { &mut old } else { &mut new };
        side.0.push(sku.as_str().to_owned());
        side.1.push(change.available);
    }
    let wanted = old.0.len();
    let (mut ids, mut skus, mut quantities) = (Vec::new(), Vec::new(), Vec::new());
    for (request_id, sku, quantity) in restocks {
        ids.push(request_id);
        skus.push(sku);
        quantities.push(quantity);
    }
    let parameters = (now, ids, skus, quantities, new.0, new.1, old.0, old.1);
    all_of(RESTOCK.run(connection, parameters).await?, wanted, "stock")
}
