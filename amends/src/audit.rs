//! The auditor: reads every database and the provider's book, and judges what must always hold (I1 to I10).
//!
//! It changes nothing and trusts nobody: the journal is read by its stored form, not by the code that wrote it. What
//! one database says by itself is judged within one snapshot and is certain. Over several databases there is no common
//! snapshot: there only sagas that ended a while ago are judged (or everything, when the system is quiescent), and what
//! looks wrong counts only if a second read finds it unchanged.
//!
//! Sagas are judged page by page in the order of their ids, so that memory does not grow with their number; the only
//! thing kept whole is the provider's book, as some hundred bytes per charge. Read next: `report.rs` for the
//! invariants, `sagas.rs` for the pages, and one file per invariant below `judge`.

mod book;
mod judge;
mod keys;
mod ledger;
mod outbox;
mod report;
mod rows;
mod sagas;
mod sources;
mod stock;
mod story;
mod tally;

use std::{path::PathBuf, time::Duration};

use chassis::sql::Checked;
use chrono::{DateTime, TimeDelta, Utc};

pub(crate) use self::keys::acknowledged;
pub use self::{
    report::{Invariant, Judged, Listed, Report},
    sources::{Room, Sources},
};

use self::{
    sources::Snapshot,
    tally::{Pass, Tally},
};

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
    /// The client's record cannot be read.
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
        keys::statements(),
        ledger::statements(),
        outbox::statements(),
        sagas::statements(),
        sources::statements(),
        stock::statements(),
    ]
    .concat()
}

/// Audits.
///
/// # Errors
/// When a database or the client's record cannot be read: there is no report then.
pub async fn run(sources: &Sources, options: &Options) -> Result<Report, Error> {
    let mut tally = Tally::new(options.keep);
    let pages = pass(sources, options, &mut tally, None).await?;
    if tally.has_suspects() {
        tokio::time::sleep(if options.quiescent { SECOND_LOOK_QUIESCENT } else { SECOND_LOOK }).await;
        tally.look_again();
        pass(sources, options, &mut tally, Some(pages)).await?;
    }
    Ok(tally.report(options))
}

/// One read of everything; the pages of sagas in which something looked wrong. The second read is confined to what
/// looked wrong in the first.
async fn pass(
    sources: &Sources,
    options: &Options,
    tally: &mut Tally,
    again: Option<Vec<sagas::Page>>,
) -> Result<Vec<sagas::Page>, Error> {
    let mut snapshot = Snapshot::open(sources).await?;
    let rule = Rule::new(options, snapshot.now);
    if tally.pass() == Pass::First {
        ledger::judge(&mut snapshot, tally).await?;
        stock::judge(&mut snapshot, tally).await?;
        keys::judge_stored(&mut snapshot, tally).await?;
    }
    let book = book::read(&mut snapshot, tally, options).await?;
    book::judge_strays(&mut snapshot, &book, tally).await?;
    let dead = outbox::judge(&mut snapshot, &rule, tally).await?;
    if let Some(path) = &options.acknowledged {
        keys::judge_acknowledged(&mut snapshot, path, tally).await?;
    }
    let bench = judge::Bench { rule, book: &book, dead: &dead };
    let pages = sagas::judge(&mut snapshot, &bench, tally, options, again).await?;
    snapshot.close().await;
    Ok(pages)
}
