//! Performs moves: one loop owns every saga in this process, so that no saga is driven twice and nothing is locked.
//!
//! `load → fold → loop { next → make durable what must be → perform → record → apply }`. Calls, commits and loads run
//! elsewhere and come back as messages; the loop itself never waits for any of them. Nothing is called and nobody is told
//! while a decision that must be durable is not. Read [`live`] for one saga, and [`crate::saga`] for what is decided.

mod aside;
mod clock;
mod flight;
mod gauges;
mod live;
mod turn;

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use chassis::seeded::{Bug, is};
use tokio::sync::{mpsc, oneshot};
use types::SagaId;
use uuid::Uuid;

use self::{gauges::Gauges, live::Live};
use crate::{
    catalog::Registry,
    hub::Hub,
    journal::{Landed, Recorded, Stored, Transition},
    metrics,
    participants::{Participants, Returned},
    recovery::{self, Loaded, Wanted},
    saga::State,
    signal::{Discarded, Signal},
};

/// A saga whose start this process has just committed on a shard of its own.
#[derive(Debug)]
pub struct Fresh {
    /// Which.
    pub saga: SagaId,
    /// Its shard.
    pub shard: i16,
    /// The epoch it was started under.
    pub epoch: i64,
    /// Its kind.
    pub kind: String,
    /// Its definition's version.
    pub definition_version: i32,
    /// Its definition's hash.
    pub definition_hash: i64,
    /// Its first event.
    pub started: Recorded,
}

/// What reaches the loop from outside.
pub enum Input {
    /// A saga was started.
    Fresh(Box<Fresh>),
    /// Signals were read.
    Heard(Vec<Signal>),
    /// Shards were acquired: shard, epoch, whether their owner died.
    Gained(Vec<(i16, i64, bool)>),
    /// Shards are no longer ours.
    Lost(Vec<i16>),
    /// Shards are to be handed over; told when nothing of them is in hand any more.
    Drain(Vec<i16>, oneshot::Sender<()>),
    /// The open sagas (id, shard, state) of these shards (shard, epoch).
    Swept(Vec<(SagaId, i16, String)>, Vec<(i16, i64)>),
    /// Everything was handed over: the loop ends.
    Stop,
}

/// Sagas resumed this often without 30 s of life in between are quarantined.
const QUARANTINE: i32 = 5;

/// The ends of the channels that the loop works with.
pub struct Channels {
    /// From outside.
    pub inputs: mpsc::UnboundedReceiver<Input>,
    /// From the dispatchers.
    pub returned: mpsc::UnboundedReceiver<Returned>,
    /// From the writer.
    pub landed: mpsc::UnboundedReceiver<Vec<Landed>>,
    /// To the writer.
    pub writer: mpsc::UnboundedSender<Transition>,
    /// From recovery.
    pub loaded: mpsc::UnboundedReceiver<Loaded>,
    /// To recovery.
    pub wanted: mpsc::UnboundedSender<Wanted>,
    /// Signals that changed nothing, to be marked read.
    pub discarded: mpsc::UnboundedSender<Discarded>,
}

/// What the doors may know of the loop.
#[derive(Debug, Default)]
pub struct Load {
    /// Sagas with work in hand.
    pub active: AtomicUsize,
}

/// The loop.
pub struct Driver {
    registry: Registry,
    participants: Participants,
    hub: Hub,
    load: Arc<Load>,
    channels: Channels,
    live: HashMap<SagaId, Box<Live>>,
    /// Shards with their epochs, and whether their last owner died.
    shards: HashMap<i16, (i64, bool)>,
    draining: HashSet<i16>,
    drained: Vec<(Vec<i16>, oneshot::Sender<()>)>,
    loading: HashSet<SagaId>,
    /// Signals for sagas that are being loaded.
    early: HashMap<SagaId, Vec<Signal>>,
    /// Signals in hand: read, and not yet marked so.
    in_hand: Arc<std::sync::Mutex<HashSet<Uuid>>>,
    timers: BTreeSet<(i64, SagaId)>,
    /// Sagas that this build cannot drive, with their signals: in hand, lest they are read for ever before all others.
    unknown: HashMap<SagaId, Vec<Uuid>>,
    gauges: Gauges,
    /// How many of `live` only wait.
    waiting: usize,
    /// The latest time that it has seen, milliseconds since 1970.
    seen: i64,
}

