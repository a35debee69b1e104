//! How a server process lives: runtime, signals, its one line `ready`, its exit code.
//!
//! The only place of the program that listens for signals and turns an error into words. Read next: `up.rs`.

use std::process::ExitCode;

use chassis::{
    stop::Stop,
    telemetry::{self, Telemetry},
};

use crate::{cli::remark, signals::Signals};

/// What a process hears from outside.
#[derive(Debug, Clone, Default)]
pub(crate) struct Stops {
    /// Stop.
    pub(crate) stop: Stop,
    /// Stop without waiting for what is under way.
    pub(crate) hurry: Stop,
}

/// The command line does not say enough; the exit code is 2.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Usage(pub(crate) String);

/// Runs a server until it ends or is asked to stop.
pub(crate) fn run(
    options: &telemetry::Options,
    server: impl AsyncFnOnce(Stops) -> anyhow::Result<()>,
) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return tell(&error.into()),
    };
    let ended = runtime.block_on(async {
        let telemetry = Telemetry::start(options)?;
        // From here on, what is counted is kept.
        let _ = telemetry::metrics();
        let stops = Stops::default();
        let listening = Stop::new();
        listening.spawn(Signals::listen()?.watch(stops.stop.clone(), stops.hurry.clone()));
        let ended = server(stops).await;
        telemetry.finish().await;
        ended
    });
    // Whatever is still at work after the grace is not waited for: killing it at any line is safe.
    runtime.shutdown_background();
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => tell(&error),
    }
}

fn tell(error: &anyhow::Error) -> ExitCode {
    remark(&format!("error: {error:#}"));
    ExitCode::from(if error.is::<Usage>() { 2 } else { 1 })
}

/// Says that it serves, in one line that programs can read.
pub(crate) fn ready(addresses: &[(&str, String)]) {
    let addresses: Vec<_> = addresses.iter().map(|(name, address)| format!("{name}={address}")).collect();
    remark(&format!("ready {} pid={}", addresses.join(" "), std::process::id()));
}

/// Runs what blocks beside the runtime, to its end.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> anyhow::Result<T> {
    Ok(tokio::task::spawn_blocking(work).await?)
}

/// Waits for a close, unless there is a hurry.
pub(crate) async fn close(closing: impl Future<Output = bool>, hurry: &Stop) {
    tokio::select! {
        all = closing => {
            if !all {
                tracing::warn!("the grace is over and something was still at work");
            }
        }
        () = hurry.wanted() => {}
    }
}
