//! What must be installed on the machine, where it is, and how it gets there.
//!
//! It must never leave a system-wide service running: packages are installed with their start switched off. It never
//! touches a machine that already has what is needed. Read next: `services.rs`.
#![expect(clippy::print_stderr, reason = "a tool for people: its progress goes to standard error")]

use std::cmp::Reverse;
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::account;
use crate::stop::Stop;

/// The oldest Postgres that the migrations and the services are written for.
const OLDEST_POSTGRES: u32 = 15;

/// Folders of an installed RabbitMQ that hold the real scripts, not the package's wrappers.
const RABBITMQ_FOLDERS: [&str; 3] =
    ["/usr/lib/rabbitmq/bin", "/opt/homebrew/opt/rabbitmq/sbin", "/usr/local/opt/rabbitmq/sbin"];

pub(crate) struct PostgresBinaries {
    pub(crate) folder: PathBuf,
    major: u32,
}

pub(crate) struct RabbitBinaries {
    pub(crate) folder: PathBuf,
    pub(crate) epmd: PathBuf,
}

/// A machine that has everything the tests need.
pub(crate) struct Machine {
    pub(crate) postgres: PostgresBinaries,
    pub(crate) rabbitmq: RabbitBinaries,
    pub(crate) redis: PathBuf,
}

impl Machine {
    /// Finds what the tests need and installs what is missing.
    pub(crate) fn prepare(stop: &Stop) -> Result<Self> {
        let missing: Vec<&str> = [
            ("postgresql", postgres().is_none()),
            ("rabbitmq-server", rabbitmq().is_none()),
            ("redis-server", redis().is_none()),
        ]
        .into_iter()
        .filter_map(|(package, is_missing)| is_missing.then_some(package))
        .collect();
        install(&missing, stop)?;
        Ok(Self {
            postgres: postgres().with_context(postgres_advice)?,
            rabbitmq: rabbitmq()
                .context("rabbitmq-server was installed, but its scripts or epmd are not found")?,
            redis: redis().context("redis-server was installed, but is not on the PATH")?,
        })
    }
}

/// Finds Postgres' server binaries, or installs them.
pub(crate) fn prepare_postgres(stop: &Stop) -> Result<PostgresBinaries> {
    if postgres().is_none() {
        install(&["postgresql"], stop)?;
    }
    postgres().with_context(postgres_advice)
}

/// The newest Postgres that is new enough.
fn postgres() -> Option<PostgresBinaries> {
    let found = postgres_folders().into_iter().filter_map(|folder| {
        let major = postgres_major(&folder)?;
        (major >= OLDEST_POSTGRES && folder.join("initdb").exists())
            .then_some(PostgresBinaries { folder, major })
    });
    // The sort is stable: of equal versions the one that the PATH names first wins.
    let mut found: Vec<_> = found.collect();
    found.sort_by_key(|binaries| Reverse(binaries.major));
    found.into_iter().next()
}

fn postgres_folders() -> Vec<PathBuf> {
    let mut folders = Vec::new();
    if let Ok(output) = Command::new("pg_config").arg("--bindir").stderr(Stdio::null()).output() {
        folders.push(PathBuf::from(String::from_utf8_lossy(&output.stdout).trim()));
    }
    if let Some(folder) =
        on_path("postgres").and_then(|file| Some(file.canonicalize().ok()?.parent()?.to_owned()))
    {
        folders.push(folder);
    }
    for parent in ["/usr/lib/postgresql", "/opt/homebrew/opt", "/usr/local/opt"] {
        let entries = fs::read_dir(parent).into_iter().flatten().flatten();
        folders.extend(entries.map(|entry| entry.path().join("bin")));
    }
    folders
}

/// `postgres (PostgreSQL) 15.18 (Debian …)` → 15.
fn postgres_major(folder: &Path) -> Option<u32> {
    let output =
        Command::new(folder.join("postgres")).arg("--version").stderr(Stdio::null()).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let version = text.strip_prefix("postgres (PostgreSQL) ")?;
    version.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

fn postgres_advice() -> String {
    format!(
        "no Postgres {OLDEST_POSTGRES} or newer found: install one (https://www.postgresql.org/download/ has packages \
         for every system) and put its folder with `initdb` on the PATH"
    )
}

fn rabbitmq() -> Option<RabbitBinaries> {
    let folder =
        RABBITMQ_FOLDERS.iter().map(PathBuf::from).find(|folder| folder.join("rabbitmq-server").exists())?;
    Some(RabbitBinaries { folder, epmd: on_path("epmd")? })
}

fn redis() -> Option<PathBuf> {
    on_path("redis-server")
}

pub(crate) fn on_path(program: &str) -> Option<PathBuf> {
    // Servers live in sbin, which an ordinary user's PATH often lacks.
    let folders =
        std::env::split_paths(&path()).chain(["/usr/sbin", "/sbin"].map(PathBuf::from)).collect::<Vec<_>>();
    folders.into_iter().map(|folder| folder.join(program)).find(|file| file.is_file())
}

#[expect(
    clippy::disallowed_methods,
    reason = "where programs lie is the machine's business, not our configuration"
)]
pub(crate) fn path() -> OsString {
    std::env::var_os("PATH").unwrap_or_else(|| "/usr/local/bin:/usr/bin:/bin".into())
}

/// Counts instructions.
pub(crate) fn valgrind(stop: &Stop) -> Result<()> {
    if on_path("valgrind").is_none() {
        install(&["valgrind"], stop)?;
    }
    Ok(())
}

fn install(packages: &[&str], stop: &Stop) -> Result<()> {
    if packages.is_empty() {
        return Ok(());
    }
    let names = packages.join(" ");
    if on_path("apt-get").is_none() {
        bail!(
            "not found on this machine: {names}; install them with your package manager, then run this again"
        );
    }
    if !account::we_are_root() {
        bail!(
            "not found on this machine: {names}; run this, then try again:\n  sudo apt-get install -y {names}"
        );
    }
    eprintln!("installing {names}");
    let _quiet = Quiet::ask();
    apt(&["update"], stop)?;
    apt(&[&["install", "-y", "--no-install-recommends"], packages].concat(), stop)
}

/// Debian's packages ask this file whether they may start what they install (systemd's scripts ask nothing else).
const POLICY: &str = "/usr/sbin/policy-rc.d";

/// While it lives, nothing that is installed is started. A policy that is there already is left alone.
struct Quiet(bool);

impl Quiet {
    fn ask() -> Self {
        let is_ours = !Path::new(POLICY).exists()
            && fs::write(POLICY, "#!/bin/sh\nexit 101\n").is_ok()
            && fs::set_permissions(POLICY, fs::Permissions::from_mode(0o755)).is_ok();
        Self(is_ours)
    }
}

impl Drop for Quiet {
    fn drop(&mut self) {
        if self.0 {
            let _ = fs::remove_file(POLICY);
        }
    }
}

fn apt(arguments: &[&str], stop: &Stop) -> Result<()> {
    let mut command = Command::new("apt-get");
    // RUNLEVEL=1 is how Debian's packages learn that they should not start what they install.
    command
        .args(arguments)
        .env("DEBIAN_FRONTEND", "noninteractive")
        .env("RUNLEVEL", "1")
        .stdin(Stdio::null());
    let status = command.status().context("cannot start apt-get")?;
    if stop.asked() {
        bail!("stopped by a signal");
    }
    if !status.success() {
        bail!("`apt-get {}` failed ({status})", arguments.join(" "));
    }
    Ok(())
}
