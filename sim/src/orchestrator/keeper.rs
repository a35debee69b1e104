//! Keeps the lease and the shards (DESIGN 4.7). Mirrors `ownership.rs`; who takes what, who lives, and what is taken alone
//! is the product's own [`shard::plan`], [`shard::Watch`] and [`shard::Reach`].
//!
//! Looks are deeds that are planned whether there is work or not; what follows from a look is work.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use orchestrator::{
    driver::Input,
    shard::{self, Look, Reach, Reached, ShardRow, Watch},
};
use tokio::{sync::oneshot, time::Instant};
use uuid::Uuid;

use super::{Feed, feed, plan_listening, plan_sweep};
use crate::{
    bug::Bug,
    mark::Mark,
    process::ProcessId,
    world::{DAWN, World},
};

/// How long a drain is waited for.
const DRAIN: i64 = 3_000;

/// What it remembers from one look to the next.
pub struct Kept {
    watch: Watch,
    /// What the watch counts from: its own clock, which never jumps.
    born: Instant,
    /// Driven here: shard and epoch.
    mine: BTreeMap<i16, i64>,
    reach: Reach,
    /// The definitions that each living instance lists.
    pub listed: Vec<Vec<String>>,
    /// It hands everything over and stays out.
    pub leaving: bool,
}

impl Default for Kept {
    fn default() -> Self {
        Self {
            watch: Watch::default(),
            born: Instant::now(),
            mine: BTreeMap::new(),
            reach: Reach::default(),
            listed: Vec::new(),
            leaving: false,
        }
    }
}

impl Kept {
    /// Shards with their epochs, as the doors and the ears see them.
    #[must_use]
    pub fn owned(&self) -> Vec<(i16, i64)> {
        self.mine.iter().map(|(shard, epoch)| (*shard, *epoch)).collect()
    }

    /// Shards.
    #[must_use]
    pub fn shards(&self) -> Vec<i16> {
        self.mine.keys().copied().collect()
    }

    /// Whether it owns a shard under this epoch.
    #[must_use]
    pub fn owns(&self, shard: i16, epoch: i64) -> bool {
        self.mine.get(&shard) == Some(&epoch)
    }
}

/// The next look.
pub fn plan_look(w: &mut World, process: ProcessId, delay: i64) {
    w.idle_of(process, delay, move |w| look(w, process));
}

fn next_look(w: &mut World, process: ProcessId) {
    // When nothing goes wrong any more and all shards are driven, short of the lease is often enough.
    let is_settled = !w.storm && w.are_shards_driven();
    let delay = if is_settled { w.weather.lease * 9 / 10 } else { between_looks(w) };
    plan_look(w, process, delay);
}

/// A tenth of the lease.
const fn between_looks(w: &World) -> i64 {
    w.weather.lease / 10
}

fn look(w: &mut World, process: ProcessId) {
    let Some(o) = w.orchestrators.get(&process) else { return };
    if o.kept.leaving {
        return;
    }
    let (me, definitions) = (o.me, o.registry.listed());
    w.transact_as(
        process,
        true,
        move |w| w.tables.renew(me, &definitions),
        move |w, look| match look {
            Ok(look) => looked(w, process, me, look),
            Err(_) => {
                if let Some(o) = w.orchestrators.get_mut(&process) {
                    o.kept.reach.look_away();
                }
                let delay = between_looks(w);
                plan_look(w, process, delay);
            }
        },
    );
}

fn looked(w: &mut World, process: ProcessId, me: Uuid, look: Look) {
    let since_dawn = Duration::from_millis(u64::try_from(w.now - DAWN).unwrap_or(0));
    let Some(o) = w.orchestrators.get_mut(&process) else { return };
    if o.kept.leaving {
        return;
    }
    let at = o.kept.born + since_dawn;
    o.kept.watch.observe(&look, at);
    drop_lost(w, process, &look);
    let lease = Duration::from_millis(w.weather.lease.unsigned_abs());
    let Some(o) = w.orchestrators.get_mut(&process) else { return };
    let watch = &o.kept.watch;
    let alive = |id: Uuid| watch.is_alive(id, lease);
    let listed = look.instances.iter().filter(|(id, _)| alive(**id)).map(|(_, (_, list))| list.clone());
    let listed: Vec<_> = listed.collect();
    let held: Vec<i16> = o.kept.mine.keys().copied().collect();
    let plan = shard::plan(me, &held, &look, alive);
    let gone = watch.gone(&look, lease);
    o.kept.listed = listed;
    sweep_if_absent(w, process);
    take_free(w, process, plan.take, move |w, alone| {
        let bury = move |w: &mut World| {
            if !gone.is_empty() {
                w.transact_as(
                    process,
                    true,
                    move |w| gone.iter().for_each(|(id, counter)| w.tables.leave(*id, Some(*counter))),
                    |_, _| {},
                );
            }
            take_alone(w, process, alone.into(), move |w| next_look(w, process));
        };
        if plan.release.is_empty() { bury(w) } else { hand_over(w, process, plan.release, bury) }
    });
}

