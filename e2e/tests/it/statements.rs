//! The SQL check: every statement of every crate, prepared on the migrated schemas, parameter and column types compared.

use chassis::{
    outbox::Outbox,
    sql::{self, Checked},
    testbed::TestDatabase,
};
use sqlx::{AssertSqlSafe, Executor as _, SqlSafeStr as _};

pub(crate) fn statements() -> Vec<(&'static str, Vec<&'static dyn Checked>)> {
    vec![
        ("orchestrator", orchestrator::statements()),
        ("order-svc", order_svc::statements()),
        ("inventory-svc", inventory_svc::statements()),
        ("risk-svc", risk_svc::statements()),
        ("payment-svc", payment_svc::statements()),
        ("ledger-svc", ledger_svc::statements()),
        ("notification-svc", notification_svc::statements()),
        ("amends", amends::audit::statements()),
    ]
}

#[tokio::test]
async fn every_statement_holds_against_the_migrated_schemas() {
    let database = TestDatabase::create(&amends::provision::schemas()).await;
    let mut connection = database.connect().await;
    let mut wrong = Vec::new();
    let mut count = 0;
    for (name, statements) in statements() {
        assert!(!statements.is_empty(), "{name} lists no statement");
        for statement in statements {
            count += 1;
            if let Err(why) = sql::check(&mut connection, statement).await {
                wrong.push(format!("{name}: {why}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
    assert!(count > 50, "only {count} statements are listed");
}

#[tokio::test]
async fn every_outbox_has_the_same_shape() {
    let database = TestDatabase::create(&amends::provision::schemas()).await;
    let mut connection = database.connect().await;
    for schema in ["orchestrator", "orders", "inventory", "risk", "payments", "ledger"] {
        for statement in Outbox::new(schema, "x").statements() {
            let text = AssertSqlSafe(statement.to_owned()).into_sql_str();
            let prepared = (&mut connection).prepare(text).await;
            assert!(prepared.is_ok(), "{schema}: {:?}\n{statement}", prepared.err());
        }
    }
}

#[tokio::test]
async fn migrating_again_changes_nothing_and_a_newer_schema_is_left_alone() {
    let schemas = amends::provision::schemas();
    let database = TestDatabase::create(&schemas).await;
    let mut connection = database.connect().await;
    for schema in &schemas {
        let insert = format!(
            "insert into {}._sqlx_migrations (version, description, success, checksum, execution_time) \
             values (9999, 'from a newer build', true, '\\x00', 1)",
            schema.name
        );
        connection.execute(AssertSqlSafe(insert).into_sql_str()).await.unwrap();
        chassis::database::provision(&mut connection, schema).await.unwrap();
    }
}
