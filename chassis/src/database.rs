//! A service's database: its pool, its schema, and what an error means.
//!
//! The pool is small (on few cores more connections are slower) and pings only what has been idle. Time limits are the
//! server's, so that no future around a transaction is dropped: `tokio::time::timeout` and `select!` must never stand
//! around a statement. The one exception, for a network that swallows everything, is in `bound`; how a server is waited
//! for is in `waiting`.

mod bound;
mod waiting;
mod warm;

use std::{panic::Location, str::FromStr as _, time::Duration};

use sqlx::{
    AssertSqlSafe, Connection as _, Executor as _, PgConnection, PgPool, Postgres, SqlSafeStr as _,
    Transaction,
    migrate::{MigrateError, Migration, MigrationType, Migrator},
    pool::PoolConnection,
    postgres::{PgConnectOptions, PgPoolOptions},
};

use self::bound::{to_its_end, within};
pub use self::{
    bound::in_time,
    waiting::patiently,
    warm::{Held, PLANNING, Warm},
};
use crate::{crash, stop::Stop};

/// A service's schema: name, role, migrations.
#[derive(Debug, Clone, Copy)]
pub struct Schema {
    /// Of the schema.
    pub name: &'static str,
    /// Of the role the service works as.
    pub role: &'static str,
    /// Version, description, SQL: forward only.
    pub migrations: &'static [(i64, &'static str, &'static str)],
    /// What the role may do, run after every migration. `{role}` stands for the role.
    pub grants: &'static str,
}

/// What most roles may do: read and write the rows of their schema, not its shape.
#[macro_export]
macro_rules! row_grants {
    ($schema:literal) => {
        concat!(
            "grant usage on schema ",
            $schema,
            " to {role};",
            "grant select, insert, update, delete on all tables in schema ",
            $schema,
            " to {role};",
            "grant usage on all sequences in schema ",
            $schema,
            " to {role};"
        )
    };
}

/// Why a database could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The URL is not one.
    #[error("not a Postgres URL")]
    Url(#[source] sqlx::Error),
    /// It would lose commits.
    #[error(
        "{setting} is off on this server: acknowledged orders could be lost. Turn it on, or pass --allow-unsafe-database"
    )]
    Unsafe {
        /// Which setting.
        setting: &'static str,
    },
    /// It will not have us, or was not there when the wait was over.
    #[error("the database at {address} cannot be used")]
    Refused {
        /// Host, port and name.
        address: String,
        /// Why.
        #[source]
        source: sqlx::Error,
    },
    /// Older than 15.
    #[error("this is Postgres {found}; 15 or newer is needed")]
    TooOld {
        /// `server_version_num`.
        found: i32,
    },
    /// A migration failed.
    #[error("cannot migrate schema {schema}")]
    Migrate {
        /// Which.
        schema: &'static str,
        /// Why.
        #[source]
        source: MigrateError,
    },
    /// The server said no.
    #[error("the database refused")]
    Database(#[from] sqlx::Error),
}

/// How a pool is opened.
#[derive(Clone)]
pub struct Options {
    /// `postgres://…`
    pub url: String,
    /// Shown in `pg_stat_activity`.
    pub application: String,
    /// Connections at most.
    pub connections: u32,
    /// Take a server with `fsync` or `synchronous_commit` off.
    pub allow_unsafe: bool,
}

impl std::fmt::Debug for Options {
    /// Without the URL, which may hold a password.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Options")
            .field("application", &self.application)
            .field("connections", &self.connections)
            .field("allow_unsafe", &self.allow_unsafe)
            .finish_non_exhaustive()
    }
}

