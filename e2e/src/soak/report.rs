//! What a run says for itself: what was done, what was measured against what was promised, and the auditor's word.

use std::{collections::BTreeMap, sync::LazyLock, time::Duration};

use serde::Serialize;
use sqlx::PgConnection;
use uuid::Uuid;

use super::{
    HEALED_WITHIN, Plan,
    faults::Done,
    plan, probes,
    promises::{Measured, Resumed},
    queues::Dead,
    site::Site,
    tally,
};
use crate::{
    load::{Kind, Shop},
    stack::Member,
};

/// A run that is shorter says on an overloaded machine what it measured, but does not fail for it.
const SHORT: Duration = Duration::from_secs(600);

/// Points of the picture, at most.
const POINTS: usize = 360;

/// What was seen while it ran.
pub(super) struct Seen {
    pub(super) sold_s: f64,
    /// How long customers went on repeating what was not answered.
    pub(super) served_s: f64,
    pub(super) healed_s: f64,
    /// Of the orders that were open when healing began.
    pub(super) settled_ms: Vec<u64>,
    pub(super) open: Vec<Uuid>,
    pub(super) faults: Vec<Done>,
    pub(super) dead: Dead,
    pub(super) poison: usize,
    pub(super) fallen: Vec<String>,
    /// How often somebody was shown goods.
    pub(super) shown: usize,
    pub(super) audit: Result<amends::audit::Report, String>,
    pub(super) probes: BTreeMap<String, u32>,
    pub(super) measured: Measured,
}

/// What became of a promise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    Kept,
    Missed,
    /// Missed in a short run on an overloaded machine, which says nothing.
    Overloaded,
    /// Nothing could be measured.
    Unmeasured,
}

/// A promise.
#[derive(Debug, Clone, Serialize)]
pub struct Promise {
    pub promise: &'static str,
    pub target: String,
    pub measured: String,
    pub verdict: Verdict,
}

/// The load at a moment.
#[derive(Debug, Clone, Serialize)]
pub struct Point {
    pub at_s: u32,
    /// A second, since the point before.
    pub acknowledged: f64,
    /// The same; none where the database could not be asked.
    pub ended: Option<f64>,
    pub open: Option<usize>,
}

/// A kind of fault, counted.
#[derive(Debug, Clone, Serialize)]
pub struct Faults {
    pub kind: plan::Kind,
    pub words: &'static str,
    pub occurred: usize,
    pub planned: usize,
    /// What a run of this length must have seen.
    pub needed: usize,
}

/// See the module.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    pub seed: u64,
    pub minutes: f64,
    pub build: &'static str,
    pub versions: BTreeMap<&'static str, String>,
    pub machine: BTreeMap<&'static str, String>,
    /// Everything that makes the run fail, in words; empty when it passed.
    pub failures: Vec<String>,
    pub promises: Vec<Promise>,
    pub orders_per_second_planned: u32,
    pub orders_per_second_held: f64,
    pub acknowledged: usize,
    pub sagas: usize,
    /// From the last fault until every customer was answered, and until every order was at its end.
    pub served_s: f64,
    pub healed_s: f64,
    pub calls_repeated: BTreeMap<String, usize>,
    /// How many orders of each kind came to which end.
    pub ends: BTreeMap<String, usize>,
    pub parked: Vec<String>,
    /// From acknowledgement to end of the plain orders, in milliseconds: half, 99 and 99.9 of a hundred.
    pub plain_ms: [i64; 3],
    pub faults: Vec<Faults>,
    pub kills: BTreeMap<String, usize>,
    /// From start to serving again after a kill, in milliseconds: half of them, and the longest.
    pub serving_ms: BTreeMap<String, [u64; 2]>,
    pub queues_back_ms: Vec<u64>,
    pub poison: BTreeMap<&'static str, usize>,
    pub audit: Option<amends::audit::Report>,
    /// Kind, target, beginning and end in seconds, note; those that did not occur say so.
    pub history: Vec<(plan::Kind, String, f64, f64, String)>,
    pub points: Vec<Point>,
}

