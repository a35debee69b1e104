//! inventory-svc: Reserve, Commit, Release over reservations and stock. Mirrors `inventory-svc/src/commands`.

use std::collections::BTreeMap;

use chassis::{
    barrier::{self, Back, Close, Closed, Forward, Outcome, Record},
    bus::Message,
};
use inventory_svc::{
    domain::{Level, Lines, Refusal, Shelf},
    wire,
};
use proto::{
    inventory::v1::{CommitDone, CommitItem, ReleaseDone, ReleaseItem, ReserveDone, ReserveItem},
    step::{Answer, BackAnswer, TurnedAway, read_command},
};
use types::{Sku, StepKey};

use super::{asked, asked_back, handle, header, turn_away};
use crate::{
    broker::Settle,
    bug::Bug,
    luck::Luck,
    mark::Mark,
    network::{Reply, serve},
    process::ProcessId,
    world::World,
};

/// A reservation's row.
#[derive(Debug, Clone)]
pub struct Reservation {
    pub record: Record,
    refusal: Option<Refusal>,
    pub lines: Option<Lines>,
    pub closed: Option<Closed>,
}

impl Reservation {
    /// Whether it holds stock now.
    #[must_use]
    pub fn is_live(&self) -> bool {
        self.record.forward == Outcome::Done && self.record.back.is_none() && self.closed.is_none()
    }
}

/// The database.
#[derive(Clone)]
pub struct Stock {
    pub levels: BTreeMap<Sku, Level>,
    pub put_in: BTreeMap<Sku, i64>,
    pub reservations: BTreeMap<StepKey, Reservation>,
}

impl Stock {
    /// Few pieces of two things, so that orders compete.
    #[must_use]
    pub fn new(luck: &mut Luck) -> Self {
        let mut stock =
            Self { levels: BTreeMap::new(), put_in: BTreeMap::new(), reservations: BTreeMap::new() };
        for name in ["P1", "P2"] {
            if let Ok(sku) = name.parse::<Sku>() {
                let available = luck.pick(&[2, 6, 50]);
                stock.put_in.insert(sku.clone(), available);
                stock.levels.insert(sku, Level { available, reserved: 0, sold: 0 });
            }
        }
        stock
    }

    fn shelf(&self) -> Shelf {
        Shelf::new(self.levels.iter().map(|(sku, level)| (sku.clone(), *level)))
    }

    fn put(&mut self, shelf: &Shelf) {
        for (sku, change) in shelf.changes() {
            if let Some(level) = self.levels.get_mut(sku) {
                level.available += change.available;
                level.reserved += change.reserved;
                level.sold += change.sold;
            }
        }
    }
}

fn failed<D>(why: impl Into<String>) -> Answer<D> {
    Answer::TurnedAway(TurnedAway::failed(why))
}

/// Reserve.
pub fn reserve(w: &mut World, process: ProcessId, item: ReserveItem, reply: Reply) {
    let read = header(item.header.as_ref()).and_then(|header| wire::reserve_item(item, &header));
    let item = match read {
        Ok(item) => item,
        Err(why) => return turn_away(w, reply, why),
    };
    serve(w, process, reply, move |w| {
        let found = w.services.inventory.reservations.get(&item.key);
        match asked(w, found.map(|found| &found.record), &item.hash) {
            Forward::Done => Answer::Done(wire::reserved(&item.key)),
            Forward::Refused => match found.and_then(|found| found.refusal.as_ref()) {
                Some(refusal) => Answer::Refused(wire::refused(refusal)),
                None => failed("a refusal without a reason"),
            },
            Forward::Fenced => Answer::Fenced,
            Forward::Mismatch => TurnedAway::mismatch(&item.key).into(),
            Forward::InProgress => failed("a reservation is never half made"),
            Forward::Fresh => decide(w, &item.key, item.lines, item.hash),
        }
    });
}

fn decide(w: &mut World, key: &StepKey, lines: Lines, hash: Vec<u8>) -> Answer<ReserveDone> {
    let mut shelf = w.services.inventory.shelf();
    let refusal = shelf.reserve(&lines).err();
    let forward = if refusal.is_some() { Outcome::Refused } else { Outcome::Done };
    let record = Record { forward, forward_hash: hash, back: None };
    let answer = match &refusal {
        None => Answer::Done(wire::reserved(key)),
        Some(refusal) => Answer::Refused(wire::refused(refusal)),
    };
    let stock = &mut w.services.inventory;
    stock.put(&shelf);
    let row = Reservation { record, refusal, lines: Some(lines), closed: None };
    stock.reservations.insert(key.clone(), row);
    if forward == Outcome::Done {
        w.judge.done(key);
    }
    answer
}

