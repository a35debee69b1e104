//! A program that xtask runs to its end.
//!
//! It runs in a process group of its own, so that the terminal's Ctrl-C reaches it through us only, and is ended with
//! everything it started when a signal comes. Read next: `cargo.rs`, `containers.rs`.

use std::os::unix::process::CommandExt;
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process_group};

use crate::service::has_ended;
use crate::stop::Stop;

/// Waits for it. After a signal it may take this `grace` to end before it is killed.
pub(crate) fn run(mut command: Command, stop: &Stop, grace: Duration) -> Result<ExitStatus> {
    let name = command.get_program().to_string_lossy().into_owned();
    let started = command.stdin(Stdio::null()).process_group(0).spawn();
    let mut child = started.with_context(|| format!("cannot start {name}"))?;
    let group = Pid::from_child(&child);
    let mut asked_at: Option<Instant> = None;
    while !has_ended(group) && asked_at.is_none_or(|since| since.elapsed() < grace) {
        if asked_at.is_none() && stop.asked() {
            let _ = kill_process_group(group, Signal::TERM);
            asked_at = Some(Instant::now());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    let _ = kill_process_group(group, Signal::KILL);
    let status = child.wait().with_context(|| format!("cannot wait for {name}"))?;
    if asked_at.is_some() {
        bail!("stopped by a signal");
    }
    Ok(status)
}
