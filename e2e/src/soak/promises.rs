//! Measures what was promised, while things break: it looks at the orchestrators' database past all proxies, and by its own
//! clock, because those of the services jump.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use sqlx::PgConnection;
use tokio::{sync::watch, task::JoinSet, time::Instant};
use uuid::Uuid;

use super::probes;
use crate::{
    load::{Kind, Shop},
    stack::{Databases, Member},
};

/// How often it looks.
const LOOK: Duration = Duration::from_millis(200);

/// What has not moved by then is counted as that late.
const LATEST: Duration = Duration::from_secs(90);

/// A death of an orchestrator with work in hand.
#[derive(Debug, Clone)]
pub(super) struct Resumed {
    pub(super) member: Member,
    pub(super) at_s: f64,
    pub(super) until_s: f64,
    /// By saga, in milliseconds.
    pub(super) after_ms: Vec<u64>,
}

/// What was away, and how long after its return what waited for it moved.
#[derive(Debug, Clone)]
pub(super) struct Returned {
    pub(super) what: &'static str,
    /// How much waited.
    pub(super) waited: usize,
    pub(super) after_ms: Option<u64>,
}

/// The load at a moment.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sample {
    pub(super) at_s: f64,
    pub(super) acknowledged: usize,
    /// Not at their end: none while the database is away.
    pub(super) open: Option<usize>,
}

/// What was measured.
#[derive(Debug, Default)]
pub(super) struct Measured {
    pub(super) resumed: Vec<Resumed>,
    pub(super) returned: Vec<Returned>,
    pub(super) queues_back_ms: Vec<u64>,
    pub(super) queues_missing: Vec<String>,
    /// From start to serving, by member.
    pub(super) serving_ms: BTreeMap<Member, Vec<u64>>,
    pub(super) samples: Vec<Sample>,
    /// Deaths of orchestrators that could not be measured, because the database was away.
    pub(super) unmeasured: usize,
}

/// See the module.
pub(super) struct Watch {
    databases: Databases,
    shop: Shop,
    began: Instant,
    measured: Mutex<Measured>,
    measuring: Mutex<JoinSet<()>>,
}

impl Watch {
    #[must_use]
    pub(super) fn over(databases: &Databases, shop: &Shop) -> Arc<Self> {
        Arc::new(Self {
            databases: databases.clone(),
            shop: shop.clone(),
            began: Instant::now(),
            measured: Mutex::default(),
            measuring: Mutex::default(),
        })
    }

    /// Seconds since the run began.
    #[must_use]
    pub(super) fn elapsed(&self) -> f64 {
        self.began.elapsed().as_secs_f64()
    }

    fn note(&self, what: impl FnOnce(&mut Measured)) {
        what(&mut self.measured.lock().unwrap_or_else(PoisonError::into_inner));
    }

    fn measure(&self, work: impl Future<Output = ()> + Send + 'static) {
        self.measuring.lock().unwrap_or_else(PoisonError::into_inner).spawn(work);
    }