/// Opens a pool. Waits for a server that is not there yet, saying so every few seconds, until `stop`.
///
/// # Errors
/// A bad URL, an unsafe or too old server, a server that will not have us. One that cannot be reached is waited for.
pub async fn open(options: &Options, stop: &Stop) -> Result<PgPool, Error> {
    let connect = PgConnectOptions::from_str(&options.url).map_err(Error::Url)?;
    // Below the lease of an orchestrator (10 s): a holder of a fence row that hangs is gone before its lease.
    let connect = connect.application_name(&options.application).options([
        ("lock_timeout", "4s"),
        ("statement_timeout", "20s"),
        ("idle_in_transaction_session_timeout", "5s"),
        ("jit", "off"),
        // Plans are kept: one made while a table was small would go on reading all of it when it has grown.
        ("enable_seqscan", "off"),
        ("timezone", "UTC"),
        // A client that is gone without a word holds no locks and no connection for long.
        ("tcp_keepalives_idle", "15"),
        ("tcp_keepalives_interval", "5"),
        ("tcp_keepalives_count", "3"),
        ("tcp_user_timeout", "30000"),
    ]);
    let pool = PgPoolOptions::new()
        .max_connections(options.connections)
        .min_connections(1)
        .test_before_acquire(false)
        .acquire_timeout(Duration::from_secs(10))
        .before_acquire(|connection, meta| Box::pin(bound::is_usable(connection, meta)))
        .after_release(|connection, meta| Box::pin(bound::is_worth_keeping(connection, meta.age)))
        .idle_timeout(None)
        .max_lifetime(None)
        .connect_lazy_with(connect.clone());
    let mut connection =
        patiently(&connect, stop, async || PgConnection::connect_with(&connect).await).await?;
    refuse_unsafe(&mut connection, options.allow_unsafe).await?;
    let _ = connection.close().await;
    Ok(pool)
}

async fn refuse_unsafe(connection: &mut PgConnection, allow: bool) -> Result<(), Error> {
    let (version, fsync, synchronous): (i32, String, String) = sqlx::query_as(
        "select current_setting('server_version_num')::int, current_setting('fsync'), current_setting('synchronous_commit')",
    )
    .fetch_one(connection)
    .await?;
    if version < 150_000 {
        return Err(Error::TooOld { found: version });
    }
    for (setting, value) in [("fsync", fsync), ("synchronous_commit", synchronous)] {
        if value == "off" && !allow {
            return Err(Error::Unsafe { setting });
        }
    }
    Ok(())
}

/// Settings by which a commit that this server acknowledged may be lost, as in `fsync = off`: of this session, of the server,
/// and what is set for the sessions of others. `remote_apply` is more than `on`.
///
/// # Errors
/// What the database said.
pub async fn unsafe_settings(connection: &mut PgConnection) -> sqlx::Result<Vec<String>> {
    sqlx::query_scalar(
        "select name || ' = ' || setting from pg_settings
         where name in ('fsync', 'full_page_writes', 'synchronous_commit') and setting not in ('on', 'remote_apply')
         union
         select replace(configuration, '=', ' = ') from pg_db_role_setting, unnest(setconfig) as configuration
         where configuration ~ '^(synchronous_commit|fsync|full_page_writes)=' and configuration !~ '=(on|remote_apply)$'
         order by 1",
    )
    .fetch_all(connection)
    .await
}

/// Brings the schema up to date, as an owner. A newer schema than this build knows is left alone, so that a rollback
/// of the build starts.
///
/// # Errors
/// What the migration said.
pub async fn migrate(owner: &mut PgConnection, schema: &Schema) -> Result<(), Error> {
    let migrations = schema
        .migrations
        .iter()
        .map(|(version, description, sql)| {
            Migration::new(*version, (*description).into(), MigrationType::Simple, sql.into_sql_str(), false)
        })
        .collect();
    let mut migrator = Migrator::with_migrations(migrations);
    migrator.dangerous_set_table_name(format!("{}._sqlx_migrations", schema.name));
    migrator.create_schema(schema.name);
    migrator.set_ignore_missing(true);
    migrator.run(owner).await.map_err(|source| Error::Migrate { schema: schema.name, source })
}

/// Makes the role if it is not there, migrates, and grants. Needs an owner of the database; one who may create roles only
/// where the role is missing.
///
/// # Errors
/// What the server said.
pub async fn provision(owner: &mut PgConnection, schema: &Schema) -> Result<(), Error> {
    // Two processes may provision one cluster at once: the second finds the role.
    let create = format!(
        "do $$ begin \
           if not exists (select from pg_roles where rolname = '{role}') then create role {role} login; end if; \
         exception when duplicate_object or unique_violation then null; end $$",
        role = schema.role
    );
    owner.execute(AssertSqlSafe(create).into_sql_str()).await?;
    migrate(owner, schema).await?;
    let mut transaction = owner.begin().await?;
    // Concurrent grants on one schema collide ("tuple concurrently updated"): one at a time.
    transaction.execute("select pg_advisory_xact_lock(7236842)").await?;
    let grants = schema.grants.replace("{role}", schema.role);
    // A service reads what has been migrated, to refuse a schema that is behind; it never writes it.
    let history = format!(
        "revoke all on {schema}._sqlx_migrations from {role}; grant select on {schema}._sqlx_migrations to {role};",
        schema = schema.name,
        role = schema.role
    );
    transaction.execute(sqlx::raw_sql(AssertSqlSafe(grants + &history))).await?;
    transaction.commit().await?;
    Ok(())
}

