//! The auditor: reads every database and the provider's book, and judges what must always hold (I1 to I12).
//!
//! It changes nothing and trusts nobody: the journal is read by its stored form, not by the code that wrote it. What
//! one database says by itself is judged within one snapshot and is certain. Over several databases there is no common
//! snapshot: there only sagas that ended a while ago are judged (or everything, when the system is quiescent), and what
//! looks wrong counts only if a second read finds it unchanged.
//!
//! Sagas are judged page by page in the order of their ids, so that memory does not grow with their number; the only
//! thing kept whole is the provider's book, as some hundred bytes per charge. Read next: `report.rs` for the
//! invariants, `sagas.rs` for the pages, and one file per invariant below `judge`.

mod anchor;
mod book;
mod chain;
mod figures;
mod judge;
mod keys;
mod leaks;
mod ledger;
mod outbox;
mod report;
mod rows;
mod sagas;
mod scope;
mod secrets;
mod sources;
mod stock;
mod story;
mod tally;
mod turn;

use std::{path::PathBuf, time::Duration};

use chassis::sql::Checked;
use chrono::{DateTime, TimeDelta, Utc};

pub(crate) use self::keys::acknowledged;
pub use self::{
    anchor::{Anchor, NoAnchor},
    figures::Figures,
    report::{Invariant, Judged, Listed, Report},
    scope::Since,
    sources::{Room, Sources},
    turn::Turn,
};

use self::{sources::Snapshot, tally::Tally};

/// How the audit is done.
#[derive(Debug, Clone)]
pub struct Options {
    /// Nothing moves any more: judge everything at once, and call everything that is still open a violation.
    pub quiescent: bool,
    /// A client's own record of what was acknowledged to it, as JSON lines.
    pub acknowledged: Option<PathBuf>,
    /// A saga is judged over several databases when it ended this long ago.
    pub settle: Duration,
    /// A saga may be open this long after its deadline.
    pub saga_grace: Duration,
    /// A message may wait this long in an outbox.
    pub outbox_grace: Duration,
    /// What was booked may wait this long to be sealed.
    pub seal_grace: Duration,
    /// Blocks that the ledger's chain must still hold.
    pub anchors: Vec<Anchor>,
    /// Texts that somebody planted: wherever one turns up, something leaks.
    pub canaries: Vec<String>,
    /// Logs that are looked at too: files, and folders of them.
    pub logs: Vec<PathBuf>,
    /// What is kept in full of each list of violations; the others are counted.
    pub keep: usize,
    /// Told now and then how far it is.
    pub progress: fn(&Progress),
}

impl Default for Options {
    fn default() -> Self {
        Self {
            quiescent: false,
            acknowledged: None,
            settle: Duration::from_secs(30),
            saga_grace: Duration::from_secs(600),
            outbox_grace: Duration::from_secs(120),
            seal_grace: Duration::from_secs(120),
            anchors: Vec::new(),
            canaries: Vec::new(),
            logs: Vec::new(),
            keep: 20,
            progress: |_| (),
        }
    }
}

/// How far an audit is.
#[derive(Debug, Clone, Copy)]
pub struct Progress {
    /// What it does.
    pub what: &'static str,
    /// How much of it is done.
    pub done: u64,
    /// How much there is; 0 when that is not known.
    pub of: u64,
}

/// Why there is no report. What cannot be read is never clean.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A database.
    #[error("the schema {schema} cannot be read: {source}")]
    Unreadable {
        /// Which.
        schema: &'static str,
        /// Why.
        source: sqlx::Error,
    },
    /// The client's record, or a log, cannot be read.
    #[error("{} cannot be read: {source}", path.display())]
    File {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The client's record is not one.
    #[error("{}:{line}: {why}", path.display())]
    Line {
        /// Which file.
        path: PathBuf,
        /// Which line, from 1.
        line: u64,
        /// What is wrong with it.
        why: String,
    },
}

/// How long after the first read the second one is made.
const SECOND_LOOK: Duration = Duration::from_secs(2);
/// The same, when nothing moves.
const SECOND_LOOK_QUIESCENT: Duration = Duration::from_millis(200);

/// What the judges go by.
#[derive(Debug, Clone, Copy)]
struct Rule {
    quiescent: bool,
    settle: TimeDelta,
    saga_grace: TimeDelta,
    outbox_grace: TimeDelta,
    seal_grace: TimeDelta,
    /// The orchestrator's database says so; taken with its snapshot.
    now: DateTime<Utc>,
}

impl Rule {
    fn new(options: &Options, now: DateTime<Utc>) -> Self {
        let span = |time: Duration| TimeDelta::from_std(time).unwrap_or(TimeDelta::MAX);
        Self {
            quiescent: options.quiescent,
            settle: span(options.settle),
            saga_grace: span(options.saga_grace),
            outbox_grace: span(options.outbox_grace),
            seal_grace: span(options.seal_grace),
            now,
        }
    }

