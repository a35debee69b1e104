//! Keeps this instance's lease and its shards: renews, takes, hands over.
//!
//! On two connections of its own, apart from the pool, so that overload never loses a lease. What to take and what to
//! hand over is decided by [`shard::plan`]; the driver is told before a shard is handed over and after one is taken.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use chassis::stop::Stop;
use sqlx::{Connection as _, PgConnection, postgres::PgConnectOptions};
use tokio::{
    sync::{mpsc, oneshot},
    time::Instant,
};
use uuid::Uuid;

use crate::{
    driver::Input,
    metrics,
    shard::{self, Look, ShardRow, Watch},
};

/// What the doors may know: shards driven here, and what the living can drive.
#[derive(Debug, Default)]
pub(crate) struct Owned {
    /// Shard and epoch.
    shards: RwLock<Vec<(i16, i64)>>,
    /// The definitions that each living instance lists.
    listed: RwLock<Arc<Vec<Vec<String>>>>,
    /// Somebody alive owns a shard, as far as the last look knows.
    driven: AtomicBool,
}

impl Owned {
    pub(crate) fn shards(&self) -> Vec<(i16, i64)> {
        self.shards.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn listed(&self) -> Arc<Vec<Vec<String>>> {
        Arc::clone(&self.listed.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Whether orders that are accepted here are driven by somebody: here, or by another who is alive.
    pub(crate) fn is_driven(&self) -> bool {
        self.driven.load(Ordering::Relaxed)
    }

    fn set(&self, shards: &BTreeMap<i16, i64>) {
        metrics::shards(shards.len());
        *self.shards.write().unwrap_or_else(PoisonError::into_inner) =
            shards.iter().map(|(s, e)| (*s, *e)).collect();
    }
}

/// Keeps lease and shards.
pub(crate) struct Keeper {
    pub options: PgConnectOptions,
    /// Nobody else has this id.
    pub me: Uuid,
    pub address: String,
    pub definitions: Vec<String>,
    pub lease: Duration,
    pub owned: Arc<Owned>,
    pub driver: mpsc::UnboundedSender<Input>,
    /// Hand everything over, and stay out.
    pub leaving: Stop,
    pub stop: Stop,
}

/// What the keeper remembers from one look to the next.
#[derive(Default)]
struct Kept {
    watch: Watch,
    /// Driven here: shard and epoch.
    mine: BTreeMap<i16, i64>,
    /// Tried for by this process: a row that names us there is no death's.
    reached_for: BTreeSet<i16>,
}

/// A connection for what has to be done, and one for whoever is in its way.
type Pair = (PgConnection, PgConnection);

impl Keeper {
    /// Starts it.
    pub(crate) fn start(self) {
        let stop = self.stop.clone();
        stop.spawn(self.run());
    }

    /// Runs until the process leaves; then hands everything over. Calls under way go on being answered, so the driver
    /// stays until the process stops.
    async fn run(self) {
        let mut kept = Kept::default();
        let mut pair = None;
        while !self.is_leaving() {
            let began = Instant::now();
            if let Err(error) = self.look(&mut pair, &mut kept).await {
                tracing::warn!(%error, "the lease could not be renewed");
                self.owned.driven.store(false, Ordering::Relaxed);
                pair = None;
            }
            self.rest((self.lease / 10).saturating_sub(began.elapsed())).await;
        }
        self.hand_all_over(pair, kept.mine).await;
        self.stop.wanted().await;
        let _ = self.driver.send(Input::Stop);
    }

    fn is_leaving(&self) -> bool {
        self.leaving.is_wanted() || self.stop.is_wanted()
    }

    async fn rest(&self, time: Duration) {
        tokio::select! {
            () = self.leaving.wanted() => {}
            () = self.stop.wanted() => {}
            () = tokio::time::sleep(time) => {}
        }
    }

    /// One round. A network that swallows everything must not keep the lease loop: past its time the connections are
    /// dropped with whatever was under way on them, and what that came to is read in the next round.
    async fn look(&self, pair: &mut Option<Pair>, kept: &mut Kept) -> sqlx::Result<()> {
        let limit = (self.lease / 2).max(Duration::from_secs(2));
        in_time(limit, self.round(pair, kept)).await
    }

    async fn connect(&self) -> sqlx::Result<Pair> {
        let first = PgConnection::connect_with(&self.options).await?;
        let second = PgConnection::connect_with(&self.options).await?;
        Ok((first, second))
    }

    async fn round(&self, pair: &mut Option<Pair>, kept: &mut Kept) -> sqlx::Result<()> {
        let (first, second) = match pair {
            Some(pair) => pair,
            None => pair.insert(self.connect().await?),
        };
        let look = shard::renew(first, self.me, &self.definitions, &self.address).await?;
        kept.watch.observe(&look, Instant::now());
        self.drop_lost(&look, &mut kept.mine);
        let watch = &kept.watch;
        let alive = |id: Uuid| watch.is_alive(id, self.lease);
        self.tell_listed(&look, alive);
        let held: Vec<i16> = kept.mine.keys().copied().collect();
        let plan = shard::plan(self.me, &held, &look, alive);
        let gone = watch.gone(&look, self.lease);
        let others = look.shards.iter().filter_map(|row| row.owner).any(alive);
        self.take(first, second, &plan.take, kept).await?;
        if !plan.release.is_empty() {
            self.hand_over(first, &plan.release, &mut kept.mine).await?;
        }
        self.owned.driven.store(others || !kept.mine.is_empty(), Ordering::Relaxed);
        shard::bury(first, &gone).await
    }

    fn tell_listed(&self, look: &Look, alive: impl Fn(Uuid) -> bool) {
        let listed =
            look.instances.iter().filter(|(id, _)| alive(**id)).map(|(_, (_, list))| list.clone()).collect();
        *self.owned.listed.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(listed);
    }

    /// Shards whose epoch moved under us are somebody else's.
    fn drop_lost(&self, look: &Look, mine: &mut BTreeMap<i16, i64>) {
        let lost: Vec<i16> = look
            .shards
            .iter()
            .filter(|row| mine.get(&row.shard).is_some_and(|epoch| *epoch != row.epoch))
            .map(|row| row.shard)
            .collect();
        if lost.is_empty() {
            return;
        }
        tracing::warn!(shards = ?lost, "another instance took over");
        mine.retain(|shard, _| !lost.contains(shard));
        self.owned.set(mine);
        let _ = self.driver.send(Input::Lost(lost));
    }

    async fn take(
        &self,
        first: &mut PgConnection,
        second: &mut PgConnection,
        rows: &[ShardRow],
        kept: &mut Kept,
    ) -> sqlx::Result<()> {
        if rows.is_empty() {
            return Ok(());
        }
        let reached_before = kept.reached_for.clone();
        kept.reached_for.extend(rows.iter().map(|row| row.shard));
        let died = |row: &ShardRow| {
            let own = row.owner == Some(self.me) && reached_before.contains(&row.shard);
            !own && (row.owner.is_some() || !row.released)
        };
        let free: BTreeMap<i16, i64> = shard::acquire_free(first, rows, self.me).await?.into_iter().collect();
        let gained = rows.iter().filter_map(|row| Some((row.shard, *free.get(&row.shard)?, died(row))));
        self.gained(gained.collect(), &mut kept.mine);
        // Locked by a commit under way or by somebody who hangs, or another's by now.
        for row in rows.iter().filter(|row| !free.contains_key(&row.shard)) {
            if let Some(epoch) = shard::acquire(first, second, row, self.me).await? {
                self.gained(vec![(row.shard, epoch, died(row))], &mut kept.mine);
            }
        }
        Ok(())
    }

    /// Shard, epoch, and whether its last owner died.
    fn gained(&self, gained: Vec<(i16, i64, bool)>, mine: &mut BTreeMap<i16, i64>) {
        if gained.is_empty() {
            return;
        }
        for (shard, epoch, died) in &gained {
            tracing::info!(shard, epoch, died, "shard acquired");
            mine.insert(*shard, *epoch);
        }
        let _ = self.driver.send(Input::Gained(gained));
        self.owned.set(mine);
    }

    async fn hand_over(
        &self,
        connection: &mut PgConnection,
        shards: &[i16],
        mine: &mut BTreeMap<i16, i64>,
    ) -> sqlx::Result<()> {
        mine.retain(|shard, _| !shards.contains(shard));
        self.owned.set(mine);
        let (told, drained) = oneshot::channel();
        let _ = self.driver.send(Input::Drain(shards.to_vec(), told));
        // A commit that hangs must not hold the lease loop: the fence keeps what is released early safe.
        let _ = tokio::time::timeout(Duration::from_secs(3), drained).await;
        shard::release(connection, shards, self.me).await?;
        let _ = self.driver.send(Input::Lost(shards.to_vec()));
        tracing::info!(?shards, "shards handed over");
        Ok(())
    }

    async fn hand_all_over(&self, pair: Option<Pair>, mut mine: BTreeMap<i16, i64>) {
        let shards: Vec<i16> = mine.keys().copied().collect();
        let over = async {
            let mut first = match pair {
                Some((first, _)) => first,
                None => PgConnection::connect_with(&self.options).await?,
            };
            self.hand_over(&mut first, &shards, &mut mine).await?;
            shard::leave(&mut first, self.me).await
        };
        if let Err(error) = in_time(Duration::from_secs(5), over).await {
            tracing::warn!(%error, "could not hand the shards over; their lease will lapse");
        }
    }
}

/// Bounds what is done on a connection that is dropped when its time is up. Nothing of a pool may stand in here.
async fn in_time<T>(limit: Duration, work: impl Future<Output = sqlx::Result<T>>) -> sqlx::Result<T> {
    match tokio::time::timeout(limit, work).await {
        Ok(done) => done,
        Err(_) => Err(sqlx::Error::Io(std::io::ErrorKind::TimedOut.into())),
    }
}
