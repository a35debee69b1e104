//! Ctrl-C, SIGTERM and SIGHUP: the first asks the process to stop, the second to stop waiting.
//!
//! A SIGHUP that the process was started to ignore (`nohup`) stays ignored. Only `main`'s side of the house listens here; everything else is given a [`Stop`]. Read next: `chassis::stop`.

use std::{fs, io};

use chassis::stop::Stop;
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
            hang_up: if ignores_hang_up() { None } else { Some(signal(SignalKind::hangup())?) },
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

/// Whether whoever started the process wanted it to outlive the terminal. Where that cannot be seen, not.
fn ignores_hang_up() -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or_default();
    // Signal 1 is the lowest bit.
    mask & 1 == 1
}
