//! The orchestrator: decides, journals, calls, compensates, recovers; and the doors to orders and sagas.
//!
//! Where to look: what a saga is and does is pure, in [`saga`]; the kinds are in [`catalog`]; [`driver`] performs moves,
//! [`journal`] commits them in groups, [`shard`] and [`ownership`](self) say who may, [`signal`] is what others say,
//! [`participants`] calls, [`compensation`](self) hears answers, [`recovery`](self) loads. The doors are in [`api`].

pub mod api;
pub mod catalog;
pub mod compensation;
#[doc(hidden)]
pub mod doors;
pub mod driver;
pub mod hub;
pub mod journal;
mod metrics;
mod ownership;
pub mod participants;
pub mod recovery;
pub mod saga;
mod settings;
pub mod shard;
pub mod signal;
pub mod store;

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use chassis::{
    batcher::{Batcher, Command, Limits},
    bus::{self, Bus, Queue},
    cache::Cache,
    database::{Schema, Warm},
    keyring::Keyring,
    limiter::Limiter,
    outbox::{Outbox, Relay, RelayOptions},
    quick::Hunch,
    sql::Checked,
    stop::Stop,
};
use sqlx::PgPool;
use tokio::sync::{Notify, mpsc};
use tonic::service::RoutesBuilder;
use uuid::Uuid;

use self::{
    api::{
        quote::{self, AskForPrices},
        repeats::Repeats,
    },
    catalog::Registry,
    driver::{Channels, Driver, Input, Load},
    hub::Hub,
    journal::Writer,
    ownership::{Keeper, Owned},
    participants::{DispatchOptions, Participants},
    signal::{Discarded, StoreSignals},
    store::{
        order::ReadOrders,
        start::{FindKeys, StartOrders},
    },
};
pub use self::{
    participants::{Callees, Peer},
    settings::Settings,
};

/// The orchestrator's schema.
pub const SCHEMA: Schema = Schema {
    name: "orchestrator",
    role: "amends_orchestrator",
    migrations: &[
        (1, "first", include_str!("../../migrations/orchestrator/0001_first.sql")),
        (2, "indexes", include_str!("../../migrations/orchestrator/0002_indexes.sql")),
    ],
    grants: chassis::row_grants!("orchestrator"),
};

fn batched<C: Command>(command: C, stop: &Stop) -> Batcher<C> {
    Batcher::new(Arc::new(command), Limits::default(), stop)
}

/// The orchestrator's outbox.
#[must_use]
pub fn outbox() -> Outbox {
    Outbox::new("orchestrator", "orchestrator")
}

/// Every statement, for the SQL check.
#[must_use]
pub fn statements() -> Vec<&'static dyn Checked> {
    [journal::statements(), shard::statements(), signal::statements(), store::statements()].concat()
}

/// What an orchestrator is given.
pub struct Wiring {
    /// Its own database.
    pub pool: PgPool,
    /// The bus.
    pub bus: Arc<dyn Bus>,
    /// For order status reads; written after the commit.
    pub cache: Arc<dyn Cache>,
    /// For the limit of CreateOrder per merchant.
    pub limiter: Arc<dyn Limiter>,
    /// What payment tokens are encrypted with at the door.
    pub keys: Keyring,
    /// Who performs the steps.
    pub callees: Callees,
    /// This process, as others know it: an id that no other process has. What it owned before a restart is its own at once.
    pub instance: Uuid,
    /// Where others find its doors, for people.
    pub address: String,
    /// When to stop.
    pub stop: Stop,
}

