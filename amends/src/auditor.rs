//! The auditor as a service: audits every few minutes for as long as it runs, and shows what it found as metrics.
//!
//! It begins with the whole; then it reads what came since and what was open, and the whole again every day, and as long
//! as anything is wrong. Only what must stand nowhere (I11) does not hurry it: what was written once stays there, and what
//! the last whole found of it stands until the next. A violation is told once, as an error, when it is found first. It writes nothing anywhere. Read
//! next: `audit.rs`; `alone/auditor.rs`, which is the process.

mod figures;

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use chassis::{http::Checks, stop::Stop};
use tokio::time::Instant;

use crate::audit::{self, Invariant, Judged, Options, Report, Since, Sources, Turn};

/// The first audit does not wait longer than this.
const SOON: Duration = Duration::from_secs(30);
/// What only the whole looks for.
const SECRETS: &str = Invariant::I11.id();
/// Of each invariant; what is beyond is counted and not told.
const KEEP: usize = 1_000;

/// How often.
#[derive(Debug, Clone, Copy)]
pub struct Schedule {
    /// An audit.
    pub every: Duration,
    /// An audit of everything.
    pub whole_every: Duration,
}

/// The service. Cheap to clone.
#[derive(Clone)]
pub struct Auditor {
    sources: Sources,
    options: Options,
    schedule: Schedule,
    /// Why the last audit could not read something.
    blind: Arc<Mutex<Option<String>>>,
}

/// What it remembers between two audits.
#[derive(Default)]
struct Memory {
    since: Option<Since>,
    whole: Option<Instant>,
    known: BTreeSet<String>,
    was_standing_by: bool,
}

impl Auditor {
    /// One that reads these.
    #[must_use]
    pub fn new(sources: Sources, options: Options, schedule: Schedule) -> Self {
        let options = Options { keep: KEEP, ..options };
        Self { sources, options, schedule, blind: Arc::default() }
    }

    /// With a check that it could read everything the last time.
    #[must_use]
    pub fn check(&self, checks: Checks) -> Checks {
        let blind = Arc::clone(&self.blind);
        checks.with("audit", move || {
            let why = blind.lock().unwrap_or_else(PoisonError::into_inner).clone();
            std::future::ready(why.map_or(Ok(()), Err))
        })
    }

    /// Audits until `stop`. What is under way then is dropped: it only reads.
    pub async fn run(self, stop: Stop) {
        let (mut memory, mut turn) = (Memory::default(), Turn::default());
        let mut pause = self.schedule.every.min(SOON);
        while stop.sleep(pause).await {
            let begin = Instant::now();
            tokio::select! {
                () = stop.wanted() => break,
                () = self.once(&mut memory, &mut turn) => {}
            }
            // Whatever it takes, it rests in between.
            pause = self.schedule.every.saturating_sub(begin.elapsed()).max(self.schedule.every / 10);
        }
        turn.end().await;
    }

    async fn once(&self, memory: &mut Memory, turn: &mut Turn) {
        let is_mine = match turn.is_mine(&self.sources).await {
            Ok(is_mine) => is_mine,
            Err(error) => return self.failed(format!("the orchestrator's database: {error}")),
        };
        figures::turn(is_mine);
        if !is_mine {
            if !std::mem::replace(&mut memory.was_standing_by, true) {
                tracing::info!("another auditor is at work; this one stands by");
            }
            figures::forget();
            // Whoever was at work meanwhile knows what this one does not.
            (memory.since, memory.known) = (None, BTreeSet::new());
            self.see(None);
            return figures::ran("standby");
        }
        memory.was_standing_by = false;
        let begin = Instant::now();
        let is_due = memory.whole.is_none_or(|last| last.elapsed() >= self.schedule.whole_every);
        let since = if is_due { None } else { memory.since.take() };
        if since.is_none() {
            memory.whole = Some(begin);
        }
        match audit::run_since(&self.sources, &self.options, since.as_ref()).await {
            Ok((report, next)) => {
                self.see(None);
                tell(&report, &mut memory.known, since.is_none(), begin.elapsed());
                // While anything is wrong the whole is looked at.
                let is_well = |judged: &Judged| judged.id == SECRETS || judged.violations.total == 0;
                memory.since = report.invariants.iter().all(is_well).then_some(next);
            }
            Err(error) => self.failed(error.to_string()),
        }
    }

    fn see(&self, why_not: Option<String>) {
        *self.blind.lock().unwrap_or_else(PoisonError::into_inner) = why_not;
    }

    /// Told once while it lasts; it says nothing of the books.
    fn failed(&self, why: String) {
        figures::ran("failed");
        let known = self.blind.lock().unwrap_or_else(PoisonError::into_inner).is_some();
        if !known {
            tracing::warn!(error = why, "the auditor cannot read everything");
        }
        self.see(Some(why));
    }
}

/// Shows a report, and says what is new in it.
fn tell(report: &Report, known: &mut BTreeSet<String>, is_whole: bool, took: Duration) {
    figures::show(report, is_whole, took);
    let mut found: BTreeSet<String> = report.violations().into_iter().collect();
    if !is_whole {
        found.extend(known.iter().filter(|violation| violation.starts_with(SECRETS)).cloned());
    }
    figures::ran(if found.is_empty() { "clean" } else { "violations" });
    for violation in found.difference(known) {
        tracing::error!(violation, "an invariant is broken");
    }
    for gone in known.difference(&found) {
        tracing::info!(violation = gone, "no longer found");
    }
    *known = found;
    tracing::info!(
        whole = is_whole,
        violations = known.len(),
        chain = report.anchor.as_deref().unwrap_or_default(),
        duration_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
        "audited"
    );
}