/// Whether the error means that the connection, or the server behind it, is gone.
fn is_lost(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_) | sqlx::Error::PoolTimedOut | sqlx::Error::Protocol(_) | sqlx::Error::Tls(_) => {
            true
        }
        sqlx::Error::Database(e) => e.code().is_some_and(|code| is_away(&code)),
        _ => false,
    }
}

/// What a server says that shuts down, has crashed, starts up (57P01 to 57P03), breaks a connection (08), has no place
/// (53), will not have us now, though it had us before (28, 3D), or has become a standby (25006): nothing that has to do
/// with what was asked.
fn is_away(code: &str) -> bool {
    let classes = ["57P", "08", "53", "28", "3D"];
    classes.iter().any(|class| code.starts_with(class)) || code == "25006"
}

/// Less than a step's call may take: whoever asked is told that nothing was begun before it gives up.
const SOON: Duration = Duration::from_secs(4);

/// A connection of the pool, soon.
///
/// # Errors
/// [`Trouble::Away`] when there is none to be had: nothing was begun.
pub async fn acquire(pool: &PgPool) -> Result<PoolConnection<Postgres>, Trouble> {
    let late = |_| Trouble::Away(format!("no connection within {SOON:?}"));
    // Nothing is lost with waiting for a connection; a pool that is busy is not suspected of anything. On the heap: it is
    // large, and whoever may come to wait for one would carry it about.
    tokio::time::timeout(SOON, Box::pin(pool.acquire())).await.map_err(late)?.map_err(Trouble::before)
}

/// Begins a transaction.
///
/// # Errors
/// [`Trouble::Away`] when the connection is gone: nothing was begun.
pub async fn begin(connection: &mut PgConnection) -> Result<Transaction<'_, Postgres>, Trouble> {
    in_time(to_its_end(connection.begin())).await.map_err(Trouble::before)
}

/// Begins a transaction on a connection of the pool.
///
/// # Errors
/// As [`begin`].
pub async fn begin_on(pool: &PgPool) -> Result<Transaction<'static, Postgres>, Trouble> {
    let connection = acquire(pool).await?;
    within(SOON, to_its_end(Transaction::begin(connection, None))).await.map_err(Trouble::before)
}

/// Commits. Its crash points are named by the file that calls it.
///
/// # Errors
/// What the server said. When the connection broke nothing is known.
#[track_caller]
pub fn commit(
    transaction: Transaction<'_, Postgres>,
) -> impl Future<Output = Result<(), Trouble>> + Send + '_ {
    let caller = Location::caller().file();
    async move {
        crash::point("before commit", caller);
        in_time(transaction.commit()).await?;
        crash::point("after commit", caller);
        Ok(())
    }
}

/// Why a command did not end: what its batcher does next follows from it.
#[derive(Debug, thiserror::Error)]
pub enum Trouble {
    /// Somebody was in the way and it was rolled back: run it again from load.
    #[error("again: {0}")]
    Again(String),
    /// The database cannot be reached and nothing was begun.
    #[error("away: {0}")]
    Away(String),
    /// The connection broke: nothing is known.
    #[error("unavailable: {0}")]
    Unavailable(String),
    /// An item cannot be processed and all was rolled back: find it by halving.
    #[error("{0}")]
    Failed(String),
}

impl Trouble {
    /// An error that came before anything could have happened.
    fn before(error: sqlx::Error) -> Self {
        match Self::from(error) {
            Self::Unavailable(why) => Self::Away(why),
            other => other,
        }
    }
}

impl From<sqlx::Error> for Trouble {
    fn from(error: sqlx::Error) -> Self {
        let text = error.to_string();
        match &error {
            sqlx::Error::Database(e) => match e.code().as_deref() {
                // Deadlock, lock time-out, serialization, a unique key that another process took meanwhile (the next
                // load sees its row), and a process that stood still in the middle of a transaction.
                Some("40P01" | "55P03" | "40001" | "23505" | "25P03" | "25P04") => Self::Again(text),
                Some(code) if is_away(code) => Self::Unavailable(text),
                _ => Self::Failed(text),
            },
            sqlx::Error::Encode(_)
            | sqlx::Error::Decode(_)
            | sqlx::Error::ColumnDecode { .. }
            | sqlx::Error::RowNotFound => Self::Failed(text),
            _ => Self::Unavailable(text),
        }
    }
}
