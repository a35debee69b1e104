//! The soak: every service a process on Postgres, RabbitMQ and Redis of its own, open-loop load of every kind of order, and
//! faults of every kind drawn from a seed; then everything is whole again, every order comes to its end, and the auditor
//! reads all that was written. What was promised is measured meanwhile.
//!
//! A run is void unless every kind of fault and every kind of order was seen. Read next: `soak/plan.rs` (what is broken
//! when), `soak/faults.rs` (how), `soak/promises.rs` (what is measured), `soak/report.rs`.

mod browsing;
mod faults;
pub mod outage;
mod page;
mod plan;
mod probes;
mod promises;
mod queues;
mod report;
mod scrape;
mod site;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use tokio::{
    sync::{Mutex, watch},
    task::{JoinHandle, JoinSet},
    time::Instant,
};

pub use self::plan::Kind as FaultKind;
use self::plan::draw;
pub use self::report::Report;
use self::{
    faults::{Done, Vandal},
    promises::Watch,
    queues::{Broker, Dead},
    scrape::Scrape,
    site::Site,
};
use crate::load::{Line, Pace, Shop};

/// The provider and everybody's patience, fast enough for a run of minutes. What the promises are about stays as it is.
pub const QUICK: [(&str, &str); 7] = [
    ("AMENDS_PAYMENT_HORIZON", "3s"),
    ("AMENDS_PAYMENT_PATIENCE", "600ms"),
    ("AMENDS_PAYMENT_CALL_TIMEOUT", "900ms"),
    ("AMENDS_PAYMENT_LOOK", "200ms"),
    ("AMENDS_SIMULATOR_SLOW", "2s"),
    ("AMENDS_ANSWER_AFTER", "5s"),
    ("AMENDS_RISK_REVIEW_DEADLINE", "15s"),
];

/// Every order is at its end, or parked, this long after the last fault.
pub(crate) const HEALED_WITHIN: Duration = Duration::from_secs(300);

const ORCHESTRATORS: usize = 2;

/// What a run does.
#[derive(Debug, Clone)]
pub struct Plan {
    /// How long things break.
    pub time: Duration,
    pub per_second: u32,
    /// Draws what breaks when.
    pub seed: u64,
    /// Where what the processes say is written.
    pub logs: PathBuf,
    pub build: &'static str,
}

/// Runs it.
///
/// # Panics
/// When the stack does not start, or one key is answered with two orders.
pub async fn run(plan: &Plan, say: impl Fn(&str)) -> Report {
    std::sync::LazyLock::force(&report::REVISION);
    let site = Arc::new(Site::start(ORCHESTRATORS, &QUICK, &plan.logs).await);
    let line = Line::to(site.doors());
    prepare(&line).await;
    let shop = Shop::at(&line);
    let watch = Watch::over(&site.databases, &shop);
    let vandal = Arc::new(Vandal {
        site: Arc::clone(&site),
        watch: Arc::clone(&watch),
        poison: Mutex::default(),
        fallen: Mutex::default(),
    });
    say(&format!("{} processes serve behind {} proxies", site.posts.len(), site.wires.len()));
    let (stop, stopped) = watch::channel(false);
    watch.sample(stopped.clone());
    let browsing = browsing::begin(&line, stopped.clone());
    let scrape = Scrape::start(&site, stopped);
    let selling = sell(&shop, plan);
    let faults = break_things(plan, &vandal, &shop, &say).await;
    let (sold_s, acknowledged) = (watch.elapsed(), shop.acknowledged());
    say(&format!("{acknowledged} orders acknowledged; everything heals"));
    site.mend();
    let healing = Instant::now();
    selling.await.expect("every customer was served");
    let served_s = healing.elapsed().as_secs_f64();
    let (settled_ms, open) = watch.until_ended(HEALED_WITHIN).await;
    let healed_s = healing.elapsed().as_secs_f64();
    say(&format!("healed in {healed_s:.1} s, {} orders open; the auditor looks", open.len()));
    stop.send_replace(true);
    let dead = read_dead(&site, &vandal).await;
    let audit = audit(&site, &shop, &plan.logs).await;
    let fallen = fallen(&site, &vandal).await;
    let seen = report::Seen {
        sold_s,
        served_s,
        healed_s,
        settled_ms,
        open,
        faults,
        dead,
        poison: vandal.poison.lock().await.len(),
        fallen,
        shown: browsing.await.expect("whoever looks does not fall"),
        audit,
        probes: scrape.probes(),
        measured: watch.done().await,
    };
    let report = Report::of(plan, &site, &shop, seen).await;
    drop((vandal, watch, scrape));
    Arc::into_inner(site).expect("nobody else holds it any more").stop().await;
    report
}

