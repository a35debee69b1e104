//! Ctrl-C, SIGTERM and SIGHUP: the first asks the process to stop, the second to stop waiting.
//!
//! Only `main`'s side of the house listens here; everything else is given a [`Stop`]. Read next: `chassis::stop`.

use std::io;

use chassis::stop::Stop;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// The listener. From its creation on, the signals no longer end the process by themselves.
pub(crate) struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hang_up: Signal,
}

impl Signals {
    pub(crate) fn listen() -> io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hang_up: signal(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.interrupt.recv() => "SIGINT",
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.hang_up.recv() => "SIGHUP",
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
