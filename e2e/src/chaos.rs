//! Orders of every kind over the stack while its processes are killed at random: what came of them, and how long it took.
//!
//! A run is void unless every kind of order was seen at the end that it is there for. Its report says what was done and
//! what was measured; the auditor has the last word.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::Duration,
};

use rand::{SeedableRng as _, rngs::StdRng, seq::SliceRandom as _};
use serde::Serialize;
use tokio::time::Instant;

use crate::{
    load::{Line, Pace, Shop},
    stack::{Member, Options, Ports, Stack},
};

/// The provider and everybody's patience, fast enough for a run of minutes.
pub const QUICK: [(&str, &str); 7] = [
    ("AMENDS_PAYMENT_HORIZON", "3s"),
    ("AMENDS_PAYMENT_PATIENCE", "600ms"),
    ("AMENDS_PAYMENT_CALL_TIMEOUT", "900ms"),
    ("AMENDS_PAYMENT_LOOK", "200ms"),
    ("AMENDS_SIMULATOR_SLOW", "2s"),
    ("AMENDS_ANSWER_AFTER", "5s"),
    ("AMENDS_RISK_REVIEW_DEADLINE", "15s"),
];

/// Every order is at its end this long after the last fault (five minutes).
const PROMISE: Duration = Duration::from_secs(300);

/// What a run does.
#[derive(Debug, Clone)]
pub struct Plan {
    /// How many orders are sent.
    pub orders: usize,
    /// Over this long.
    pub time: Duration,
    /// How often each process is killed.
    pub kills: usize,
    pub orchestrators: usize,
    /// Draws who is killed when.
    pub seed: u64,
    /// Show what the processes say.
    pub tail: bool,
    pub folder: PathBuf,
}

/// What came of it.
#[derive(Debug, Serialize)]
pub struct Report {
    pub seed: u64,
    pub orders: usize,
    /// Kills by process.
    pub kills: BTreeMap<String, usize>,
    /// From `kill -9` to serving again, in milliseconds: the median and the longest.
    pub back_ms: (u128, u128),
    /// How long orders were sent for, in seconds.
    pub sending_s: f64,
    /// From the last fault until every order was at its end, in seconds.
    pub healed_s: f64,
    /// Calls that failed and were sent again with the same key.
    pub calls_repeated: usize,
    /// From acknowledgement to end, in milliseconds, of orders that need nobody: median, 99 of 100, longest.
    pub plain_ms: (i64, i64, i64),
    /// How many orders of each kind came to each end.
    pub ends: BTreeMap<String, usize>,
    /// The auditor's violations.
    pub violations: Option<String>,
}

/// Runs it.
///
/// # Panics
/// When the run is void, or an order does not end in time, or as its kind never may.
pub async fn run(plan: Plan, say: impl Fn(&str)) -> Report {
    let environment = QUICK.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    let options = Options {
        orchestrators: plan.orchestrators,
        ports: Ports::Any,
        tail: plan.tail,
        environment,
        folder: plan.folder.clone(),
    };
    let mut stack = Stack::start(options).await;
    let line = Line::to(stack.doors());
    prepare(&line).await;
    say(&format!("{} processes serve; {} orders over {:?}", stack.members().len(), plan.orders, plan.time));
    let shop = Shop::at(&line);
    let began = Instant::now();
    let rate = u32::try_from(plan.orders as u128 * 1000 / plan.time.as_millis().max(1)).unwrap_or(u32::MAX);
    let selling = tokio::spawn({
        let (shop, orders) = (shop.clone(), plan.orders);
        async move { shop.sell(orders, Pace { places: 64, per_second: Some(rate.max(1)) }).await }
    });
    let mut back = unkind(&plan, &mut stack, &shop, &say).await;
    selling.await.unwrap();
    let sending_s = began.elapsed().as_secs_f64();
    let healing = Instant::now();
    say(&format!("{} orders acknowledged; waiting for their ends", shop.acknowledged()));
    let ends = shop.ends(PROMISE).await;
    let healed_s = healing.elapsed().as_secs_f64();
    let file = plan.folder.join("acknowledged.jsonl");
    shop.write_acknowledged(&file);
    say("every order is at its end; the auditor looks");
    let violations = stack.audit(Some(file)).await.err();
    let kills = stack.members().into_iter().map(|member| (member.to_string(), plan.kills)).collect();
    back.sort_unstable();
    let report = Report {
        seed: plan.seed,
        orders: shop.acknowledged(),
        kills,
        back_ms: (middle(&back), back.last().copied().unwrap_or_default()),
        sending_s,
        healed_s,
        calls_repeated: shop.failed().len(),
        plain_ms: shop.plain_times(),
        ends: ends.into_iter().map(|((kind, end), n)| (format!("{kind:?} {end}"), n)).collect(),
        violations,
    };
    stack.stop().await;
    report
}

/// The first calls may come before everything is warm.
async fn prepare(line: &Line) {
    crate::eventually("the load is prepared", || async {
        line.doors().prepare().await.map_err(|status| eprintln!("{status}")).ok()
    })
    .await;
}

fn middle(sorted: &[u128]) -> u128 {
    sorted.get(sorted.len() / 2).copied().unwrap_or_default()
}

/// Kills each process as often as planned, in a drawn order, spread over the orders; the times until each was back.
async fn unkind(plan: &Plan, stack: &mut Stack, shop: &Shop, say: &impl Fn(&str)) -> Vec<u128> {
    let mut random = StdRng::seed_from_u64(plan.seed);
    let mut victims: Vec<Member> = std::iter::repeat_n(stack.members(), plan.kills).flatten().collect();
    victims.shuffle(&mut random);
    let mut back = Vec::new();
    let all = victims.len();
    for (n, victim) in victims.into_iter().enumerate() {
        // One after another over the first nine tenths of the orders, so that each falls under load.
        let due = plan.orders * (n + 1) * 9 / (all + 1) / 10;
        crate::eventually_within(Duration::from_secs(600), "orders are on their way", || async {
            (shop.acknowledged() >= due).then_some(())
        })
        .await;
        say(&format!("{:>3} of {all}: kill -9 {victim}, {} orders acknowledged", n + 1, shop.acknowledged()));
        let at = Instant::now();
        stack.kill(victim).await;
        // Sometimes it stays away for a while.
        let away = if n % 3 == 0 { rand::RngExt::random_range(&mut random, 500..3000) } else { 0 };
        tokio::time::sleep(Duration::from_millis(away)).await;
        stack.restart(victim).await;
        back.push(at.elapsed().as_millis() - u128::from(away));
    }
    back
}

/// Writes it down.
pub fn write(report: &Report, file: &Path) {
    std::fs::create_dir_all(file.parent().unwrap()).unwrap();
    std::fs::write(file, serde_json::to_string_pretty(report).unwrap()).unwrap();
}