/// Writes the report and its page into a folder.
pub fn write(report: &Report, folder: &Path) {
    std::fs::create_dir_all(folder).unwrap();
    std::fs::write(folder.join("soak.json"), serde_json::to_string(report).unwrap()).unwrap();
    std::fs::write(folder.join("soak.html"), page::of(report)).unwrap();
}

/// The first calls may come before everything is warm.
pub(crate) async fn prepare(line: &Line) {
    crate::eventually("the load is prepared", || async {
        line.doors().prepare().await.map_err(|status| eprintln!("{status}")).ok()
    })
    .await;
}

/// Sends orders at a constant rate, whatever becomes of those before.
fn sell(shop: &Shop, plan: &Plan) -> JoinHandle<()> {
    let (shop, time, per_second) = (shop.clone(), plan.time, plan.per_second);
    tokio::spawn(async move {
        let pace = Pace { places: usize::MAX >> 4, per_second: Some(per_second) };
        shop.sell_until(usize::MAX, pace, tokio::time::sleep(time)).await;
    })
}

/// Inflicts what was drawn; returns when all of it is over.
async fn break_things(plan: &Plan, vandal: &Arc<Vandal>, shop: &Shop, say: &impl Fn(&str)) -> Vec<Done> {
    let drawn = draw(plan.seed, plan.time, ORCHESTRATORS);
    let (began, all) = (Instant::now(), drawn.len());
    let mut under_way = JoinSet::new();
    let mut done = Vec::new();
    let tell = |one: Done, done: &mut Vec<Done>| {
        let failed = if one.occurred { "" } else { "  DID NOT OCCUR" };
        say(&format!(
            "{:>6.1} to {:>6.1} s  {} of {all}: {}: {} {}{failed}  ({} orders)",
            one.began_s,
            one.ended_s,
            done.len() + 1,
            one.kind.words(),
            one.target,
            one.note,
            shop.acknowledged()
        ));
        done.push(one);
    };
    for (turn, fault) in drawn.into_iter().enumerate() {
        let due = tokio::time::sleep_until(began + fault.at);
        tokio::pin!(due);
        loop {
            tokio::select! {
                () = &mut due => break,
                Some(one) = under_way.join_next() => tell(one.unwrap(), &mut done),
            }
        }
        let vandal = Arc::clone(vandal);
        under_way.spawn(async move { vandal.inflict(fault, turn).await });
    }
    while let Some(one) = under_way.join_next().await {
        tell(one.unwrap(), &mut done);
    }
    let left = plan.time.saturating_sub(began.elapsed());
    tokio::time::sleep(left).await;
    done.sort_by(|a, b| a.began_s.total_cmp(&b.began_s));
    done
}

/// What lies in the dead queues, once all poison has had the time to get there.
async fn read_dead(site: &Site, vandal: &Vandal) -> Dead {
    let broker = Broker::reach(&site.broker_url, site.databases.prefix()).await.unwrap();
    let sent = vandal.poison.lock().await.len();
    let mut all = Dead::default();
    let until = Instant::now() + Duration::from_secs(30);
    while Instant::now() < until {
        let found = broker.dead().await.unwrap();
        for (name, times) in found.poison {
            *all.poison.entry(name).or_default() += times;
        }
        all.others.extend(found.others);
        if all.poison.len() >= sent {
            break;
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    all
}

async fn audit(site: &Site, shop: &Shop, folder: &Path) -> Result<amends::audit::Report, String> {
    let file = folder.join("acknowledged.jsonl");
    shop.write_acknowledged(&file);
    site.databases.examine(Some(file), Duration::from_secs(60)).await
}

/// Processes that ended without anybody having killed them.
async fn fallen(site: &Site, vandal: &Vandal) -> Vec<String> {
    let mut fallen = vandal.fallen.lock().await.clone();
    for (member, post) in &site.posts {
        if let Some(how) = post.process.lock().await.as_mut().and_then(crate::process::Process::ended) {
            fallen.push(format!("{member}: {how}"));
        }
    }
    fallen
}

/// `count` by what is counted.
fn tally<T: Ord>(of: impl IntoIterator<Item = T>) -> BTreeMap<T, usize> {
    let mut tally = BTreeMap::new();
    for one in of {
        *tally.entry(one).or_default() += 1;
    }
    tally
}
