//! `cargo xtask golden`.

use std::process::ExitCode;

use chassis::testbed::TestDatabase;
use clap::Args;
use e2e::golden;

#[derive(Debug, Args)]
pub(crate) struct Golden {
    /// Record every definition again, not only those that have no journals yet
    #[arg(long)]
    all: bool,
    /// Keep what this build says to its databases: done when a release is made
    #[arg(long)]
    release: bool,
}

impl Golden {
    pub(crate) async fn run(self) -> ExitCode {
        for saga in golden::definitions() {
            if self.all || !golden::place().join(golden::name(&*saga)).exists() {
                golden::record(saga, |line| eprintln!("{line}")).await;
            }
        }
        if self.release {
            let database = TestDatabase::create(&amends::provision::schemas()).await;
            golden::write_release(&mut database.connect().await).await;
        }
        ExitCode::SUCCESS
    }
}
