//! What integration tests stand on: a private database each, on the server that `cargo xtask test` started.
//!
//! Compiled always, because a feature for it would build every crate twice; nothing outside tests calls it.

use std::str::FromStr as _;

use sha2::{Digest as _, Sha256};
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

/// Creates a database on a server, with these schemas and their roles. It is a copy of one that whoever comes first makes:
/// hundreds of tests want the same, and copying is quicker than migrating.
///
/// # Errors
/// What the server said.
pub async fn create(
    server: &PgConnectOptions,
    name: &str,
    schemas: &[Schema],
) -> Result<(), database::Error> {
    let mut connection = PgConnection::connect_with(server).await?;
    let template = match schemas {
        [] => "template0".to_owned(),
        _ => template(server, &mut connection, schemas).await?,
    };
    run(&mut connection, format!("create database {name} template {template}")).await?;
    Ok(connection.close().await?)
}

/// The name of the database that is copied. One that is being made has another, so that none is half made.
async fn template(
    server: &PgConnectOptions,
    connection: &mut PgConnection,
    schemas: &[Schema],
) -> Result<String, database::Error> {
    let digest = Sha256::digest(format!("{schemas:?}"));
    let name = format!("template_{}", hex::encode(&digest[..12]));
    // Goes with the connection, if this fails.
    run(connection, "select pg_advisory_lock(7236843)".to_owned()).await?;
    let looked = sqlx::query_scalar("select exists (select from pg_database where datname = $1)");
    let is_there: bool = looked.bind(&name).fetch_one(&mut *connection).await?;
    if !is_there {
        let making = format!("{name}_making");
        run(connection, format!("drop database if exists {making} with (force)")).await?;
        run(connection, format!("create database {making} template template0")).await?;
        let mut owner = PgConnection::connect_with(&server.clone().database(&making)).await?;
        for schema in schemas {
            database::provision(&mut owner, schema).await?;
        }
        owner.close().await?;
        // Whoever is closed is gone a moment later.
        let left = "select pg_terminate_backend(pid, 5000) from pg_stat_activity where datname = $1";
        sqlx::query(left).bind(&making).execute(&mut *connection).await?;
        run(connection, format!("alter database {making} rename to {name}")).await?;
    }
    run(connection, "select pg_advisory_unlock(7236843)".to_owned()).await?;
    Ok(name)
}

async fn run(connection: &mut PgConnection, sql: String) -> sqlx::Result<()> {
    connection.execute(sqlx::raw_sql(sqlx::AssertSqlSafe(sql))).await.map(|_| ())
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
        create(&server, &name, schemas).await.expect("a database can be created");
        let owner = server.database(&name);
        let base = url.rsplit_once('/').map_or(url.as_str(), |(base, _)| base);
        Self { owner, owner_url: format!("{base}/{name}") }
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
