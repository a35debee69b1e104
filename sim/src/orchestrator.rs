//! An orchestrator: the real driver, turned by hand, between a modelled database, network and clock.
//!
//! [`orchestrator::driver::Driver`] is the product's own loop: it gets its inputs, loads, landed commits and outcomes
//! through the same channels as in production and puts transitions, calls and wishes on the others. What `lib.rs`
//! `Ears`, `journal.rs` `Writer`, `recovery.rs` and `ownership.rs` `Keeper` do around it is here and below.

pub mod doors;
pub mod keeper;
pub mod loader;
pub mod tables;
pub mod writer;

use std::{
    collections::{BTreeMap, HashSet, VecDeque},
    sync::{Arc, Mutex, PoisonError},
};

use orchestrator::{
    catalog::{Kind, Registry, order::OrderSaga},
    driver::{Channels, Driver, Input, Load},
    hub::Hub,
    journal::{Landed, Transition},
    participants::{Dispatch, Participants, Returned},
    recovery::{Loaded, Wanted},
    signal::Discarded,
};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use types::SagaId;
use uuid::Uuid;

use crate::{bug::Bug, mark::Mark, network, process::ProcessId, weather::Weather, world::World};

use self::keeper::Kept;

/// What it has in memory: all of it is gone when it dies.
pub struct Orchestrator {
    /// Under which id others know it.
    pub me: Uuid,
    pub registry: Registry,
    pub driver: Driver,
    inputs: UnboundedSender<Input>,
    returned: UnboundedSender<Returned>,
    landed: UnboundedSender<Vec<Landed>>,
    loaded: UnboundedSender<Loaded>,
    transitions: UnboundedReceiver<Transition>,
    wanted: UnboundedReceiver<Wanted>,
    discarded: UnboundedReceiver<Discarded>,
    calls: UnboundedReceiver<Dispatch>,
    in_hand: Arc<Mutex<HashSet<Uuid>>>,
    pub kept: Kept,
    /// Calls under way: the first answer counts.
    pub open: BTreeMap<u64, (SagaId, usize)>,
    pub calls_made: u64,
    writing: bool,
    queue: VecDeque<Transition>,
    reading: bool,
    wishes: VecDeque<Wanted>,
    /// A look at the signals is planned.
    listens: bool,
    /// When the driver wakes up next, by true time.
    wakes: Option<i64>,
    sweeps: bool,
}

/// What reaches the loop.
pub enum Feed {
    /// From the doors, the ears and the keeper.
    Input(Input),
    /// From a participant.
    Returned(Returned),
    /// From the writer.
    Landed(Vec<Landed>),
    /// From the loader.
    Loaded(Loaded),
}

fn registry(weather: &Weather, process: ProcessId) -> Registry {
    let kinds = OrderSaga::all(weather.deadline, weather.answer);
    let kinds = kinds.into_iter().map(|kind| Arc::new(kind) as Arc<dyn Kind>).collect();
    let only = if weather.mixed && process == 1 { vec!["order:1".to_owned()] } else { Vec::new() };
    #[expect(clippy::expect_used, reason = "the tables of this build hold: its own tests say so")]
    Registry::new(kinds).ok().and_then(|all| all.only(&only).ok()).expect("the tables of this build hold")
}

/// A new life: nothing in memory. In half of the cases on its own data folder, under its old id.
pub fn start(w: &mut World, process: ProcessId) {
    let (inputs, inputs_out) = unbounded_channel();
    let (returned, returned_out) = unbounded_channel();
    let (landed, landed_out) = unbounded_channel();
    let (loaded, loaded_out) = unbounded_channel();
    let (writer, transitions) = unbounded_channel();
    let (wanted_in, wanted) = unbounded_channel();
    let (discarded_in, discarded) = unbounded_channel();
    let (calls_in, calls) = unbounded_channel();
    let registry = registry(&w.weather, process);
    let in_hand = Arc::new(Mutex::new(HashSet::new()));
    let channels = Channels {
        inputs: inputs_out,
        returned: returned_out,
        landed: landed_out,
        writer,
        loaded: loaded_out,
        wanted: wanted_in,
        discarded: discarded_in,
    };
    let participants = Participants::queued(&calls_in);
    let load = Arc::new(Load::default());
    let driver =
        Driver::new(registry.clone(), participants, Hub::default(), load, Arc::clone(&in_hand), channels);
    let me = if w.luck.flip() {
        Uuid::from_u128(process as u128 + 1)
    } else {
        Uuid::from_u128((u128::from(w.luck.draw()) << 64) | u128::from(w.luck.draw()))
    };
    let orchestrator = Orchestrator {
        me,
        registry,
        driver,
        inputs,
        returned,
        landed,
        loaded,
        transitions,
        wanted,
        discarded,
        calls,
        in_hand,
        kept: Kept::default(),
        open: BTreeMap::new(),
        calls_made: 0,
        writing: false,
        queue: VecDeque::new(),
        reading: false,
        wishes: VecDeque::new(),
        listens: false,
        wakes: None,
        sweeps: false,
    };
    w.orchestrators.insert(process, orchestrator);
    keeper::plan_look(w, process, 0);
}