/// The sweep that comes every five seconds, where it would find something.
fn sweep_if_absent(w: &mut World, process: ProcessId) {
    let Some(o) = w.orchestrators.get(&process) else { return };
    let open = w.tables.open_sagas(&o.kept.shards());
    let is_absent = |saga| {
        let known = w.tables.sagas.get(&saga).is_some_and(|row| {
            o.registry.find(&row.kind, row.definition_version, row.definition_hash).is_some()
        });
        known && o.driver.state(saga).is_none()
    };
    if open.iter().any(|(saga, ..)| is_absent(*saga)) {
        plan_sweep(w, process, 2_000);
    }
}

/// Shards whose epoch moved under us are somebody else's.
fn drop_lost(w: &mut World, process: ProcessId, look: &Look) {
    let Some(o) = w.orchestrators.get_mut(&process) else { return };
    let mine = &mut o.kept.mine;
    let is_lost = |row: &&ShardRow| mine.get(&row.shard).is_some_and(|epoch| *epoch != row.epoch);
    let lost: Vec<i16> = look.shards.iter().filter(is_lost).map(|row| row.shard).collect();
    if lost.is_empty() {
        return;
    }
    mine.retain(|shard, _| !lost.contains(shard));
    w.mark(Mark::Lost);
    w.tell(Some(process), || format!("another took over shards {lost:?}"));
    feed(w, process, Feed::Input(Input::Lost(lost)));
}

/// What nobody keeps locked, by one commit. `then` is given what is to be taken alone.
fn take_free(
    w: &mut World,
    process: ProcessId,
    rows: Vec<ShardRow>,
    then: impl FnOnce(&mut World, Vec<ShardRow>) + 'static,
) {
    let Some(o) = w.orchestrators.get_mut(&process) else { return };
    if rows.is_empty() {
        let alone = o.kept.reach.miss_all(Vec::new());
        return then(w, alone);
    }
    let reached = rows.into_iter().map(|row| o.kept.reach.out(o.me, row)).collect();
    raise(w, process, reached, move |w, missed| {
        let Some(o) = w.orchestrators.get_mut(&process) else { return };
        let alone = o.kept.reach.miss_all(missed);
        then(w, alone);
    });
}

/// Whatever two looks found locked, each by a commit of its own.
fn take_alone(
    w: &mut World,
    process: ProcessId,
    mut rows: VecDeque<ShardRow>,
    then: impl FnOnce(&mut World) + 'static,
) {
    let Some(row) = rows.pop_front() else { return then(w) };
    let Some(o) = w.orchestrators.get_mut(&process) else { return };
    let one = o.kept.reach.out(o.me, row);
    raise(w, process, vec![one], move |w, missed| {
        let Some(o) = w.orchestrators.get_mut(&process) else { return };
        missed.iter().for_each(|one| o.kept.reach.miss(one));
        take_alone(w, process, rows, then);
    });
}

/// Of several, some may be locked. `then` is given what was missed.
fn raise(
    w: &mut World,
    process: ProcessId,
    reached: Vec<Reached>,
    then: impl FnOnce(&mut World, Vec<Reached>) + 'static,
) {
    let Some(me) = w.orchestrators.get(&process).map(|o| o.me) else { return };
    let keeps = w.has(Bug::NoEpoch);
    w.transact_as(
        process,
        true,
        move |w| {
            let (is_alone, mut gained, mut missed) = (reached.len() == 1, Vec::new(), Vec::new());
            for one in reached {
                if !is_alone && w.luck.chance(w.weather.locked) {
                    w.mark(Mark::ShardLocked);
                    missed.push(one);
                } else if let Some(epoch) = w.tables.raise(&one.row, me, keeps) {
                    w.judge.acquired(process, one.row.shard, epoch);
                    gained.push((one.row.shard, epoch, one.died));
                } else {
                    missed.push(one);
                }
            }
            (gained, missed)
        },
        move |w, done| {
            // What it came to is read in the next round.
            let Ok((taken, missed)) = done else { return next_look(w, process) };
            gained(w, process, taken);
            then(w, missed);
        },
    );
}

