//! inventory-svc against a real Postgres, through its doors. Modules by behaviour; [`house`] sets the scene.

#![expect(clippy::unwrap_used, reason = "a test may fail loudly, its scene as well")]

mod house;
mod messages;
mod people;
mod races;
mod steps;

#[tokio::test]
async fn every_statement_fits_the_schema() {
    let database = chassis::testbed::TestDatabase::create(&[inventory_svc::SCHEMA]).await;
    let mut connection = database.connect().await;
    let findings = check(&mut connection).await;
    assert!(findings.is_empty(), "{findings:#?}");
}

async fn check(connection: &mut sqlx::PgConnection) -> Vec<String> {
    let mut findings = Vec::new();
    for statement in inventory_svc::statements() {
        findings.extend(chassis::sql::check(connection, statement).await.err());
    }
    findings
}
