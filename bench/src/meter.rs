//! What a run cost: counters of Postgres, and CPU and memory of processes, before and after.

use std::{collections::BTreeSet, fs};

use anyhow::Context as _;
use serde::Serialize;
use sqlx::{Connection as _, PgConnection};

use crate::{
    exchanges,
    store::{self, Counters},
};

/// Whose CPU is whose, and where it tells what it did.
#[derive(Debug, Clone, Default)]
pub(crate) struct Pids {
    /// The subject's process; with the baseline there is none but ours.
    pub(crate) subject: Option<u32>,
    /// The postmaster; its children count with it. Where it is not ours to see, whatever the machine does beside us is the
    /// subject's.
    pub(crate) postmaster: Option<u32>,
    /// The subject's HTTP door, where its metrics are.
    pub(crate) door: Option<String>,
}

/// Per order.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct Cost {
    /// Of the load generator (with the baseline: the orders' own code as well), microseconds.
    pub load_us: f64,
    /// Of the subject's process, microseconds.
    pub subject_us: f64,
    /// Of Postgres, microseconds.
    pub postgres_us: f64,
    /// Transactions, those that only read among them.
    pub commits: f64,
    /// Those that wrote.
    pub durable_commits: f64,
    pub rows_inserted: f64,
    pub rows_updated: f64,
    pub rows_deleted: f64,
    pub wal_bytes: f64,
    pub wal_records: f64,
    /// Rows of outboxes, each of which becomes a message.
    pub messages: f64,
    /// CreateOrder, and slices of steps with their answers; only where the subject's metrics are.
    pub exchanges: Option<f64>,
    /// Resident memory of the subject at the end of the run, MiB (not per order).
    pub subject_mib: f64,
}

/// One look.
#[derive(Debug)]
pub(crate) struct Reading {
    counters: Counters,
    load_us: u64,
    subject_us: u64,
    postgres_us: u64,
    exchanges: Option<u64>,
}

/// Looks.
#[derive(Debug)]
pub(crate) struct Meter {
    url: String,
    pids: Pids,
}

impl Meter {
    pub(crate) fn new(url: &str, pids: Pids) -> Self {
        Self { url: url.to_owned(), pids }
    }

    /// # Errors
    /// When the server or /proc cannot be read.
    pub(crate) async fn read(&self) -> anyhow::Result<Reading> {
        let mut connection = PgConnection::connect(&self.url).await.context("the meter's connection")?;
        let counters = store::counters(&mut connection).await.context("Postgres' counters")?;
        connection.close().await?;
        let exchanges = match &self.pids.door {
            Some(door) => Some(exchanges::so_far(door).await?),
            None => None,
        };
        let load_us = cpu_us(std::process::id()).unwrap_or_default();
        let Some(postmaster) = self.pids.postmaster else {
            let subject_us = machine_us().unwrap_or_default().saturating_sub(load_us);
            return Ok(Reading { counters, load_us, subject_us, postgres_us: 0, exchanges });
        };
        let tree = tree(postmaster)?;
        Ok(Reading {
            counters,
            load_us,
            subject_us: self.pids.subject.and_then(cpu_us).unwrap_or_default(),
            // A backend that ended is counted with its parent.
            postgres_us: tree.into_iter().filter_map(cpu_us).sum(),
            exchanges,
        })
    }

    /// What was spent between two looks, per order.
    pub(crate) fn cost(&self, before: &Reading, after: &Reading, orders: u64) -> Cost {
        let each = |from: i64, to: i64| (to - from) as f64 / orders.max(1) as f64;
        let micros = |from: u64, to: u64| to.saturating_sub(from) as f64 / orders.max(1) as f64;
        let (was, is) = (&before.counters, &after.counters);
        Cost {
            load_us: micros(before.load_us, after.load_us),
            subject_us: micros(before.subject_us, after.subject_us),
            postgres_us: micros(before.postgres_us, after.postgres_us),
            commits: each(was.commits, is.commits),
            durable_commits: each(was.writes, is.writes),
            rows_inserted: each(was.inserted, is.inserted),
            rows_updated: each(was.updated, is.updated),
            rows_deleted: each(was.deleted, is.deleted),
            wal_bytes: each(was.wal_bytes, is.wal_bytes),
            wal_records: each(was.wal_records, is.wal_records),
            messages: each(was.messages, is.messages),
            exchanges: before.exchanges.zip(after.exchanges).map(|(was, is)| 1.0 + micros(was, is)),
            subject_mib: self.pids.subject.and_then(resident_mib).unwrap_or_default(),
        }
    }
}

/// User and system time of a process and of its children that ended.
pub(crate) fn cpu_us(pid: u32) -> Option<u64> {
    let fields = stat(pid)?;
    // utime, stime, cutime, cstime: fields 14 to 17 of proc(5), here counted behind the name.
    let ticks: u64 = fields.get(11..15)?.iter().filter_map(|field| field.parse::<u64>().ok()).sum();
    Some(ticks * 1_000_000 / rustix::param::clock_ticks_per_second().max(1))
}

/// What all cores have worked, for anybody.
fn machine_us() -> Option<u64> {
    let text = fs::read_to_string("/proc/stat").ok()?;
    let fields: Vec<u64> =
        text.lines().next()?.split_whitespace().skip(1).filter_map(|field| field.parse().ok()).collect();
    // user, nice, system, idle, iowait, irq, softirq: proc(5).
    let busy: u64 = [0, 1, 2, 5, 6].iter().filter_map(|&at| fields.get(at)).sum();
    Some(busy * 1_000_000 / rustix::param::clock_ticks_per_second().max(1))
}

pub(crate) fn resident_mib(pid: u32) -> Option<f64> {
    let text = fs::read_to_string(format!("/proc/{pid}/statm")).ok()?;
    let pages: u64 = text.split_whitespace().nth(1)?.parse().ok()?;
    Some((pages * rustix::param::page_size() as u64) as f64 / (1024.0 * 1024.0))
}

/// The fields behind the name, which may hold spaces.
fn stat(pid: u32) -> Option<Vec<String>> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, rest) = text.rsplit_once(") ")?;
    Some(rest.split_whitespace().map(str::to_owned).collect())
}

/// A process and its living children.
pub(crate) fn tree(root: u32) -> anyhow::Result<BTreeSet<u32>> {
    let mut tree = BTreeSet::from([root]);
    for entry in fs::read_dir("/proc").context("/proc cannot be read: the meter needs Linux")? {
        let Some(pid) = entry?.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        let parent = stat(pid).and_then(|fields| fields.get(1)?.parse::<u32>().ok());
        if parent == Some(root) {
            tree.insert(pid);
        }
    }
    Ok(tree)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_is_seen_in_our_own_time() {
        let before = cpu_us(std::process::id()).unwrap();
        let begin = std::time::Instant::now();
        let mut sum = 0_u64;
        while begin.elapsed() < std::time::Duration::from_millis(300) {
            sum = sum.wrapping_add(std::hint::black_box(1));
        }
        let spent = cpu_us(std::process::id()).unwrap() - before;
        assert!(spent >= 20_000, "{spent} µs for {sum} additions");
        assert!(resident_mib(std::process::id()).unwrap() > 0.5);
        assert!(machine_us().unwrap() >= cpu_us(std::process::id()).unwrap());
    }

    #[test]
    fn children_are_found() {
        let mut child = std::process::Command::new("sleep").arg("5").spawn().unwrap();
        let tree = tree(std::process::id()).unwrap();
        assert!(tree.contains(&child.id()) && tree.contains(&std::process::id()));
        child.kill().unwrap();
        child.wait().unwrap();
    }
}
