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

use crate::domain::{Kind, Rule, Rules};

type Row = (String, String, i64, i64, bool);

static LIST: Statement<(), Row> = Statement::new(
    "select kind, currency, threshold, window_seconds, enabled from risk.rule order by kind, currency",
);

/// All rules: there are few.
pub(crate) async fn list(connection: &mut PgConnection) -> Result<Vec<Rule>, Trouble> {
    LIST.all(connection, ()).await?.into_iter().map(rule).collect()
}

fn rule((kind, currency, threshold, window_seconds, enabled): Row) -> Result<Rule, Trouble> {
    let unreadable = || Trouble::Failed(format!("cannot read the rule {kind} {currency}"));
    let currency = match currency.as_str() {
        "" => None,
        code => Some(code.parse().map_err(|_| unreadable())?),
    };
    let kind = Kind::parse(&kind).ok_or_else(unreadable)?;
    Ok(Rule { kind, currency, threshold, window_seconds, enabled })
}

/// The rules as a text of the database's: whoever remembers rules remembers it with them, and a statement compares it.
macro_rules! rules_text {
    () => {
        "(select coalesce(string_agg(r::text, ';' order by kind, currency), '') from risk.rule r)"
    };
}
pub(super) use rules_text;

// One round trip for what a slice asks that the rules at hand do not approve. No rule is of these kinds.
static IN_FORCE: Statement<(Vec<String>,), Row> = Statement::new(concat!(
    "select kind, currency, threshold, window_seconds, enabled from risk.rule \
     union all \
     select 'TEXT', ",
    rules_text!(),
    ", 0, 0, true \
     union all \
     select 'NOW', '', (extract(epoch from clock_timestamp()) * 1000000)::bigint, 0, true \
     union all \
     select 'DENIED', customer_id, 0, 0, true from risk.denied where customer_id = any ($1)",
));

/// What a screening goes by.
pub(crate) struct InForce {
    pub(crate) rules: Rules,
    /// The rules as a text of the database's, by which a statement tells whether they are still the same.
    pub(crate) text: String,
    /// Those of the customers who are denied.
    pub(crate) denied: HashSet<String>,
    /// By the database's clock, which every process reads alike; in whole microseconds, as it is stored.
    pub(crate) now: DateTime<Utc>,
}

/// What is in force for these customers, and now.
pub(crate) async fn in_force(
    connection: &mut PgConnection,
    customers: &BTreeSet<&str>,
) -> Result<InForce, Trouble> {
    let customers = customers.iter().map(|id| (*id).to_owned()).collect();
    let (mut rules, mut text, mut denied, mut now) = (Vec::new(), String::new(), HashSet::new(), None);
    for row in IN_FORCE.all(connection, (customers,)).await? {
        match row.0.as_str() {
            "DENIED" => drop(denied.insert(row.1)),
            "TEXT" => text = row.1,
            "NOW" => now = DateTime::from_timestamp_micros(row.2),
            _ => rules.push(rule(row)?),
        }
    }
    let now = now.ok_or_else(|| Trouble::Failed("the database does not say what time it is".into()))?;
    Ok(InForce { rules: rules.into_iter().collect(), text, denied, now })
}

static NOW: Statement<(), (DateTime<Utc>,)> = Statement::new("select clock_timestamp()");

/// Now, by the database's clock.
pub(crate) async fn now(connection: &mut PgConnection) -> sqlx::Result<DateTime<Utc>> {
    Ok(NOW.one(connection, ()).await?.0)
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

pub(super) fn statements() -> [&'static dyn Checked; 6] {
    [&LIST, &IN_FORCE, &NOW, &SET, &DENY, &ALLOW]
}
