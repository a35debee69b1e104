//! `amends bench`: puts orders in great number on a running server, and says how fast they came to their end.
//!
//! A run ends with the auditor, and is void when it finds anything or an order came to another end than was due. Ratios to
//! code without an orchestrator, and what an order costs in CPU, rows and commits, are `cargo run -p bench`'s. Read next:
//! the crate `load`.

use std::{
    io::{self, IsTerminal as _, Write as _},
    path::Path,
    sync::Arc,
    time::Duration,
};

use clap::Args;
use load::{Answers, Doors, Measured};
use proto::order::v1::{ListOrdersRequest, orders_client::OrdersClient};
use serde_json::json;
use tokio::time::Instant;

use super::{
    audit::Shown,
    failure::Failure,
    output::{Fields, Line, Screen, plain},
    server::{Server, Whose, ask},
    stores::{NoVerdict, Stores},
};
use crate::audit::{Options, Report};

/// How often the auditor looks, once a second: what was on its way when the load ended may still be.
const LOOKS: u32 = 20;

/// The command.
#[derive(Debug, Args)]
#[command(
    after_help = "It places real orders, with the simulator's card tokens, for merchants b_0 to b_199 and goods of its own (B0000 to \
B0999), which it puts on sale first: not for a store that people use. Latencies are from when an order was sent (or due, \
with --rate) to its end.

The auditor looks where `amends audit` looks, with the same flags and variables.

Exit codes: 0 measured, 1 void or unreachable, 2 wrongly used.

Examples:
  amends up --no-demo --merchant-orders-per-second 0     and, in another terminal:
  amends bench
  amends bench --in-flight 1 --mix happy
  amends bench --rate 500 --seconds 30 --json
  amends bench --server http://orders.test:50051 --no-audit"
)]
pub(crate) struct Bench {
    #[command(flatten)]
    load: load::Flags,
    /// Do not judge the databases afterwards: they are elsewhere, or others use them meanwhile
    #[arg(long)]
    no_audit: bool,
    #[command(flatten)]
    stores: Stores,
}

impl Bench {
    pub(crate) async fn run(self, server: &Server) -> Result<(), Failure> {
        let load = self.load.load().map_err(|error| Failure::Usage(error.to_string()))?;
        let screen = server.screen();
        if cfg!(debug_assertions) {
            screen.remark("(a debug build: if the server is one as well, its figures say nothing)");
        }
        let mut line = Line::new(screen == Screen::Text && std::io::stderr().is_terminal());
        let doors = self.open(server, &mut line).await?;
        let measured = watch(load, doors, &mut line).await;
        let answers = Answers::of(&load, &measured);
        ensure_measured(&measured)?;
        if !self.no_audit {
            line.draw("the auditor looks");
            let told = acknowledged(&latest(server).await?).map_err(Failure::Output)?;
            let found = self.judge(LOOKS, Some(told.path())).await;
            ensure_durable(&found.map_err(|why| within("is it the store of this server?", why))?)?;
        }
        line.clear();
        let judged = if self.no_audit { "not asked (--no-audit)" } else { "found nothing" };
        let json = || {
            let mut json = serde_json::to_value(&answers).unwrap_or_default();
            json["audited"] = json!(!self.no_audit);
            json
        };
        screen.one(json, shown(&answers, judged))?;
        if self.no_audit {
            screen.remark("(nobody looked whether anything was lost or doubled, nor whether the store's commits are durable)");
        }
        if answers.shed > 0 {
            screen.remark(
                "(turned away: the server was full, or a merchant's limit was met; `amends up --max-in-flight`, \
                 `--merchant-orders-per-second 0`)",
            );
        }
        Ok(())
    }

    /// The server's doors, with goods on sale; what would make the run void in the end is said before it.
    async fn open(&self, server: &Server, line: &mut Line) -> Result<Doors, Failure> {
        // Says where nobody answers, which a call alone does not.
        for whose in [Whose::Orchestrator, Whose::Order, Whose::Inventory] {
            server.connect_to(whose).await?;
        }
        let orchestrator = server.address(Whose::Orchestrator).to_owned();
        let doors = Doors::at(&[orchestrator], server.callee(Whose::Risk)?).map_err(void)?;
        if !self.no_audit {
            line.draw("the auditor looks first");
            ensure_durable(&self.judge(3, None).await.map_err(|why| within("before the load", why))?)?;
        }
        line.draw("its goods are put on sale");
        let (order, inventory) = (server.callee(Whose::Order)?, server.callee(Whose::Inventory)?);
        load::furnish(&order, &inventory).await.map_err(void)?;
        load::greet(&doors).await.map_err(void)?;
        Ok(doors)
    }

    /// By what it says in the end.
    async fn judge(&self, looks: u32, acknowledged: Option<&Path>) -> Result<Report, Failure> {
        let acknowledged = acknowledged.map(Path::to_owned);
        let options = Options { quiescent: true, acknowledged, ..Options::default() };
        let mut left = looks;
        loop {
            let report = self.stores.judge(&options).await.map_err(|why| match why {
                NoVerdict::Usage(text) => Failure::Usage(text),
                NoVerdict::Unreadable(text) => {
                    Failure::Void(format!("the auditor cannot look: {text}\n  --no-audit goes without"))
                }
            })?;
            left -= 1;
            match (report.is_clean(), left) {
                (true, _) => return Ok(report),
                (false, 0) => return Err(Failure::Void(format!("the auditor found:\n{}", Shown(&report)))),
                (false, _) => tokio::time::sleep(Duration::from_secs(1)).await,
            }
        }
    }
}

