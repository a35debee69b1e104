//! Where the time goes: a flame graph of the process and its Postgres while they are under load.
//!
//! `perf` takes samples with their stacks; `inferno` draws them. It costs the subject something, so a run with it is no
//! figure.

use std::{
    io::BufReader,
    path::Path,
    process::{Child, Command, Stdio},
};

use anyhow::{Context as _, ensure};
use inferno::{
    collapse::{
        Collapse as _,
        perf::{Folder, Options as Folding},
    },
    flamegraph::{self, Options},
};

use crate::meter::{self, Pids};

/// Samples a second of each thread that runs. No divisor of what timers do.
const HERTZ: &str = "199";

/// `perf record` on its way.
#[derive(Debug)]
pub(crate) struct Flame {
    perf: Child,
    data: tempfile::TempDir,
}

impl Flame {
    /// Begins to watch these, and the sessions that the Postgres has now.
    ///
    /// # Errors
    /// When there is no `perf`, or it may not.
    pub(crate) fn begin(pids: &Pids) -> anyhow::Result<Self> {
        let sessions = pids.postmaster.map(meter::tree).transpose()?.unwrap_or_default();
        let all: Vec<_> = pids.subject.into_iter().chain(sessions).map(|pid| pid.to_string()).collect();
        let data = tempfile::tempdir()?;
        let mut perf = Command::new("perf");
        perf.args([
            "record",
            "--quiet",
            "-F",
            HERTZ,
            "--call-graph",
            "dwarf,16384",
            "-p",
            &all.join(","),
            "-o",
        ]);
        perf.arg(data.path().join("perf.data")).stdin(Stdio::null()).stdout(Stdio::null());
        let perf = perf.spawn().context("perf cannot be started (Debian: apt-get install linux-perf)")?;
        Ok(Self { perf, data })
    }

    /// Ends it and draws what was seen.
    ///
    /// # Errors
    /// When `perf` failed, or the file cannot be written.
    pub(crate) fn draw(mut self, to: &Path, title: &str) -> anyhow::Result<()> {
        if let Some(pid) = i32::try_from(self.perf.id()).ok().and_then(rustix::process::Pid::from_raw) {
            // It ends well only when it is interrupted.
            rustix::process::kill_process(pid, rustix::process::Signal::INT)?;
        }
        self.perf.wait()?;
        let seen = self.data.path().join("perf.data");
        ensure!(seen.exists(), "perf saw nothing; see what it said (kernel.perf_event_paranoid?)");
        let mut script = Command::new("perf");
        script.args(["script", "--no-inline", "-i"]).arg(&seen).stdin(Stdio::null()).stdout(Stdio::piped());
        let mut script = script.stderr(Stdio::null()).spawn()?;
        let said = script.stdout.take().context("its standard output is piped")?;
        let mut folded = Vec::new();
        Folder::from(Folding::default()).collapse(BufReader::new(said), &mut folded)?;
        ensure!(script.wait()?.success(), "perf script failed");
        let mut options = Options::default();
        options.title = title.to_owned();
        options.min_width = 0.1;
        let file = std::fs::File::create(to).with_context(|| to.display().to_string())?;
        flamegraph::from_reader(&mut options, folded.as_slice(), file)?;
        Ok(())
    }
}
