//! Connections that stay at hand between the batches of busy commands, the last one used first.
//!
//! A pool asks a connection for a sign of life each time it is given back, and hands out the one that rested longest: two
//! exchanges for each batch, and a server process that has forgotten what it was about. A connection of which all is known
//! may skip that. Few are kept, and none that rested for long.
//!
//! They are of a pool of their own, whose statements keep the plan that they have: for a slice of one row Postgres would
//! plan each of them anew each time, since a plan for one looks cheaper than one for any number, and that costs more than
//! running it. What people ask, with filters that may be empty, is better off on the other pool.

use std::{
    ops::{Deref, DerefMut},
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use sqlx::{Connection as _, PgConnection, PgPool, Postgres, pool::PoolConnection};
use tokio::{runtime::Handle, time::Instant};

use super::{Trouble, acquire, bound::is_trusted};

/// A connection that rested for longer goes back to its pool.
const COLD: Duration = Duration::from_millis(500);

/// How the statements of busy commands are planned, once for all. A plan that was made while a table was small must not read
/// all of one of its keys when it has grown: by these prices a few rows are looked up one by one as soon as there are more
/// than a few. What busy commands touch is in memory.
pub const PLANNING: [(&str, &str); 4] = [
    ("plan_cache_mode", "force_generic_plan"),
    ("cpu_index_tuple_cost", "0.5"),
    ("random_page_cost", "0.1"),
    ("seq_page_cost", "0.1"),
];

/// A pool for busy commands, and what is kept at hand of it. Cheap to clone; clones share what is kept.
#[derive(Debug, Clone)]
pub struct Warm {
    pool: PgPool,
    kept: Arc<Kept>,
}

#[derive(Debug)]
struct Kept {
    most: usize,
    at_hand: Mutex<AtHand>,
}

#[derive(Debug, Default)]
struct AtHand {
    /// With the time since which they are ours, and since which they rest.
    stack: Vec<(PoolConnection<Postgres>, Instant, Instant)>,
    /// Somebody looks after those that rest.
    is_looked_after: bool,
}

impl Kept {
    fn lock(&self) -> MutexGuard<'_, AtHand> {
        self.at_hand.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn keep(self: &Arc<Self>, connection: PoolConnection<Postgres>, since: Instant) {
        let Ok(runtime) = Handle::try_current() else { return };
        let mut at_hand = self.lock();
        if at_hand.stack.len() < self.most {
            at_hand.stack.push((connection, since, Instant::now()));
            if !std::mem::replace(&mut at_hand.is_looked_after, true) {
                // Not on any tracker, since nothing is lost with it: it only sleeps, and ends with what it looks after.
                runtime.spawn(look_after(Arc::downgrade(self)));
            }
        }
    }

    /// Gives back those that rested for too long; whether any are left.
    fn give_back_the_cold(&self) -> bool {
        let mut at_hand = self.lock();
        let (warm, cold): (Vec<_>, Vec<_>) =
            std::mem::take(&mut at_hand.stack).into_iter().partition(|(.., rests)| rests.elapsed() < COLD);
        at_hand.stack = warm;
        at_hand.is_looked_after = !at_hand.stack.is_empty();
        let go_on = at_hand.is_looked_after;
        // They go when the lock is free: going back is work for the pool.
        drop(at_hand);
        drop(cold);
        go_on
    }
}

/// For as long as any rest.
async fn look_after(kept: Weak<Kept>) {
    loop {
        tokio::time::sleep(COLD).await;
        if !kept.upgrade().is_some_and(|kept| kept.give_back_the_cold()) {
            return;
        }
    }
}

impl Warm {
    /// Half as large as the other pool of the same database, with the same settings; half of it may be kept at hand.
    #[must_use]
    pub fn new(of: &PgPool) -> Self {
        let size = of.options().get_max_connections().div_ceil(2).max(1);
        let options = of.options().clone().max_connections(size).min_connections(0);
        let connect = (*of.connect_options()).clone().options(PLANNING);
        let pool = options.connect_lazy_with(connect);
        let most = size as usize / 2;
        Self { pool, kept: Arc::new(Kept { most, at_hand: Mutex::default() }) }
    }

    /// A connection: one at hand, or one of the pool.
    ///
    /// # Errors
    /// As [`acquire`].
    pub async fn connection(&self) -> Result<Held, Trouble> {
        let kept = Arc::clone(&self.kept);
        let (connection, since) = match self.at_hand() {
            Some(found) => found,
            None => (acquire(&self.pool).await?, Instant::now()),
        };
        Ok(Held { connection: Some(connection), since, kept })
    }

    fn at_hand(&self) -> Option<(PoolConnection<Postgres>, Instant)> {
        let (connection, since, rests) = self.kept.lock().stack.pop()?;
        (rests.elapsed() < COLD && is_trusted(since.elapsed())).then_some((connection, since))
    }
}

impl Deref for Warm {
    type Target = PgPool;

    fn deref(&self) -> &PgPool {
        &self.pool
    }
}

/// A connection in use; kept at hand when it is dropped in a state that is known, given back to its pool otherwise.
#[derive(Debug)]
pub struct Held {
    /// None only while it is dropped.
    connection: Option<PoolConnection<Postgres>>,
    since: Instant,
    kept: Arc<Kept>,
}

impl Deref for Held {
    type Target = PgConnection;

    #[expect(clippy::expect_used, reason = "it is there until it is dropped")]
    fn deref(&self) -> &PgConnection {
        self.connection.as_deref().expect("a connection in use")
    }
}

impl DerefMut for Held {
    #[expect(clippy::expect_used, reason = "it is there until it is dropped")]
    fn deref_mut(&mut self) -> &mut PgConnection {
        self.connection.as_deref_mut().expect("a connection in use")
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let Some(connection) = self.connection.take() else { return };
        // A transaction that was given up waits to be rolled back: the pool sends what waits.
        let is_known = !connection.is_in_transaction() && !connection.should_flush();
        if is_known && is_trusted(self.since.elapsed()) && !std::thread::panicking() {
            self.kept.keep(connection, self.since);
        }
    }
}