impl Report {
    /// Whether the run shows what it is there for.
    #[must_use]
    pub const fn passed(&self) -> bool {
        self.failures.is_empty()
    }

    pub(super) async fn of(plan: &Plan, site: &Site, shop: &Shop, seen: Seen) -> Self {
        let mut connection = site.databases.reach(&orchestrator::SCHEMA).await.unwrap();
        let (ends, times, strange) = judge_ends(&mut connection, shop, &seen.faults).await;
        let parked = probes::parked(&mut connection).await.unwrap();
        let faults = count_faults(plan, &seen.faults);
        let machine = machine();
        let promises = promises(plan, &seen, shop, &machine);
        let mut failures = strange;
        failures.extend(failures_of(&seen, &faults, &ends, &promises));
        let [half, most, nearly_all] = [500, 990, 999].map(|part| part_of(&times, part).unwrap_or(0));
        Self {
            seed: plan.seed,
            minutes: plan.time.as_secs_f64() / 60.0,
            build: plan.build,
            versions: versions(site, &mut connection).await,
            machine,
            failures,
            promises,
            orders_per_second_planned: plan.per_second,
            orders_per_second_held: round(shop.acknowledged() as f64 / seen.sold_s),
            acknowledged: shop.acknowledged(),
            sagas: ends.values().sum(),
            served_s: round(seen.served_s),
            healed_s: round(seen.healed_s),
            calls_repeated: tally(shop.failed().into_iter().map(|text| short(&text))),
            ends,
            parked: parked.iter().map(|(why, n, one)| format!("{n} {why}, one is {one}")).collect(),
            plain_ms: [half, most, nearly_all],
            faults,
            kills: tally(
                seen.faults
                    .iter()
                    .filter(|f| f.occurred && f.kind == plan::Kind::Kill)
                    .map(|f| f.target.clone()),
            ),
            serving_ms: seen
                .measured
                .serving_ms
                .iter()
                .map(|(member, ms)| (member.to_string(), ends_of(ms)))
                .collect(),
            queues_back_ms: seen.measured.queues_back_ms.clone(),
            poison: BTreeMap::from([
                ("sent", seen.poison),
                ("dead", seen.dead.poison.len()),
                ("dead_more_than_once", seen.dead.poison.values().filter(|times| **times > 1).count()),
            ]),
            points: points(&seen.measured),
            audit: seen.audit.ok(),
            history: seen.faults.into_iter().map(history).collect(),
        }
    }
}

fn history(done: Done) -> (plan::Kind, String, f64, f64, String) {
    let note = if done.occurred { done.note } else { format!("did not occur: {}", done.note) };
    (done.kind, done.target, round(done.began_s), round(done.ended_s), note)
}

/// The ends by kind, the times of the plain orders in order, and what ended as its kind never may.
async fn judge_ends(
    connection: &mut PgConnection,
    shop: &Shop,
    faults: &[Done],
) -> (BTreeMap<String, usize>, Vec<i64>, Vec<String>) {
    let known = shop.known();
    let jumped = faults.iter().any(|fault| {
        matches!(fault.kind, plan::Kind::ClockAhead | plan::Kind::ClockBack)
            && fault.target.starts_with(Member::Orchestrator(1).service())
    });
    let (mut ends, mut times, mut strange) = (BTreeMap::new(), Vec::new(), Vec::new());
    for (order, status, reason, took) in probes::ends(connection).await.unwrap() {
        let order = types::OrderId::from_uuid(order).to_string();
        let Some(kind) = known.get(&order) else { continue };
        let end = match status.as_str() {
            "CANCELLED" => reason,
            other => other.to_owned(),
        };
        if *kind == Kind::Plain && (0..3_000_000).contains(&took) {
            times.push(took);
        }
        // A clock that jumps an hour passes the deadline of whatever it drives.
        let by_clock = jumped && end == "DEADLINE_EXCEEDED";
        if !kind.allows(&end) && !by_clock && strange.len() < 20 {
            strange.push(format!("{order}, {kind:?}, came to {end}"));
        }
        *ends.entry(format!("{kind:?} {end}")).or_default() += 1;
    }
    times.sort_unstable();
    (ends, times, strange)
}