/// Something reaches the loop.
pub fn feed(w: &mut World, process: ProcessId, what: Feed) {
    let Some(o) = w.orchestrators.get_mut(&process) else { return };
    let mut read = Vec::new();
    // A channel that is closed belongs to a process that is gone.
    let _ = match what {
        Feed::Input(input) => o.inputs.send(input).is_ok(),
        Feed::Returned(returned) => o.returned.send(returned).is_ok(),
        Feed::Landed(landed) => o.landed.send(landed).is_ok(),
        Feed::Loaded(loaded) => {
            read = loaded.asked.clone();
            o.loaded.send(loaded).is_ok()
        }
    };
    turn(w, process);
    if w.has(Bug::StaleOwnerForward) {
        forget_calls(w, process, &read);
    }
}

/// A load that believes the journal: what it does not know of was not called.
fn forget_calls(w: &mut World, process: ProcessId, sagas: &[SagaId]) {
    let Some(o) = w.orchestrators.get_mut(&process) else { return };
    for saga in sagas {
        for step in o.driver.spoil(*saga).into_iter().flat_map(|state| &mut state.steps) {
            step.called = step.calling || step.attempts > 0 || step.is_final();
        }
    }
}

/// One turn of the loop, and what it put on the channels.
pub fn turn(w: &mut World, process: ProcessId) {
    let Some(o) = w.orchestrators.get_mut(&process) else { return };
    if !o.driver.turn() {
        return;
    }
    let mut transitions = Vec::new();
    while let Ok(transition) = o.transitions.try_recv() {
        transitions.push(transition);
    }
    let mut calls = Vec::new();
    while let Ok(call) = o.calls.try_recv() {
        calls.push(call);
    }
    while let Ok(wish) = o.wanted.try_recv() {
        o.wishes.push_back(wish);
    }
    let mut discarded = Vec::new();
    while let Ok(signals) = o.discarded.try_recv() {
        discarded.push(signals);
    }
    o.queue.extend(transitions);
    for call in calls {
        network::call(w, process, call);
    }
    writer::write(w, process);
    loader::read(w, process);
    discarded.into_iter().for_each(|signals| discard(w, process, signals));
    plan_waking(w, process);
    plan_listening(w, process);
}

/// The loop sleeps until its next timer.
fn plan_waking(w: &mut World, process: ProcessId) {
    let wall = w.wall(process);
    let Some(o) = w.orchestrators.get_mut(&process) else { return };
    let Some(due) = o.driver.due() else { return };
    let at = w.now + (due - wall).max(0);
    if o.wakes.is_some_and(|planned| planned <= at && planned > w.now) {
        return;
    }
    o.wakes = Some(at);
    let delay = at - w.now;
    w.of(process, delay, move |w| {
        if let Some(o) = w.orchestrators.get_mut(&process)
            && o.wakes == Some(at)
        {
            o.wakes = None;
        }
        turn(w, process);
    });
}

/// Signals that changed nothing are marked read; then they are no longer in hand.
fn discard(w: &mut World, process: ProcessId, discarded: Discarded) {
    let Discarded { signals, shard, epoch } = discarded;
    w.tell(Some(process), || format!("puts {} signals aside", signals.len()));
    let marked = signals.clone();
    let mark = move |w: &mut World| {
        if w.tables.epoch(shard) == epoch || w.has(Bug::ReadWithoutFence) {
            w.judge_moot_signals(&marked);
            w.tables.mark_read(&marked);
        } else {
            w.mark(Mark::FenceHoldsSignal);
        }
    };
    w.transact(process, mark, move |w, _| put_down(w, process, &signals));
}

