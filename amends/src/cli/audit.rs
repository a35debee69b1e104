//! `amends audit`: asks the auditor and shows what it found.
//!
//! It reads databases and not a server, and does so through the library alone. Its exit code is a verdict: 0 clean, 1
//! something breaks an invariant, 2 wrongly used, 3 something could not be read. Read next: `stores.rs`, `../audit.rs`.

use std::{
    fmt,
    io::{self, IsTerminal as _},
    path::PathBuf,
    process::ExitCode,
    sync::Mutex,
    time::{Duration, Instant},
};

use clap::Args;

use super::{
    failure::Failure,
    output::{Line, Screen, Table, plain, remark},
    stores::{NoVerdict, Stores},
};
use crate::audit::{Anchor, Listed, Options, Progress, Report};

/// The command.
#[derive(Debug, Args)]
#[command(
    after_help = "Which databases: --database-url if it is given; else the URLs of the services, if any of them is; \
else the private Postgres of --data-dir.

The record of acknowledged orders is one JSON object per line, as the client wrote it when it was answered:
  {\"key\":\"m_1/8e03978e\",\"fingerprint\":\"any text\",\"order_id\":\"ord_01h2xcejqtf2nbrexx3vqjhp41\"}
`order_id` may be a bare UUID; `key` is the request id (or any text that is one per request), `fingerprint` whatever the
client knows its request by; both may be left out.

What the command line names, a folder or databases, goes before the environment.

Exit codes: 0 clean, 1 an invariant is broken, 2 wrongly used, 3 something could not be read.

Examples:
  amends audit
  amends audit --quiescent --acknowledged acknowledged.jsonl
  amends audit --database-url postgres://auditor@db/amends --json
  amends audit --logs /var/log/amends --canary a-text-that-was-planted
  amends audit --anchor 17:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
)]
pub(crate) struct Audit {
    /// Nothing moves any more: judge everything, and call whatever is still open or unsent a violation
    #[arg(long)]
    quiescent: bool,
    /// What a client was told, as JSON lines: judges I7 and I8 by it
    #[arg(long, value_name = "FILE")]
    acknowledged: Option<PathBuf>,
    /// How long a saga may be open after its deadline
    #[arg(long, value_name = "TIME", default_value = "10m", value_parser = humantime::parse_duration)]
    grace: Duration,
    /// How long a message may wait in an outbox
    #[arg(long, value_name = "TIME", default_value = "2m", value_parser = humantime::parse_duration)]
    outbox_grace: Duration,
    /// How long what was booked may wait to be sealed in the ledger's chain
    #[arg(long, value_name = "TIME", default_value = "2m", value_parser = humantime::parse_duration)]
    seal_grace: Duration,
    /// A block that an earlier audit named: the ledger's chain must still hold it; may be given several times
    #[arg(long, value_name = "N:HASH")]
    anchor: Vec<Anchor>,
    /// A log, or a folder of them, in which no secret may stand either; may be given several times
    #[arg(long, value_name = "FILE|FOLDER")]
    logs: Vec<PathBuf>,
    /// A text that must stand nowhere, neither in a database nor in a log; may be given several times
    #[arg(long, value_name = "TEXT")]
    canary: Vec<String>,
    /// Show at most this many violations of each invariant
    #[arg(long, value_name = "N", default_value_t = 20)]
    limit: u32,
    /// Answer in JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    stores: Stores,
}

impl Audit {
    /// Audits and tells; the exit code is the verdict.
    pub(crate) fn run(&self) -> ExitCode {
        let screen = if self.json { Screen::Json } else { Screen::Text };
        let judged = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => runtime.block_on(self.stores.judge(&self.options())),
            Err(error) => Err(NoVerdict::unreadable(error)),
        };
        clear();
        let report = match judged {
            Ok(report) => report,
            Err(why) => {
                remark(&format!("error: {why}"));
                return ExitCode::from(if matches!(why, NoVerdict::Usage(_)) { 2 } else { 3 });
            }
        };
        let verdict = u8::from(!report.is_clean());
        match screen.one(|| serde_json::to_value(&report).unwrap_or_default(), Shown(&report)) {
            // Nobody reads it; the verdict stands.
            Err(Failure::Output(_)) | Ok(()) => ExitCode::from(verdict),
            Err(failure) => ExitCode::from(failure.tell(screen)),
        }
    }

    fn options(&self) -> Options {
        Options {
            quiescent: self.quiescent,
            acknowledged: self.acknowledged.clone(),
            saga_grace: self.grace,
            outbox_grace: self.outbox_grace,
            seal_grace: self.seal_grace,
            anchors: self.anchor.clone(),
            canaries: self.canary.clone(),
            logs: self.logs.clone(),
            keep: usize::try_from(self.limit).unwrap_or(usize::MAX),
            progress: if io::stderr().is_terminal() { draw } else { |_| () },
            ..Options::default()
        }
    }
}

