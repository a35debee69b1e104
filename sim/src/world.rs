//! A run: simulated time, a queue of deeds, and everything that takes part.
//!
//! Single-threaded and without a clock or chance of its own: the same seed is the same run, deed by deed. A deed of a
//! process is lost when that process dies and late when it is stopped; deeds of nobody (messages under way, commits that
//! reached a database) happen whatever becomes of who caused them.

use std::collections::{BTreeMap, BTreeSet};

use chassis::clock::Simulated;
use types::SagaId;

use crate::{
    broker::Broker,
    bug::Bug,
    disk::Disk,
    judge::Judge,
    luck::Luck,
    mark::{Mark, Marks},
    orchestrator::{Orchestrator, tables::Tables},
    people::People,
    process::{Process, ProcessId, Room},
    provider::Book,
    relay::Rows,
    services::Services,
    weather::Weather,
};

/// When every run begins, milliseconds since 1970.
pub const DAWN: i64 = 1_800_000_000_000;
/// How long everything may take to come to rest when nothing goes wrong any more.
const PATIENCE: i64 = 12 * 60 * 60 * 1000;
/// Deeds in a run at most: past it something goes round in a circle.
const MOST_DEEDS: u64 = 400_000;

type Deed = Box<dyn FnOnce(&mut World)>;

struct Planned {
    /// Whose it is: a process in one of its lives.
    whose: Option<(ProcessId, u32)>,
    /// It is done for ever, whether there is work or not.
    idle: bool,
    deed: Deed,
}

/// A run.
pub struct World {
    /// True time, milliseconds since 1970.
    pub now: i64,
    queue: BTreeMap<(i64, u64), Planned>,
    planned: u64,
    busy: usize,
    /// Everything goes wrong until this is over.
    pub storm: bool,
    pub luck: Luck,
    pub weather: Weather,
    pub bug: Option<Bug>,
    pub marks: Marks,
    pub judge: Judge,
    pub processes: Vec<Process>,
    pub disks: BTreeMap<Room, Disk>,
    pub outboxes: BTreeMap<Room, Rows>,
    pub orchestrators: BTreeMap<ProcessId, Orchestrator>,
    pub tables: Tables,
    pub services: Services,
    pub broker: Broker,
    pub provider: Book,
    pub people: People,
    names: BTreeMap<SagaId, usize>,
    lines: Option<Vec<String>>,
}

/// What a run came to.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// What is wrong, if anything: the first violation.
    pub violation: Option<String>,
    /// What occurred.
    pub marks: Marks,
    /// How many deeds it took.
    pub deeds: u64,
    /// How long it took in simulated milliseconds.
    pub lasted: i64,
    /// How long after the storm the last fact about a saga became durable, in simulated milliseconds.
    pub settled: i64,
    /// Step by step, when that was asked for.
    pub trace: Vec<String>,
}

/// Runs a seed.
#[must_use]
pub fn run(seed: u64, bug: Option<Bug>, trace: bool) -> Outcome {
    Simulated::begin(seed);
    let mut world = World::new(seed, bug, trace);
    world.begin();
    let deeds = world.play();
    Simulated::end();
    Outcome {
        violation: world.judge.violations.first().cloned(),
        marks: world.marks,
        deeds,
        lasted: world.now - DAWN,
        settled: (world.judge.last_fact - DAWN - world.weather.storm).max(0),
        trace: world.lines.unwrap_or_default(),
    }
}

impl World {
    fn new(seed: u64, bug: Option<Bug>, trace: bool) -> Self {
        let mut luck = Luck::new(seed);
        let weather = Weather::of(&mut luck);
        Self {
            now: DAWN,
            queue: BTreeMap::new(),
            planned: 0,
            busy: 0,
            storm: true,
            processes: Process::all(&weather),
            disks: Room::ALL.iter().map(|room| (*room, Disk::default())).collect(),
            outboxes: Room::ALL.iter().map(|room| (*room, Rows::default())).collect(),
            orchestrators: BTreeMap::new(),
            tables: Tables::default(),
            services: Services::new(&weather, &mut luck),
            broker: Broker::default(),
            provider: Book::default(),
            people: People::default(),
            names: BTreeMap::new(),
            lines: trace.then(Vec::new),
            judge: Judge::default(),
            marks: Marks::default(),
            bug,
            luck,
            weather,
        }
    }

    fn begin(&mut self) {
        let weather = self.weather.clone();
        self.tell(None, || format!("{weather:?}"));
        for process in 0..self.processes.len() {
            let delay = self.luck.between(0, 500);
            self.idle_after(delay, move |w| w.start_process(process));
        }
        self.plan_storm();
        self.plan_people();
    }

