//! One process that xtask started, and the guard that ends it.
//!
//! A service runs in a process group of its own, so that the terminal's Ctrl-C does not reach it before we do, and is
//! ended by pid when its guard is dropped: at the end, on failure, on panic. Where `setpriv` exists (any Linux) the
//! kernel ends it too if xtask itself is killed. Nothing here may look a process up by name. Read next:
//! `services.rs`.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, kill_process_group, waitid};

use crate::account::Account;
use crate::machine;
use crate::stop::Stop;

/// How long a service may take to end by itself. What it holds is thrown away, so there is nothing to wait for.
const GRACE: Duration = Duration::from_secs(5);

pub(crate) struct Service {
    name: &'static str,
    child: Child,
    pid: Pid,
    stop_signal: Signal,
    log: PathBuf,
}

impl Service {
    /// Starts `command` (made by [`command_as`]) with its output in `log`.
    pub(crate) fn start(
        name: &'static str,
        mut command: Command,
        stop_signal: Signal,
        log: PathBuf,
    ) -> Result<Self> {
        let output = File::create(&log).with_context(|| format!("cannot write {}", log.display()))?;
        let errors = output.try_clone().context("cannot share a log file")?;
        command.stdin(Stdio::null()).stdout(output).stderr(errors).process_group(0);
        let child = command.spawn().with_context(|| format!("cannot start {name}"))?;
        let pid = Pid::from_child(&child);
        Ok(Self { name, child, pid, stop_signal, log })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn has_ended(&self) -> bool {
        has_ended(self.pid)
    }

    /// Waits until `ready` says yes; fails when the process ends before, when time is up, or on a signal.
    pub(crate) fn wait(&self, patience: Duration, stop: &Stop, ready: impl Fn(&Self) -> bool) -> Result<()> {
        let begin = Instant::now();
        while !ready(self) {
            if self.has_ended() {
                bail!("{} ended before it was ready; the end of its log:\n{}", self.name, self.log_end());
            }
            if begin.elapsed() > patience {
                bail!(
                    "{} is not ready after {patience:?}; the end of its log:\n{}",
                    self.name,
                    self.log_end()
                );
            }
            stop.pause(Duration::from_millis(20))?;
        }
        Ok(())
    }

    pub(crate) fn log_end(&self) -> String {
        log_end(&self.log)
    }

    fn end(&mut self) {
        if !self.has_ended() {
            // An error here means that it ended in between.
            let _ = kill_process(self.pid, self.stop_signal);
            let begin = Instant::now();
            while !self.has_ended() && begin.elapsed() < GRACE {
                std::thread::sleep(Duration::from_millis(10));
            }
        }
        // Whatever it left behind in its group goes too. The leader is not reaped yet, so the number is still ours.
        let _ = kill_process_group(self.pid, Signal::KILL);
        let _ = self.child.wait();
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.end();
    }
}

/// Whether our child has ended. It is left unreaped, so that its number stays ours and its group can still be ended
/// without hitting a stranger.
pub(crate) fn has_ended(child: Pid) -> bool {
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    !matches!(waitid(WaitId::Pid(child), options), Ok(None))
}

/// A command that runs as `account` in `folder`, and gets `on_our_death` when xtask dies without dropping its guards.
pub(crate) fn command_as(
    program: &Path,
    account: Option<Account>,
    folder: &Path,
    on_our_death: &str,
) -> Command {
    // The kernel forgets the death signal when the user changes: first the user (by `uid`), then `setpriv`. It is the
    // death of the spawning *thread* that counts, so services are started from the main thread only.
    let mut command = match machine::on_path("setpriv") {
        Some(setpriv) => {
            let mut command = Command::new(setpriv);
            command.arg("--pdeathsig").arg(on_our_death).arg("--").arg(program);
            command
        }
        None => Command::new(program),
    };
    if let Some(Account { uid, gid }) = account {
        command.uid(uid).gid(gid);
    }
    command.current_dir(folder).env("HOME", folder);
    command
}

/// Runs a command that is expected to end soon, and shows its output only if it fails.
pub(crate) fn run_quietly(name: &str, mut command: Command) -> Result<()> {
    let output = command.stdin(Stdio::null()).output();
    let output = output.with_context(|| format!("cannot start {name}"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("{name} failed ({}):\n{}{said}", output.status, String::from_utf8_lossy(&output.stdout));
    }
    Ok(())
}

fn log_end(log: &Path) -> String {
    match fs::read(log) {
        Ok(bytes) => {
            let text = String::from_utf8_lossy(&bytes);
            let lines: Vec<&str> = text.lines().collect();
            lines[lines.len().saturating_sub(20)..].join("\n")
        }
        Err(error) if error.kind() == ErrorKind::NotFound => "(no log)".to_owned(),
        Err(error) => format!("({}: {error})", log.display()),
    }
}
