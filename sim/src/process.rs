//! Processes: they die, are stopped for a while, hand over, start again; their wall clocks are wrong.

use std::fmt;

use crate::{luck::Luck, mark::Mark, orchestrator, weather::Weather, world::World};

/// Which process: its place in the world's list.
pub type ProcessId = usize;

/// Whose process, and whose database.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Room {
    /// orchestrator
    Orchestrator,
    /// order-svc
    Order,
    /// inventory-svc
    Inventory,
    /// risk-svc
    Risk,
    /// payment-svc
    Payment,
    /// ledger-svc
    Ledger,
}

impl Room {
    /// All of them.
    pub const ALL: &'static [Self] =
        &[Self::Orchestrator, Self::Order, Self::Inventory, Self::Risk, Self::Payment, Self::Ledger];

    /// As the bus calls it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Orchestrator => "orchestrator",
            Self::Order => "order",
            Self::Inventory => "inventory",
            Self::Risk => "risk",
            Self::Payment => "payment",
            Self::Ledger => "ledger",
        }
    }
}

/// One process.
#[derive(Debug, Clone)]
pub struct Process {
    pub room: Room,
    number: usize,
    /// Counts its starts: what an earlier life planned is not done.
    pub life: u32,
    pub up: bool,
    /// Stopped until then, as by SIGSTOP.
    pub paused_until: i64,
    /// It cannot reach its database until then, and goes on with what it has in memory.
    pub cut_until: i64,
    /// Its wall clock minus true time, in milliseconds.
    pub skew: i64,
}

impl fmt::Display for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.room.as_str(), self.number)
    }
}

impl Process {
    /// Two orchestrators, and of each participant as many as the weather says.
    #[must_use]
    pub fn all(weather: &Weather) -> Vec<Self> {
        let mut all = Vec::new();
        for room in Room::ALL {
            let count = if *room == Room::Orchestrator { 2 } else { weather.instances };
            for number in 1..=count {
                all.push(Self {
                    room: *room,
                    number,
                    life: 0,
                    up: false,
                    paused_until: 0,
                    cut_until: 0,
                    skew: 0,
                });
            }
        }
        all
    }
}

/// A time until something that happens every `mean` milliseconds on average.
fn next(luck: &mut Luck, mean: i64) -> i64 {
    luck.between(mean / 4, mean * 7 / 4)
}

impl World {
    /// It runs from here on.
    pub fn start_process(&mut self, process: ProcessId) {
        let there = &mut self.processes[process];
        if there.up {
            return;
        }
        there.up = true;
        there.life += 1;
        there.paused_until = 0;
        there.cut_until = 0;
        let room = there.room;
        self.tell(Some(process), || "starts".to_owned());
        if room == Room::Orchestrator {
            orchestrator::start(self, process);
        }
        self.relay_at_start(room);
        self.deliver_all();
        self.wake_services(room);
    }

    /// It dies on the spot: what it had in memory is gone, what it had committed stays.
    pub fn kill(&mut self, process: ProcessId) {
        let there = &mut self.processes[process];
        if !there.up {
            return;
        }
        there.up = false;
        let (room, life) = (there.room, there.life);
        self.mark(if room == Room::Orchestrator { Mark::OrchestratorDies } else { Mark::ParticipantDies });
        self.tell(Some(process), || "dies".to_owned());
        self.orchestrators.remove(&process);
        self.take_back_deliveries(process, life);
    }

    /// It dies, and is started again in a while.
    pub fn die_for_a_while(&mut self, process: ProcessId) {
        self.kill(process);
        self.restart_later(process);
    }

    fn restart_later(&mut self, process: ProcessId) {
        let delay = self.luck.pick(&[200, 3_000, 15_000]);
        self.after(delay, move |w| {
            // The calm keeps a minimal core; what is down when it begins may stay so.
            if w.storm {
                w.start_process(process);
            }
        });
    }

    /// Plans what the weather does to processes, databases and the broker.
    pub fn plan_storm(&mut self) {
        type Blow = fn(&mut World);
        let weather = &self.weather;
        let blows: [(i64, Blow); 7] = [
            (weather.crash, Self::some_process_dies),
            (weather.pause, Self::some_process_pauses),
            (weather.cut, Self::some_process_is_cut_off),
            (weather.disk, Self::some_database_fails),
            (weather.broker, Self::broker_fails),
            (weather.clock, Self::some_clock_jumps),
            (weather.leave, Self::some_orchestrator_leaves),
        ];
        for (mean, blow) in blows {
            self.plan_blow(mean, blow);
        }
    }

    fn plan_blow(&mut self, mean: i64, blow: fn(&mut Self)) {
        if mean == 0 {
            return;
        }
        let delay = next(&mut self.luck, mean);
        self.idle_after(delay, move |w| {
            if w.storm {
                blow(w);
                w.plan_blow(mean, blow);
            }
        });
    }

