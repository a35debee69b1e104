//! Ctrl-C, SIGTERM and SIGHUP as a flag that every wait in xtask looks at.
//!
//! It must never end the process by itself: the guards that stop the services run when `main` returns. Read next:
//! `service.rs`, whose guards those are.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

#[derive(Clone)]
pub(crate) struct Stop(Arc<AtomicBool>);

impl Stop {
    pub(crate) fn listen() -> Result<Self> {
        let flag = Arc::new(AtomicBool::new(false));
        for signal in [SIGINT, SIGTERM, SIGHUP] {
            signal_hook::flag::register(signal, Arc::clone(&flag)).context("cannot listen for signals")?;
        }
        Ok(Self(flag))
    }

    /// For what has to be done in any case: nothing asks it to stop.
    pub(crate) fn never() -> Self {
        Self(Arc::default())
    }

    pub(crate) fn asked(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// Sleeps, and fails once a signal came: a wait loop with `?` ends by itself.
    pub(crate) fn pause(&self, time: Duration) -> Result<()> {
        std::thread::sleep(time);
        if self.asked() {
            bail!("stopped by a signal");
        }
        Ok(())
    }
}
