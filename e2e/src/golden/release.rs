//! What a release says to its databases, and what they allowed it: kept, so that the next one's schema is held to it.
//!
//! `e2e/golden/release.json` is written when a release is made and speaks of the release before until the next.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
};

use chassis::{
    outbox::Outbox,
    sql::{self, Checked},
};
use serde::{Deserialize, Serialize};
use sqlx::{PgConnection, TypeInfo as _, postgres::PgTypeInfo};

use super::store;

/// A statement with the types that the database gives its parameters and columns.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Said {
    pub by: String,
    pub sql: String,
    pub parameters: Vec<String>,
    pub columns: Vec<String>,
}

/// What a schema has and forbids.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Facts {
    /// By name (schema, table, column): its type, and whether an insert may leave it out.
    pub columns: BTreeMap<String, (String, bool)>,
    /// By table: what may forbid a write.
    pub rules: BTreeMap<String, BTreeSet<String>>,
}

/// A release.
#[derive(Debug, Serialize, Deserialize)]
struct Release {
    said: Vec<Said>,
    facts: Facts,
}

fn place() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/golden/release.json"))
}

/// What the release before said, and what its schemas were.
#[must_use]
pub fn read() -> (Vec<Said>, Facts) {
    let Release { said, facts } = serde_json::from_str(&std::fs::read_to_string(place()).unwrap()).unwrap();
    (said, facts)
}

/// Keeps what this build says to these schemas as a release.
pub async fn write(connection: &mut PgConnection) {
    let mut all = Vec::new();
    for (by, text) in statements() {
        all.push(said(connection, by, &text).await.unwrap());
    }
    all.sort();
    let release = Release { said: all, facts: facts(connection).await };
    std::fs::create_dir_all(place().parent().unwrap()).unwrap();
    std::fs::write(place(), serde_json::to_string_pretty(&release).unwrap() + "\n").unwrap();
}

/// Everything that this build says, by whom.
fn statements() -> Vec<(&'static str, String)> {
    let listed: [(&str, Vec<&'static dyn Checked>); 8] = [
        ("orchestrator", orchestrator::statements()),
        ("order-svc", order_svc::statements()),
        ("inventory-svc", inventory_svc::statements()),
        ("risk-svc", risk_svc::statements()),
        ("payment-svc", payment_svc::statements()),
        ("ledger-svc", ledger_svc::statements()),
        ("notification-svc", notification_svc::statements()),
        ("amends", amends::audit::statements()),
    ];
    let listed = listed
        .into_iter()
        .flat_map(|(by, all)| all.into_iter().map(move |statement| (by, statement.sql().to_owned())));
    let outboxes = ["orchestrator", "orders", "inventory", "risk", "payments", "ledger"];
    let relays = outboxes.into_iter().flat_map(|schema| {
        let outbox = Outbox::new(schema, "x");
        let all: Vec<String> = outbox.statements().into_iter().map(|text| text.to_string()).collect();
        all.into_iter().map(|text| ("outbox", text))
    });
    listed.chain(relays).collect()
}

/// What the database makes of a statement.
///
/// # Errors
/// Why it cannot be prepared.
pub async fn said(connection: &mut PgConnection, by: &str, text: &str) -> Result<Said, String> {
    let (parameters, columns) = sql::describe(connection, text).await?;
    let names = |types: Vec<PgTypeInfo>| types.iter().map(|one| one.name().to_owned()).collect();
    Ok(Said {
        by: by.to_owned(),
        sql: text.to_owned(),
        parameters: names(parameters),
        columns: names(columns),
    })
}

/// What these schemas have and forbid.
pub async fn facts(connection: &mut PgConnection) -> Facts {
    let schemas: Vec<String> =
        amends::provision::schemas().iter().map(|schema| schema.name.to_owned()).collect();
    let mut facts = Facts::default();
    for (name, kind, may_be_left_out) in store::columns(connection, &schemas).await {
        facts.columns.insert(name, (kind, may_be_left_out));
    }
    for (table, rule) in store::rules(connection, &schemas).await {
        facts.rules.entry(table).or_default().insert(rule);
    }
    facts
}
