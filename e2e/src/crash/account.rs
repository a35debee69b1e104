//! What came of lives: counted, written down while it happens, and read again by the run that goes on.

use std::{
    collections::BTreeMap,
    io::Write as _,
    path::Path,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};

use super::{Board, Job, Second, lock, world::LONGEST};
use crate::{
    load::{Kind, Shop},
    stack::Member,
};

/// What a life came to.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Life {
    pub kind: Kind,
    pub first: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub second: Option<Second>,
    /// Who is to die, where every service is a process of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub member: Option<Member>,
    /// The points at which the process died.
    pub died: Vec<String>,
    /// As in `ord_…`.
    pub order: String,
    /// As in `COMPLETED`.
    pub end: String,
    /// How long it took, from the arming to the rest.
    pub ms: u64,
}

impl Life {
    pub(super) fn of(job: &Job) -> Self {
        let (order, end) = (String::new(), String::new());
        let Job { kind, first, second, member, .. } = *job;
        Self { kind, first, second, member, died: Vec::new(), order, end, ms: 0 }
    }

    /// Its order is at an end that its kind may have.
    pub(super) async fn came_to(&mut self, shop: &Shop, began: Instant) {
        let ends = shop.all_end(LONGEST).await;
        self.end = ends.into_keys().map(|(_, end)| end).collect();
        self.order = shop.orders().into_iter().map(|(_, order)| order).collect();
        self.ms = u64::try_from(began.elapsed().as_millis()).unwrap();
    }

    /// Whether the process died at the last point that was asked for.
    #[must_use]
    pub fn reached(&self) -> bool {
        self.died.len() == 1 + usize::from(self.second.is_some())
    }
}

/// Lives and deaths.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct Tally {
    pub lives: u64,
    pub deaths: u64,
    /// Lives in which the process died twice.
    pub second_deaths: u64,
}

impl Tally {
    fn add(&mut self, life: &Life) {
        self.lives += 1;
        self.deaths += life.died.len() as u64;
        self.second_deaths += u64::from(life.died.len() > 1);
    }
}

/// The account of a run.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Account {
    pub total: Tally,
    /// Of this run alone; the rest was read from the journal of an earlier one.
    here: Tally,
    pub kinds: BTreeMap<Kind, Tally>,
    /// How often orders of a kind came to an end.
    pub ends: BTreeMap<String, u64>,
    /// Deaths by the name of the point.
    pub points: BTreeMap<String, u64>,
    /// Of lives with two deaths: first point, second point, how often.
    pub pairs: BTreeMap<String, BTreeMap<String, u64>>,
    /// Every point that was asked for was led; otherwise the time was up before.
    pub is_whole: bool,
    /// Points that no life reached.
    pub not_reached: Vec<String>,
    /// The number of points of each kind.
    pub farthest: BTreeMap<Kind, u64>,
    pub audits: u64,
    /// What the auditor found, with the lives concerned; and lives that did not come to their end.
    pub failures: Vec<String>,
    pub seconds: f64,
    #[serde(skip)]
    journal: Option<Arc<Mutex<std::fs::File>>>,
}

impl Account {
    /// Writes each life down, behind what is there already if it is `kept`.
    pub fn write_to(&mut self, file: &Path, kept: bool) {
        let mut options = std::fs::OpenOptions::new();
        options.create(true);
        let file = if kept { options.append(true) } else { options.write(true).truncate(true) }.open(file);
        let file = file.unwrap();
        self.journal = Some(Arc::new(Mutex::new(file)));
    }

    /// The lives that an earlier run wrote down. A line that was cut off is none.
    #[must_use]
    pub fn read(file: &Path) -> Vec<Life> {
        let text = std::fs::read_to_string(file).unwrap_or_default();
        text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    /// Counts a life that an earlier run has led.
    pub fn remember(&mut self, life: &Life) {
        self.total.add(life);
        self.kinds.entry(life.kind).or_default().add(life);
        *self.ends.entry(format!("{:?} {}", life.kind, life.end)).or_default() += 1;
        for point in &life.died {
            *self.points.entry(point.clone()).or_default() += 1;
        }
        if let [first, second] = life.died.as_slice() {
            *self.pairs.entry(first.clone()).or_default().entry(second.clone()).or_default() += 1;
        }
    }

    pub(super) fn add(&mut self, life: Life, audit: Option<Result<(), String>>) {
        self.remember(&life);
        self.here.add(&life);
        if let Some(journal) = &self.journal {
            let line = serde_json::to_string(&life).unwrap();
            writeln!(lock(journal), "{line}").unwrap();
        }
        self.add_audit(audit);
    }

    pub(super) fn add_audit(&mut self, audit: Option<Result<(), String>>) {
        match audit {
            Some(Ok(())) => self.audits += 1,
            Some(Err(why)) => self.failures.push(why),
            None => {}
        }
    }

    pub(super) const fn here(&self) -> Tally {
        self.here
    }

    pub(super) fn close(&mut self, board: &Board, time: Duration) {
        self.is_whole = board.is_done();
        self.not_reached = board.not_reached();
        self.farthest = board.farthest();
        self.seconds = time.as_secs_f64();
    }

    /// Writes it down; whoever reads it meanwhile sees it whole.
    pub(super) fn write(&self, file: &Path) {
        let new = file.with_extension("new");
        std::fs::write(&new, serde_json::to_string_pretty(self).unwrap()).unwrap();
        std::fs::rename(new, file).unwrap();
    }

    /// Kinds whose end, for which they are there, no order came to: without it the run says nothing about them.
    #[must_use]
    pub fn void(&self) -> Vec<Kind> {
        let has = |kind: &&Kind| self.ends.contains_key(&format!("{kind:?} {}", kind.needed()));
        self.kinds.keys().filter(|kind| !has(kind)).copied().collect()
    }
}
