//! Keeps this instance's lease and its shards: renews, takes, hands over.
//!
//! On two connections of its own, apart from the pool, so that overload never loses a lease. What to take and what to
//! hand over is decided by [`shard::plan`]; the driver is told before a shard is handed over and after one is taken. What
//! was gained counts, whatever becomes of the rest of a round; only a lease that is not renewed may be lost.

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
    shard::{self, Look, Plan, Reach, Reached, ShardRow, Watch},
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
    reach: Reach,
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
            pair = self.look(pair, &mut kept).await;
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
    /// dropped with whatever was under way on them, and what that came to is read in the next round. The connections, if
    /// they are good for it.
    async fn look(&self, pair: Option<Pair>, kept: &mut Kept) -> Option<Pair> {
        let until = Instant::now() + (self.lease / 2).max(Duration::from_secs(2));
        let (mut pair, look) = match in_time(until, self.renew(pair)).await {
            Ok(renewed) => renewed,
            Err(error) => {
                tracing::warn!(%error, "the lease could not be renewed");
                self.owned.driven.store(false, Ordering::Relaxed);
                kept.reach.look_away();
                return None;
            }
        };
        kept.watch.observe(&look, Instant::now());
        self.drop_lost(&look, &mut kept.mine);
        let followed = in_time(until, self.follow(&mut pair, &look, kept)).await;
        let owners = || look.shards.iter().filter_map(|row| row.owner);
        let is_driven = !kept.mine.is_empty() || owners().any(|id| kept.watch.is_alive(id, self.lease));
        self.owned.driven.store(is_driven, Ordering::Relaxed);
        match followed {
            Ok(()) => Some(pair),
            Err(error) => {
                tracing::warn!(%error, "the lease is renewed, but what follows from it was not all done");
                None
            }
        }
    }

    async fn connect(&self) -> sqlx::Result<Pair> {
        let first = PgConnection::connect_with(&self.options).await?;
        let second = PgConnection::connect_with(&self.options).await?;
        Ok((first, second))
    }

    async fn renew(&self, pair: Option<Pair>) -> sqlx::Result<(Pair, Look)> {
        let mut pair = match pair {
            Some(pair) => pair,
            None => self.connect().await?,
        };
        let look = shard::renew(&mut pair.0, self.me, &self.definitions, &self.address).await?;
        Ok((pair, look))
    }

    /// Does what follows from a look. What may wait for somebody comes last.
    async fn follow(&self, pair: &mut Pair, look: &Look, kept: &mut Kept) -> sqlx::Result<()> {
        let watch = &kept.watch;
        let alive = |id: Uuid| watch.is_alive(id, self.lease);
        self.tell_listed(look, alive);
        let held: Vec<i16> = kept.mine.keys().copied().collect();
        let Plan { take, release } = shard::plan(self.me, &held, look, alive);
        let gone = watch.gone(look, self.lease);
        let alone = self.take_free(&mut pair.0, take, kept).await?;
        if !release.is_empty() {
            unless_refused(self.hand_over(&mut pair.0, &release, &mut kept.mine).await)?;
        }
        unless_refused(shard::bury(&mut pair.0, &gone).await)?;
        self.take_alone(pair, alone, kept).await
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

    /// Takes what nobody keeps locked. What is to be taken alone.
    async fn take_free(
        &self,
        first: &mut PgConnection,
        rows: Vec<ShardRow>,
        kept: &mut Kept,
    ) -> sqlx::Result<Vec<ShardRow>> {
        if rows.is_empty() {
            return Ok(kept.reach.miss_all(Vec::new()));
        }
        let reached: Vec<Reached> = rows.iter().map(|row| kept.reach.out(self.me, row.clone())).collect();
        let free: BTreeMap<i16, i64> =
            shard::acquire_free(first, &rows, self.me).await?.into_iter().collect();
        let gained =
            reached.iter().filter_map(|one| Some((one.row.shard, *free.get(&one.row.shard)?, one.died)));
        self.gained(gained.collect(), &mut kept.mine);
        // Locked by a commit under way or by somebody who hangs, or another's by now.
        let missed = reached.into_iter().filter(|one| !free.contains_key(&one.row.shard));
        Ok(kept.reach.miss_all(missed.collect()))
    }

    async fn take_alone(&self, pair: &mut Pair, rows: Vec<ShardRow>, kept: &mut Kept) -> sqlx::Result<()> {
        for row in rows {
            let one = kept.reach.out(self.me, row);
            match shard::acquire(&mut pair.0, &mut pair.1, &one.row, self.me).await {
                Ok(Some(epoch)) => self.gained(vec![(one.row.shard, epoch, one.died)], &mut kept.mine),
                Ok(None) => kept.reach.miss(&one),
                Err(error) if shard::is_refusal(&error) => {
                    tracing::warn!(shard = one.row.shard, %error, "a locked shard could not be taken");
                    kept.reach.miss(&one);
                }
                Err(error) => return Err(error),
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
        self.owned.driven.store(true, Ordering::Relaxed);
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
        if let Err(error) = in_time(Instant::now() + Duration::from_secs(5), over).await {
            tracing::warn!(%error, "could not hand the shards over; their lease will lapse");
        }
    }
}

/// Bounds what is done on a connection that is dropped when its time is up. Nothing of a pool may stand in here.
async fn in_time<T>(until: Instant, work: impl Future<Output = sqlx::Result<T>>) -> sqlx::Result<T> {
    match tokio::time::timeout_at(until, work).await {
        Ok(done) => done,
        Err(_) => Err(sqlx::Error::Io(std::io::ErrorKind::TimedOut.into())),
    }
}

/// What the database refuses is tried again in the next round, and keeps nothing else from being done in this one.
fn unless_refused(done: sqlx::Result<()>) -> sqlx::Result<()> {
    match done {
        Err(error) if shard::is_refusal(&error) => {
            tracing::warn!(%error, "the database refused a part of the round");
            Ok(())
        }
        done => done,
    }
}
