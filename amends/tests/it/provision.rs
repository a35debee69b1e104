//! A service's schema with the service's own URL: brought up to date, or refused.

use amends::provision::{Error, Migrate, own, schemas};
use chassis::stop::Stop;
use chassis::testbed::TestDatabase;

#[tokio::test]
async fn an_empty_database_is_migrated_once_and_an_old_one_is_refused_by_who_may_not() {
    let database = TestDatabase::create(&[]).await;
    let url = database.owner_url();
    for schema in &schemas() {
        let error = own(url, schema, Migrate::Never, &Stop::new()).await.unwrap_err();
        assert!(matches!(error, Error::Behind { found: 0, .. }), "{error}");
        assert!(error.to_string().contains("amends provision"), "{error}");
        own(url, schema, Migrate::WhenBehind, &Stop::new()).await.unwrap();
        own(url, schema, Migrate::Never, &Stop::new()).await.unwrap();
        own(url, schema, Migrate::Always, &Stop::new()).await.unwrap();
    }
}

#[tokio::test]
async fn a_role_that_may_not_migrate_starts_on_what_is_up_to_date() {
    let database = TestDatabase::create(&schemas()).await;
    for schema in &schemas() {
        let url = database.url(schema);
        own(&url, schema, Migrate::WhenBehind, &Stop::new()).await.unwrap();
        own(&url, schema, Migrate::Never, &Stop::new()).await.unwrap();
    }
}
