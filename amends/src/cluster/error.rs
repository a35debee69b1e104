//! Why the private cluster cannot be used, and what to do about it.
//!
//! Every text is for the person who typed the command. Read next: `../cluster.rs`.

use std::{io, path::PathBuf};

/// Why the private cluster cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file or folder said no.
    #[error("cannot {verb} {}", path.display())]
    Io {
        /// What was tried.
        verb: &'static str,
        /// Where.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The search found none.
    #[error(
        "{wanted} is not on this machine: install it (https://www.postgresql.org/download/), or name the folder that \
         has `initdb` with --postgres-bin"
    )]
    NoBinaries {
        /// What was looked for.
        wanted: String,
    },
    /// The given folder has none.
    #[error("{} does not have `initdb`, `pg_ctl` and `postgres`: name another folder with --postgres-bin", folder.display())]
    NotBinaries {
        /// Which.
        folder: PathBuf,
    },
    /// The given folder has another version.
    #[error("--postgres-bin has Postgres {found}; this needs {wanted}")]
    WrongVersion {
        /// What it has.
        found: u32,
        /// What is needed.
        wanted: String,
    },
    /// Root has nobody to run Postgres as.
    #[error(
        "Postgres does not run as root, and none of the accounts {names} exists: run this as an ordinary user"
    )]
    NoAccount {
        /// Which were looked for.
        names: String,
    },
    /// The cluster is another user's.
    #[error("{} belongs to user {uid}: run this as that user, or choose another --data-dir", folder.display())]
    Foreign {
        /// Which folder.
        folder: PathBuf,
        /// Whose.
        uid: u32,
    },
    /// The unprivileged account cannot get there.
    #[error(
        "as root, Postgres runs as an unprivileged account, and that account cannot pass {}: run \
         `chmod o+x {}`, choose another --data-dir (as in /var/lib/amends), or run this as an ordinary user",
        folder.display(), folder.display()
    )]
    Barred {
        /// The folder in the way.
        folder: PathBuf,
    },
    /// Its programs do not run.
    #[error("cannot run {}", program.display())]
    Spawn {
        /// Which.
        program: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// One of its programs failed.
    #[error("{program} failed ({status}):\n{said}")]
    Failed {
        /// Which.
        program: &'static str,
        /// Its exit status.
        status: std::process::ExitStatus,
        /// What it said, and the end of the log.
        said: String,
    },
    /// A file of the cluster is damaged.
    #[error("{} cannot be understood", file.display())]
    Unreadable {
        /// Which.
        file: PathBuf,
    },
    /// A server neither comes up nor goes away.
    #[error("the Postgres in {} (process {pid}) neither serves nor ends; see its log beside the folder", folder.display())]
    Stuck {
        /// Its process.
        pid: i32,
        /// Its folder.
        folder: PathBuf,
    },
    /// No port is free.
    #[error("no port is free on 127.0.0.1")]
    NoPort(#[source] io::Error),
}

impl Error {
    /// For `map_err`.
    pub(super) fn io(verb: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { verb, path, source }
    }

    /// Whether the server could not start because its port is somebody else's.
    pub(super) fn is_port_taken(&self) -> bool {
        matches!(self, Self::Failed { said, .. } if said.contains("Address already in use"))
    }

    /// Whether children of an earlier server are still alive.
    pub(super) fn has_orphans(&self) -> bool {
        matches!(self, Self::Failed { said, .. } if said.contains("pre-existing shared memory block"))
    }
}