fn ensure_measured(measured: &Measured) -> Result<(), Failure> {
    let Measured { wrong, answered, shed, first_wrong, .. } = measured;
    if *wrong > 0 {
        let first = plain(first_wrong.as_deref().unwrap_or_default());
        return Err(Failure::Void(format!("{wrong} orders came to a wrong end; the first: {first}")));
    }
    if *answered == 0 {
        let why = format!("no order came to its end within the time ({shed} were turned away)");
        return Err(Failure::Void(format!("{why}; --seconds gives more")));
    }
    Ok(())
}

/// A figure of commits that may be lost would be none.
fn ensure_durable(report: &Report) -> Result<(), Failure> {
    let settings: Vec<_> = report.figures.unsafe_settings.iter().map(|setting| plain(setting)).collect();
    if settings.is_empty() {
        return Ok(());
    }
    let settings = settings.join(", ");
    Err(Failure::Void(format!("no figure of a store whose commits may be lost: {settings}; set it to on")))
}

fn within(what: &str, why: Failure) -> Failure {
    match why {
        Failure::Void(text) => Failure::Void(format!("{what} {text}")),
        other => other,
    }
}

/// The order that the server has accepted last.
async fn latest(server: &Server) -> Result<String, Failure> {
    let request = ask(ListOrdersRequest { page_size: 1, ..Default::default() });
    let orders = OrdersClient::new(server.connect().await?).list_orders(request).await?.into_inner().orders;
    Ok(orders.into_iter().next().map(|order| order.order_id).unwrap_or_default())
}

/// That it must be in the store that is judged.
fn acknowledged(order: &str) -> io::Result<tempfile::NamedTempFile> {
    let mut file = tempfile::NamedTempFile::new()?;
    writeln!(file, "{}", json!({ "order_id": order }))?;
    Ok(file)
}

fn void(error: anyhow::Error) -> Failure {
    Failure::Void(format!("{error:#}"))
}

/// Puts it on, and says how far it is.
async fn watch(load: load::Load, doors: Doors, line: &mut Line) -> Measured {
    let began = Instant::now();
    let mut second = tokio::time::interval(Duration::from_secs(1));
    let mut measured = std::pin::pin!(load::put(Arc::new(doors), load, ()));
    loop {
        tokio::select! {
            measured = &mut measured => return measured,
            _ = second.tick() => {
                let passed = began.elapsed();
                match passed.checked_sub(load.warm_up) {
                    None => line.draw(&format!("warming up: {} of {} s", passed.as_secs(), load.warm_up.as_secs())),
                    Some(passed) if passed < load.time => {
                        line.draw(&format!("measuring: {} of {} s", passed.as_secs(), load.time.as_secs()));
                    }
                    Some(_) => line.draw("waiting for the last orders"),
                }
            }
        }
    }
}

fn shown(answers: &Answers, judged: &str) -> String {
    let within = |share: f64| {
        let point = answers.curve.iter().find(|(at, _)| (at - share).abs() < f64::EPSILON);
        point.map_or(String::new(), |(_, ms)| format!("{ms:.1} ms"))
    };
    Fields::default()
        .with("load", &answers.pace)
        .with("orders", format!("{} in {:.1} s", answers.orders, answers.seconds))
        .with("rate", format!("{:.1}/s", answers.per_second))
        .with("p50", within(0.5))
        .with("p90", within(0.9))
        .with("p99", within(0.99))
        .with("p99.9", within(0.999))
        .with("longest", format!("{:.1} ms", answers.longest_ms))
        .with("turned away", some(answers.shed))
        .with("not sent in time", some(answers.dropped))
        .with("auditor", judged)
        .to_string()
}

fn some(count: u64) -> String {
    if count == 0 { String::new() } else { count.to_string() }
}

#[cfg(test)]
mod tests {
    use load::{
        Load, Pace,
        mix::{Mix, Spread},
    };

    use super::*;

    #[test]
    fn a_run_without_an_answer_or_with_a_wrong_one_is_void() {
        let void = |measured: &Measured| match ensure_measured(measured) {
            Err(Failure::Void(text)) => text,
            other => panic!("{other:?}"),
        };
        let nothing = Measured { shed: 7, ..Measured::new() };
        assert!(void(&nothing).contains("7 were turned away"));
        let wrong =
            Measured { answered: 9, wrong: 1, first_wrong: Some("\x1b[2J".into()), ..Measured::new() };
        assert!(void(&wrong).ends_with("the first: ·[2J"));
        assert!(ensure_measured(&Measured { answered: 1, ..Measured::new() }).is_ok());
    }

    #[test]
    fn what_was_measured_is_shown_and_what_did_not_happen_is_not() {
        let load = Load {
            pace: Pace::Open(50.0),
            mix: Mix::Happy,
            spread: Spread::Uniform,
            warm_up: Duration::ZERO,
            time: Duration::from_secs(2),
            seed: 1,
        };
        let mut measured = Measured { answered: 99, dropped: 1, seconds: 2.0, ..Measured::new() };
        measured.latency.record_n(4_000, 98).unwrap();
        measured.latency.record(90_000).unwrap();
        let shown = shown(&Answers::of(&load, &measured), "found nothing");
        let words: Vec<_> =
            shown.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
        assert!(words.contains(&"rate 49.5/s".into()), "{shown}");
        assert!(words.contains(&"p50 4.0 ms".into()), "{shown}");
        assert!(words.contains(&"not sent in time 1".into()), "{shown}");
        assert!(!shown.contains("turned away"), "{shown}");
    }
}
