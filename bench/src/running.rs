//! A program that was started here, and ends with whoever holds it.
//!
//! It runs in a process group of its own, so that the terminal's Ctrl-C reaches it through us only: once, and after we have
//! let go of what we measure. It is asked to end (SIGTERM), as it has servers of its own to stop; killed only after its grace.

use std::{
    process::Stdio,
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use rustix::process::{Pid, Signal, kill_process};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::{Child, ChildStderr, Command},
    sync::mpsc::{self, UnboundedReceiver},
};

/// How often it is looked whether it has ended, where nothing can be awaited.
const LOOK: Duration = Duration::from_millis(50);

#[derive(Debug)]
pub(crate) struct Running {
    child: Child,
    name: &'static str,
    grace: Duration,
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
    ) -> anyhow::Result<(Self, Said)> {
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).process_group(0);
        let program = command.as_std().get_program().to_string_lossy().into_owned();
        let mut child = command.spawn().with_context(|| format!("{program} cannot be started"))?;
        let stderr = child.stderr.take().context("its standard error is piped")?;
        Ok((Self { child, name, grace }, heard(stderr)))
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

    fn ask(&self) -> std::io::Result<()> {
        let pid = self.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        pid.map_or(Ok(()), |pid| Ok(kill_process(pid, Signal::TERM)?))
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
        let asked = Instant::now();
        let _ = self.ask();
        while self.id().is_some() && matches!(self.child.try_wait(), Ok(None)) {
            if asked.elapsed() >= self.grace {
                let _ = self.child.start_kill();
                return;
            }
            std::thread::sleep(LOOK);
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
        let (running, mut said) = Running::start(command, "sh", Duration::from_secs(20)).unwrap();
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
            Running::start(command, "it", Duration::from_millis(300)).unwrap()
        };
        let (failed, mut said) = failing("exit 3");
        assert_eq!(said.recv().await, None);
        let error = failed.stop().await.unwrap_err().to_string();
        assert!(error.starts_with("it ended with exit status: 3"), "{error}");
        let (deaf, mut said) = failing("trap '' TERM; echo ready >&2; exec sleep 20");
        said.recv().await;
        assert_eq!(deaf.stop().await.unwrap_err().to_string(), "it does not stop");
    }
}
