//! Where the databases are, and one snapshot of each.
//!
//! Schemas that share a URL share a connection and so a snapshot. Every transaction is read only. The orchestrator's
//! snapshot is taken last: what a participant has stored for a saga must then be known there.

use std::{fmt, str::FromStr as _};

use chassis::sql::{Checked, Statement};
use chrono::{DateTime, Utc};
use sqlx::{Connection as _, Executor as _, PgConnection, postgres::PgConnectOptions};

use super::Error;

/// A schema, and whose it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Room {
    /// order-svc's.
    Orders,
    /// inventory-svc's.
    Inventory,
    /// risk-svc's.
    Risk,
    /// payment-svc's.
    Payments,
    /// The provider's book.
    Simulator,
    /// ledger-svc's.
    Ledger,
    /// The orchestrator's.
    Orchestrator,
}

impl Room {
    /// All, in the order in which their snapshots are taken.
    pub const ALL: [Self; 7] = [
        Self::Orders,
        Self::Inventory,
        Self::Risk,
        Self::Payments,
        Self::Simulator,
        Self::Ledger,
        Self::Orchestrator,
    ];

    /// The schema's name.
    #[must_use]
    pub const fn schema(self) -> &'static str {
        match self {
            Self::Orders => "orders",
            Self::Inventory => "inventory",
            Self::Risk => "risk",
            Self::Payments => "payments",
            Self::Simulator => "simulator",
            Self::Ledger => "ledger",
            Self::Orchestrator => "orchestrator",
        }
    }
}

/// The URL of each schema's database. They may all be the same database.
#[derive(Clone)]
pub struct Sources {
    urls: [String; 7],
    /// notification-svc's, which is looked at for secrets alone.
    letters: Option<String>,
}

impl fmt::Debug for Sources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // URLs may hold passwords.
        f.debug_struct("Sources").finish_non_exhaustive()
    }
}

impl Sources {
    /// One database that holds every schema; the role must be able to read them all.
    #[must_use]
    pub fn one(url: &str) -> Self {
        Self::of(|_| url.to_owned()).with_letters(url.to_owned())
    }

    /// With notification-svc's database, which is looked at for what must not stand there.
    #[must_use]
    pub fn with_letters(self, url: String) -> Self {
        Self { letters: Some(url), ..self }
    }

    /// What `url` says for each schema.
    #[must_use]
    pub fn of(url: impl Fn(Room) -> String) -> Self {
        Self { urls: Room::ALL.map(url), letters: None }
    }
}

/// The databases as they were at one time each.
pub(super) struct Snapshot {
    connections: Vec<PgConnection>,
    places: [usize; 7],
    /// Whether one of them sees the letters.
    has_letters: bool,
    /// When the orchestrator's was taken, by its database.
    pub(super) now: DateTime<Utc>,
}

static NOW: Statement<(), (DateTime<Utc>,)> = Statement::new("select now()");

static HAS_SCHEMA: Statement<(String,), (bool,)> = Statement::new("select to_regnamespace($1) is not null");

pub(super) fn statements() -> Vec<&'static dyn Checked> {
    vec![&NOW, &HAS_SCHEMA]
}

impl Snapshot {
    /// Takes all of them.
    pub(super) async fn open(sources: &Sources) -> Result<Self, Error> {
        let mut connections: Vec<PgConnection> = Vec::new();
        let mut places = [0; 7];
        // From the back, so that a database shared with the orchestrator is read as late as the orchestrator's.
        let shared = |at: usize| sources.urls.iter().rposition(|url| *url == sources.urls[at]).unwrap_or(at);
        for (at, room) in Room::ALL.into_iter().enumerate() {
            if shared(at) == at {
                let connection = connect(&sources.urls[at]).await;
                connections.push(connection.map_err(unreadable(room))?);
                places[at] = connections.len() - 1;
            }
        }
        for at in 0..places.len() {
            places[at] = places[shared(at)];
        }
        if let Some(url) = sources.letters.as_ref().filter(|url| !sources.urls.contains(url)) {
            let failed = |source| Error::Unreadable { schema: "notifications", source };
            connections.push(connect(url).await.map_err(failed)?);
        }
        let has_letters = sources.letters.is_some();
        let mut snapshot = Self { connections, places, has_letters, now: DateTime::UNIX_EPOCH };
        for room in Room::ALL {
            let found = HAS_SCHEMA.one(snapshot.at(room), (room.schema().to_owned(),)).await;
            if !found.map_err(unreadable(room))?.0 {
                let missing = sqlx::Error::Protocol("there is no such schema in this database".into());
                return Err(unreadable(room)(missing));
            }
        }
        let room = Room::Orchestrator;
        snapshot.now = NOW.one(snapshot.at(room), ()).await.map_err(unreadable(room))?.0;
        Ok(snapshot)
    }

    /// The connection that sees a schema.
    pub(super) fn at(&mut self, room: Room) -> &mut PgConnection {
        &mut self.connections[self.places[room as usize]]
    }

    /// Every connection once, with the schema that it is named by in an error.
    pub(super) fn connections(&mut self) -> impl Iterator<Item = (&'static str, &mut PgConnection)> {
        let places = self.places;
        let named =
            move |at| places.iter().position(|place| *place == at).map(|room| Room::ALL[room].schema());
        let all = self.connections.iter_mut().enumerate();
        all.map(move |(at, connection)| (named(at).unwrap_or("notifications"), connection))
    }

    /// Whether the letters can be looked at.
    pub(super) const fn has_letters(&self) -> bool {
        self.has_letters
    }

    /// Ends the transactions. That a connection breaks now changes nothing.
    pub(super) async fn close(self) {
        for connection in self.connections {
            let _ = connection.close().await;
        }
    }
}

/// A connection without a snapshot: each statement sees what has committed by then.
pub(super) async fn glance(sources: &Sources, room: Room) -> sqlx::Result<PgConnection> {
    let options = PgConnectOptions::from_str(&sources.urls[room as usize])?.application_name("amends-audit");
    PgConnection::connect_with(&options).await
}

async fn connect(url: &str) -> sqlx::Result<PgConnection> {
    let options = PgConnectOptions::from_str(url)?.application_name("amends-audit");
    let mut connection = PgConnection::connect_with(&options).await?;
    // A role may have limits that fit a service; an audit takes longer.
    connection.execute("set statement_timeout = 0; set idle_in_transaction_session_timeout = 0").await?;
    connection.execute("begin isolation level repeatable read, read only").await?;
    // The first statement takes the snapshot.
    connection.execute("select now()").await?;
    Ok(connection)
}

/// An error of a schema's database.
pub(super) fn unreadable(room: Room) -> impl FnOnce(sqlx::Error) -> Error {
    move |source| Error::Unreadable { schema: room.schema(), source }
}