    /// Both phases. Safety: everything goes wrong, and nothing may be lost or doubled. Liveness: nothing goes wrong any
    /// more, a minimal core is left, and everything must come to an end or be parked with a reason.
    fn play(&mut self) -> u64 {
        let storm_ends = self.now + self.weather.storm;
        let mut deeds = 0;
        while self.queue.first_key_value().is_some_and(|((at, _), _)| *at <= storm_ends)
            && self.judge.is_clean()
        {
            self.step();
            deeds += 1;
        }
        if self.judge.is_clean() {
            self.now = storm_ends;
            self.heal();
        }
        let limit = self.now + PATIENCE;
        while !self.is_at_rest() && self.judge.is_clean() {
            if deeds > MOST_DEEDS || self.now > limit {
                self.judge.accuse(format!("I5: it does not come to rest: {deeds} deeds, {} open", self.busy));
                break;
            }
            self.step();
            deeds += 1;
        }
        if self.judge.is_clean() {
            self.judge_the_end();
        }
        let last = self.judge.violations.first().cloned();
        self.tell(None, || last.map_or("all is well".to_owned(), |what| format!("VIOLATION {what}")));
        deeds
    }

    /// Whether nothing is left to do: everything is at its end, or in its owner's memory and waits for nobody but people.
    fn is_at_rest(&self) -> bool {
        self.busy == 0 && self.are_sagas_driven()
    }

    fn step(&mut self) {
        let Some(((at, number), planned)) = self.queue.pop_first() else { return };
        self.now = self.now.max(at);
        let Planned { whose, idle, deed } = planned;
        if let Some((process, life)) = whose {
            let there = &self.processes[process];
            if there.life != life || !there.up {
                self.busy -= usize::from(!idle);
                return;
            }
            if there.paused_until > self.now {
                // In the same order, when it goes on.
                let on = there.paused_until;
                self.queue.insert((on, number), Planned { whose, idle, deed });
                return;
            }
            Simulated::set_time(self.now + there.skew);
        } else {
            Simulated::set_time(self.now);
        }
        self.busy -= usize::from(!idle);
        deed(self);
    }

    fn plan(
        &mut self,
        delay: i64,
        whose: Option<(ProcessId, u32)>,
        idle: bool,
        deed: impl FnOnce(&mut Self) + 'static,
    ) {
        self.planned += 1;
        self.busy += usize::from(!idle);
        let key = (self.now + delay.max(0), self.planned);
        self.queue.insert(key, Planned { whose, idle, deed: Box::new(deed) });
    }

    /// Nobody's deed.
    pub fn after(&mut self, delay: i64, deed: impl FnOnce(&mut Self) + 'static) {
        self.plan(delay, None, false, deed);
    }

    /// Nobody's deed, which is planned whether there is work or not.
    pub fn idle_after(&mut self, delay: i64, deed: impl FnOnce(&mut Self) + 'static) {
        self.plan(delay, None, true, deed);
    }

    /// A deed of a process, in its present life.
    pub fn of(&mut self, process: ProcessId, delay: i64, deed: impl FnOnce(&mut Self) + 'static) {
        let life = self.processes[process].life;
        self.plan(delay, Some((process, life)), false, deed);
    }

    /// A deed of a process that is planned whether there is work or not.
    pub fn idle_of(&mut self, process: ProcessId, delay: i64, deed: impl FnOnce(&mut Self) + 'static) {
        let life = self.processes[process].life;
        self.plan(delay, Some((process, life)), true, deed);
    }

    /// The wall clock of a process.
    #[must_use]
    pub fn wall(&self, process: ProcessId) -> i64 {
        self.now + self.processes[process].skew
    }

    /// It occurred.
    pub fn mark(&mut self, mark: Mark) {
        self.marks.mark(mark);
    }

    /// Whether this bug was put in.
    #[must_use]
    pub fn has(&self, bug: Bug) -> bool {
        self.bug == Some(bug)
    }

    /// A saga as traces call it: `saga 1` is the first that was started.
    pub fn name(&mut self, saga: SagaId) -> String {
        let next = self.names.len() + 1;
        format!("saga {}", self.names.entry(saga).or_insert(next))
    }

    /// Whether somebody reads the trace.
    #[must_use]
    pub const fn is_traced(&self) -> bool {
        self.lines.is_some()
    }

    /// A line of the trace, made only when somebody reads it.
    pub fn tell(&mut self, who: Option<ProcessId>, what: impl FnOnce() -> String) {
        if let Some(lines) = &mut self.lines {
            let at = self.now - DAWN;
            let who = who.map_or_else(|| "-".to_owned(), |process| self.processes[process].to_string());
            lines.push(format!("{:>6}.{:03} s  {who:<15} {}", at / 1000, at % 1000, what()));
        }
    }

    /// The same about a saga.
    pub fn tell_of(&mut self, who: ProcessId, saga: SagaId, what: impl FnOnce() -> String) {
        if self.is_traced() {
            let name = self.name(saga);
            self.tell(Some(who), || format!("{name}: {}", what()));
        }
    }

    /// The processes of a room that run, stopped ones too: nobody sees that from outside.
    #[must_use]
    pub fn running(&self, room: Room) -> Vec<ProcessId> {
        let all = self.processes.iter().enumerate();
        all.filter(|(_, process)| process.room == room && process.up).map(|(id, _)| id).collect()
    }

    /// Every process that there is of a room.
    #[must_use]
    pub fn all_of(&self, room: Room) -> BTreeSet<ProcessId> {
        let all = self.processes.iter().enumerate();
        all.filter(|(_, process)| process.room == room).map(|(id, _)| id).collect()
    }
}