fn put_down(w: &mut World, process: ProcessId, signals: &[Uuid]) {
    if let Some(o) = w.orchestrators.get_mut(&process) {
        let mut in_hand = o.in_hand.lock().unwrap_or_else(PoisonError::into_inner);
        in_hand.retain(|signal| !signals.contains(signal));
    }
    plan_listening(w, process);
}

/// DESIGN 4.10: a look every 50 ms. Only those looks are made here that find something.
pub fn plan_listening(w: &mut World, process: ProcessId) {
    if w.tables.unread == 0 {
        return;
    }
    let Some(o) = w.orchestrators.get_mut(&process) else { return };
    if o.listens {
        return;
    }
    let shards = o.kept.shards();
    let in_hand = o.in_hand.lock().unwrap_or_else(PoisonError::into_inner);
    let finds = !w.tables.unread(&shards, |signal| in_hand.contains(&signal)).is_empty();
    drop(in_hand);
    if finds {
        o.listens = true;
        let delay = w.luck.between(0, 50);
        w.of(process, delay, move |w| listen(w, process));
    }
}

/// Everybody who may be concerned looks.
pub fn ring(w: &mut World) {
    let all: Vec<_> = w.orchestrators.keys().copied().collect();
    all.into_iter().for_each(|process| plan_listening(w, process));
}

fn listen(w: &mut World, process: ProcessId) {
    let Some(o) = w.orchestrators.get(&process) else { return };
    let (shards, in_hand) = (o.kept.shards(), Arc::clone(&o.in_hand));
    let marks_early = w.has(Bug::SignalReadEarly);
    w.transact(
        process,
        move |w| {
            let in_hand = in_hand.lock().unwrap_or_else(PoisonError::into_inner);
            let found = w.tables.unread(&shards, |signal| in_hand.contains(&signal));
            if marks_early {
                let ids: Vec<_> = found.iter().map(|signal| signal.id).collect();
                w.judge_moot_signals(&ids);
                w.tables.mark_read(&ids);
            }
            found
        },
        move |w, found| {
            let Some(o) = w.orchestrators.get_mut(&process) else { return };
            o.listens = false;
            match found {
                Ok(signals) if signals.is_empty() => {}
                Ok(signals) => {
                    for signal in &signals {
                        w.tell_of(process, signal.saga, || format!("hears {}", doors::short(&signal.said)));
                    }
                    let Some(o) = w.orchestrators.get_mut(&process) else { return };
                    let mut in_hand = o.in_hand.lock().unwrap_or_else(PoisonError::into_inner);
                    in_hand.extend(signals.iter().map(|signal| signal.id));
                    drop(in_hand);
                    feed(w, process, Feed::Input(Input::Heard(signals)));
                }
                Err(_) => {
                    o.listens = true;
                    w.of(process, 500, move |w| listen(w, process));
                }
            }
            plan_listening(w, process);
        },
    );
}

/// DESIGN 4.8: repeats what acquiring a shard does.
pub fn plan_sweep(w: &mut World, process: ProcessId, delay: i64) {
    if let Some(o) = w.orchestrators.get_mut(&process)
        && !o.sweeps
    {
        o.sweeps = true;
        w.of(process, delay, move |w| sweep(w, process));
    }
}

fn sweep(w: &mut World, process: ProcessId) {
    let Some(o) = w.orchestrators.get(&process) else { return };
    let owned = o.kept.owned();
    let shards: Vec<i16> = owned.iter().map(|(shard, _)| *shard).collect();
    w.transact(
        process,
        move |w| w.tables.open_sagas(&shards),
        move |w, found| {
            if let Some(o) = w.orchestrators.get_mut(&process) {
                o.sweeps = false;
            }
            match found {
                Ok(found) => feed(w, process, Feed::Input(Input::Swept(found, owned))),
                Err(_) => plan_sweep(w, process, 100),
            }
        },
    );
}
