//! order-svc against a real Postgres, through its doors. Modules by behaviour; [`house`] sets the scene.

#![expect(clippy::unwrap_used, reason = "a test may fail loudly, its scene as well")]

mod catalog;
mod house;
mod messages;
mod races;
mod steps;

#[tokio::test]
async fn every_statement_fits_the_schema() {
    let database = chassis::testbed::TestDatabase::create(&[order_svc::SCHEMA]).await;
    let mut connection = database.connect().await;
    for statement in order_svc::statements() {
        assert_eq!(chassis::sql::check(&mut connection, statement).await, Ok(()));
    }
}