impl Driver {
    /// A loop that owns nothing yet.
    #[must_use]
    pub fn new(
        registry: Registry,
        participants: Participants,
        hub: Hub,
        load: Arc<Load>,
        in_hand: Arc<std::sync::Mutex<HashSet<Uuid>>>,
        channels: Channels,
    ) -> Self {
        Self {
            registry,
            participants,
            hub,
            load,
            channels,
            live: HashMap::new(),
            shards: HashMap::new(),
            draining: HashSet::new(),
            drained: Vec::new(),
            loading: HashSet::new(),
            early: HashMap::new(),
            in_hand,
            timers: BTreeSet::new(),
            unknown: HashMap::new(),
            gauges: Gauges::default(),
            waiting: 0,
            seen: 0,
        }
    }

    /// Runs until nobody can say anything any more.
    pub(crate) async fn run(mut self) {
        loop {
            let sleep = self.until_next_timer();
            tokio::select! {
                input = self.channels.inputs.recv() => match input {
                    Some(Input::Stop) | None => return,
                    Some(input) => self.take(input),
                },
                Some(returned) = self.channels.returned.recv() => self.take_all_returned(returned),
                Some(landed) = self.channels.landed.recv() => self.take_landed(landed),
                Some(loaded) = self.channels.loaded.recv() => self.take_loaded(loaded),
                () = tokio::time::sleep(sleep) => {}
            }
            self.settle();
        }
    }

    /// This one and those that came with it: answers come by the slice.
    fn take_all_returned(&mut self, first: Returned) {
        self.take_returned(first);
        for _ in 0..256 {
            let Ok(returned) = self.channels.returned.try_recv() else { return };
            self.take_returned(returned);
        }
    }

    /// What every turn ends with.
    fn settle(&mut self) {
        self.look_at_the_clock();
        self.fire_timers();
        self.finish_draining();
        self.load.active.store(self.live.len() - self.waiting, Ordering::Relaxed);
        self.gauges.look(&self.live, self.waiting, now());
    }

    fn take(&mut self, input: Input) {
        match input {
            Input::Fresh(fresh) => self.take_fresh(*fresh),
            Input::Heard(signals) => signals.into_iter().for_each(|signal| self.take_signal(signal)),
            Input::Gained(gained) => {
                for (shard, epoch, died) in gained {
                    self.draining.remove(&shard);
                    self.shards.insert(shard, (epoch, died));
                }
            }
            Input::Lost(shards) => {
                let acquitted = shards.clone();
                for shard in shards {
                    self.shards.remove(&shard);
                    self.draining.remove(&shard);
                    let gone = self.sagas_of(&[shard]);
                    metrics::evicted(gone.len());
                    gone.into_iter().for_each(|saga| self.evict(saga));
                }
                let (sagas, resumed, owned) = (Vec::new(), Vec::new(), Vec::new());
                let _ = self.channels.wanted.send(Wanted { sagas, resumed, owned, acquitted });
            }
            Input::Drain(shards, told) => {
                self.draining.extend(&shards);
                let affected = self.sagas_of(&shards);
                self.drained.push((shards, told));
                affected.into_iter().for_each(|saga| self.advance(saga));
            }
            Input::Swept(found, looked_at) => self.take_swept(&found, &looked_at),
            // The loop takes this one itself.
            Input::Stop => {}
        }
    }

    /// Those of these shards that are in memory, the oldest first.
    fn sagas_of(&self, shards: &[i16]) -> Vec<SagaId> {
        let found = self.live.iter().filter(|(_, live)| shards.contains(&live.shard));
        let mut found: Vec<_> = found.map(|(saga, _)| *saga).collect();
        found.sort_unstable();
        found
    }

    fn owned(&self) -> Vec<(i16, i64)> {
        let mut owned: Vec<_> = self.shards.iter().map(|(shard, (epoch, _))| (*shard, *epoch)).collect();
        owned.sort_unstable();
        owned
    }

    fn drives(&self, shard: i16) -> Option<i64> {
        self.shards.get(&shard).filter(|_| !self.draining.contains(&shard)).map(|(epoch, _)| *epoch)
    }

    fn take_fresh(&mut self, fresh: Fresh) {
        // Lost or re-acquired since: whoever owns it finds it by its sweep.
        if self.drives(fresh.shard) != Some(fresh.epoch) || self.live.contains_key(&fresh.saga) {
            return;
        }
        let Some(kind) = self.registry.find(&fresh.kind, fresh.definition_version, fresh.definition_hash)
        else {
            return;
        };
        let Ok(state) = State::start(&fresh.started.event, fresh.started.at) else { return };
        let live = Live::new(fresh.saga, fresh.shard, fresh.epoch, 1, kind, &fresh.started, state);
        self.live.insert(fresh.saga, Box::new(live));
        self.advance(fresh.saga);
    }