/// Why an orchestrator does not start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A definition breaks a rule.
    #[error("a saga definition does not hold")]
    Definition(#[from] saga::definition::DefinitionError),
    /// A definition that was asked for is not there.
    #[error(transparent)]
    Unknown(#[from] catalog::UnknownDefinition),
}

/// A running orchestrator. Cheap to clone.
#[derive(Clone)]
pub struct Service {
    inner: Arc<api::Doors>,
    bus: Arc<dyn Bus>,
    leaving: Stop,
}

impl Service {
    /// Its gRPC services, for health.
    pub const NAMES: &'static [&'static str] = &["amends.order.v1.Orders", "amends.saga.v1.Sagas"];

    /// Starts it: driver, writer, relay, lease, recovery. All of it runs until `wiring.stop`.
    ///
    /// # Errors
    /// When a definition breaks a rule.
    pub fn start(settings: Settings, wiring: Wiring) -> Result<Self, Error> {
        let Wiring { pool, bus, cache, limiter, keys, callees, instance, address, stop } = wiring;
        let registry = Registry::all(&settings)?.only(&settings.definitions)?;
        let (hub, load, owned) = (Hub::default(), Arc::new(Load::default()), Arc::new(Owned::default()));
        let bell = Arc::new(Notify::new());
        let in_hand = Arc::new(Mutex::new(HashSet::new()));

        let warm = Warm::new(&pool);
        let relay = Relay::new(warm.clone(), outbox(), Arc::clone(&bus), RelayOptions::default(), &stop);
        let (returned_in, returned) = mpsc::unbounded_channel();
        let (landed_in, landed) = mpsc::unbounded_channel();
        let (loaded_in, loaded) = mpsc::unbounded_channel();
        let (wanted, wanted_out) = mpsc::unbounded_channel();
        let (discarded, discarded_out) = mpsc::unbounded_channel();
        let (input, inputs) = mpsc::unbounded_channel();
        let participants = Participants::start(&callees, dispatch(&settings), &returned_in, &stop);
        let writer = Writer::start(warm.clone(), relay, landed_in, &stop);
        stop.spawn(recovery::run(pool.clone(), wanted_out, loaded_in));
        let channels = Channels { inputs, returned, landed, writer, loaded, wanted, discarded };
        let driver = Driver::new(
            registry.clone(),
            participants.clone(),
            hub.clone(),
            Arc::clone(&load),
            Arc::clone(&in_hand),
            channels,
        );
        stop.spawn(driver.run());

        let ears = Ears {
            pool: pool.clone(),
            owned: Arc::clone(&owned),
            in_hand,
            input: input.clone(),
            stop: stop.clone(),
        };
        ears.start(&bell, discarded_out, settings.key_life);
        let options = (*pool.connect_options()).clone();
        let (me, definitions, lease) = (instance, registry.listed(), settings.lease);
        let (keeping, driver) = (Arc::clone(&owned), input.clone());
        let leave = Stop::new();
        let (leaving, stopping) = (leave.clone(), stop.clone());
        Keeper { options, me, address, definitions, lease, owned: keeping, driver, leaving, stop: stopping }
            .start();

        let quotes = quote::quotes();
        let doors = api::Doors {
            signals: batched(StoreSignals { pool: pool.clone(), bell }, &stop),
            orders: batched(ReadOrders { pool: pool.clone() }, &stop),
            found: batched(FindKeys { pool: warm.clone() }, &stop),
            starts: batched(StartOrders { pool: warm, hunch: Hunch::default() }, &stop),
            prices: batched(AskForPrices { catalog: callees.catalog, quotes: quotes.clone() }, &stop),
            pool,
            cache,
            limiter,
            keys,
            registry,
            hub,
            load,
            owned,
            participants,
            driver: input,
            quotes,
            repeats: Repeats::default(),
            settings,
            stop,
        };
        Ok(Self { inner: Arc::new(doors), bus, leaving: leave })
    }

    /// Adds its gRPC services.
    pub fn register(&self, routes: &mut RoutesBuilder) {
        api::register(&self.inner, routes);
    }

    /// Takes its queue.
    ///
    /// # Errors
    /// What the bus said.
    pub async fn subscribe(&self) -> Result<(), bus::Error> {
        let replies = compensation::Replies { signals: self.inner.signals.clone() };
        self.bus.subscribe(Queue::replies(), Arc::new(replies)).await
    }

    /// Whether somebody drives what it accepts: it owns a shard, or another who is alive does. For readiness.
    #[must_use]
    pub fn is_driven(&self) -> bool {
        self.inner.owned.is_driven()
    }

    /// Hands its shards over at once, so that others drive its sagas while it goes on answering calls: it can no longer
    /// own any. For a process that is about to stop.
    pub fn leave(&self) {
        self.leaving.request();
    }

    /// Whether it owns any shard: before that it accepts orders, and somebody else drives them.
    #[must_use]
    pub fn owns_shards(&self) -> bool {
        !self.inner.owned.shards().is_empty()
    }
}

