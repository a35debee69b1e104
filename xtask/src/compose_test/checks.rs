//! What must hold of the containers themselves: who they run as, what they publish, how they log, which time they have.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};

use super::stack::{DOORS, Stack};
use crate::containers::Container;

/// The user of our image.
const USER: &str = "10001";

pub(super) fn all(stack: &Stack) -> Result<()> {
    let containers = stack.project.by_service()?;
    for door in &DOORS {
        let container =
            containers.get(door.service).with_context(|| format!("{} is missing", door.service))?;
        is_nobody_special(container)?;
    }
    let mut published = BTreeSet::new();
    for container in containers.values() {
        rotates_its_log(container)?;
        published.extend(ports(container)?);
        if container.state == "running" {
            let zone = container.exec(&["date", "+%Z"])?;
            ensure!(zone.trim() == "UTC", "{} has the time of {zone}", container.service);
        }
    }
    let documented: BTreeSet<_> = stack.published().into_iter().collect();
    ensure!(published == documented, "published: {published:#?}\ndocumented: {documented:#?}");
    Ok(())
}

fn is_nobody_special(container: &Container) -> Result<()> {
    let service = &container.service;
    let user = container.exec(&["id", "-u"])?;
    ensure!(user.trim() == USER, "{service} runs as {user}");
    let format = "{{.HostConfig.ReadonlyRootfs}} {{.HostConfig.CapDrop}} {{.HostConfig.Privileged}}";
    let rights = container.inspect(format)?;
    ensure!(rights.trim() == "true [ALL] false", "{service}: read-only, dropped, privileged: {rights}");
    Ok(())
}

fn rotates_its_log(container: &Container) -> Result<()> {
    let format = "{{.HostConfig.LogConfig.Type}} {{index .HostConfig.LogConfig.Config \"max-size\"}} \
        {{index .HostConfig.LogConfig.Config \"max-file\"}}";
    let log = container.inspect(format)?;
    ensure!(log.trim() == "json-file 10m 5", "the log of {}: {log}", container.service);
    Ok(())
}

/// Its published ports: service, and port inside with the address outside.
fn ports(container: &Container) -> Result<Vec<(String, String)>> {
    let format = "{{range $inside, $all := .NetworkSettings.Ports}}{{range $all}}{{$inside}} {{.HostIp}}:{{.HostPort}}\
        {{println}}{{end}}{{end}}";
    let text = container.inspect(format)?;
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    Ok(lines.map(|line| (container.service.clone(), line.to_owned())).collect())
}