    /// Whether `span` has passed since `time`.
    fn is_past(&self, time: DateTime<Utc>, span: TimeDelta) -> bool {
        self.quiescent || time.checked_add_signed(span).is_some_and(|end| end < self.now)
    }
}

/// Every statement of the auditor, for the SQL check.
#[must_use]
pub fn statements() -> Vec<&'static dyn Checked> {
    [
        book::statements(),
        chain::statements(),
        figures::statements(),
        keys::statements(),
        leaks::statements(),
        ledger::statements(),
        outbox::statements(),
        sagas::statements(),
        scope::statements(),
        sources::statements(),
        stock::statements(),
        turn::statements(),
    ]
    .concat()
}

/// Audits everything.
///
/// # Errors
/// When a database or the client's record cannot be read: there is no report then.
pub async fn run(sources: &Sources, options: &Options) -> Result<Report, Error> {
    Ok(run_since(sources, options, None).await?.0)
}

/// Audits what an earlier audit left open and what came since, or everything; with what the next one may begin from. A
/// violation that only the whole shows is not found by a part: whoever audits parts audits the whole now
/// and then, and after anything was found.
///
/// # Errors
/// As [`run`].
pub async fn run_since(
    sources: &Sources,
    options: &Options,
    since: Option<&Since>,
) -> Result<(Report, Since), Error> {
    let mut tally = Tally::new(options.keep);
    if options.quiescent {
        chain::settle(sources).await?;
    }
    let first = pass(sources, options, &mut tally, Reading::First(since)).await?;
    if tally.has_suspects() {
        tokio::time::sleep(if options.quiescent { SECOND_LOOK_QUIESCENT } else { SECOND_LOOK }).await;
        tally.look_again();
        pass(sources, options, &mut tally, Reading::Second(since.is_some(), &first.seen.strange)).await?;
    }
    let Passed { seen, anchor, figures, now } = first;
    Ok((tally.report(options, anchor, figures), Since::new(now, seen.unsettled, anchor)))
}

/// What is read.
#[derive(Clone, Copy)]
enum Reading<'a> {
    /// Everything, or what came since.
    First(Option<&'a Since>),
    /// The pages in which something looked wrong; whether the first reading was of a part.
    Second(bool, &'a [sagas::Page]),
}

/// What a pass leaves.
struct Passed {
    seen: sagas::Seen,
    anchor: Option<Anchor>,
    figures: Figures,
    now: DateTime<Utc>,
}

/// One read; the second is confined to what looked wrong in the first.
async fn pass(
    sources: &Sources,
    options: &Options,
    tally: &mut Tally,
    reading: Reading<'_>,
) -> Result<Passed, Error> {
    let mut snapshot = Snapshot::open(sources).await?;
    let passed = look(&mut snapshot, options, tally, reading).await?;
    snapshot.close().await;
    Ok(passed)
}

async fn look(
    snapshot: &mut Snapshot,
    options: &Options,
    tally: &mut Tally,
    reading: Reading<'_>,
) -> Result<Passed, Error> {
    let rule = Rule::new(options, snapshot.now);
    let (ranges, is_part) = match reading {
        Reading::First(None) => (vec![scope::EVERYTHING], false),
        Reading::First(Some(since)) => (since.ranges(), true),
        Reading::Second(is_part, strange) => (strange.to_vec(), is_part),
    };
    let (mut anchor, mut figures) = (None, Figures::default());
    if let Reading::First(since) = reading {
        if is_part {
            ledger::judge_totals(snapshot, tally).await?;
        } else {
            ledger::judge(snapshot, tally).await?;
            stock::judge(snapshot, tally).await?;
            keys::judge_stored(snapshot, tally).await?;
            leaks::judge(snapshot, tally, options).await?;
        }
        anchor = chain::judge(snapshot, tally, options, since.and_then(|since| since.verified)).await?;
        figures = Figures::read(snapshot).await?;
    }
    let book = if is_part {
        let payments = scope::payments(snapshot, &ranges).await?;
        book::read_some(snapshot, tally, &payments).await?
    } else {
        let book = book::read(snapshot, tally, options).await?;
        book::judge_strays(snapshot, &book, tally).await?;
        book
    };
    chain::judge_tail(snapshot, &rule, tally).await?;
    let dead = outbox::judge(snapshot, &rule, tally).await?;
    if let Some(path) = &options.acknowledged {
        keys::judge_acknowledged(snapshot, path, tally).await?;
    }
    let bench = judge::Bench { rule, book: &book, dead: &dead };
    let seen = sagas::judge(snapshot, &bench, tally, options, (&ranges, &mut figures)).await?;
    let now = snapshot.now;
    Ok(Passed { seen, anchor, figures, now })
}