fn count_faults(plan: &Plan, done: &[Done]) -> Vec<Faults> {
    plan::Kind::HOURLY
        .into_iter()
        .map(|(kind, _)| {
            let of_kind = done.iter().filter(|fault| fault.kind == kind);
            Faults {
                kind,
                words: kind.words(),
                occurred: of_kind.clone().filter(|fault| fault.occurred).count(),
                planned: of_kind.count(),
                // Five in an hour, and one in any run.
                needed: ((plan.time.as_secs_f64() / 720.0) as usize).clamp(1, 5),
            }
        })
        .collect()
}

/// Why the run fails, or is void.
fn failures_of(
    seen: &Seen,
    faults: &[Faults],
    ends: &BTreeMap<String, usize>,
    promises: &[Promise],
) -> Vec<String> {
    let mut failures = Vec::new();
    for fault in faults.iter().filter(|fault| fault.occurred < fault.needed) {
        failures.push(format!("void: {} occurred {} times of {}", fault.words, fault.occurred, fault.needed));
    }
    for kind in Kind::ALL {
        if !ends.contains_key(&format!("{kind:?} {}", kind.needed())) {
            failures.push(format!("void: no {kind:?} came to {}", kind.needed()));
        }
    }
    failures.extend((seen.shown == 0).then(|| "void: nobody was shown any goods".to_owned()));
    let missed = promises.iter().filter(|promise| promise.verdict == Verdict::Missed);
    failures.extend(missed.map(|p| format!("{}: {} instead of {}", p.promise, p.measured, p.target)));
    failures.extend(seen.fallen.iter().map(|fallen| format!("ended by itself: {fallen}")));
    failures.extend(seen.measured.queues_missing.iter().map(|queue| format!("{queue} never came back")));
    failures.extend(seen.dead.others.iter().take(20).map(|other| format!("dead: {other}")));
    match &seen.audit {
        Ok(audit) => failures.extend(audit.violations()),
        Err(why) => failures.push(why.clone()),
    }
    failures
}

/// What judges a promise about a time.
struct Judge {
    overloaded: bool,
}

impl Judge {
    fn of(plan: &Plan, machine: &BTreeMap<&'static str, String>) -> Self {
        let load: f64 = machine.get("load").and_then(|load| load.parse().ok()).unwrap_or(0.0);
        let cores = std::thread::available_parallelism().map_or(1, usize::from) as f64;
        Self { overloaded: plan.time < SHORT && load > cores * 1.5 }
    }

    fn in_time(&self, promise: &'static str, target_ms: u64, measured: Option<u64>, of: &str) -> Promise {
        let verdict = match measured {
            None => Verdict::Unmeasured,
            Some(ms) if ms <= target_ms => Verdict::Kept,
            Some(_) if self.overloaded => Verdict::Overloaded,
            Some(_) => Verdict::Missed,
        };
        let measured = measured.map_or_else(|| "nothing".to_owned(), |ms| format!("{} s", seconds(ms)));
        let measured = format!("{measured} ({of})");
        Promise { promise, target: format!("at most {} s", seconds(target_ms)), measured, verdict }
    }
}

impl Promise {
    /// Kept or missed.
    pub(super) fn exact(promise: &'static str, target: &str, measured: String, kept: bool) -> Self {
        let verdict = if kept { Verdict::Kept } else { Verdict::Missed };
        Self { promise, target: target.to_owned(), measured, verdict }
    }

    fn unmeasured(promise: &'static str, target: &str, why: &str) -> Self {
        Self { promise, target: target.to_owned(), measured: why.to_owned(), verdict: Verdict::Unmeasured }
    }
}

