//! Ctrl-C, SIGTERM and SIGHUP: the first asks the process to stop, the second to stop waiting.
//!
//! A SIGHUP that the process was started to ignore (`nohup`) stays ignored. Only `main`'s side of the house listens here; everything else is given a [`Stop`]. Read next: `chassis::stop`.

use std::{fs, io, path::PathBuf};

use chassis::{
    clock,
    stop::{self, Stop},
};
use chrono::TimeDelta;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// The listener. From its creation on, the signals no longer end the process by themselves.
pub(crate) struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hang_up: Option<Signal>,
}

impl Signals {
    pub(crate) fn listen() -> io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hang_up: if stop::ignores_hang_up() { None } else { Some(signal(SignalKind::hangup())?) },
        })
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.interrupt.recv() => "SIGINT",
            _ = self.terminate.recv() => "SIGTERM",
            Some(_) = async { self.hang_up.as_mut()?.recv().await } => "SIGHUP",
        }
    }

    /// Waits for the first, then for the second; `stop` and `hurry` are asked in turn.
    pub(crate) async fn watch(mut self, stop: Stop, hurry: Stop) {
        let name = self.next().await;
        tracing::info!(signal = name, "stopping; once more to stop without waiting");
        stop.request();
        let name = self.next().await;
        tracing::warn!(signal = name, "not waiting for what is under way");
        hurry.request();
    }
}

/// At every SIGUSR2 the wall clock of this process jumps to where the file says: milliseconds ahead of the machine's.
pub(crate) fn jump_when_told(file: PathBuf) {
    match signal(SignalKind::user_defined2()) {
        Ok(mut told) => {
            #[expect(
                clippy::disallowed_methods,
                reason = "it dies with the process, which is what it is for"
            )]
            tokio::spawn(async move {
                while told.recv().await.is_some() {
                    let text = fs::read_to_string(&file).unwrap_or_default();
                    let Some(ahead) = text.trim().parse().ok().and_then(TimeDelta::try_milliseconds) else {
                        tracing::error!(file = %file.display(), "the file does not say how far to jump");
                        continue;
                    };
                    clock::jump(ahead);
                    tracing::warn!(ahead_ms = ahead.num_milliseconds(), "the clock has jumped");
                }
            });
        }
        Err(error) => tracing::error!(%error, "nobody can make this process's clock jump"),
    }
}
