//! Which databases are judged, as the command line names them, and the judging.
//!
//! Nothing in `cli/` opens a database: the auditor does. Read next: `audit.rs` and `bench.rs`, which take this.

use std::fmt;

use clap::Args;

use crate::{
    audit::{self, Options, Report, Sources},
    cluster::{self, Cluster},
    data_dir::{self, DataDir},
    database_urls::{Named, ReadFrom},
    host::{self, Usage},
    postgres::Place,
    provision,
};

/// Where the auditor looks.
#[derive(Debug, Args)]
pub(super) struct Stores {
    // First: those that follow take their values away.
    #[command(flatten)]
    named: Named,
    #[command(flatten)]
    place: Place,
    #[command(flatten, next_help_heading = "Databases")]
    databases: ReadFrom,
}

/// Why there is no verdict.
#[derive(Debug, thiserror::Error)]
pub(super) enum NoVerdict {
    #[error("{0}")]
    Usage(String),
    #[error("{0}")]
    Unreadable(String),
}

impl From<audit::Error> for NoVerdict {
    fn from(error: audit::Error) -> Self {
        let text = error.to_string();
        match error {
            audit::Error::Unreadable { .. } => Self::Unreadable(text),
            audit::Error::File { .. } | audit::Error::Line { .. } => Self::Usage(text),
        }
    }
}

impl From<Usage> for NoVerdict {
    fn from(usage: Usage) -> Self {
        Self::Usage(usage.to_string())
    }
}

impl NoVerdict {
    pub(super) fn unreadable(error: impl fmt::Display) -> Self {
        Self::Unreadable(error.to_string())
    }
}

impl Stores {
    /// Judges what is there.
    ///
    /// # Errors
    /// When they are named wrongly, or cannot be read.
    pub(super) async fn judge(&self, options: &Options) -> Result<Report, NoVerdict> {
        match self.named.sources(&self.databases)? {
            Some(sources) => Ok(audit::run(&sources, options).await?),
            None => self.judge_folder(options).await,
        }
    }

    /// The private Postgres: as `amends up` runs it, or started for this alone.
    async fn judge_folder(&self, options: &Options) -> Result<Report, NoVerdict> {
        let folder = &self.place.data_dir;
        if !folder.join("postgres/data/PG_VERSION").exists() {
            let text = format!("{} holds no store of Amends (--data-dir, --database-url)", folder.display());
            return Err(NoVerdict::Unreadable(text));
        }
        let lock = match DataDir::lock(folder) {
            Ok(lock) => Some(lock),
            Err(data_dir::Error::Taken { .. }) => None,
            Err(error) => return Err(NoVerdict::unreadable(error)),
        };
        let place = cluster::Options { data_dir: folder.clone(), binaries: self.place.postgres_bin.clone() };
        let started = host::blocking(move || Cluster::start(&place)).await;
        let cluster = started.map_err(NoVerdict::unreadable)?.map_err(NoVerdict::unreadable)?;
        let sources = Sources::one(&cluster.url("postgres", provision::DATABASE));
        let report = audit::run(&sources, options).await;
        // Whoever has the folder uses its Postgres.
        if lock.is_some() && !cluster.was_running() {
            let stopped = host::blocking(move || cluster.stop()).await;
            stopped.map_err(NoVerdict::unreadable)?.map_err(NoVerdict::unreadable)?;
        }
        Ok(report?)
    }
}
