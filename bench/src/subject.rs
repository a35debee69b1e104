//! Amends as it is run: the program itself, behind its public door.
//!
//! *Embedded*: `amends up` on a private Postgres of its own, started and stopped here. *There*: whatever serves already at
//! an address, such as `cargo xtask stack`; then only what can be seen from outside is measured.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use anyhow::{Context as _, bail, ensure};
use chassis::grpc;
use load::Doors;
use tokio::process::Command;

use crate::running::{Reach, Running, Said};

/// A first start makes a cluster.
const PATIENCE: Duration = Duration::from_secs(120);
const GRACE: Duration = Duration::from_secs(40);

/// A running `amends up`.
#[derive(Debug)]
pub struct Embedded {
    running: Running,
    program: PathBuf,
    data: tempfile::TempDir,
    /// gRPC.
    pub address: String,
    /// HTTP.
    door: String,
    /// The owner's URL of its Postgres.
    pub postgres: String,
}

impl Embedded {
    /// Starts it on an empty data folder, with these flags on top.
    ///
    /// # Errors
    /// When it does not say that it is ready; with what it said.
    pub async fn start(program: &Path, flags: &[String]) -> anyhow::Result<Self> {
        let data = tempfile::Builder::new().prefix("amends-bench-").tempdir()?;
        open_to_all(data.path())?;
        Self::start_in(data, program, flags).await
    }

    /// The same, and its Postgres counts what each statement costs, which makes it somewhat slower.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub async fn start_counting(program: &Path, flags: &[String]) -> anyhow::Result<Self> {
        use std::io::Write as _;
        let first = Self::start(program, flags).await?;
        let data = first.stop().await?;
        let file = data.path().join("data/postgres/data/postgresql.conf");
        let mut file = std::fs::OpenOptions::new().append(true).open(file)?;
        file.write_all(crate::store::statements::SETTINGS.as_bytes())?;
        Self::start_in(data, program, flags).await
    }

    /// Starts it on a folder that is there.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub async fn start_in(data: tempfile::TempDir, program: &Path, flags: &[String]) -> anyhow::Result<Self> {
        let folder = data.path().join("data");
        let mut command = Command::new(program);
        command.args(["up", "--no-demo", "--grpc-listen", "127.0.0.1:0", "--http-listen", "127.0.0.1:0"]);
        command.arg("--data-dir").arg(&folder).args(flags);
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_str().is_some_and(is_setting)) {
            command.env_remove(name);
        }
        command.env("AMENDS_LOG", "warn,sqlx_core::pool=off");
        let (running, said) = Running::start(command, "amends up", GRACE, Reach::Process)?;
        let ready = tokio::time::timeout(PATIENCE, wait_until_ready(said)).await;
        let ready = ready.context("amends up is not ready after two minutes")??;
        let of = |key: &str| {
            let found = ready.split_whitespace().find_map(|pair| pair.strip_prefix(key)?.strip_prefix('='));
            found.map(str::to_owned).with_context(|| format!("the line `ready` names no {key}: {ready}"))
        };
        let (address, door, postgres) = (of("grpc")?, of("http")?, of("postgres")?);
        Ok(Self { running, program: program.to_owned(), data, address, door, postgres })
    }

    /// Its doors, with the goods of the benchmark on sale.
    ///
    /// # Errors
    /// What it says.
    pub async fn doors(&self) -> anyhow::Result<Doors> {
        let callee = grpc::remote(&format!("http://{}", self.address))?;
        let doors = Doors::at(std::slice::from_ref(&self.address), callee.clone())?;
        load::furnish(&callee, &callee).await?;
        load::greet(&doors).await?;
        Ok(doors)
    }

    /// Its process, and its postmaster.
    pub(crate) fn pids(&self) -> anyhow::Result<crate::meter::Pids> {
        let file = self.data.path().join("data/postgres/data/postmaster.pid");
        let text = std::fs::read_to_string(&file).with_context(|| format!("{}", file.display()))?;
        let postmaster = text.lines().next().and_then(|line| line.trim().parse().ok());
        Ok(crate::meter::Pids {
            subject: self.running.id(),
            postmaster: Some(postmaster.context("postmaster.pid names no process")?),
            door: Some(self.door.clone()),
        })
    }

    /// The auditor's report: none when it found nothing.
    ///
    /// # Errors
    /// When it cannot look.
    pub async fn audit(&self) -> anyhow::Result<Option<String>> {
        audit(&self.program, Books::Of(&self.data.path().join("data"))).await
    }

    /// Judges it, and stops it.
    ///
    /// # Errors
    /// When the auditor found something, cannot look, or it does not stop.
    pub async fn end(self) -> anyhow::Result<()> {
        let audit = self.audit().await?;
        self.stop().await?;
        ensure_clean(audit)
    }

    /// `kill -9`; its Postgres lives on. Its data goes with what is returned.
    ///
    /// # Errors
    /// When it cannot be killed.
    pub async fn kill(mut self) -> anyhow::Result<tempfile::TempDir> {
        self.running.kill().await?;
        Ok(self.data)
    }

    /// Stops it. Its data goes with what is returned.
    ///
    /// # Errors
    /// When it does not end within its grace.
    pub async fn stop(self) -> anyhow::Result<tempfile::TempDir> {
        self.running.stop().await?;
        Ok(self.data)
    }
}

