//! Keeps this instance's lease and its shards: renews, takes, hands over.
//!
//! On two connections of its own, apart from the pool, so that overload never loses a lease. What to take and what to
//! hand over is decided by [`shard::plan`]; the driver is told before a shard is handed over and after one is taken.

use std::{
    collections::BTreeMap,
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
    listed: RwLock<Vec<Vec<String>>>,
    /// Somebody alive owns a shard, as far as the last look knows.
    driven: AtomicBool,
}

impl Owned {
    pub(crate) fn shards(&self) -> Vec<(i16, i64)> {
        self.shards.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn listed(&self) -> Vec<Vec<String>> {
        self.listed.read().unwrap_or_else(PoisonError::into_inner).clone()
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
    pub me: Uuid,
    /// Nobody else has this id: what it owned before a restart is its own at once.
    pub lone: bool,
    pub address: String,
    pub definitions: Vec<String>,
    pub lease: Duration,
    pub owned: Arc<Owned>,
    pub driver: mpsc::UnboundedSender<Input>,
    pub stop: Stop,
}

impl Keeper {
    /// Starts it.
    pub(crate) fn start(self) {
        let stop = self.stop.clone();
        stop.spawn(self.run());
    }

    /// Runs until the process stops; then hands everything over and leaves.
    async fn run(self) {
        let mut watch = Watch::default();
        let mut mine = BTreeMap::new();
        let mut connections = None;
        while !self.stop.is_wanted() {
            let began = Instant::now();
            if let Err(error) = self.round(&mut connections, &mut watch, &mut mine).await {
                tracing::warn!(%error, "the lease could not be renewed");
                self.owned.driven.store(false, Ordering::Relaxed);
                connections = None;
            }
            let rest = (self.lease / 10).saturating_sub(began.elapsed());
            self.stop.sleep(rest).await;
        }
        self.hand_all_over(connections, mine).await;
        let _ = self.driver.send(Input::Stop);
    }

    async fn connect(&self) -> sqlx::Result<(PgConnection, PgConnection)> {
        let first = PgConnection::connect_with(&self.options).await?;
        let second = PgConnection::connect_with(&self.options).await?;
        Ok((first, second))
    }

    async fn round(
        &self,
        connections: &mut Option<(PgConnection, PgConnection)>,
        watch: &mut Watch,
        mine: &mut BTreeMap<i16, i64>,
    ) -> sqlx::Result<()> {
        let (first, second) = match connections {
            Some(pair) => pair,
            None => connections.insert(self.connect().await?),
        };
        let look = shard::renew(first, self.me, &self.definitions, &self.address).await?;
        watch.observe(&look, Instant::now());
        self.drop_lost(&look, mine);
        let alive = |id: Uuid| watch.is_alive(id, self.lease);
        self.tell_listed(&look, alive);
        let held: Vec<i16> = mine.keys().copied().collect();
        let plan = shard::plan(self.me, &held, self.lone, &look, alive);
        self.take(first, second, &plan.take, mine).await?;
        if !plan.release.is_empty() {
            self.hand_over(first, &plan.release, mine).await?;
        }
        let others = look.shards.iter().filter_map(|row| row.owner).any(alive);
        self.owned.driven.store(others || !mine.is_empty(), Ordering::Relaxed);
        Ok(())
    }

    fn tell_listed(&self, look: &Look, alive: impl Fn(Uuid) -> bool) {
        let listed =
            look.instances.iter().filter(|(id, _)| alive(**id)).map(|(_, (_, list))| list.clone()).collect();
        *self.owned.listed.write().unwrap_or_else(PoisonError::into_inner) = listed;
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
        mine: &mut BTreeMap<i16, i64>,
    ) -> sqlx::Result<()> {
        for row in rows {
            let Some(epoch) = shard::acquire(first, second, row, self.me).await? else { continue };
            let died = row.owner.is_some() || !row.released;
            tracing::info!(shard = row.shard, epoch, died, "shard acquired");
            mine.insert(row.shard, epoch);
            let _ = self.driver.send(Input::Gained(vec![(row.shard, epoch, died)]));
            self.owned.set(mine);
        }
        Ok(())
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

    async fn hand_all_over(
        &self,
        connections: Option<(PgConnection, PgConnection)>,
        mut mine: BTreeMap<i16, i64>,
    ) {
        let Some((mut first, _)) = connections else { return };
        let shards: Vec<i16> = mine.keys().copied().collect();
        let over = async {
            self.hand_over(&mut first, &shards, &mut mine).await?;
            shard::leave(&mut first, self.me).await
        };
        if let Err(error) = over.await {
            tracing::warn!(%error, "could not hand the shards over; their lease will lapse");
        }
    }
}
