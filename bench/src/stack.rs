//! A stack of our own: `cargo xtask stack`, built and started here, with two orchestrators.
//!
//! Its addresses go to a folder of ours, so that a stack that somebody else runs stays where he finds it. Read next:
//! `e2e/src/bin/rig/stack.rs`.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, bail};
use tokio::process::Command;

use crate::{
    plan::There,
    running::{Running, Said},
    subject,
};

/// Eight processes and three servers, one after another.
const GRACE: Duration = Duration::from_secs(120);
const NAME: &str = "the stack";

pub(crate) struct Stack {
    running: Running,
    _folder: tempfile::TempDir,
    /// Both orchestrators.
    pub(crate) both: There,
}

impl Stack {
    /// Builds it, if it is not built, and starts it. What is said meanwhile, `say` hears.
    ///
    /// # Errors
    /// When it does not start; what it needs has been said then.
    pub(crate) async fn start(say: impl Fn(&str)) -> anyhow::Result<Self> {
        let folder = tempfile::Builder::new().prefix("amends-bench-").tempdir()?;
        let addresses = folder.path().join("stack.env");
        let mut command = cargo();
        command.args(["xtask", "stack", "--release", "--measured", "--no-demo", "--orchestrators", "2"]);
        command.arg("--environment-file").arg(&addresses);
        command.arg("--traces").arg(folder.path().join("traces.jsonl"));
        let (running, said) = Running::start(command, NAME, GRACE)?;
        wait_until_ready(said, say).await?;
        let text = std::fs::read_to_string(&addresses).with_context(|| format!("{}", addresses.display()))?;
        Ok(Self { running, _folder: folder, both: there(&text)? })
    }

    /// The first orchestrator alone takes orders.
    pub(crate) fn one(&self) -> There {
        There { servers: self.both.servers.iter().take(1).cloned().collect(), ..self.both.clone() }
    }

    /// # Errors
    /// When it does not end well.
    pub(crate) async fn stop(self) -> anyhow::Result<()> {
        self.running.stop().await
    }
}

/// The cargo that runs us, in the workspace.
fn cargo() -> Command {
    #[expect(
        clippy::disallowed_methods,
        reason = "cargo tells what it runs which cargo it is, in this variable"
    )]
    let ourselves = std::env::var_os("CARGO");
    let mut command = Command::new(ourselves.unwrap_or_else(|| "cargo".into()));
    command.current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).parent().map_or(PathBuf::new(), PathBuf::from));
    // Of our own package: a build script that watches them would run again, and much would be compiled anew.
    let of_ours =
        |name: &str| ["CARGO_PKG_", "CARGO_MANIFEST_"].iter().any(|prefix| name.starts_with(prefix));
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_str().is_some_and(of_ours)) {
        command.env_remove(name);
    }
    command
}

async fn wait_until_ready(mut said: Said, say: impl Fn(&str)) -> anyhow::Result<()> {
    while let Some(line) = said.recv().await {
        if line.starts_with("ready; ") {
            subject::forward(said, NAME);
            return Ok(());
        }
        say(&format!("  {line}"));
    }
    bail!("{NAME} does not start, as said above; --no-stack measures the rest")
}

/// Where everything is, by what a stack writes down.
fn there(text: &str) -> anyhow::Result<There> {
    let variables: Vec<(String, String)> = text
        .lines()
        .filter_map(|line| line.strip_prefix("export ")?.split_once('='))
        .map(|(name, value)| (name.to_owned(), value.trim_matches('\'').to_owned()))
        .collect();
    let named = |wanted: &str| {
        let found = variables.iter().find(|(name, _)| name == wanted);
        found.map(|(_, value)| value.clone()).with_context(|| format!("{NAME} names no {wanted}"))
    };
    Ok(There {
        servers: vec![named("AMENDS_SERVER")?, named("AMENDS_SERVER_2")?],
        services: [named("AMENDS_ORDER_URL")?, named("AMENDS_INVENTORY_URL")?, named("AMENDS_RISK_URL")?],
        postgres: named("AMENDS_ORCHESTRATOR_DATABASE_URL")?,
        books: variables.iter().filter(|(name, _)| name.ends_with("_DATABASE_URL")).cloned().collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::there;

    #[test]
    fn a_stack_is_where_it_says() {
        let lines = [
            "export AMENDS_SERVER='http://127.0.0.1:1'",
            "export AMENDS_SERVER_2='http://127.0.0.1:2'",
            "export AMENDS_ORDER_URL='http://127.0.0.1:3'",
            "export AMENDS_INVENTORY_URL='http://127.0.0.1:4'",
            "export AMENDS_RISK_URL='http://127.0.0.1:5'",
            "export AMENDS_ORDER_DATABASE_URL='postgres://a'",
            "export AMENDS_ORCHESTRATOR_DATABASE_URL='postgres://b?c=d'",
        ];
        let place = there(&lines.join("\n")).unwrap();
        assert_eq!(place.servers, ["http://127.0.0.1:1", "http://127.0.0.1:2"]);
        assert_eq!(place.services[2], "http://127.0.0.1:5");
        assert_eq!(place.postgres, "postgres://b?c=d");
        assert_eq!(place.books.len(), 2);
        let error = there(&lines[..3].join("\n")).unwrap_err().to_string();
        assert!(error.contains("AMENDS_INVENTORY_URL"), "{error}");
    }
}