    fn take_swept(&mut self, found: &[(SagaId, i16, String)], looked_at: &[(i16, i64)]) {
        let mine: Vec<_> =
            found.iter().filter(|(_, shard, _)| self.drives(*shard).is_some()).cloned().collect();
        let plan = recovery::plan(
            &mine,
            |saga| self.live.contains_key(&saga) || self.loading.contains(&saga),
            |shard| self.shards.get(&shard).is_some_and(|(_, died)| *died),
        );
        // After the first look at a shard nothing more is taken over from the dead. Others may have come since.
        for (shard, epoch) in looked_at {
            if let Some((_, died)) = self.shards.get_mut(shard).filter(|(of, _)| of == epoch) {
                *died = false;
            }
        }
        self.want(plan.load, plan.resumed);
    }

    fn want(&mut self, sagas: Vec<SagaId>, resumed: Vec<SagaId>) {
        if sagas.is_empty() {
            return;
        }
        self.loading.extend(&sagas);
        let _ =
            self.channels.wanted.send(Wanted { sagas, resumed, owned: self.owned(), acquitted: Vec::new() });
    }

    fn take_loaded(&mut self, loaded: Loaded) {
        for saga in &loaded.asked {
            self.loading.remove(saga);
        }
        let Some(stored) = loaded.stored else {
            let early: Vec<_> =
                loaded.asked.iter().filter_map(|saga| self.early.remove(saga)).flatten().collect();
            return self.put_down(early.iter().map(|signal| signal.id));
        };
        metrics::loaded(stored.len());
        for stored in stored {
            let resumes = loaded.resumes.get(&stored.saga).copied().unwrap_or(0);
            self.take_stored(stored, resumes);
        }
        for saga in loaded.asked {
            // A saga that is not there hears nothing.
            let early = self.early.remove(&saga).unwrap_or_default();
            self.put_down(early.into_iter().map(|signal| signal.id));
        }
    }

    fn take_stored(&mut self, stored: Stored, resumes: i32) {
        let saga = stored.saga;
        let early = self.early.remove(&saga).unwrap_or_default();
        let Some(epoch) = self.drives(stored.shard) else { return self.put_down(early.iter().map(|s| s.id)) };
        if self.live.contains_key(&saga) {
            return early.into_iter().for_each(|signal| self.take_signal(signal));
        }
        let kind = self.registry.find(&stored.kind, stored.definition_version, stored.definition_hash);
        let state = State::load(stored.events.iter().map(|r| (&r.event, r.at)));
        let (kind, first, state) = match (kind, stored.events.first(), state) {
            (Some(kind), Some(first), Ok(mut state)) => {
                state.share_names(kind.definition());
                (kind, first, state)
            }
            (_, _, state) => {
                return self.set_aside(&stored, state.err().map(|illegal| illegal.to_string()), &early);
            }
        };
        if let Some(held) = self.unknown.remove(&saga) {
            self.put_down(held.into_iter());
        }
        let mut live = Live::new(saga, stored.shard, epoch, stored.version, kind, first, state);
        if live.is_ended() {
            self.hub.tell(saga, || None);
            return self.discard(early.into_iter().map(|s| s.id).collect(), stored.shard, epoch);
        }
        if resumes >= QUARANTINE {
            live.park("QUARANTINED", format!("{resumes} owners died with it in hand"), now());
        }
        self.live.insert(saga, Box::new(live));
        self.advance(saga);
        early.into_iter().for_each(|signal| self.take_signal(signal));
    }

    fn take_signal(&mut self, signal: Signal) {
        let saga = signal.saga;
        if let Some(live) = self.live.get_mut(&saga) {
            let id = signal.id;
            if live.hear(signal, now()) {
                self.advance(saga);
            } else {
                let (shard, epoch) = (live.shard, live.epoch);
                self.discard(vec![id], shard, epoch);
            }
            return;
        }
        if let Some(held) = self.unknown.get_mut(&saga) {
            return held.push(signal.id);
        }
        let is_loading = self.loading.contains(&saga);
        self.early.entry(saga).or_default().push(signal);
        if !is_loading {
            self.want(vec![saga], Vec::new());
        }
    }

