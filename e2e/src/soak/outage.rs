//! One participant is away while orders pile up, and comes back: does the crowd that waited keep it down?
//!
//! Measured before and after: how many calls went out for each that was concluded, by the orchestrators' own count, and how
//! many orders came to their end each second, by the database.

use std::{path::Path, sync::Arc, time::Duration};

use serde::Serialize;
use tokio::{sync::watch, time::Instant};

use super::{
    HEALED_WITHIN, ORCHESTRATORS, QUICK, page, prepare,
    promises::{Sample, Watch},
    report::{Promise, Verdict},
    scrape::{Scrape, values},
    site::Site,
};
use crate::{
    load::{Line, Pace, Shop},
    stack::Member,
};

/// How long calls are counted before.
const BEFORE: Duration = Duration::from_secs(60);

/// How much goodput there has to be, and for how long on end.
const GOOD: (f64, usize) = (0.95, 5);

/// What is done.
#[derive(Debug, Clone)]
pub struct Plan {
    /// How long the participant is away, at least.
    pub away: Duration,
    /// How many orders wait for it then, at least.
    pub waiting: usize,
    pub logs: std::path::PathBuf,
    pub build: &'static str,
}

/// What came of it.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    pub minutes_away: f64,
    pub build: &'static str,
    pub orders_per_second: u32,
    /// When it came back.
    pub waiting: usize,
    /// Calls on the wire for each that was concluded, before.
    pub calls_before: f64,
    /// And from the return until nothing waited any more.
    pub calls_after: f64,
    pub goodput_back_s: Option<f64>,
    pub drained_s: Option<f64>,
    pub promises: [Promise; 3],
    pub acknowledged: usize,
    pub failures: Vec<String>,
}

/// Calls, as the orchestrators count them.
#[derive(Debug, Clone, Copy, Default)]
struct Calls {
    /// On the wire.
    sent: f64,
    /// Done or refused.
    concluded: f64,
}

impl Calls {
    async fn now(site: &Site) -> Self {
        let mut calls = Self::default();
        for n in 1..=ORCHESTRATORS {
            let text = site.metrics(Member::Orchestrator(n)).await.expect("it is well");
            let sum = text.lines().filter_map(|line| line.strip_prefix("amends_step_slice_size_sum "));
            calls.sent += sum.filter_map(|value| value.trim().parse::<f64>().ok()).sum::<f64>();
            let outcomes = values(&text, "amends_step_calls_total", "outcome");
            let is_final = |outcome: &str| outcome == "done" || outcome == "refused";
            calls.concluded +=
                outcomes.iter().filter(|(outcome, _)| is_final(outcome)).map(|(_, n)| n).sum::<f64>();
        }
        calls
    }

    /// Calls on the wire for each that was concluded since.
    fn since(self, before: Self) -> f64 {
        (self.sent - before.sent) / (self.concluded - before.concluded).max(1.0)
    }
}

/// What has been counted.
struct Counted {
    per_second: u32,
    minutes_away: f64,
    waiting: usize,
    /// When it came back, in seconds from the beginning.
    back_s: f64,
    calls_before: f64,
    calls_after: f64,
    drained_s: Option<f64>,
}

/// Runs it.
///
/// # Panics
/// When the stack does not start, or its orchestrators do not say what they count.
pub async fn run(plan: &Plan, say: impl Fn(&str)) -> Report {
    let room = (plan.waiting * 2).to_string();
    let environment: Vec<_> = QUICK.into_iter().chain([("AMENDS_MAX_IN_FLIGHT", room.as_str())]).collect();
    let site = Arc::new(Site::start(ORCHESTRATORS, &environment, &plan.logs).await);
    let line = Line::to(site.doors());
    prepare(&line).await;
    let shop = Shop::at(&line);
    let watch = Watch::over(&site.databases, &shop);
    let (stop, stopped) = watch::channel(false);
    watch.sample(stopped.clone());
    let scrape = Scrape::start(&site, stopped.clone());
    let per_second = (plan.waiting as f64 / plan.away.as_secs_f64()).ceil() as u32;
    let selling = tokio::spawn({
        let (shop, mut closed) = (shop.clone(), stopped);
        async move {
            let pace = Pace { places: usize::MAX >> 4, per_second: Some(per_second) };
            let closed = async move { drop(closed.wait_for(|closed| *closed).await) };
            shop.sell_until(usize::MAX, pace, closed).await;
        }
    });
    let counted = away_and_back(plan, &site, &watch, per_second, &say).await;
    stop.send_replace(true);
    selling.await.expect("every customer was served");
    let (_, open) = watch.until_ended(HEALED_WITHIN).await;
    let file = plan.logs.join("acknowledged.jsonl");
    shop.write_acknowledged(&file);
    let audit = site.databases.examine(Some(file), Duration::from_secs(60)).await;
    let mut failures = audit.map_or_else(|why| vec![why], |audit| audit.violations());
    failures.extend(open.iter().take(5).map(|saga| format!("{saga} is open still")));
    let samples = watch.done().await.samples;
    let report = Report::of(plan, &counted, &samples, &scrape, shop.acknowledged(), failures);
    drop((watch, scrape));
    Arc::into_inner(site).expect("nobody else holds it any more").stop().await;
    report
}

