//! Runs Postgres' programs: `initdb`, `pg_ctl start`, `pg_ctl stop`.
//!
//! They run as the cluster's account, in its folder, in a process group of their own (the terminal's Ctrl-C is ours to
//! answer), and without the caller's `PG…` variables. Read next: `../cluster.rs`.

use std::{
    fs,
    io::{Read as _, Seek as _, SeekFrom},
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use super::{
    Error,
    account::{self, Account},
    binaries::Binaries,
};

/// Our part of the configuration, in the cluster's folder.
pub(super) const SETTINGS: &str = "amends.conf";
/// A log beyond this is put aside at the next start.
const LOG_LIMIT: u64 = 16 * 1024 * 1024;

/// What is needed to run them.
#[derive(Debug, Clone)]
pub(super) struct Control {
    pub(super) binaries: Binaries,
    pub(super) account: Option<Account>,
    pub(super) home: PathBuf,
}

impl Control {
    /// Whether the account can reach the folder and the programs at all.
    pub(super) fn can_work(&self) -> Result<(), Error> {
        let mut command = self.command("postgres");
        command.arg("--version");
        match command.output() {
            Ok(_) => Ok(()),
            Err(source) => {
                let program = self.binaries.program("postgres");
                let barred = self.account.and_then(|account| {
                    account
                        .barred(&self.home.join("data"))
                        .or_else(|| account.barred(&program))
                        .map(Path::to_owned)
                });
                Err(barred.map_or(Error::Spawn { program: program.clone(), source }, |folder| {
                    Error::Barred { folder }
                }))
            }
        }
    }

    /// Makes the cluster. It gets its name only when it is whole: a half-made one is thrown away by the next start.
    pub(super) fn initialize(&self) -> Result<(), Error> {
        let new = self.home.join("data.new");
        if new.exists() {
            fs::remove_dir_all(&new).map_err(Error::io("remove", &new))?;
        }
        let locale = if cfg!(target_os = "macos") { "C" } else { "C.UTF-8" };
        let mut initdb = self.command("initdb");
        initdb.arg("-D").arg(&new).args([
            "-U",
            "postgres",
            "--auth=trust",
            "-E",
            "UTF8",
            "--no-instructions",
        ]);
        self.run("initdb", initdb.arg(format!("--locale={locale}")))?;

        for (file, more) in
            [("postgresql.conf", format!("\ninclude '{SETTINGS}'\n")), (SETTINGS, String::new())]
        {
            let path = new.join(file);
            let text = fs::read_to_string(&path).unwrap_or_default() + &more;
            fs::write(&path, text).map_err(Error::io("write", &path))?;
            account::give(&path, self.account)?;
        }
        fs::rename(&new, self.home.join("data")).map_err(Error::io("rename", &new))
    }

    /// Whether this build of Postgres knows a value of a setting: not every one can compress with everything.
    pub(super) fn knows(&self, setting: &str, value: &str) -> bool {
        let mut command = self.command("postgres");
        command.arg("-D").arg(self.home.join("data")).args([
            "-C",
            setting,
            "-c",
            &format!("{setting}={value}"),
        ]);
        command.output().is_ok_and(|output| output.status.success())
    }

    /// Starts the server and waits until it takes queries.
    pub(super) fn start(&self) -> Result<(), Error> {
        let log = self.log();
        if fs::metadata(&log).is_ok_and(|m| m.len() > LOG_LIMIT) {
            fs::rename(&log, self.home.join("log.old")).map_err(Error::io("rename", &log))?;
        }
        let before = fs::metadata(&log).map_or(0, |m| m.len());
        let mut command = self.command("pg_ctl");
        command.arg("start").arg("-D").arg(self.home.join("data")).arg("-l").arg(&log);
        self.run("pg_ctl start", command.args(["-w", "-t", "120", "-s"])).map_err(|error| match error {
            Error::Failed { program, status, said } => {
                Error::Failed { program, status, said: format!("{said}{}", self.log_since(before)) }
            }
            other => other,
        })
    }

    /// Stops the server: connections are cut, then a checkpoint is written.
    pub(super) fn stop(&self) -> Result<(), Error> {
        let mut command = self.command("pg_ctl");
        command.arg("stop").arg("-D").arg(self.home.join("data"));
        self.run("pg_ctl stop", command.args(["-m", "fast", "-w", "-t", "60", "-s"]))
    }

    fn log(&self) -> PathBuf {
        self.home.join("log")
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.binaries.program(program));
        for (name, _) in std::env::vars_os() {
            if name.as_encoded_bytes().starts_with(b"PG") {
                command.env_remove(name);
            }
        }
        command.env("LC_ALL", "C").env("HOME", &self.home).current_dir(&self.home);
        command.stdin(Stdio::null()).process_group(0);
        if let Some(account) = self.account {
            account.take(&mut command);
        }
        command
    }

    fn run(&self, program: &'static str, command: &mut Command) -> Result<(), Error> {
        let output = command
            .output()
            .map_err(|source| Error::Spawn { program: PathBuf::from(command.get_program()), source })?;
        if output.status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&output.stderr) + String::from_utf8_lossy(&output.stdout);
        Err(Error::Failed { program, status: output.status, said: said.into_owned() })
    }

    /// What the server wrote since the log had this many bytes; its last twenty lines.
    fn log_since(&self, before: u64) -> String {
        let mut text = Vec::new();
        let read = fs::File::open(self.log()).and_then(|mut log| {
            log.seek(SeekFrom::Start(before))?;
            log.read_to_end(&mut text)
        });
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().collect();
        match read {
            Ok(_) => {
                format!("{}\n({})", lines[lines.len().saturating_sub(20)..].join("\n"), self.log().display())
            }
            Err(error) => format!("({}: {error})", self.log().display()),
        }
    }
}
