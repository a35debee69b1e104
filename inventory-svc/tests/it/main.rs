//! inventory-svc against a real Postgres, through its doors. Modules by behaviour; [`house`] sets the scene.

#![expect(clippy::unwrap_used, reason = "a test may fail loudly, its scene as well")]

mod alarm;
mod house;
mod messages;
mod people;
mod races;
mod steps;

#[tokio::test]
async fn every_statement_fits_the_schema() {
    let database = chassis::testbed::TestDatabase::create(&[inventory_svc::SCHEMA]).await;
    let mut connection = database.connect().await;
    for statement in inventory_svc::statements() {
        assert_eq!(chassis::sql::check(&mut connection, statement).await, Ok(()));
    }
}

#[test]
fn settings_that_nobody_turned_are_the_defaults() {
    #[derive(clap::Parser)]
    struct CommandLine {
        #[command(flatten)]
        settings: inventory_svc::Settings,
    }
    let read = <CommandLine as clap::Parser>::parse_from(["inventory"]).settings;
    assert_eq!(format!("{read:?}"), format!("{:?}", inventory_svc::Settings::default()));
}