async fn away_and_back(
    plan: &Plan,
    site: &Site,
    watch: &Watch,
    per_second: u32,
    say: &impl Fn(&str),
) -> Counted {
    say(&format!("{per_second} orders a second; calls are counted"));
    tokio::time::sleep(Duration::from_secs(5)).await;
    let first = Calls::now(site).await;
    tokio::time::sleep(BEFORE.min(plan.away)).await;
    let calls_before = Calls::now(site).await.since(first);
    say(&format!("{calls_before:.3} calls for each that is concluded; payment-svc goes away"));
    let post = &site.posts[&Member::Payment];
    let mut place = post.process.lock().await;
    place.take().expect("it runs").kill().await;
    let began = Instant::now();
    let waiting = loop {
        let open = watch.open().await.unwrap_or(0);
        if began.elapsed() >= plan.away && open >= plan.waiting {
            break open;
        }
        assert!(began.elapsed() < plan.away * 2, "{open} orders wait, and no more come");
        tokio::time::sleep(Duration::from_secs(1)).await;
    };
    let minutes_away = began.elapsed().as_secs_f64() / 60.0;
    let before = Calls::now(site).await;
    *place = Some(site.revive(Member::Payment).await);
    drop(place);
    let (back, back_s) = (Instant::now(), watch.elapsed());
    say(&format!("{waiting} orders wait, and payment-svc is back"));
    let drained_s = loop {
        if watch.open().await.is_some_and(|open| open < waiting / 20) {
            break Some(back.elapsed().as_secs_f64());
        }
        if back.elapsed() > HEALED_WITHIN * 2 {
            break None;
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    };
    let calls_after = Calls::now(site).await.since(before);
    say(&format!("drained after {drained_s:?} s; {calls_after:.3} calls for each that was concluded"));
    Counted { per_second, minutes_away, waiting, back_s, calls_before, calls_after, drained_s }
}

impl Report {
    fn of(
        plan: &Plan,
        counted: &Counted,
        samples: &[Sample],
        scrape: &Scrape,
        acknowledged: usize,
        mut failures: Vec<String>,
    ) -> Self {
        let goodput_back_s = goodput_back(samples, counted.back_s, f64::from(counted.per_second));
        let added = counted.calls_after / counted.calls_before - 1.0;
        let promises = promises(added, goodput_back_s, scrape);
        let missed = promises.iter().filter(|promise| promise.verdict == Verdict::Missed);
        failures.extend(missed.map(|p| format!("{}: {} instead of {}", p.promise, p.measured, p.target)));
        Self {
            minutes_away: counted.minutes_away,
            build: plan.build,
            orders_per_second: counted.per_second,
            waiting: counted.waiting,
            calls_before: counted.calls_before,
            calls_after: counted.calls_after,
            goodput_back_s,
            drained_s: counted.drained_s,
            promises,
            acknowledged,
            failures,
        }
    }
}

fn promises(added: f64, goodput_back_s: Option<f64>, scrape: &Scrape) -> [Promise; 3] {
    let most = scrape.probes().into_values().max().unwrap_or(0);
    let back = goodput_back_s.map_or_else(|| "never".to_owned(), |s| format!("{s:.0} s"));
    [
        Promise::exact(
            "retries added by an outage",
            "at most 20 %",
            format!("{:.1} %", added * 100.0),
            added <= 0.2,
        ),
        Promise::exact(
            "goodput is back after it",
            "within 120 s",
            back,
            goodput_back_s.is_some_and(|s| s <= 120.0),
        ),
        Promise::exact(
            "probes of a half-open breaker at once",
            "at most 3",
            most.to_string(),
            (1..=3).contains(&most),
        ),
    ]
}

/// Seconds from the return until as many orders end as are sent, and go on doing so.
fn goodput_back(samples: &[Sample], back_s: f64, per_second: f64) -> Option<f64> {
    let ended = |sample: &Sample| Some(sample.acknowledged as f64 - sample.open? as f64);
    let after: Vec<_> = samples.iter().filter(|sample| sample.at_s >= back_s).collect();
    after.windows(GOOD.1 + 1).find_map(|window| {
        let (first, last) = (window.first()?, window.last()?);
        let rate = (ended(last)? - ended(first)?) / (last.at_s - first.at_s).max(0.001);
        (rate >= per_second * GOOD.0).then_some(first.at_s - back_s)
    })
}

/// Writes it down.
pub fn write(report: &Report, folder: &Path) {
    std::fs::create_dir_all(folder).unwrap();
    std::fs::write(folder.join("outage.json"), serde_json::to_string(report).unwrap()).unwrap();
    std::fs::write(folder.join("outage.html"), page::of_outage(report)).unwrap();
}
