//! Databases: a commit is atomic and durable; its answer may be lost, and then nobody knows.
//!
//! A transaction is a deed that happens at once at its commit, as if it had held its locks from the beginning: READ
//! COMMITTED with the unique keys, row locks and compare-and-set of DESIGN section 7 makes no other order of effects
//! possible. What is modelled is what a client can see of it (section 4.5): away before anything began, a lost COMMIT
//! answer with and without effect, a commit that lands after its process has died.

use crate::{mark::Mark, process::ProcessId, world::World};

/// A database.
#[derive(Debug, Default)]
pub struct Disk {
    down_until: i64,
    /// Counts its restarts: connections of before are cut.
    restarts: u32,
}

impl Disk {
    /// Its connections are cut, and none can be made until then.
    pub fn restart(&mut self, until: i64) {
        self.restarts += 1;
        self.down_until = self.down_until.max(until);
    }

    /// It can be reached.
    pub fn heal(&mut self) {
        self.down_until = 0;
    }
}

/// Why a transaction has no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoWord {
    /// Nothing was begun.
    Away,
    /// Nothing is known.
    Unknown,
}

/// What a transaction says to who asked for it.
pub type Word<T> = Result<T, NoWord>;

impl World {
    /// Runs a transaction of a process at the database of its room; then tells the process.
    pub fn transact<T: 'static>(
        &mut self,
        process: ProcessId,
        transaction: impl FnOnce(&mut Self) -> T + 'static,
        then: impl FnOnce(&mut Self, Word<T>) + 'static,
    ) {
        self.transact_as(process, false, transaction, then);
    }

    /// The same for what is done whether there is work or not.
    pub fn transact_as<T: 'static>(
        &mut self,
        process: ProcessId,
        idle: bool,
        transaction: impl FnOnce(&mut Self) -> T + 'static,
        then: impl FnOnce(&mut Self, Word<T>) + 'static,
    ) {
        let (room, life) = (self.processes[process].room, self.processes[process].life);
        let disk = &self.disks[&room];
        let is_down = disk.down_until > self.now || self.processes[process].cut_until > self.now;
        let restarts = disk.restarts;
        if is_down || self.luck.chance(self.weather.away) {
            self.mark(Mark::DiskAway);
            let delay = self.luck.between(5, 300);
            return self.back(process, life, idle, delay, move |w| then(w, Err(NoWord::Away)));
        }
        if self.luck.chance(self.weather.dies_at_commit) {
            let delay = self.luck.between(0, 6);
            self.of(process, delay, move |w| {
                if w.storm {
                    w.die_for_a_while(process);
                }
            });
        }
        let delay = self.luck.between(0, 4);
        self.plan_commit(idle, delay, move |w| {
            let is_dead = w.processes[process].life != life || !w.processes[process].up;
            let is_cut = w.disks[&room].restarts != restarts || w.processes[process].cut_until > w.now;
            let is_lost = is_dead || is_cut || w.luck.chance(w.weather.commit_lost);
            // Whoever hangs up, or is cut off, may have been in time or not.
            if is_lost && w.luck.flip() {
                w.mark(Mark::CommitGone);
                let delay = w.luck.between(5, 3_000);
                return w.back(process, life, idle, delay, move |w| then(w, Err(NoWord::Unknown)));
            }
            let done = transaction(w);
            w.judge_a_commit(room);
            if is_dead {
                w.mark(Mark::CommitOfTheDead);
            } else if is_lost {
                w.mark(Mark::CommitLanded);
                let delay = w.luck.between(5, 3_000);
                w.back(process, life, idle, delay, move |w| then(w, Err(NoWord::Unknown)));
            } else {
                let delay = w.luck.between(0, 3);
                w.back(process, life, idle, delay, move |w| then(w, Ok(done)));
            }
        });
    }

    fn plan_commit(&mut self, idle: bool, delay: i64, deed: impl FnOnce(&mut Self) + 'static) {
        if idle {
            self.idle_after(delay, deed);
        } else {
            self.after(delay, deed);
        }
    }

    /// Back at the process that asked, if it still lives that life.
    fn back(
        &mut self,
        process: ProcessId,
        life: u32,
        idle: bool,
        delay: i64,
        deed: impl FnOnce(&mut Self) + 'static,
    ) {
        if self.processes[process].life != life {
            return;
        }
        if idle {
            self.idle_of(process, delay, deed);
        } else {
            self.of(process, delay, deed);
        }
    }
}
