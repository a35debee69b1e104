//! The containers of a compose project: killed, started, and waited for.
//!
//! Found by the labels that compose gives them, so it does not matter which compose made them.

use std::{process::Output, time::Duration};

use e2e::eventually_within;
use tokio::process::Command;

/// RabbitMQ and a Postgres that recovers take their time.
const PATIENCE: Duration = Duration::from_secs(180);

pub(crate) struct Containers {
    project: String,
}

impl Containers {
    pub(crate) fn of(project: &str) -> Self {
        Self { project: project.to_owned() }
    }

    /// The container of a service.
    async fn id(&self, service: &str) -> String {
        let project = format!("label=com.docker.compose.project={}", self.project);
        let label = format!("label=com.docker.compose.service={service}");
        let text = docker(&["ps", "--all", "--quiet", "--filter", &project, "--filter", &label]).await;
        let mut lines = text.lines();
        let id = lines.next().unwrap_or_else(|| panic!("{} has no container of {service}", self.project));
        assert!(lines.next().is_none(), "{service} has more than one container");
        id.to_owned()
    }

    /// `kill -9`, from outside.
    pub(crate) async fn kill(&self, service: &str) {
        docker(&["kill", &self.id(service).await]).await;
    }

    /// Starts it again and waits until it is healthy.
    pub(crate) async fn start(&self, service: &str) {
        let id = self.id(service).await;
        docker(&["start", &id]).await;
        eventually_within(PATIENCE, &format!("{service} is healthy again"), || async {
            let state = docker(&["inspect", "--format", "{{.State.Health.Status}}", &id]).await;
            (state.trim() == "healthy").then_some(())
        })
        .await;
    }
}

async fn docker(arguments: &[&str]) -> String {
    let Output { status, stdout, stderr } = Command::new("docker").args(arguments).output().await.unwrap();
    let (said, wrong) = (String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
    assert!(status.success(), "docker {}: {said}{wrong}", arguments.join(" "));
    said.into_owned()
}
