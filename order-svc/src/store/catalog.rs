//! Prices and tax rates: read for many carts at once, set one by one.
//!
//! Read next: `grpc::catalog`.

use chassis::{
    database::Trouble,
    sql::{Checked, Statement},
};
use chrono::{DateTime, Utc};
use rust_decimal::Decimal;
use sqlx::PgConnection;
use types::{Currency, Money, PartyId, Sku};

use crate::domain::quote::{Prices, Rates};

pub(super) static STATEMENTS: [&dyn Checked; 3] = [&QUOTE, &LIST, &SET];

type Keys = (Vec<String>, Vec<String>, Vec<String>);

// One round trip for what every slice of quotes asks. A price has no rate, a rate no price.
static QUOTE: Statement<Keys, (String, String, Option<i64>, Option<Decimal>)> = Statement::new(
    "select p.sku, p.currency::text, p.unit_price_minor, null::numeric from unnest($1::text[], $2::text[]) as k (sku, currency) \
     join orders.price p on p.sku = k.sku and p.currency = k.currency::char(3) \
     union all \
     select t.merchant_id, t.currency, null::bigint, t.rate from orders.tax_rate t where t.merchant_id = any ($3)",
);

/// The prices of all these, and the tax rates of these merchants and of everybody. What has none is left out.
pub(crate) async fn quote(
    connection: &mut PgConnection,
    mut wanted: Vec<(Sku, Currency)>,
    merchants: Vec<PartyId>,
) -> Result<(Prices, Rates), Trouble> {
    wanted.sort_unstable();
    wanted.dedup();
    let (skus, currencies) =
        wanted.into_iter().map(|(sku, currency)| (sku.into_string(), currency.to_string())).unzip();
    let everybody = String::new();
    let mut merchants: Vec<_> = merchants.into_iter().map(PartyId::into_string).chain([everybody]).collect();
    merchants.sort_unstable();
    merchants.dedup();
    let (mut prices, mut rates) = (Prices::new(), Rates::new());
    for (name, code, minor, rate) in QUOTE.all(connection, (skus, currencies, merchants)).await? {
        if let Some(minor) = minor {
            prices.insert((sku(&name)?, currency(&code)?), minor);
        } else if let Some(rate) = rate {
            rates.insert((name, code), rate);
        }
    }
    Ok((prices, rates))
}

/// A price, as people see it.
#[derive(Debug)]
pub(crate) struct Price {
    pub(crate) sku: Sku,
    /// For people.
    pub(crate) title: String,
    /// Of one.
    pub(crate) unit: Money,
    /// Of the last change.
    pub(crate) update_time: DateTime<Utc>,
}

type PriceRow = (String, String, String, i64, DateTime<Utc>);

static LIST: Statement<(String, String, String, i64), PriceRow> = Statement::new(
    "select sku, currency::text, title, unit_price_minor, update_time from orders.price \
     where (sku, currency) > ($1, $2::text::char(3)) and ($3::text = '' or currency = $3::text::char(3)) \
     order by sku, currency limit $4",
);

/// The first `limit` prices after a SKU and currency, of one currency or of all (empty).
pub(crate) async fn list(
    connection: &mut PgConnection,
    after: (String, String),
    only: String,
    limit: i64,
) -> Result<Vec<Price>, Trouble> {
    let rows = LIST.all(connection, (after.0, after.1, only, limit)).await?;
    rows.into_iter()
        .map(|(name, code, title, minor, update_time)| {
            let unit = Money::new(minor, currency(&code)?);
            Ok(Price { sku: sku(&name)?, title, unit, update_time })
        })
        .collect()
}

// Setting a price again sets it again: `on conflict` is what replaces, and absorbs the repeat.
static SET: Statement<(String, String, String, i64, DateTime<Utc>)> = Statement::new(
    "insert into orders.price (sku, currency, title, unit_price_minor, update_time) \
     values ($1, $2::text::char(3), $3, $4, $5) \
     on conflict on constraint price_pk do update set title = excluded.title, \
       unit_price_minor = excluded.unit_price_minor, update_time = excluded.update_time",
);

/// Sets or replaces a price.
pub(crate) async fn set(connection: &mut PgConnection, price: &Price) -> Result<(), Trouble> {
    let parameters = (
        price.sku.to_string(),
        price.unit.currency.to_string(),
        price.title.clone(),
        price.unit.minor,
        price.update_time,
    );
    SET.run(connection, parameters).await?;
    Ok(())
}

fn sku(name: &str) -> Result<Sku, Trouble> {
    name.parse().map_err(|e| Trouble::Failed(format!("a stored SKU is not one: {e}")))
}

fn currency(code: &str) -> Result<Currency, Trouble> {
    code.parse().map_err(|e| Trouble::Failed(format!("a stored currency is not one: {e}")))
}