fn promises(plan: &Plan, seen: &Seen, shop: &Shop, machine: &BTreeMap<&'static str, String>) -> Vec<Promise> {
    let mut promises = vec![lost(seen, shop)];
    promises.extend(times(&Judge::of(plan, machine), seen));
    promises.push(Promise::exact(
        "every order at its end or parked after healing",
        &format!("within {} s", HEALED_WITHIN.as_secs()),
        format!("{:.1} s, {} open", seen.healed_s, seen.open.len()),
        seen.open.is_empty() && seen.healed_s <= HEALED_WITHIN.as_secs_f64() + 5.0,
    ));
    promises.push(match seen.probes.values().max() {
        Some(most) => {
            Promise::exact("probes of a half-open breaker at once", "at most 3", most.to_string(), *most <= 3)
        }
        None => Promise::unmeasured(
            "probes of a half-open breaker at once",
            "at most 3",
            "no breaker was seen half open",
        ),
    });
    let (dead, sent) = (seen.dead.poison.len(), seen.poison);
    promises.push(Promise::exact("poison messages dead", "all", format!("{dead} of {sent}"), dead >= sent));
    let total = |audit: &amends::audit::Report| audit.invariants.iter().map(|i| i.violations.total).sum();
    let violations: u64 = seen.audit.as_ref().map_or(1, total);
    promises.push(Promise::exact("violations", "0", violations.to_string(), violations == 0));
    promises.push(Promise::unmeasured(
        "retries added by an outage, and goodput after it",
        "at most 20 %, back within 120 s",
        "a run of its own: cargo xtask soak --outage",
    ));
    promises
}

fn lost(seen: &Seen, shop: &Shop) -> Promise {
    let judged = seen.audit.as_ref().ok().and_then(|audit| audit.judged(amends::audit::Invariant::I7));
    let lost = judged.map_or(1, |judged| judged.violations.total);
    Promise::exact("acknowledged orders lost", "0", format!("{lost} of {}", shop.acknowledged()), lost == 0)
}

fn times(judge: &Judge, seen: &Seen) -> [Promise; 4] {
    let (resumes, left_out) = resumes(seen);
    let returns = |is_database: bool| {
        let returned = seen.measured.returned.iter();
        let of_kind = returned.filter(|r| (r.what == "Postgres") == is_database && r.waited > 0);
        of_kind.map(|r| r.after_ms.unwrap_or(90_000)).collect::<Vec<_>>()
    };
    let (database, broker) = (returns(true), returns(false));
    let mut settled = seen.settled_ms.clone();
    settled.sort_unstable();
    let kills = seen.measured.resumed.len() - left_out;
    let of_resumes = format!(
        "{} sagas of {kills} kills; {left_out} kills left out, since another fault held everybody up then, and {} could \
         not be watched",
        resumes.len(),
        seen.measured.unmeasured
    );
    [
        judge.in_time(
            "a killed orchestrator's sagas move again, p99",
            15_000,
            part_of(&resumes, 990),
            &of_resumes,
        ),
        judge.in_time(
            "the backlog moves after Postgres returns, longest",
            30_000,
            database.iter().max().copied(),
            &format!("{} returns", database.len()),
        ),
        judge.in_time(
            "the backlog moves after RabbitMQ returns, longest",
            30_000,
            broker.iter().max().copied(),
            &format!("{} returns", broker.len()),
        ),
        judge.in_time(
            "what was open when healing began is settled, p99",
            60_000,
            part_of(&settled, 990).or(Some(0)),
            &format!("{} orders", settled.len()),
        ),
    ]
}

/// How long each saga of a killed orchestrator took to move, sorted; and the kills left out, because everybody was held up.
fn resumes(seen: &Seen) -> (Vec<u64>, usize) {
    let held_up = |resumed: &Resumed| {
        seen.faults.iter().any(|fault| {
            let reaches = fault.kind.holds_everybody()
                || (matches!(fault.kind, plan::Kind::Slow | plan::Kind::BlackHole)
                    && fault.target.starts_with("orchestrator"))
                || (matches!(fault.kind, plan::Kind::Kill | plan::Kind::Pause)
                    && fault.target.starts_with("orchestrator")
                    && fault.target != resumed.member.to_string());
            reaches && fault.began_s < resumed.until_s && fault.ended_s > resumed.at_s
        })
    };
    let (left_out, counted): (Vec<_>, Vec<_>) =
        seen.measured.resumed.iter().partition(|resumed| held_up(resumed));
    let mut all: Vec<u64> = counted.into_iter().flat_map(|resumed| resumed.after_ms.clone()).collect();
    all.sort_unstable();
    (all, left_out.len())
}

