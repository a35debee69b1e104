//! Databases, schemas and roles: what has to be there before a service starts.
//!
//! `amends up` makes one database with a schema and a role per service, as its cluster's owner. A service that is given
//! a database of its own brings its schema up to date if it may, and refuses to start on one that is behind; where it may
//! not, `owner.rs` does it. Nothing is ever dropped here. Read next: the `SCHEMA` of any service.

use chassis::{
    database::{self, Schema},
    stop::Stop,
};
use sqlx::{Connection as _, Executor as _, PgConnection, postgres::PgConnectOptions};

use crate::cluster::Cluster;

/// The database of `amends up`.
pub(crate) const DATABASE: &str = "amends";

/// Every schema of Amends.
#[must_use]
pub fn schemas() -> [Schema; 8] {
    [
        orchestrator::SCHEMA,
        order_svc::SCHEMA,
        inventory_svc::SCHEMA,
        risk_svc::SCHEMA,
        payment_svc::SCHEMA,
        payment_svc::SIMULATOR_SCHEMA,
        ledger_svc::SCHEMA,
        notification_svc::SCHEMA,
    ]
}

/// The URL of each service's database. They may all be the same database. Not `Debug`: a URL may hold a password.
#[derive(Clone)]
pub struct Databases {
    /// The orchestrator's.
    pub orchestrator: String,
    /// order-svc's.
    pub order: String,
    /// inventory-svc's.
    pub inventory: String,
    /// risk-svc's.
    pub risk: String,
    /// payment-svc's.
    pub payment: String,
    /// The provider simulator's book.
    pub simulator: String,
    /// ledger-svc's.
    pub ledger: String,
    /// notification-svc's.
    pub notification: String,
}

impl Databases {
    /// What `url` says for each schema.
    #[must_use]
    pub fn of(url: impl Fn(&Schema) -> String) -> Self {
        Self {
            orchestrator: url(&orchestrator::SCHEMA),
            order: url(&order_svc::SCHEMA),
            inventory: url(&inventory_svc::SCHEMA),
            risk: url(&risk_svc::SCHEMA),
            payment: url(&payment_svc::SCHEMA),
            simulator: url(&payment_svc::SIMULATOR_SCHEMA),
            ledger: url(&ledger_svc::SCHEMA),
            notification: url(&notification_svc::SCHEMA),
        }
    }
}

/// Why a database is not ready.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It could not be asked.
    #[error("the database cannot be asked")]
    Ask(#[from] sqlx::Error),
    /// It could not be made ready.
    #[error("schema {schema} cannot be made ready")]
    Provision {
        /// Which.
        schema: &'static str,
        /// Why.
        #[source]
        source: database::Error,
    },
    /// It is older than this build, and this process is not to change it.
    #[error(
        "schema {schema} is at version {found}, this build needs {needed}: run `amends provision` with the URL of the role \
         that owns the database"
    )]
    Behind {
        /// Which.
        schema: &'static str,
        /// What is there.
        found: i64,
        /// What this build needs.
        needed: i64,
    },
}

/// Makes the database of `amends up` and everything in it; the URLs of its services.
///
/// # Errors
/// What the server said.
pub async fn embedded(cluster: &Cluster) -> Result<Databases, Error> {
    let mut server = PgConnection::connect(&cluster.url("postgres", "postgres")).await?;
    let there: Option<(i32,)> = sqlx::query_as("select 1 from pg_database where datname = $1")
        .bind(DATABASE)
        .fetch_optional(&mut server)
        .await?;
    if there.is_none() {
        server.execute("create database amends").await?;
    }
    server.close().await?;
    let mut owner = PgConnection::connect(&cluster.url("postgres", DATABASE)).await?;
    for schema in &schemas() {
        let name = schema.name;
        let made = database::provision(&mut owner, schema).await;
        made.map_err(|source| Error::Provision { schema: name, source })?;
    }
    owner.close().await?;
    Ok(Databases::of(|schema| cluster.url(schema.role, DATABASE)))
}

/// Makes what is missing in a database that is there already; the URLs of its services. Every role comes in without a
/// password.
///
/// # Errors
/// A URL that is none, and what the server said.
pub(crate) async fn given(url: &str) -> Result<Databases, Error> {
    let mut owner = PgConnection::connect(url).await?;
    for schema in &schemas() {
        let needed = schema.migrations.iter().map(|(version, ..)| *version).max().unwrap_or_default();
        if version(&mut owner, schema).await? < needed {
            let made = database::provision(&mut owner, schema).await;
            made.map_err(|source| Error::Provision { schema: schema.name, source })?;
        }
    }
    owner.close().await?;
    let place = url.rsplit_once('@').map_or("", |(_, place)| place);
    Ok(Databases::of(|schema| format!("postgres://{}@{place}", schema.role)))
}

/// Makes a service's schema in a database of its own, or brings it up to date, and grants its role what it needs. May
/// be repeated.
///
/// # Errors
/// What the server said.
pub async fn as_owner(url: &str, schema: &Schema) -> Result<(), Error> {
    let mut owner = PgConnection::connect(url).await?;
    let made = database::provision(&mut owner, schema).await;
    made.map_err(|source| Error::Provision { schema: schema.name, source })?;
    owner.close().await?;
    Ok(())
}

/// What a single service does about its schema.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Migrate {
    /// Migrates when the schema is behind.
    WhenBehind,
    /// Migrates, also when it looks up to date.
    Always,
    /// Only looks.
    Never,
}

/// Brings a service's schema up to date with the service's own URL, waiting for the server until `stop`. A schema that is newer than this build is left
/// alone.
///
/// # Errors
/// When it is behind and may not be changed, and what the server said.
pub async fn own(url: &str, schema: &Schema, migrate: Migrate, stop: &Stop) -> Result<(), Error> {
    let options: PgConnectOptions = url.parse()?;
    let connected = database::patiently(&options, stop, async || PgConnection::connect_with(&options).await);
    let mut connection =
        connected.await.map_err(|source| Error::Provision { schema: schema.name, source })?;
    let needed = schema.migrations.iter().map(|(version, ..)| *version).max().unwrap_or_default();
    let found = version(&mut connection, schema).await?;
    let is_behind = found < needed;
    match migrate {
        Migrate::Never if is_behind => return Err(Error::Behind { schema: schema.name, found, needed }),
        Migrate::Never => {}
        Migrate::WhenBehind if !is_behind => {}
        Migrate::WhenBehind | Migrate::Always => {
            let migrated = database::migrate(&mut connection, schema).await;
            migrated.map_err(|source| Error::Provision { schema: schema.name, source })?;
        }
    }
    connection.close().await?;
    Ok(())
}

/// The newest migration that ran; 0 when none did.
async fn version(connection: &mut PgConnection, schema: &Schema) -> Result<i64, Error> {
    let table = format!("{}._sqlx_migrations", schema.name);
    let (is_there,): (bool,) =
        sqlx::query_as("select to_regclass($1) is not null").bind(&table).fetch_one(&mut *connection).await?;
    if !is_there {
        return Ok(0);
    }
    let newest = format!("select coalesce(max(version), 0) from {table} where success");
    let (version,): (i64,) = sqlx::query_as(sqlx::AssertSqlSafe(newest)).fetch_one(connection).await?;
    Ok(version)
}
