//! What integration tests stand on: a private database each, on the server that `cargo xtask test` started.
//!
//! Compiled always, because a feature for it would build every crate twice; nothing outside tests calls it.

use std::str::FromStr as _;

use sqlx::{Connection as _, Executor as _, PgConnection, PgPool, postgres::PgConnectOptions};

use crate::{
    database::{self, Options, Schema},
    keyring::Keyring,
    stop::Stop,
};

/// A private database with the schemas of some services.
#[derive(Debug, Clone)]
pub struct TestDatabase {
    owner: PgConnectOptions,
    owner_url: String,
}

/// A key for payment tokens, as `AMENDS_TOKEN_KEY` takes it.
pub const TOKEN_KEY: &str = "test:7465737474657374746573747465737474657374746573747465737474657374";

/// The same, read.
///
/// # Panics
/// Never.
#[must_use]
#[expect(clippy::expect_used, reason = "it is written above")]
pub fn keyring() -> Keyring {
    TOKEN_KEY.parse().expect("a key")
}

/// The value of a variable that `cargo xtask test` sets.
///
/// # Panics
/// When it is not set: tests need real services.
#[must_use]
#[expect(
    clippy::disallowed_methods,
    clippy::panic,
    reason = "tests are told where the services are by the environment"
)]
pub fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set: run the tests with `cargo xtask test`"))
}

impl TestDatabase {
    /// Creates a database, and in it these schemas with their roles.
    ///
    /// # Panics
    /// When the server says no.
    #[expect(clippy::expect_used, reason = "a test that has no database has nothing to say")]
    pub async fn create(schemas: &[Schema]) -> Self {
        let url = variable("AMENDS_TEST_POSTGRES_URL");
        let server = PgConnectOptions::from_str(&url).expect("AMENDS_TEST_POSTGRES_URL is a Postgres URL");
        let name = format!("t_{}", crate::clock::new_uuid().simple());
        let mut connection = PgConnection::connect_with(&server).await.expect("the test server is there");
        let create = sqlx::AssertSqlSafe(format!("create database {name} template template0"));
        connection.execute(sqlx::raw_sql(create)).await.expect("a database can be created");
        let owner = server.database(&name);
        let base = url.rsplit_once('/').map_or(url.as_str(), |(base, _)| base);
        let database = Self { owner, owner_url: format!("{base}/{name}") };
        let mut owner = database.connect().await;
        for schema in schemas {
            database::provision(&mut owner, schema).await.expect("the schema can be provisioned");
        }
        database
    }

    /// A connection as the owner, who may do anything: for looking, and for breaking things.
    ///
    /// # Panics
    /// When the server says no.
    #[expect(clippy::expect_used, reason = "see create")]
    pub async fn connect(&self) -> PgConnection {
        PgConnection::connect_with(&self.owner).await.expect("the test database is there")
    }

    /// The owner's URL.
    #[must_use]
    pub fn owner_url(&self) -> &str {
        &self.owner_url
    }

    /// The URL for a service's role.
    #[must_use]
    pub fn url(&self, schema: &Schema) -> String {
        match self.owner_url.split_once("postgres://") {
            Some((_, rest)) => {
                let host = rest.split_once('@').map_or(rest, |(_, host)| host);
                format!("postgres://{}@{host}", schema.role)
            }
            None => self.owner_url.clone(),
        }
    }

    /// A pool as a service's role, as the service itself opens it.
    ///
    /// # Panics
    /// When the server says no.
    #[expect(clippy::expect_used, reason = "see create")]
    pub async fn pool(&self, schema: &Schema) -> PgPool {
        let options = Options {
            url: self.url(schema),
            application: schema.role.to_owned(),
            connections: 4,
            allow_unsafe: false,
        };
        database::open(&options, &Stop::new()).await.expect("the test database opens")
    }
}