/// So many of a thousand are no larger.
fn part_of<T: Copy>(sorted: &[T], part: usize) -> Option<T> {
    sorted.get((sorted.len() * part / 1000).min(sorted.len().saturating_sub(1))).copied()
}

fn ends_of(ms: &[u64]) -> [u64; 2] {
    let mut sorted = ms.to_vec();
    sorted.sort_unstable();
    [part_of(&sorted, 500).unwrap_or(0), sorted.last().copied().unwrap_or(0)]
}

fn seconds(ms: u64) -> f64 {
    ms as f64 / 1000.0
}

fn round(value: f64) -> f64 {
    (value * 10.0).round() / 10.0
}

/// An error without what differs from one to the next.
fn short(text: &str) -> String {
    text.chars().take(60).collect()
}

fn points(measured: &Measured) -> Vec<Point> {
    let step = measured.samples.len().div_ceil(POINTS).max(1);
    let kept: Vec<_> = measured.samples.iter().step_by(step).collect();
    kept.windows(2)
        .map(|pair| {
            let (before, now) = (pair[0], pair[1]);
            let time = (now.at_s - before.at_s).max(0.001);
            let ended =
                |sample: &super::promises::Sample| Some(sample.acknowledged as f64 - sample.open? as f64);
            Point {
                at_s: now.at_s as u32,
                acknowledged: round((now.acknowledged - before.acknowledged) as f64 / time),
                ended: ended(now).zip(ended(before)).map(|(now, before)| round((now - before) / time)),
                open: now.open,
            }
        })
        .collect()
}

/// What is run, as git names it when first asked: at the beginning, since somebody may commit while it runs.
pub(super) static REVISION: LazyLock<String> = LazyLock::new(|| {
    let output = std::process::Command::new("git").args(["rev-parse", "--short", "HEAD"]).output().ok();
    let said = output.filter(|output| output.status.success());
    said.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned()).unwrap_or_default()
});

async fn versions(site: &Site, connection: &mut PgConnection) -> BTreeMap<&'static str, String> {
    let rabbit = site.broker.lock().await.evaluate("rabbit_misc:version().").await;
    let redis = redis_version(&site.redis.lock().await.url()).await;
    let unknown = || "unknown".to_owned();
    BTreeMap::from([
        ("amends", format!("{} {}", env!("CARGO_PKG_VERSION"), *REVISION)),
        ("Postgres", probes::version(connection).await.unwrap_or_else(|_| unknown())),
        (
            "RabbitMQ",
            rabbit.map_or_else(|_| unknown(), |text| text.split('"').nth(1).unwrap_or(&text).to_owned()),
        ),
        ("Redis", redis.unwrap_or_else(unknown)),
    ])
}

async fn redis_version(url: &str) -> Option<String> {
    let mut connection = redis::Client::open(url).ok()?.get_multiplexed_async_connection().await.ok()?;
    let text: String = redis::cmd("INFO").arg("server").query_async(&mut connection).await.ok()?;
    text.lines().find_map(|line| line.strip_prefix("redis_version:")).map(str::to_owned)
}

fn machine() -> BTreeMap<&'static str, String> {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let field = |text: &str, name: &str| {
        let line = text.lines().find(|line| line.starts_with(name));
        line.and_then(|line| line.split_once(':'))
            .map(|(_, value)| value.trim().to_owned())
            .unwrap_or_default()
    };
    BTreeMap::from([
        ("cores", std::thread::available_parallelism().map_or(0, usize::from).to_string()),
        ("processor", field(&read("/proc/cpuinfo"), "model name")),
        ("memory", field(&read("/proc/meminfo"), "MemTotal")),
        ("system", read("/proc/version").split_whitespace().take(3).collect::<Vec<_>>().join(" ")),
        ("load", read("/proc/loadavg").split_whitespace().nth(1).unwrap_or("0").to_owned()),
    ])
}
