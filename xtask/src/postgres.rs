//! A private Postgres cluster for tests.
//!
//! It is durable (`fsync` stays on, because the services refuse a database without it) although its folder is thrown
//! away. It must never listen outside 127.0.0.1: its superuser needs no password. Read next: `services.rs`.

use std::fs;
use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result};
use rustix::process::Signal;

use crate::account;
use crate::machine::PostgresBinaries;
use crate::port;
use crate::service::{Service, command_as, run_quietly};
use crate::services::Launched;

/// 1,000 connections: every crate's test binary runs on all cores, each test may open pools to eight databases, and one of
/// them holds four worlds at once. On a slow machine all pools grow to their size together.
const SETTINGS: &[&str] = &[
    "listen_addresses=127.0.0.1",
    "unix_socket_directories=",
    "max_connections=1000",
    "shared_buffers=256MB",
    "timezone=UTC",
    "log_timezone=UTC",
];

/// What `amends/src/cluster.rs` writes beside the above.
const AS_UP: &[&str] = &["max_wal_size=4GB", "autovacuum_naptime=10s"];
/// The same, where this build of Postgres knows it.
const COMPRESSION: &str = "wal_compression=lz4";

/// How it is set up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Manner {
    Tests,
    /// As that of `amends up`.
    Up,
}

pub(crate) fn launch(binaries: &PostgresBinaries, home: &Path, manner: Manner) -> Result<Launched> {
    let begin = Instant::now();
    let [port] = port::free()?;
    let account = account::for_service(&["postgres", "nobody"])?;
    let folder = home.join(format!("postgres-{port}"));
    account::folder(&folder, account)?;
    let data = folder.join("data");

    let mut initdb = command_as(&binaries.folder.join("initdb"), account, &folder, "TERM");
    let locale = if cfg!(target_os = "macos") { "C" } else { "C.UTF-8" };
    initdb.arg("-D").arg(&data).args(["-U", "postgres", "--auth=trust", "-E", "UTF8"]);
    initdb.args([&format!("--locale={locale}"), "--no-instructions", "--no-sync"]);
    run_quietly("initdb", initdb)?;

    let mut command = command_as(&binaries.folder.join("postgres"), account, &folder, "QUIT");
    command.arg("-D").arg(&data).args(["-p", &port.to_string()]);
    for setting in SETTINGS {
        command.args(["-c", setting]);
    }
    if manner == Manner::Up {
        let mut asked = command_as(&binaries.folder.join("postgres"), account, &folder, "TERM");
        asked.arg("-D").arg(&data).args(["-C", "wal_compression", "-c", COMPRESSION]);
        let compression = run_quietly("postgres -C", asked).is_ok().then_some(COMPRESSION);
        for setting in AS_UP.iter().copied().chain(compression) {
            command.args(["-c", setting]);
        }
    }
    // QUIT is Postgres' immediate shutdown: it ends its children and frees its shared memory, but writes no checkpoint
    // into a folder that goes away.
    let log = home.join(format!("postgres-{port}.log"));
    let service = Service::start("Postgres", command, Signal::QUIT, log)?;

    let state = data.join("postmaster.pid");
    let url = format!("postgres://postgres@127.0.0.1:{port}/postgres");
    Ok(Launched::new("Postgres", begin, service, url, move |_| takes_queries(&state).unwrap_or(false)))
}

/// What `pg_ctl -w` looks at: the port is open before queries are taken, and the file is in our folder, so another
/// server on the same port cannot be mistaken for ours.
fn takes_queries(state: &Path) -> Result<bool> {
    let text = fs::read_to_string(state).context("not there yet")?;
    Ok(text.lines().nth(7).is_some_and(|status| status.trim() == "ready"))
}

#[cfg(test)]
mod tests {
    use super::{AS_UP, COMPRESSION};
    use crate::cargo::workspace_root;

    #[test]
    fn a_stack_has_the_settings_of_amends_up() {
        let text = std::fs::read_to_string(workspace_root().join("amends/src/cluster.rs")).unwrap();
        for setting in AS_UP {
            let (name, value) = setting.split_once('=').unwrap();
            assert!(text.contains(&format!("{name} = '{value}'")), "{setting}");
        }
        let (name, value) = COMPRESSION.split_once('=').unwrap();
        assert!(text.contains(&format!("control.knows(\"{name}\", \"{value}\")")), "{COMPRESSION}");
    }
}
