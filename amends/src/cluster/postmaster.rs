//! What `postmaster.pid` says, and whether it is true.
//!
//! The file outlives a server that was killed, and its number may belong to somebody else by then (in a container it
//! soon does). Nothing here starts or ends a process. Read next: `../cluster.rs`.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use rustix::{
    io::Errno,
    process::{Pid, test_kill_process},
};

/// The file's name in the data folder.
pub(super) const FILE: &str = "postmaster.pid";

/// A server, as its file describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Postmaster {
    /// Its process.
    pub(super) pid: i32,
    /// On 127.0.0.1; none while it starts.
    pub(super) port: Option<u16>,
    /// Folder of its unix socket, if it has one.
    pub(super) socket: Option<PathBuf>,
    /// It takes queries.
    pub(super) is_ready: bool,
}

/// What is in the data folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Found {
    /// No server.
    Nothing,
    /// A server of this folder is alive.
    Alive(Postmaster),
    /// A file of a server that is gone, though its number is alive: Postgres itself would refuse to start.
    Stale,
}

/// Looks. A file whose process is gone counts as nothing: Postgres itself replaces it after checking that no orphan of
/// the old server is left.
pub(super) fn look(data: &Path) -> Found {
    let Some(postmaster) = fs::read_to_string(data.join(FILE)).ok().and_then(|text| parse(&text)) else {
        return Found::Nothing;
    };
    if !is_alive(postmaster.pid) {
        Found::Nothing
    } else if serves(postmaster.pid, data) {
        Found::Alive(postmaster)
    } else {
        Found::Stale
    }
}

/// Lines: pid, data folder, start time, port, socket folder, listen address, shared memory, status.
fn parse(text: &str) -> Option<Postmaster> {
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    let line = |at: usize| lines.get(at).copied().unwrap_or_default();
    // A standalone backend writes its number with a minus.
    let pid = line(0).trim_start_matches('-').parse().ok()?;
    let socket = line(4);
    Some(Postmaster {
        pid,
        port: line(3).parse().ok(),
        socket: (!socket.is_empty()).then(|| PathBuf::from(socket)),
        is_ready: line(7) == "ready",
    })
}

fn is_alive(pid: i32) -> bool {
    // It is somebody else's when we may not signal it.
    Pid::from_raw(pid).is_some_and(|pid| matches!(test_kill_process(pid), Ok(()) | Err(Errno::PERM)))
}

/// Whether the process is a Postgres in this folder. Where that cannot be seen it is taken for one: starting a second
/// server on the same files is the worse mistake.
fn serves(pid: i32, data: &Path) -> bool {
    let proc = PathBuf::from(format!("/proc/{pid}"));
    match fs::read_to_string(proc.join("comm")) {
        Ok(name) => {
            // A postmaster works in its data folder.
            name.trim().starts_with("postgres")
                && fs::read_link(proc.join("cwd")).map_or(true, |cwd| cwd == data)
        }
        Err(_) => {
            let output = Command::new("ps")
                .args(["-o", "comm=", "-p", &pid.to_string()])
                .stdin(Stdio::null())
                .output();
            output.map_or(true, |output| String::from_utf8_lossy(&output.stdout).contains("postgres"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_is_read_while_it_grows() {
        let whole = "4711\n/d\n1700000000\n45607\n/d/run\n127.0.0.1\n  5432001    12\nready   \n";
        let ready =
            Postmaster { pid: 4711, port: Some(45607), socket: Some("/d/run".into()), is_ready: true };
        assert_eq!(parse(whole), Some(ready));
        let begun = Postmaster { pid: 4711, port: None, socket: None, is_ready: false };
        assert_eq!(parse("4711\n/d\n"), Some(begun));
        assert_eq!(parse(""), None);
        assert_eq!(parse("x\n"), None);
    }

    #[test]
    fn a_number_that_belongs_to_another_program_is_stale() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(look(folder.path()), Found::Nothing);
        fs::write(folder.path().join(FILE), format!("{}\n", std::process::id())).unwrap();
        assert_eq!(look(folder.path()), Found::Stale);
        // Above the largest number that Linux gives out.
        fs::write(folder.path().join(FILE), "2000000000\n").unwrap();
        assert_eq!(look(folder.path()), Found::Nothing);
    }
}