/// When the line was drawn last; before the first time, when it was asked for first.
static DRAWN: Mutex<Option<(Instant, Line)>> = Mutex::new(None);

/// For audits that take more than a moment.
fn draw(progress: &Progress) {
    let mut drawn = DRAWN.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let (last, line) = drawn.get_or_insert_with(|| (Instant::now(), Line::new(true)));
    if last.elapsed() < Duration::from_millis(500) {
        return;
    }
    *last = Instant::now();
    let Progress { what, done, of } = progress;
    let of = if *of == 0 { String::new() } else { format!(" of {of}") };
    line.draw(&format!("auditing {what}: {done}{of}"));
}

fn clear() {
    let mut drawn = DRAWN.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    if let Some((_, line)) = &mut *drawn {
        line.clear();
    }
}

/// A report for people.
pub(super) struct Shown<'r>(pub(super) &'r Report);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rows = self.0.invariants.iter().map(|judged| {
            let (checked, violations) = (judged.checked.to_string(), judged.violations.total.to_string());
            [judged.id.to_owned(), judged.sentence.to_owned(), checked, violations]
        });
        writeln!(f, "{}", Table::new(["", "INVARIANT", ">JUDGED", ">VIOLATIONS"], rows))?;
        for judged in &self.0.invariants {
            list(f, judged.id, "", &judged.information)?;
        }
        for judged in &self.0.invariants {
            list(f, judged.id, "VIOLATION ", &judged.violations)?;
        }
        let total: u64 = self.0.invariants.iter().map(|judged| judged.violations.total).sum();
        match total {
            0 => write!(f, "clean"),
            1 => write!(f, "1 violation"),
            _ => write!(f, "{total} violations"),
        }
    }
}

fn list(f: &mut fmt::Formatter<'_>, id: &str, mark: &str, listed: &Listed) -> fmt::Result {
    for text in &listed.first {
        writeln!(f, "{mark}{id}: {}", plain(text))?;
    }
    let more = listed.total.saturating_sub(listed.first.len() as u64);
    if more > 0 {
        writeln!(f, "{mark}{id}: and {more} more (--limit)")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        audit: Audit,
    }

    fn audit(line: &str) -> Audit {
        Line::try_parse_from(line.split_whitespace()).unwrap().audit
    }

    #[test]
    fn a_folder_without_a_store_is_no_clean_one() {
        let folder = tempfile::tempdir().unwrap();
        let line = format!("x --data-dir {}", folder.path().display());
        assert_eq!(audit(&line).run(), ExitCode::from(3));
        assert_eq!(audit("x --database-url nonsense").run(), ExitCode::from(3));
        assert_eq!(audit("x --order-database-url postgres://h/o").run(), ExitCode::from(2));
    }

    #[test]
    fn a_report_shows_every_invariant_and_how_much_is_left_out() {
        let violations = Listed { total: 3, first: vec!["saga_1: \x1b[2J".into()] };
        let judged = crate::audit::Judged {
            id: "I2",
            sentence: "money is where it should be",
            checked: 7,
            violations,
            information: Listed { total: 1, first: vec!["note".into()] },
        };
        let report = Report {
            clean: false,
            invariants: vec![judged],
            anchor: None,
            figures: crate::audit::Figures::default(),
        };
        assert_eq!(
            Shown(&report).to_string(),
            "    INVARIANT                    JUDGED  VIOLATIONS\n\
             I2  money is where it should be       7           3\n\
             I2: note\n\
             VIOLATION I2: saga_1: ·[2J\n\
             VIOLATION I2: and 2 more (--limit)\n\
             3 violations"
        );
    }
}
