//! Every statement against the migrated schema.

use chassis::{sql, testbed::TestDatabase};
use payment_svc::{SCHEMA, SIMULATOR_SCHEMA, statements};

#[tokio::test]
async fn every_statement_fits_the_schema() {
    let database = TestDatabase::create(&[SCHEMA, SIMULATOR_SCHEMA]).await;
    let mut owner = database.connect().await;
    for statement in statements() {
        sql::check(&mut owner, statement).await.unwrap();
    }
}
