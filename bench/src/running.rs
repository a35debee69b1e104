//! A program that was started here, and ends with whoever holds it.
//!
//! It runs in a process group of its own, so that the terminal's Ctrl-C reaches it through us only, after we have let go of
//! what we measure. It is asked to end (SIGTERM), as it has servers of its own to stop, and killed after its grace.

use std::{
    process::Stdio,
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::{Child, ChildStderr, Command},
    sync::mpsc::{self, UnboundedReceiver},
};

/// How often it is looked whether it has ended, where nothing can be awaited.
const LOOK: Duration = Duration::from_millis(50);

/// How long a killed one may take to be gone.
const LAST: Duration = Duration::from_secs(5);

/// Whoever is being waited for is asked once more.
static HURRY: AtomicBool = AtomicBool::new(false);

/// What is being stopped is asked again, which to Amends means not to wait for what is under way.
pub fn hurry() {
    HURRY.store(true, Ordering::Relaxed);
}

/// Who is asked to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reach {
    /// It alone: it stops what it started in order.
    Process,
    /// With what it runs in its group and cannot pass a signal on to.
    Group,
}

#[derive(Debug)]
pub(crate) struct Running {
    child: Child,
    name: &'static str,
    grace: Duration,
    reach: Reach,
    asked: Option<Instant>,
}

/// The lines that it says on its standard error. They are read on when nobody hears them any more: it would stand still at a
/// full pipe, or fall over a broken one while it ends.
pub(crate) type Said = UnboundedReceiver<String>;

impl Running {
    /// Starts it; `grace` is for its end.
    ///
    /// # Errors
    /// When it cannot be started.
    pub(crate) fn start(
        mut command: Command,
        name: &'static str,
        grace: Duration,
        reach: Reach,
    ) -> anyhow::Result<(Self, Said)> {
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).process_group(0);
        let program = command.as_std().get_program().to_string_lossy().into_owned();
        let mut child = command.spawn().with_context(|| format!("{program} cannot be started"))?;
        let stderr = child.stderr.take().context("its standard error is piped")?;
        Ok((Self { child, name, grace, reach, asked: None }, heard(stderr)))
    }

    /// None when it has ended.
    pub(crate) fn id(&self) -> Option<u32> {
        self.child.id()
    }

    /// `kill -9`.
    ///
    /// # Errors
    /// When it cannot be killed.
    pub(crate) async fn kill(&mut self) -> anyhow::Result<()> {
        Ok(self.child.kill().await?)
    }

    /// Asks it to end, and waits for that.
    ///
    /// # Errors
    /// When it does not end within its grace, or not well.
    pub(crate) async fn stop(mut self) -> anyhow::Result<()> {
        self.ask()?;
        let ended = tokio::time::timeout(self.grace, self.child.wait()).await;
        let status = ended.with_context(|| format!("{} does not stop", self.name))??;
        ensure!(status.success(), "{} ended with {status}", self.name);
        Ok(())
    }

    fn pid(&self) -> Option<Pid> {
        self.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw)
    }

    fn ask(&mut self) -> std::io::Result<()> {
        self.asked.get_or_insert_with(Instant::now);
        match (self.pid(), self.reach) {
            (None, _) => Ok(()),
            (Some(pid), Reach::Process) => Ok(kill_process(pid, Signal::TERM)?),
            (Some(pid), Reach::Group) => Ok(kill_process_group(pid, Signal::TERM)?),
        }
    }

    fn has_ended_by(&mut self, until: Instant) -> bool {
        while self.id().is_some() && matches!(self.child.try_wait(), Ok(None)) {
            if Instant::now() >= until {
                return false;
            }
            if HURRY.swap(false, Ordering::Relaxed) {
                let _ = self.ask();
            }
            std::thread::sleep(LOOK);
        }
        true
    }
}

#[expect(clippy::disallowed_methods, reason = "it ends with the process whose pipe it reads")]
fn heard(stderr: ChildStderr) -> Said {
    let (told, said) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        let mut lines = BufReader::new(stderr).split(b'\n');
        while let Ok(Some(line)) = lines.next_segment().await {
            let _ = told.send(String::from_utf8_lossy(&line).into_owned());
        }
    });
    said
}

impl Drop for Running {
    /// What it was started for has failed, or we were told to end.
    fn drop(&mut self) {
        if self.asked.is_none() {
            let _ = self.ask();
        }
        let asked = self.asked.unwrap_or_else(Instant::now);
        if !self.has_ended_by(asked + self.grace) {
            if let Some(pid) = self.pid() {
                let _ = kill_process_group(pid, Signal::KILL);
            }
            self.has_ended_by(Instant::now() + LAST);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Makes a file when it is asked to end.
    async fn asked_to_end(file: &std::path::Path) -> Running {
        let mut command = Command::new("sh");
        command
            .arg("-c")
            .arg("trap 'touch \"$0\"; exit 0' TERM; echo ready >&2; while :; do sleep 0.05; done");
        command.arg(file);
        let (running, mut said) =
            Running::start(command, "sh", Duration::from_secs(20), Reach::Process).unwrap();
        assert_eq!(said.recv().await.as_deref(), Some("ready"));
        running
    }

    #[tokio::test]
    async fn it_ends_when_it_is_stopped_and_when_nobody_holds_it_any_more() {
        let folder = tempfile::tempdir().unwrap();
        let (stopped, dropped) = (folder.path().join("stopped"), folder.path().join("dropped"));
        asked_to_end(&stopped).await.stop().await.unwrap();
        assert!(stopped.exists());
        drop(asked_to_end(&dropped).await);
        assert!(dropped.exists());
    }

    #[tokio::test]
    async fn what_ends_badly_or_not_at_all_is_an_error() {
        let failing = |script: &str| {
            let mut command = Command::new("sh");
            command.arg("-c").arg(script);
            Running::start(command, "it", Duration::from_millis(300), Reach::Process).unwrap()
        };
        let (failed, mut said) = failing("exit 3");
        assert_eq!(said.recv().await, None);
        let error = failed.stop().await.unwrap_err().to_string();
        assert!(error.starts_with("it ended with exit status: 3"), "{error}");
        let (deaf, mut said) = failing("trap '' TERM; echo ready >&2; exec sleep 20");
        said.recv().await;
        let began = Instant::now();
        assert_eq!(deaf.stop().await.unwrap_err().to_string(), "it does not stop");
        assert!(began.elapsed() < LAST, "its grace is for both: {:?}", began.elapsed());
    }

    #[tokio::test]
    async fn what_it_waits_for_in_its_group_is_asked_as_well() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("inner");
        let mut command = Command::new("sh");
        let inner = "trap 'touch \"$0\"; exit 0' TERM; echo ready >&2; while :; do sleep 0.05; done";
        command.env("INNER", inner).arg("-c").arg("trap : TERM; sh -c \"$INNER\" \"$0\"; true");
        command.arg(&file);
        let (running, mut said) =
            Running::start(command, "sh", Duration::from_secs(20), Reach::Group).unwrap();
        assert_eq!(said.recv().await.as_deref(), Some("ready"));
        drop(running);
        assert!(file.exists());
    }
}