/// # Errors
/// When the auditor found something: what was measured is void.
pub(crate) fn ensure_clean(audit: Option<String>) -> anyhow::Result<()> {
    match audit {
        None => Ok(()),
        Some(found) => bail!("the run is void, the auditor found:\n{}", found.trim_end()),
    }
}

/// Whether the auditor knows a database by this variable.
#[must_use]
pub fn is_book(name: &str) -> bool {
    name.starts_with("AMENDS_") && name.ends_with("_DATABASE_URL")
}

/// Where the auditor looks.
#[derive(Debug, Clone, Copy)]
pub enum Books<'b> {
    /// In a data folder.
    Of(&'b Path),
    /// In the databases that the environment names, and these variables.
    Named(&'b [(String, String)]),
}

/// The auditor's report: none when it found nothing.
///
/// # Errors
/// When it cannot look.
pub async fn audit(program: &Path, books: Books<'_>) -> anyhow::Result<Option<String>> {
    // What was on its way when the load ended may still be: it is judged by what it says in the end.
    let mut said = String::new();
    for _ in 0..20 {
        let mut audit = Command::new(program);
        audit.args(["audit", "--quiescent"]);
        match books {
            Books::Of(data) => {
                audit.arg("--data-dir").arg(data);
                // A stack's, which the shell may still know, would be judged instead.
                for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_str().is_some_and(is_book)) {
                    audit.env_remove(name);
                }
            }
            Books::Named(variables) => {
                audit.envs(variables.iter().map(|(name, value)| (name, value)));
            }
        }
        let output = audit.stdin(Stdio::null()).output().await?;
        match output.status.code() {
            Some(0) => return Ok(None),
            Some(1) => said = String::from_utf8_lossy(&output.stdout).into_owned(),
            _ => bail!("amends audit: {}", String::from_utf8_lossy(&output.stderr).trim_end()),
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    Ok(Some(said))
}

/// The one variable of the shell that what is started here inherits.
pub(crate) const INHERITED: &str = "AMENDS_POSTGRES_BIN";

/// What is measured is set by flags alone: a shell may still know another stack's settings.
fn is_setting(name: &str) -> bool {
    name != INHERITED && (name.starts_with("AMENDS_") || name.starts_with("OTEL_") || name == "TRACEPARENT")
}

/// Its Postgres may run as another user.
fn open_to_all(folder: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o755))
}

/// The rest of its line `ready`; afterwards its warnings go to our standard error.
async fn wait_until_ready(mut lines: Said) -> anyhow::Result<String> {
    let mut said = Vec::new();
    while let Some(line) = lines.recv().await {
        if let Some(rest) = line.strip_prefix("ready ") {
            let rest = rest.to_owned();
            forward(lines);
            return Ok(rest);
        }
        said.push(line);
    }
    bail!("amends up does not start:\n{}", said.join("\n"))
}

/// Tells of the first things that went wrong.
#[expect(clippy::disallowed_methods, clippy::print_stderr, reason = "it ends with the process that it hears")]
fn forward(mut lines: Said) {
    tokio::spawn(async move {
        let mut told = 0;
        while let Some(line) = lines.recv().await {
            if (line.contains("WARN") || line.contains("ERROR")) && told < 5 {
                told += 1;
                eprintln!("amends up: {line}");
            }
        }
    });
}

/// The program beside this one, unless another was named.
///
/// # Errors
/// When it is not there, with what to do.
pub fn program(named: Option<PathBuf>) -> anyhow::Result<PathBuf> {
    let path = match named {
        Some(path) => path,
        None => std::env::current_exe()?.with_file_name("amends"),
    };
    ensure!(
        path.exists(),
        "{} is not there: `cargo build --release -p amends` makes it, --amends names another",
        path.display()
    );
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::is_setting;

    #[test]
    fn of_the_shell_only_the_way_to_postgres_is_inherited() {
        let settings =
            ["AMENDS_AMQP_EVENTS", "AMENDS_ORDER_URL", "OTEL_EXPORTER_OTLP_ENDPOINT", "TRACEPARENT"];
        assert!(settings.into_iter().all(is_setting));
        assert!(!["AMENDS_POSTGRES_BIN", "PATH", "HOME", "TMPDIR"].into_iter().any(is_setting));
    }
}