fn dispatch(settings: &Settings) -> DispatchOptions {
    DispatchOptions {
        slice: 256,
        breaker_failures: settings.breaker_failures,
        breaker_cool_down: settings.breaker_cool_down,
    }
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

/// Hears signals, sweeps for open sagas, marks what was read, forgets what is old.
#[derive(Clone)]
struct Ears {
    pool: PgPool,
    owned: Arc<Owned>,
    in_hand: Arc<Mutex<HashSet<Uuid>>>,
    input: mpsc::UnboundedSender<Input>,
    stop: Stop,
}

impl Ears {
    fn start(self, bell: &Arc<Notify>, discarded: mpsc::UnboundedReceiver<Discarded>, key_life: Duration) {
        let stop = self.stop.clone();
        stop.spawn(self.clone().hear(Arc::clone(bell)));
        stop.spawn(self.clone().sweep());
        stop.spawn(self.clone().discard(discarded));
        stop.spawn(self.forget(key_life));
    }

    /// A look every 50 ms, or at once when a signal was stored here.
    async fn hear(self, bell: Arc<Notify>) {
        while !self.stop.is_wanted() {
            tokio::select! {
                () = self.stop.wanted() => return,
                () = bell.notified() => {}
                () = tokio::time::sleep(Duration::from_millis(50)) => {}
            }
            let shards = self.shards();
            if shards.is_empty() {
                continue;
            }
            let in_hand: Vec<Uuid> = self.lock().iter().copied().collect();
            let heard = match self.pool.acquire().await {
                Ok(mut connection) => signal::unread(&mut connection, &shards, in_hand).await,
                Err(error) => Err(error),
            };
            match heard {
                Ok((signals, strange)) => {
                    // In hand for good, and not marked read: whoever owns their saga next may know what they say.
                    self.lock().extend(strange.iter().map(|(id, _)| *id));
                    for (id, why) in strange {
                        tracing::error!(signal.id = %id, why, "this build cannot read a signal; it is left for another");
                    }
                    if !signals.is_empty() {
                        self.lock().extend(signals.iter().map(|s| s.id));
                        let _ = self.input.send(Input::Heard(signals));
                    }
                }
                Err(error) => {
                    tracing::warn!(%error, "signals cannot be read");
                    self.stop.sleep(Duration::from_millis(500)).await;
                }
            }
        }
    }

    /// Repeats what acquiring a shard does: whoever is absent is loaded.
    async fn sweep(self) {
        let mut known = Vec::new();
        let mut looks = 0_u32;
        while self.stop.sleep(Duration::from_millis(100)).await {
            let owned = self.owned.shards();
            // At once when shards were gained, else every five seconds.
            looks += 1;
            if owned == known && looks < 50 {
                continue;
            }
            looks = 0;
            let shards: Vec<i16> = owned.iter().map(|(shard, _)| *shard).collect();
            let found = match self.pool.acquire().await {
                Ok(mut connection) => journal::open_sagas(&mut connection, &shards).await,
                Err(error) => Err(error),
            };
            match found {
                Ok(found) => {
                    let _ = self.input.send(Input::Swept(found, owned.clone()));
                    known = owned;
                }
                Err(error) => tracing::warn!(%error, "open sagas cannot be listed"),
            }
        }
    }

    async fn discard(self, mut discarded: mpsc::UnboundedReceiver<Discarded>) {
        while let Some(discarded) = discarded.recv().await {
            let ids = discarded.signals.clone();
            let marked = match self.pool.acquire().await {
                Ok(mut connection) => signal::mark_read(&mut connection, discarded).await,
                Err(error) => Err(error),
            };
            if let Err(error) = marked {
                tracing::warn!(%error, "signals cannot be marked read; they will be heard again");
            }
            let mut in_hand = self.lock();
            for id in ids {
                in_hand.remove(&id);
            }
        }
    }

    /// Idempotency keys live as long as promised, read signals for a day; and money at risk is counted.
    async fn forget(self, key_life: Duration) {
        let mut at_risk = HashMap::new();
        while self.stop.sleep(Duration::from_secs(60)).await {
            let forgotten = async {
                let mut connection = self.pool.acquire().await?;
                // What was at risk and no longer is, is none.
                at_risk.values_mut().for_each(|minor| *minor = 0);
                at_risk.extend(store::order::at_risk(&mut connection).await?);
                at_risk.iter().for_each(|(currency, minor)| metrics::at_risk(currency.clone(), *minor));
                store::start::forget_keys(&mut connection, millis(key_life) / 1000).await?;
                signal::forget(&mut connection, 86_400).await
            };
            if let Err(error) = forgotten.await {
                tracing::warn!(%error, "old keys and signals cannot be dropped");
            }
        }
    }

    fn shards(&self) -> Vec<i16> {
        self.owned.shards().into_iter().map(|(shard, _)| shard).collect()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashSet<Uuid>> {
        self.in_hand.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