    fn take_returned(&mut self, returned: Returned) {
        // An outcome for a saga that left is nobody's: its next owner asks again.
        if let Some(live) = self.live.get_mut(&returned.saga) {
            live.returned(returned.step, returned.outcome, now());
            self.advance(returned.saga);
        }
    }

    fn take_landed(&mut self, landed: Vec<Landed>) {
        for one in landed {
            match one {
                Landed::Yes(saga, commit) => {
                    let Some(live) = self.live.get_mut(&saga).filter(|l| l.is_in_flight(commit)) else {
                        continue;
                    };
                    let (answered, moot) = (live.landed(), live.moot());
                    let (ended, shard, epoch) = (live.is_over(), live.shard, live.epoch);
                    self.hub.tell(saga, || Some(live.told()));
                    self.put_down(answered.into_iter());
                    self.discard(moot, shard, epoch);
                    if ended {
                        self.evict(saga);
                    } else {
                        self.advance(saga);
                    }
                }
                Landed::No(saga, commit) => {
                    let live = self.live.get(&saga).filter(|live| live.is_in_flight(commit));
                    let Some(shard) = live.map(|live| live.shard) else { continue };
                    metrics::evicted(1);
                    self.evict(saga);
                    if self.drives(shard).is_some() {
                        self.want(vec![saga], Vec::new());
                    }
                }
            }
        }
    }

    /// Asks what follows, decides, commits, calls.
    fn advance(&mut self, saga: SagaId) {
        let Some(live) = self.live.get_mut(&saga) else { return };
        let now = now();
        let calls = live.decide(now);
        let draining = self.draining.contains(&live.shard);
        if draining && live.may_leave() {
            return self.evict(saga);
        }
        if let Some(transition) = live.transition(now, false) {
            let _ = self.channels.writer.send(transition);
        }
        if !draining && (live.may_call() || is(Bug::CalledBeforeTheCommit)) {
            let mut at_once = false;
            for step in calls {
                if live.is_behind(step) {
                    at_once = true;
                } else if let Some(dispatch) = live.dispatch(step, now) {
                    self.participants.dispatch(dispatch);
                }
            }
            // A step that could not be said has parked the saga; one that waits for facts has them committed.
            if let Some(transition) = live.transition(now, at_once) {
                let _ = self.channels.writer.send(transition);
            }
        }
        let waits = live.only_waits();
        if waits != live.counts_as_waiting {
            live.counts_as_waiting = waits;
            self.waiting = if waits { self.waiting + 1 } else { self.waiting - 1 };
        }
        let due = live.due(now);
        let before = live.timer.get();
        if due != before {
            live.timer = due.into();
            before.map(|at| self.timers.remove(&(at, saga)));
            due.map(|at| self.timers.insert((at, saga)));
        }
    }

    fn evict(&mut self, saga: SagaId) {
        let Some(live) = self.live.remove(&saga) else { return };
        self.waiting -= usize::from(live.counts_as_waiting);
        if let Some(at) = live.timer.get() {
            self.timers.remove(&(at, saga));
        }
        self.put_down(live.signals_in_hand().into_iter());
    }

    fn finish_draining(&mut self) {
        let live = &self.live;
        let is_done = |shards: &[i16]| !live.values().any(|l| shards.contains(&l.shard));
        let (done, open) =
            std::mem::take(&mut self.drained).into_iter().partition(|(shards, _)| is_done(shards));
        self.drained = open;
        for (shards, told) in done {
            for shard in &shards {
                // Acquired again since: then it is driven, however late this drain ends.
                if self.draining.remove(shard) {
                    self.shards.remove(shard);
                }
            }
            let _ = told.send(());
        }
    }

    /// These signals are read, or will be read again by whoever owns their saga.
    fn put_down(&self, signals: impl Iterator<Item = Uuid>) {
        let mut in_hand = self.in_hand.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        for signal in signals {
            in_hand.remove(&signal);
        }
    }

    /// Marks signals read that change nothing.
    fn discard(&self, signals: Vec<Uuid>, shard: i16, epoch: i64) {
        if !signals.is_empty() {
            let _ = self.channels.discarded.send(Discarded { signals, shard, epoch });
        }
    }
}

/// Milliseconds since 1970.
pub(crate) fn now() -> i64 {
    chassis::clock::now().timestamp_millis()
}

#[cfg(test)]
mod tests;
