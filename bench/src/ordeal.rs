//! What an outage and a death cost: sagas that wait by the thousands, and how soon they go on.
//!
//! The participant that is away is the ledger, whose database takes none of its connections: money was charged already,
//! so nothing may be given up. Each ordeal ends with the auditor, as every run does.

use std::{path::Path, sync::Arc, time::Duration};

use anyhow::{Context as _, ensure};
use load::{
    Doors, Load, Pace,
    mix::{Draw, Mix, Spread},
};
use rustix::process::{Pid, Signal, kill_process};
use serde::Serialize;
use sqlx::{Connection as _, PgConnection};
use tokio::{task::JoinSet, time::Instant};

use crate::{
    meter,
    plan::{There, UNLIMITED, ensure_answered},
    store::{ensure_durable, ordeal as store},
    subject::{self, Books, Embedded},
};

/// For as long as it takes, no order is given up.
const PATIENT: [&str; 2] = ["--order-deadline", "2h"];

/// Orders that arrive while the others catch up, per second, and those before with which they are compared.
const FRESH: f64 = 50.0;

/// Orders in creation at once.
const CREATING: usize = 256;

/// Nothing takes longer.
const PATIENCE: Duration = Duration::from_secs(15 * 60);

/// What an outage came to.
#[derive(Debug, Clone, Serialize)]
pub struct Outage {
    /// That waited.
    pub orders: usize,
    /// For which the ledger was away.
    pub away_s: f64,
    /// Accepted, while it was away.
    pub created_per_second: f64,
    /// Resident memory of the process while all of them waited.
    pub waiting_mib: f64,
    /// Of a core, that the process worked meanwhile.
    pub waiting_cores: f64,
    /// From the return until the first of them went on: until the breaker asked again.
    pub went_on_s: f64,
    /// From then until the last of them was at its end.
    pub caught_up_s: f64,
    pub caught_up_per_second: f64,
    /// p99 of orders at 50/s, before the outage and while the others caught up, milliseconds.
    pub usual_p99_ms: f64,
    pub fresh_p99_ms: f64,
}

impl Outage {
    /// For people.
    #[must_use]
    pub fn line(&self) -> String {
        let Self {
            orders,
            away_s,
            created_per_second,
            waiting_mib,
            waiting_cores,
            went_on_s,
            caught_up_s,
            caught_up_per_second,
            usual_p99_ms,
            fresh_p99_ms,
        } = self;
        format!(
            "{orders} waited, the ledger was away for {away_s:.0} s: accepted at {created_per_second:.0}/s, {waiting_mib:.0} MiB and {waiting_cores:.2} of a core while \
             they waited, went on {went_on_s:.1} s after the return, caught up in {caught_up_s:.1} s \
             ({caught_up_per_second:.0}/s), fresh orders' p99 {fresh_p99_ms:.0} ms ({usual_p99_ms:.0} ms before)"
        )
    }
}