    /// Everything that was measured, when it is.
    pub(super) async fn done(&self) -> Measured {
        let mut open = std::mem::take(&mut *self.measuring.lock().unwrap_or_else(PoisonError::into_inner));
        while let Some(done) = open.join_next().await {
            done.unwrap();
        }
        std::mem::take(&mut *self.measured.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// A connection, if the database is there.
    async fn connect(&self) -> Option<PgConnection> {
        tokio::time::timeout(Duration::from_secs(2), self.databases.reach(&orchestrator::SCHEMA))
            .await
            .ok()?
            .ok()
    }

    /// How many sagas are open, if the database can be asked.
    pub(super) async fn open(&self) -> Option<usize> {
        let mut connection = self.connect().await?;
        probes::open_and_parked(&mut connection).await.ok().map(|(open, _)| open)
    }

    pub(super) fn serves_again(&self, member: Member, after: Duration) {
        self.note(|measured| measured.serving_ms.entry(member).or_default().push(ms(after)));
    }

    pub(super) fn queue_returned(&self, after: Duration) {
        self.note(|measured| measured.queues_back_ms.push(ms(after)));
    }

    pub(super) fn queue_missing(&self, queue: &str) {
        self.note(|measured| measured.queues_missing.push(queue.to_owned()));
    }

    /// An orchestrator was killed a moment ago: how long until each saga that it had in hand moves again?
    pub(super) fn orchestrator_died(self: &Arc<Self>, member: Member, address: &str) {
        let (this, address) = (Arc::clone(self), address.to_owned());
        self.measure(async move {
            let (died, at_s) = (Instant::now(), this.elapsed());
            let Some(in_hand) = this.in_hand(&address).await else {
                return this.note(|measured| measured.unmeasured += 1);
            };
            let after_ms = this.until_moved(in_hand, died).await;
            let until_s = this.elapsed();
            this.note(|measured| measured.resumed.push(Resumed { member, at_s, until_s, after_ms }));
        });
    }

    /// The sagas of an address that have work in hand, and their versions. Those only that wait for nobody outside: a
    /// provider that takes its time would be counted as ours.
    async fn in_hand(&self, address: &str) -> Option<Vec<(Uuid, i64)>> {
        let mut connection = self.connect().await?;
        let rows = probes::in_hand(&mut connection, address).await.ok()?;
        let known = self.shop.known();
        let needs_nobody = |saga: &Uuid| {
            let order = types::OrderId::from_uuid(*saga).to_string();
            known.get(&order).is_some_and(|kind| {
                matches!(kind, Kind::Plain | Kind::Declined | Kind::WithoutFunds | Kind::AccountClosed)
            })
        };
        Some(rows.into_iter().filter(|(saga, _)| needs_nobody(saga)).collect())
    }

    async fn until_moved(&self, mut waiting: Vec<(Uuid, i64)>, since: Instant) -> Vec<u64> {
        let mut after_ms = Vec::new();
        let mut connection = None;
        while !waiting.is_empty() && since.elapsed() < LATEST {
            tokio::time::sleep(LOOK).await;
            if connection.is_none() {
                connection = self.connect().await;
            }
            let Some(open) = &mut connection else { continue };
            match probes::moved(open, &waiting).await {
                Ok(moved) => {
                    after_ms.extend(moved.iter().map(|_| ms(since.elapsed())));
                    waiting.retain(|(saga, _)| !moved.contains(saga));
                }
                Err(_) => connection = None,
            }
        }
        after_ms.extend(waiting.iter().map(|_| ms(LATEST)));
        after_ms
    }

    /// Postgres serves again: how long until the first of the orders that waited is at its end?
    pub(super) fn database_returned(self: &Arc<Self>) {
        self.returned(
            "Postgres",
            |connection| Box::pin(probes::open_sagas(connection)),
            |connection, ids| Box::pin(probes::any_ended(connection, ids)),
        );
    }

    /// The broker takes messages again: how long until the first of those that waited is gone?
    pub(super) fn broker_returned(self: &Arc<Self>, what: &'static str) {
        self.returned(
            what,
            |connection| Box::pin(probes::unsent(connection)),
            |connection, ids| Box::pin(probes::any_sent(connection, ids)),
        );
    }

    fn returned(
        self: &Arc<Self>,
        what: &'static str,
        list: impl for<'c> Fn(&'c mut PgConnection) -> probes::Asked<'c, Vec<Uuid>> + Send + Sync + 'static,
        moved: impl for<'c> Fn(&'c mut PgConnection, Vec<Uuid>) -> probes::Asked<'c, bool> + Send + Sync + 'static,
    ) {
        let this = Arc::clone(self);
        self.measure(async move {
            let since = Instant::now();
            let (mut connection, mut waiting) = (None, None);
            let mut after_ms = None;
            while after_ms.is_none() && since.elapsed() < LATEST {
                if connection.is_none() {
                    connection = this.connect().await;
                }
                let Some(open) = &mut connection else { continue };
                let looked = match waiting.clone() {
                    None => list(open).await.map(|found| waiting = Some(found)),
                    Some(ids) => moved(open, ids).await.map(|moved| {
                        after_ms = moved.then(|| ms(since.elapsed()));
                    }),
                };
                if looked.is_err() {
                    connection = None;
                }
                if waiting.as_ref().is_some_and(Vec::is_empty) {
                    break;
                }
                tokio::time::sleep(LOOK / 2).await;
            }
            let waited = waiting.map_or(0, |waiting: Vec<Uuid>| waiting.len());
            this.note(|measured| measured.returned.push(Returned { what, waited, after_ms }));
        });
    }

    /// Looks at the load every second until it is told to stop.
    pub(super) fn sample(self: &Arc<Self>, mut stopped: watch::Receiver<bool>) {
        let this = Arc::clone(self);
        self.measure(async move {
            let mut clock = tokio::time::interval(Duration::from_secs(1));
            clock.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
            let mut connection = None;
            loop {
                tokio::select! {
                    _ = clock.tick() => {}
                    _ = stopped.wait_for(|stopped| *stopped) => return,
                }
                if connection.is_none() {
                    connection = this.connect().await;
                }
                let counted = match &mut connection {
                    Some(open) => tokio::time::timeout(Duration::from_secs(2), probes::open_and_parked(open))
                        .await
                        .ok()
                        .and_then(Result::ok),
                    None => None,
                };
                if counted.is_none() {
                    connection = None;
                }
                let sample = Sample {
                    at_s: this.elapsed(),
                    acknowledged: this.shop.acknowledged(),
                    open: counted.map(|(open, _)| open),
                };
                this.note(|measured| measured.samples.push(sample));
            }
        });
    }

    /// Waits until nothing is open but what is parked: how long each order took that was open when it began, in
    /// milliseconds, and what is open still when the limit has passed.
    pub(super) async fn until_ended(&self, limit: Duration) -> (Vec<u64>, Vec<Uuid>) {
        let since = Instant::now();
        let mut after_ms = Vec::new();
        let mut open: Option<HashSet<Uuid>> = None;
        loop {
            if let Some(mut connection) = self.connect().await
                && let Ok(now) = probes::unparked(&mut connection).await
            {
                let now: HashSet<Uuid> = now.into_iter().collect();
                let before = open.get_or_insert_with(|| now.clone());
                let ended: BTreeSet<Uuid> = before.difference(&now).copied().collect();
                after_ms.extend(ended.iter().map(|_| ms(since.elapsed())));
                before.retain(|saga| now.contains(saga));
                if now.is_empty() || since.elapsed() > limit {
                    return (after_ms, now.into_iter().collect());
                }
            }
            assert!(since.elapsed() < limit * 2, "the database can be read while nothing breaks it");
            tokio::time::sleep(LOOK).await;
        }
    }
}

pub(super) fn ms(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