    fn some_process(&mut self) -> ProcessId {
        // Orchestrators twice as often as their number: most of what can go wrong is theirs.
        let orchestrators = if self.luck.flip() { 2 } else { self.processes.len() };
        self.luck.below(orchestrators)
    }

    fn some_process_dies(&mut self) {
        let process = self.some_process();
        self.die_for_a_while(process);
    }

    fn some_process_pauses(&mut self) {
        let process = self.some_process();
        let there = &self.processes[process];
        if !there.up || there.paused_until > self.now {
            return;
        }
        let room = there.room;
        // Longer than a lease, often enough.
        let pause = self.luck.pick(&[500, 4_000, 14_000, 25_000]);
        self.processes[process].paused_until = self.now + pause;
        self.mark(if room == Room::Orchestrator {
            Mark::OrchestratorPaused
        } else {
            Mark::ParticipantPaused
        });
        self.tell(Some(process), || format!("is stopped for {pause} ms"));
    }

    fn some_process_is_cut_off(&mut self) {
        let process = self.some_process();
        let room = self.processes[process].room;
        let cut = self.luck.pick(&[1_000, 6_000, 14_000, 25_000]);
        self.processes[process].cut_until = self.now + cut;
        self.mark(if room == Room::Orchestrator {
            Mark::OrchestratorCutOff
        } else {
            Mark::ParticipantCutOff
        });
        self.tell(Some(process), || format!("is cut off from its database for {cut} ms"));
    }

    fn some_database_fails(&mut self) {
        let room = self.luck.pick(Room::ALL);
        let outage = self.luck.pick(&[0, 2_000, 12_000]);
        self.mark(if outage == 0 { Mark::DiskRestart } else { Mark::DiskOutage });
        self.tell(None, || format!("the database of {} restarts, away for {outage} ms", room.as_str()));
        let until = self.now + outage;
        if let Some(disk) = self.disks.get_mut(&room) {
            disk.restart(until);
        }
    }

    fn broker_fails(&mut self) {
        let outage = self.luck.pick(&[100, 4_000, 15_000]);
        self.mark(Mark::BrokerOutage);
        self.tell(None, || format!("the broker is away for {outage} ms"));
        self.break_broker(outage);
    }

    fn some_clock_jumps(&mut self) {
        let process = self.luck.below(self.processes.len());
        let skew = self.luck.pick(&[0, -3_600_000, -300_000, -2_000, 2_000, 300_000, 3_600_000]);
        self.mark(Mark::ClockJumps);
        self.tell(Some(process), || format!("its wall clock is {skew} ms off"));
        self.set_clock(process, skew);
    }

    /// The driver wakes up every second, whatever the clock says.
    fn set_clock(&mut self, process: ProcessId, skew: i64) {
        let there = &mut self.processes[process];
        if there.skew != skew {
            there.skew = skew;
            self.of(process, 1_000, move |w| orchestrator::turn(w, process));
        }
    }

    fn some_orchestrator_leaves(&mut self) {
        let process = self.luck.below(2);
        if self.orchestrators.get(&process).is_none_or(|o| o.kept.leaving) {
            return;
        }
        self.mark(Mark::OrchestratorLeaves);
        self.tell(Some(process), || "is told to stop".to_owned());
        self.of(process, 0, move |w| {
            if w.storm {
                orchestrator::keeper::leave(w, process);
            }
        });
        // It hands over in bounded time; then it is gone.
        self.of(process, 8_000, move |w| {
            if w.storm {
                w.die_for_a_while(process);
            }
        });
    }

    /// Nothing goes wrong any more, and a minimal core is left: one process of each room, sometimes all.
    pub fn heal(&mut self) {
        self.storm = false;
        self.weather.calm();
        self.tell(None, || "---- all is calm ----".to_owned());
        let alone = self.luck.flip();
        for disk in self.disks.values_mut() {
            disk.heal();
        }
        self.mend_broker();
        for process in 0..self.processes.len() {
            self.processes[process].paused_until = self.processes[process].paused_until.min(self.now);
            self.processes[process].cut_until = 0;
            // Somebody has set the clocks right.
            self.set_clock(process, 0);
            // An older release was rolled out: it would leave alone for ever what it does not know.
            let old = self.weather.mixed && process == 1;
            let surplus = self.processes[process].number > 1 && alone;
            if self.orchestrators.get(&process).is_some_and(|o| o.kept.leaving) {
                self.kill(process);
            }
            if old || surplus {
                self.kill(process);
            } else {
                self.start_process(process);
            }
        }
        self.calm_people();
    }
}
