//! notification-svc against a real Postgres, over its bus and its doors: each module is one behaviour. Read next:
//! [`bed`].

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should fail where it stands")]

mod bed;
mod desk;
mod mail_server;
mod recording;
mod sending;
mod trouble;

#[tokio::test]
async fn every_statement_fits_the_schema() {
    let database = chassis::testbed::TestDatabase::create(&[notification_svc::SCHEMA]).await;
    let mut connection = database.pool(&notification_svc::SCHEMA).await.acquire().await.unwrap();
    let mut findings = Vec::new();
    for statement in notification_svc::statements() {
        findings.extend(chassis::sql::check(&mut connection, statement).await.err());
    }
    assert!(findings.is_empty(), "{findings:#?}");
}