/// The ledger is away until so many orders wait for it and this time has passed, and comes back. Fresh orders come from the
/// moment on at which the first of those that waited goes on: what comes earlier waits for the breaker, as they do.
///
/// # Errors
/// When it cannot be run, or is void: a violation, an order that did not complete.
pub async fn outage(
    program: &Path,
    orders: usize,
    away: Duration,
    flags: &[String],
    say: impl Fn(&str),
) -> anyhow::Result<Outage> {
    ensure_some(orders)?;
    let (subject, doors, mut connection) = begin(program, flags).await?;
    let before = load::put(Arc::clone(&doors), fresh(Duration::from_secs(8)), ()).await;
    store::analyze(&mut connection).await?;
    store::shut(&mut connection).await?;
    let gone = Instant::now();
    say(&format!("the ledger is away; {orders} orders come"));
    let created_per_second = create(&doors, orders).await?;
    // Until those that were on their way have come as far as they can.
    tokio::time::sleep(Duration::from_secs(10)).await;
    let pid = subject.pids()?.subject.context("it has ended")?;
    let (worked, looked) = (meter::cpu_us(pid), Instant::now());
    tokio::time::sleep(Duration::from_secs(10)).await;
    let worked = meter::cpu_us(pid).unwrap_or_default() - worked.unwrap_or_default();
    let waiting_cores = worked as f64 / looked.elapsed().as_micros() as f64;
    let waiting = store::open_sagas(&mut connection).await?;
    ensure!(waiting >= orders as i64, "the run is void: {waiting} of {orders} wait");
    let waiting_mib = meter::resident_mib(pid).unwrap_or_default();
    let left = away.saturating_sub(gone.elapsed());
    say(&format!("{waiting} wait, with {waiting_mib:.0} MiB; the ledger comes back in {} s", left.as_secs()));
    tokio::time::sleep(left).await;
    let away_s = gone.elapsed().as_secs_f64();
    store::open(&mut connection).await?;
    let returned = Instant::now();
    while store::open_sagas(&mut connection).await? >= waiting {
        ensure!(returned.elapsed() < PATIENCE, "nothing went on within a quarter of an hour");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let went_on_s = returned.elapsed().as_secs_f64();
    let began = Instant::now();
    // About as long as it will take, at some 2,500 a second.
    let time = Duration::from_secs_f64((orders as f64 / 2_500.0).max(5.0));
    let beside = tokio::join!(
        load::put(Arc::clone(&doors), fresh(time), ()),
        until_all_ended(&subject.postgres, began),
    );
    let (meanwhile, caught_up_s) = (beside.0, beside.1?);
    [&before, &meanwhile].into_iter().try_for_each(ensure_answered)?;
    end_sold(subject, connection).await?;
    let p99 = |of: &load::Measured| of.latency.value_at_quantile(0.99) as f64 / 1000.0;
    Ok(Outage {
        orders,
        away_s,
        created_per_second,
        waiting_mib,
        waiting_cores,
        went_on_s,
        caught_up_s,
        caught_up_per_second: orders as f64 / caught_up_s,
        usual_p99_ms: p99(&before),
        fresh_p99_ms: p99(&meanwhile),
    })
}

/// What a death with many sagas in hand came to.
#[derive(Debug, Clone, Serialize)]
pub struct TakeOver {
    /// In hand when it died.
    pub orders: usize,
    /// From its start until the next one said that it was ready; 0 where another was ready before.
    pub ready_s: f64,
    /// From its start until it had the first and the last of them in hand. It waits for no lease: its data folder is its own.
    /// Where another was ready before: from the death, and it waited for the lease.
    pub first_s: f64,
    pub last_s: f64,
    /// From its start until all were at their end.
    pub ended_s: f64,
}

impl TakeOver {
    /// For people.
    #[must_use]
    pub fn line(&self) -> String {
        let Self { orders, ready_s, first_s, last_s, ended_s } = self;
        let next = match *ready_s {
            0.0 => "another lived on".to_owned(),
            ready_s => format!("the next one ready in {ready_s:.2} s"),
        };
        format!(
            "{orders} in hand at its end: {next}, the first taken over after {first_s:.2} s and the last {:.2} s later, all at \
             their end after {ended_s:.1} s",
            last_s - first_s
        )
    }
}

/// It is killed with so many sagas in hand, and started again.
///
/// # Errors
/// As [`outage`].
pub async fn take_over(
    program: &Path,
    orders: usize,
    flags: &[String],
    say: impl Fn(&str),
) -> anyhow::Result<TakeOver> {
    ensure_some(orders)?;
    let (subject, doors, mut connection) = begin(program, flags).await?;
    store::shut(&mut connection).await?;
    create(&doors, orders).await?;
    tokio::time::sleep(Duration::from_secs(5)).await;
    let data = subject.kill().await?;
    say(&format!("killed with {orders} sagas in hand"));
    store::open(&mut connection).await?;
    let killed = store::now(&mut connection).await?;
    let began = Instant::now();
    let subject = Embedded::start_in(data, program, &all(flags)).await?;
    let ready_s = began.elapsed().as_secs_f64();
    let ended_s = until_all_ended(&subject.postgres, began).await?;
    let (taken, first_s, last_s) = store::taken_over(&mut connection, killed).await?;
    ensure!(taken >= orders as i64, "the run is void: {taken} of {orders} were taken over");
    end_sold(subject, connection).await?;
    Ok(TakeOver { orders, ready_s, first_s, last_s, ended_s })
}

/// One of several orchestrators that serve already stands still with so many sagas in hand; the others have them next. It is
/// not killed, since whoever minds it would start it again, and then it takes what is its own at once. What waits for the
/// ledger's process, which is paused meanwhile, is in hand.
///
/// # Errors
/// As [`outage`].
pub async fn take_over_there(
    program: &Path,
    orders: usize,
    place: &There,
    (victim, ledger): (u32, u32),
    say: impl Fn(&str),
) -> anyhow::Result<TakeOver> {
    ensure_some(orders)?;
    ensure!(place.servers.len() == 1, "--server: one address, that of the orchestrator that stands still");
    let mut connection = PgConnection::connect(&place.postgres).await?;
    ensure_durable(&mut connection).await?;
    let doors = Arc::new(place.open().await?);
    let unsold = store::not_completed(&mut connection).await?;
    let paused = Paused::now(ledger)?;
    let created = create(&doors, orders).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let waiting = store::open_sagas(&mut connection).await;
    let killed = store::now(&mut connection).await;
    let began = Instant::now();
    let still = Paused::now(victim)?;
    drop(paused);
    created?;
    let waiting = waiting?;
    ensure!(waiting >= orders as i64, "the run is void: {waiting} of {orders} were in hand");
    say(&format!("it stands still with {waiting} sagas in hand"));
    let ended_s = until_all_ended(&place.postgres, began).await?;
    drop(still);
    let (taken, first_s, last_s) = store::taken_over(&mut connection, killed?).await?;
    ensure!(taken >= orders as i64, "the run is void: {taken} of {orders} were taken over");
    let unsold = store::not_completed(&mut connection).await? - unsold;
    ensure!(unsold == 0, "the run is void: {unsold} orders did not complete");
    subject::ensure_clean(subject::audit(program, Books::Named(&place.books)).await?)?;
    Ok(TakeOver { orders, ready_s: 0.0, first_s, last_s, ended_s })
}

/// A process that stands still until this is dropped.
struct Paused(Pid);

impl Paused {
    fn now(pid: u32) -> anyhow::Result<Self> {
        let id = i32::try_from(pid)
            .ok()
            .and_then(Pid::from_raw)
            .with_context(|| format!("{pid} is not a process"))?;
        kill_process(id, Signal::STOP).with_context(|| format!("process {pid} cannot be paused"))?;
        Ok(Self(id))
    }
}

impl Drop for Paused {
    fn drop(&mut self) {
        // It has ended.
        let _ = kill_process(self.0, Signal::CONT);
    }
}

/// As many as a data folder of some gigabytes holds.
const MOST: usize = 1_000_000;

/// # Errors
/// When there are none, or too many.
fn ensure_some(orders: usize) -> anyhow::Result<()> {
    ensure!((1..=MOST).contains(&orders), "--orders: 1 to {MOST}");
    Ok(())
}

fn all(flags: &[String]) -> Vec<String> {
    UNLIMITED.iter().chain(&PATIENT).map(|&flag| flag.to_owned()).chain(flags.iter().cloned()).collect()
}

const fn fresh(time: Duration) -> Load {
    let (mix, spread) = (Mix::Happy, Spread::Uniform);
    Load { pace: Pace::Open(FRESH), mix, spread, warm_up: Duration::ZERO, time, seed: 7 }
}

/// On an empty folder: the program, its doors, and its Postgres, which is durable.
pub(crate) async fn begin(
    program: &Path,
    flags: &[String],
) -> anyhow::Result<(Embedded, Arc<Doors>, PgConnection)> {
    let subject = Embedded::start(program, &all(flags)).await?;
    let doors = Arc::new(subject.doors().await?);
    let mut connection = PgConnection::connect(&subject.postgres).await?;
    ensure_durable(&mut connection).await?;
    Ok((subject, doors, connection))
}

/// Every order was sold, and the auditor finds nothing.
async fn end_sold(subject: Embedded, mut connection: PgConnection) -> anyhow::Result<()> {
    let unsold = store::not_completed(&mut connection).await?;
    ensure!(unsold == 0, "the run is void: {unsold} orders did not complete");
    subject.end().await
}

/// Orders for whose end nobody waits; how many a second were accepted.
async fn create(doors: &Arc<Doors>, orders: usize) -> anyhow::Result<f64> {
    let began = Instant::now();
    let mut creating = JoinSet::new();
    for n in 0..CREATING {
        let doors = Arc::clone(doors);
        let share = orders / CREATING + usize::from(n < orders % CREATING);
        creating.spawn(async move {
            let mut draw = Draw::new(Mix::Happy, Spread::Uniform, 1_000 + n as u64);
            for _ in 0..share {
                doors.accept(draw.order()).await?;
            }
            anyhow::Ok(())
        });
    }
    while let Some(done) = creating.join_next().await {
        done??;
    }
    Ok(orders as f64 / began.elapsed().as_secs_f64())
}

/// Seconds from `began` until no saga is open.
async fn until_all_ended(postgres: &str, began: Instant) -> anyhow::Result<f64> {
    let mut connection = PgConnection::connect(postgres).await?;
    let wait = async {
        while store::open_sagas(&mut connection).await? > 0 {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        anyhow::Ok(began.elapsed().as_secs_f64())
    };
    tokio::time::timeout(PATIENCE, wait).await.context("not all sagas ended within a quarter of an hour")?
}