fn gained(w: &mut World, process: ProcessId, gained: Vec<(i16, i64, bool)>) {
    if gained.is_empty() {
        return;
    }
    for &(shard, epoch, died) in &gained {
        if died {
            w.mark(Mark::TakenOver);
        }
        w.tell(Some(process), || {
            format!("has shard {shard} at epoch {epoch}{}", if died { ", from the dead" } else { "" })
        });
        if let Some(o) = w.orchestrators.get_mut(&process) {
            o.kept.mine.insert(shard, epoch);
        }
    }
    feed(w, process, Feed::Input(Input::Gained(gained)));
    let delay = w.luck.between(0, 100);
    plan_sweep(w, process, delay);
    plan_listening(w, process);
}

fn hand_over(w: &mut World, process: ProcessId, shards: Vec<i16>, then: impl FnOnce(&mut World) + 'static) {
    let Some(o) = w.orchestrators.get_mut(&process) else { return };
    o.kept.mine.retain(|shard, _| !shards.contains(shard));
    w.mark(Mark::HandedOver);
    w.tell(Some(process), || format!("hands over shards {shards:?}"));
    let (told, drained) = oneshot::channel();
    feed(w, process, Feed::Input(Input::Drain(shards.clone(), told)));
    let until = w.now + DRAIN;
    wait_for_drain(w, process, drained, until, move |w| release(w, process, shards, then));
}

/// A commit that hangs must not hold the lease loop: the fence keeps what is released early safe.
fn wait_for_drain(
    w: &mut World,
    process: ProcessId,
    mut drained: oneshot::Receiver<()>,
    until: i64,
    then: impl FnOnce(&mut World) + 'static,
) {
    if drained.try_recv().is_ok() || w.now >= until {
        return then(w);
    }
    w.of(process, 25, move |w| wait_for_drain(w, process, drained, until, then));
}

fn release(w: &mut World, process: ProcessId, shards: Vec<i16>, then: impl FnOnce(&mut World) + 'static) {
    let Some(me) = w.orchestrators.get(&process).map(|o| o.me) else { return };
    let released = shards.clone();
    w.transact_as(
        process,
        true,
        move |w| w.tables.release(&released, me),
        move |w, word| {
            if word.is_ok() {
                feed(w, process, Feed::Input(Input::Lost(shards)));
                then(w);
            } else {
                next_look(w, process);
            }
        },
    );
}

/// A gentle stop: everything is handed over, then it leaves the list of the living.
pub fn leave(w: &mut World, process: ProcessId) {
    let Some(o) = w.orchestrators.get_mut(&process) else { return };
    o.kept.leaving = true;
    let (me, shards) = (o.me, o.kept.shards());
    hand_over(w, process, shards, move |w| {
        w.transact_as(process, true, move |w| w.tables.leave(me, None), |_, _| {});
    });
}

impl World {
    /// Whether every shard is driven by somebody who runs, at the epoch that counts.
    #[must_use]
    pub fn are_shards_driven(&self) -> bool {
        (0..super::tables::SHARDS).all(|shard| {
            let epoch = self.tables.epoch(shard);
            self.orchestrators.values().any(|o| o.kept.owns(shard, epoch))
        })
    }

    /// Whether every open saga is in the memory of its owner.
    #[must_use]
    pub fn are_sagas_driven(&self) -> bool {
        let open = self.tables.sagas.iter().filter(|(_, row)| !row.ended);
        self.are_shards_driven()
            && open.into_iter().all(|(saga, row)| {
                let epoch = self.tables.epoch(row.shard);
                let owners = self.orchestrators.values().filter(|o| o.kept.owns(row.shard, epoch));
                owners.into_iter().any(|o| o.driver.state(*saga).is_some())
            })
    }
}
