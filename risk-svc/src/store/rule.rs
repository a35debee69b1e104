//! The rules and the deny list: every statement of them.

use std::collections::{BTreeSet, HashSet};

use chassis::{
    clock,
    database::Trouble,
    sql::{Checked, Statement},
};
use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use types::PartyId;

use crate::domain::{Kind, Rule};

type Row = (String, String, i64, i64, bool);

static LIST: Statement<(), Row> = Statement::new(
    "select kind, currency, threshold, window_seconds, enabled from risk.rule order by kind, currency",
);

/// All rules: there are few.
pub(crate) async fn list(connection: &mut PgConnection) -> Result<Vec<Rule>, Trouble> {
    let rows = LIST.all(connection, ()).await?;
    rows.into_iter()
        .map(|(kind, currency, threshold, window_seconds, enabled)| {
            let unreadable = || Trouble::Failed(format!("cannot read the rule {kind} {currency}"));
            let currency = match currency.as_str() {
                "" => None,
                code => Some(code.parse().map_err(|_| unreadable())?),
            };
            let kind = Kind::parse(&kind).ok_or_else(unreadable)?;
            Ok(Rule { kind, currency, threshold, window_seconds, enabled })
        })
        .collect()
}

// A repeat writes the same again.
static SET: Statement<(String, String, i64, i64, bool, DateTime<Utc>)> = Statement::new(
    "insert into risk.rule (kind, currency, threshold, window_seconds, enabled, update_time) values ($1, $2, $3, $4, $5, $6) \
     on conflict (kind, currency) do update set threshold = excluded.threshold, window_seconds = excluded.window_seconds, \
       enabled = excluded.enabled, update_time = excluded.update_time",
);

/// Puts a rule in the place of the one before.
pub(crate) async fn set(connection: &mut PgConnection, rule: &Rule) -> sqlx::Result<()> {
    let currency = rule.currency.map(|currency| currency.to_string()).unwrap_or_default();
    let kind = rule.kind.as_str().to_owned();
    let row = (kind, currency, rule.threshold, rule.window_seconds, rule.enabled, clock::now());
    SET.run(connection, row).await?;
    Ok(())
}

static DENIED: Statement<(Vec<String>,), (String,)> =
    Statement::new("select customer_id from risk.denied where customer_id = any ($1)");

/// Which of these customers are denied.
pub(crate) async fn denied(
    connection: &mut PgConnection,
    customers: &BTreeSet<&str>,
) -> sqlx::Result<HashSet<String>> {
    let customers = customers.iter().map(|id| (*id).to_owned()).collect();
    Ok(DENIED.all(connection, (customers,)).await?.into_iter().map(|(id,)| id).collect())
}

// A customer who is denied already: the newer reason stands.
static DENY: Statement<(String, String, DateTime<Utc>)> = Statement::new(
    "insert into risk.denied (customer_id, reason, create_time) values ($1, $2, $3) \
     on conflict (customer_id) do update set reason = excluded.reason",
);

pub(crate) async fn deny(
    connection: &mut PgConnection,
    customer: PartyId,
    reason: String,
) -> sqlx::Result<()> {
    DENY.run(connection, (customer.into_string(), reason, clock::now())).await?;
    Ok(())
}

static ALLOW: Statement<(String,)> = Statement::new("delete from risk.denied where customer_id = $1");

/// Whether the customer was denied.
pub(crate) async fn allow(connection: &mut PgConnection, customer: PartyId) -> sqlx::Result<bool> {
    Ok(ALLOW.run(connection, (customer.into_string(),)).await? > 0)
}

pub(super) fn statements() -> [&'static dyn Checked; 5] {
    [&LIST, &SET, &DENIED, &DENY, &ALLOW]
}