/// Commit: what was reserved is sold.
pub fn commit(w: &mut World, process: ProcessId, item: &CommitItem, reply: Reply) {
    let read = header(item.header.as_ref()).and_then(|header| wire::commit_item(item, &header));
    let item = match read {
        Ok(item) => item,
        Err(why) => return turn_away(w, reply, why),
    };
    serve(w, process, reply, move |w| {
        let found = w.services.inventory.reservations.get(&item.reservation).cloned();
        let record = found.as_ref().map(|found| &found.record);
        let closed = found.as_ref().and_then(|found| found.closed.as_ref());
        match barrier::close(record, closed, &item.key.step, &item.hash) {
            Close::Done => Answer::Done(CommitDone {}),
            Close::Mismatch => TurnedAway::mismatch(&item.key).into(),
            Close::Impossible(why) => {
                w.judge.accuse(format!("I6: {} of {} after the pivot: {why}", item.key.step, item.key.saga));
                failed(why)
            }
            Close::Fresh => {
                let Some(lines) = found.and_then(|found| found.lines) else {
                    return failed("a reservation without lines");
                };
                let mut shelf = w.services.inventory.shelf();
                if let Err(contradiction) = shelf.sell(&lines) {
                    return failed(contradiction.to_string());
                }
                w.services.inventory.put(&shelf);
                let closed = Closed { step: item.key.step.clone(), hash: item.hash };
                if let Some(row) = w.services.inventory.reservations.get_mut(&item.reservation) {
                    row.closed = Some(closed);
                }
                w.judge.done(&item.key);
                Answer::Done(CommitDone {})
            }
        }
    });
}

/// Release, by message.
pub fn message(w: &mut World, process: ProcessId, message: &Message, settle: Settle) {
    let read = read_command::<ReleaseItem>(&message.kind, &message.body)
        .and_then(|(item, header)| wire::release_item(&item, header, Some(message.id)));
    let item = match read {
        Ok(item) => item,
        Err(why) => return settle(w, chassis::bus::Verdict::Dead(why)),
    };
    handle(w, process, message, settle, move |w| {
        let says = release(w, &item.key)?;
        Ok(wire::answer(&item, &says).into_iter().collect())
    });
}

/// What Release does, inside a transaction.
pub(super) fn release(w: &mut World, key: &StepKey) -> Result<BackAnswer<ReleaseDone>, String> {
    let found = w.services.inventory.reservations.get(key).cloned();
    if found.as_ref().is_some_and(|found| found.closed.is_some()) {
        w.judge.accuse(format!("I6: {} of {} is taken back after it was sold", key.step, key.saga));
        return Err("what it reserved is sold".into());
    }
    let mark = |w: &mut World, forward, back| {
        let row = w.services.inventory.reservations.get_mut(key);
        if let Some(row) = row {
            row.record.forward = forward;
            row.record.back = Some(back);
        }
        w.judge.taken_back(key);
    };
    Ok(match asked_back(w, found.as_ref().map(|found| &found.record)) {
        Back::Done => BackAnswer::Done(ReleaseDone {}),
        Back::NotApplied => BackAnswer::NotApplied,
        Back::Tombstone => {
            w.mark(Mark::NotApplied);
            if !w.has(Bug::NoTombstone) {
                let record = Record {
                    forward: Outcome::Blocked,
                    forward_hash: Vec::new(),
                    back: Some(Outcome::Blocked),
                };
                let row = Reservation { record, refusal: None, lines: None, closed: None };
                w.services.inventory.reservations.insert(key.clone(), row);
            }
            w.judge.taken_back(key);
            BackAnswer::NotApplied
        }
        Back::Block => {
            mark(w, Outcome::Refused, Outcome::Blocked);
            BackAnswer::NotApplied
        }
        Back::TakeBack => {
            let lines = found.and_then(|found| found.lines).ok_or("a reservation without lines")?;
            let mut shelf = w.services.inventory.shelf();
            shelf.put_back(&lines).map_err(|contradiction| contradiction.to_string())?;
            w.services.inventory.put(&shelf);
            mark(w, Outcome::Done, Outcome::Done);
            w.judge.undone(key);
            BackAnswer::Done(ReleaseDone {})
        }
        Back::WantBack | Back::InProgress => return Err("a reservation is never half made".into()),
    })
}
