//! `cargo xtask crash`.

use std::{path::PathBuf, process::ExitCode, time::Duration};

use clap::Args;
use e2e::{
    crash::{self, Account, Board, Ground, Options, Survey},
    load::Kind,
    stack::Member,
};

/// Points of the clock while a process starts: its first lease, and 16 shards taken, before and after each.
const CLOCK: u64 = 2 + 2 * 16;

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  cargo xtask crash                                     every point of every kind
  cargo xtask crash -- --kinds lost-after --from 30     some of them
  cargo xtask crash -- --amqp --kinds plain,declined    over RabbitMQ, whose points are passed only there
  cargo xtask crash -- --stack --worlds 2               one process of seven dies while the others live
  cargo xtask crash -- --release --pairs                every pair, in an hour or more
  cargo xtask crash -- --release --pairs --resume target/crash-pairs.jsonl")]
pub(crate) struct Crash {
    /// Only every N-th point
    #[arg(long, default_value_t = 1, value_name = "N")]
    every: u64,
    /// Begin at this point
    #[arg(long, default_value_t = 1, value_name = "N")]
    from: u64,
    /// Only these kinds of orders, as in `plain,declined` [default: all]
    #[arg(long, value_enum, value_delimiter = ',', value_name = "KIND")]
    kinds: Vec<Kind>,
    /// Worlds side by side: a database and a process each
    #[arg(long, default_value_t = 8, value_name = "N")]
    worlds: usize,
    /// Messages go over RabbitMQ
    #[arg(long)]
    amqp: bool,
    /// Every service a process of its own, over RabbitMQ: each dies at each of its points while the others live
    #[arg(long, conflicts_with_all = ["pairs", "amqp"])]
    stack: bool,
    /// Two deaths in each life, at every pair of points
    #[arg(long)]
    pairs: bool,
    /// In pairs, count every point, not only those after which something lasts: some eight times as many pairs
    #[arg(long, requires = "pairs")]
    all_points: bool,
    /// Only this part of the pairs, drawn by the seed
    #[arg(long, default_value_t = 1.0, value_name = "PART", requires = "pairs")]
    sample: f64,
    /// Draws the sample and the order of the pairs
    #[arg(long, default_value_t = 1, value_name = "N")]
    seed: u64,
    /// Go on where the run stopped that wrote this file
    #[arg(long, value_name = "FILE", requires = "pairs")]
    resume: Option<PathBuf>,
    /// Stop after this many minutes; the report says whether everything was led by then
    #[arg(long, value_name = "N")]
    minutes: Option<f64>,
    /// Where the report goes, as JSON; each life goes to a file beside it, a JSON line each
    #[arg(long, value_name = "FILE", default_value = "target/crash.json")]
    report: PathBuf,
}

impl Crash {
    pub(crate) async fn run(self) -> ExitCode {
        let kinds = if self.kinds.is_empty() { Kind::ALL.to_vec() } else { self.kinds.clone() };
        let ground = Ground::lay().await;
        if self.kinds.is_empty() {
            let left_out = ground.not_exercised(&kinds);
            assert!(left_out.is_empty(), "no kind of order exercises the sagas {left_out:?}");
        }
        let amqp = self.amqp.then(|| chassis::testbed::variable("AMENDS_TEST_AMQP_URL"));
        let limit = self.minutes.map(|minutes| Duration::from_secs_f64(minutes * 60.0));
        let lasting = self.pairs && !self.all_points;
        let (worlds, stack, report) = (self.worlds, self.stack, self.report.clone());
        let options = Options { worlds, stack, report, amqp, lasting, audit_every: 50, limit };
        let mut account = Account::default();
        let board = if self.pairs {
            let board = self.pairs(&ground, &kinds, &options).await;
            self.continue_from(board, &mut account)
        } else {
            let (from, every) = (self.from.max(1), self.every.max(1));
            let mut board = if self.stack {
                let members = [&Member::SERVICES[..], &[Member::Orchestrator(1)]].concat();
                Board::of_members(&kinds, &members, from, every)
            } else if every == 1 {
                Board::of_all_points(&kinds, from)
            } else {
                Board::of_points(&kinds, from, every)
            };
            if self.kinds.is_empty() && !self.stack {
                board.add_clock(Kind::Plain, 20, CLOCK);
            }
            account.write_to(&self.journal(), false);
            board
        };
        let account = crash::run(&ground, board, account, &options, |line| eprintln!("{line}")).await;
        self.judge(&account)
    }

    fn journal(&self) -> PathBuf {
        self.resume.clone().unwrap_or_else(|| self.report.with_extension("jsonl"))
    }

    async fn pairs(&self, ground: &Ground, kinds: &[Kind], options: &Options) -> Board {
        let survey = Survey::of(ground, kinds, options).await;
        let mut board = Board::default();
        for kind in kinds {
            let points = survey.kinds[kind].0;
            let mut expected = 0;
            for first in (self.from.max(1)..=points).step_by(usize::try_from(self.every.max(1)).unwrap()) {
                let recovery = survey.recovery(*kind, first);
                board.add_pairs(*kind, first, recovery);
                expected += recovery;
            }
            eprintln!("{kind:?}: {points} points, about {expected} pairs");
        }
        board.shuffle(self.seed);
        board.sample(self.sample, self.seed);
        board
    }

    fn continue_from(&self, mut board: Board, account: &mut Account) -> Board {
        if let Some(file) = &self.resume {
            let lives = Account::read(file);
            for life in &lives {
                board.remember(life);
                account.remember(life);
            }
            eprintln!("{} lives were led before", lives.len());
        }
        account.write_to(&self.journal(), self.resume.is_some());
        board
    }

    fn judge(&self, account: &Account) -> ExitCode {
        for (kind, tally) in &account.kinds {
            let points = account.farthest.get(kind).map_or_else(String::new, |n| format!("{n} points, "));
            println!(
                "{:<15} {points}{} lives, {} deaths, {} of them second ones",
                format!("{kind:?}"),
                tally.lives,
                tally.deaths,
                tally.second_deaths
            );
        }
        for (point, count) in &account.points {
            println!("{count:>6}  {point}");
        }
        for point in &account.not_reached {
            println!("not reached: {point}");
        }
        if !account.is_whole {
            println!("not whole: the time was up before every point was led");
        }
        for failure in &account.failures {
            eprintln!("FAILED: {failure}");
        }
        let void = account.void();
        if !void.is_empty() {
            eprintln!("FAILED: the run is void: {void:?} never came to the end that they are there for");
        }
        let total = account.total;
        println!(
            "{} lives, {} deaths ({} second ones) in {:.0} s, {} audits; {} failures; report: {}",
            total.lives,
            total.deaths,
            total.second_deaths,
            account.seconds,
            account.audits,
            account.failures.len(),
            self.report.display()
        );
        if account.failures.is_empty() && void.is_empty() && total.deaths > 0 {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        }
    }
}
