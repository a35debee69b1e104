//! order-svc: Open, Complete, Cancel over documents. Mirrors `order-svc/src/commands`.

use std::collections::BTreeMap;

use chassis::{
    barrier::{self, Back, Close, Closed, Forward, Outcome, Record},
    bus::{Message, Verdict},
};
use order_svc::wire;
use proto::{
    order::v1::{CancelDone, CancelItem, CompleteDone, CompleteItem, OpenDone, OpenItem},
    step::{Answer, BackAnswer, TurnedAway, read_command},
};
use types::StepKey;

use super::{asked, asked_back, handle, header, turn_away};
use crate::{
    broker::Settle,
    bug::Bug,
    mark::Mark,
    network::{Reply, serve},
    process::ProcessId,
    world::World,
};

/// A document's row. What it says is checked by the real `wire` on its way in.
#[derive(Debug, Clone)]
pub struct Document {
    pub record: Record,
    pub closed: Option<Closed>,
}

/// The database.
#[derive(Debug, Clone, Default)]
pub struct Documents {
    pub rows: BTreeMap<StepKey, Document>,
}

impl Documents {
    /// A saga has one document.
    fn of(&self, saga: types::SagaId) -> Option<(&StepKey, &Document)> {
        self.rows.iter().find(|(key, _)| key.saga == saga)
    }
}

fn failed<D>(why: impl Into<String>) -> Answer<D> {
    Answer::TurnedAway(TurnedAway::failed(why))
}

/// Open.
pub fn open(w: &mut World, process: ProcessId, item: OpenItem, reply: Reply) {
    let read = header(item.header.as_ref()).and_then(|header| wire::open_item(item, &header));
    let item = match read {
        Ok(item) => item,
        Err(why) => return turn_away(w, reply, why),
    };
    serve(w, process, reply, move |w| {
        let found = w.services.order.rows.get(&item.key);
        match asked(w, found.map(|found| &found.record), &item.hash) {
            Forward::Done => Answer::Done(OpenDone {}),
            Forward::Fenced => Answer::Fenced,
            Forward::Mismatch => TurnedAway::mismatch(&item.key).into(),
            Forward::Refused | Forward::InProgress => failed("a document is neither refused nor half open"),
            Forward::Fresh => {
                let record = Record { forward: Outcome::Done, forward_hash: item.hash, back: None };
                w.services.order.rows.insert(item.key.clone(), Document { record, closed: None });
                w.judge.done(&item.key);
                Answer::Done(OpenDone {})
            }
        }
    });
}

/// Complete.
pub fn complete(w: &mut World, process: ProcessId, item: CompleteItem, reply: Reply) {
    let read = header(item.header.as_ref()).and_then(|header| wire::complete_item(item, &header));
    let item = match read {
        Ok(item) => item,
        Err(why) => return turn_away(w, reply, why),
    };
    serve(w, process, reply, move |w| {
        let found = w.services.order.of(item.key.saga).map(|(key, row)| (key.clone(), row.clone()));
        let record = found.as_ref().map(|(_, found)| &found.record);
        let closed = found.as_ref().and_then(|(_, found)| found.closed.as_ref());
        match barrier::close(record, closed, &item.key.step, &item.hash) {
            Close::Done => Answer::Done(CompleteDone {}),
            Close::Mismatch => TurnedAway::mismatch(&item.key).into(),
            Close::Impossible(why) => {
                w.judge.accuse(format!("I6: {} of {} after the pivot: {why}", item.key.step, item.key.saga));
                failed(why)
            }
            Close::Fresh => {
                let closed = Closed { step: item.key.step.clone(), hash: item.hash };
                let row = found.and_then(|(key, _)| w.services.order.rows.get_mut(&key));
                if let Some(row) = row {
                    row.closed = Some(closed);
                }
                w.judge.done(&item.key);
                Answer::Done(CompleteDone {})
            }
        }
    });
}

/// Cancel, by message.
pub fn message(w: &mut World, process: ProcessId, message: &Message, settle: Settle) {
    let read = read_command::<CancelItem>(&message.kind, &message.body)
        .and_then(|(item, header)| wire::cancel_item(item, header, Some(message.id)));
    let item = match read {
        Ok(item) => item,
        Err(why) => return settle(w, Verdict::Dead(why)),
    };
    handle(w, process, message, settle, move |w| {
        let says = cancel(w, &item.key)?;
        Ok(wire::answer(&item, &says).into_iter().collect())
    });
}

/// What Cancel does, inside a transaction.
pub(super) fn cancel(w: &mut World, key: &StepKey) -> Result<BackAnswer<CancelDone>, String> {
    let found = w.services.order.rows.get(key).cloned();
    if found.as_ref().is_some_and(|found| found.closed.is_some()) {
        w.judge.accuse(format!("I6: {} of {} is taken back after it was completed", key.step, key.saga));
        return Err("its order is complete".into());
    }
    Ok(match (asked_back(w, found.as_ref().map(|found| &found.record)), found) {
        (Back::Done, _) => BackAnswer::Done(CancelDone {}),
        (Back::NotApplied, _) => BackAnswer::NotApplied,
        (Back::TakeBack, Some(_)) => {
            if let Some(row) = w.services.order.rows.get_mut(key) {
                row.record.back = Some(Outcome::Done);
            }
            w.judge.taken_back(key);
            w.judge.undone(key);
            BackAnswer::Done(CancelDone {})
        }
        (Back::Tombstone | Back::TakeBack, _) => {
            w.mark(Mark::NotApplied);
            if !w.has(Bug::NoTombstone) {
                let blocked = Outcome::Blocked;
                let record = Record { forward: blocked, forward_hash: Vec::new(), back: Some(blocked) };
                w.services.order.rows.insert(key.clone(), Document { record, closed: None });
            }
            w.judge.taken_back(key);
            BackAnswer::NotApplied
        }
        (Back::Block | Back::WantBack | Back::InProgress, _) => {
            return Err("a document is neither refused nor half open".into());
        }
    })
}
