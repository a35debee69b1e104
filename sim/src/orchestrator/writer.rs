//! The writer of the journal: group commit, and what follows from an error at COMMIT (DESIGN 4.5).
//!
//! Mirrors `journal.rs` `Writer`; what a transition is after an error is the product's own
//! [`AfterDoubt`](orchestrator::journal::AfterDoubt).

use std::rc::Rc;

use orchestrator::journal::{AfterDoubt, Landed, Transition, take_group};

use super::{Feed, feed, tables};
use crate::{
    bug::Bug,
    mark::Mark,
    process::{ProcessId, Room},
    world::World,
};

type Group = Rc<Vec<Transition>>;

/// Writes what queued while the last commit was in flight.
pub(super) fn write(w: &mut World, process: ProcessId) {
    let Some(o) = w.orchestrators.get_mut(&process) else { return };
    if o.writing || o.queue.is_empty() {
        return;
    }
    o.writing = true;
    let group: Group = Rc::new(take_group(&mut o.queue));
    if w.has(Bug::LandedBeforeCommit) {
        let landed = group.iter().map(|one| Landed::Yes(one.saga, one.commit_id)).collect();
        w.of(process, 0, move |w| feed(w, process, Feed::Landed(landed)));
    }
    attempt(w, process, group, Vec::new(), 20);
}

fn attempt(w: &mut World, process: ProcessId, group: Group, known: Vec<Landed>, wait: i64) {
    if group.is_empty() {
        return conclude(w, process, known);
    }
    let written = Rc::clone(&group);
    w.transact(
        process,
        move |w| tables::commit(w, process, &written),
        move |w, won| match won {
            Ok(won) => {
                let mut known = known;
                for transition in group.iter() {
                    let is_won = won.contains(&transition.saga);
                    known.push(landed(w, process, transition, is_won));
                }
                conclude(w, process, known);
            }
            Err(_) if w.has(Bug::LostCommitAssumedLanded) => {
                let known =
                    known.into_iter().chain(group.iter().map(|t| Landed::Yes(t.saga, t.commit_id))).collect();
                conclude(w, process, known);
            }
            Err(_) => w.of(process, wait, move |w| sort_out(w, process, group, known, wait)),
        },
    );
}

fn landed(w: &mut World, process: ProcessId, transition: &Transition, is_won: bool) -> Landed {
    if is_won {
        w.hand(process, Room::Orchestrator, &transition.messages);
        Landed::Yes(transition.saga, transition.commit_id)
    } else {
        w.mark(Mark::Evicted);
        Landed::No(transition.saga, transition.commit_id)
    }
}

/// After an error nothing is known: the rows are read again.
fn sort_out(w: &mut World, process: ProcessId, group: Group, known: Vec<Landed>, wait: i64) {
    let wait = (wait * 2).min(1_000);
    if w.has(Bug::LostCommitAssumedFailed) {
        return attempt(w, process, group, known, wait);
    }
    let asked = Rc::clone(&group);
    w.transact(
        process,
        move |w| {
            let row = |t: &Transition| w.tables.sagas.get(&t.saga).map(|row| (row.version, row.commit));
            asked.iter().map(row).collect::<Vec<_>>()
        },
        move |w, found| {
            let Ok(found) = found else { return attempt(w, process, group, known, wait) };
            let (mut again, mut known) = (Vec::new(), known);
            for (transition, row) in group.iter().zip(found) {
                match AfterDoubt::of(transition, row) {
                    AfterDoubt::Landed => known.push(landed(w, process, transition, true)),
                    AfterDoubt::Again => again.push(transition.clone()),
                    AfterDoubt::Lost => known.push(landed(w, process, transition, false)),
                }
            }
            attempt(w, process, Rc::new(again), known, wait);
        },
    );
}

fn conclude(w: &mut World, process: ProcessId, known: Vec<Landed>) {
    if let Some(o) = w.orchestrators.get_mut(&process) {
        o.writing = false;
    }
    if !w.has(Bug::LandedBeforeCommit) {
        feed(w, process, Feed::Landed(known));
    }
    write(w, process);
}
