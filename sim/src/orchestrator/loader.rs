//! Taking sagas from their journals (DESIGN 4.8). Mirrors `recovery.rs`: one wish after the other.

use std::collections::HashMap;

use orchestrator::{
    journal::Stored,
    recovery::{Loaded, Wanted},
};

use super::{Feed, feed};
use crate::{bug::Bug, disk::Word, mark::Mark, process::ProcessId, world::World};

/// Loads what is wanted, if nothing is being loaded.
pub(super) fn read(w: &mut World, process: ProcessId) {
    let Some(o) = w.orchestrators.get_mut(&process) else { return };
    if o.reading {
        return;
    }
    let Some(wish) = o.wishes.pop_front() else { return };
    o.reading = true;
    if wish.acquitted.is_empty() {
        return load(w, process, wish);
    }
    let acquitted = wish.acquitted.clone();
    w.transact(
        process,
        move |w| w.tables.acquit(&acquitted),
        // If it fails, they count as if their owner had died: that is all.
        move |w, _| load(w, process, wish),
    );
}

fn load(w: &mut World, process: ProcessId, wish: Wanted) {
    let Wanted { sagas, resumed, owned, .. } = wish;
    if sagas.is_empty() {
        return end(w, process, None);
    }
    if resumed.is_empty() {
        return read_journals(w, process, (sagas, owned), HashMap::new());
    }
    let still_owned = owned.clone();
    w.transact(
        process,
        move |w| {
            let now = w.now;
            w.tables.resume(&resumed, &still_owned, now)
        },
        move |w, counted: Word<Vec<_>>| match counted {
            Ok(counted) => {
                w.mark(Mark::Resumed);
                read_journals(w, process, (sagas, owned), counted.into_iter().collect());
            }
            Err(_) => {
                end(w, process, Some(Loaded { asked: sagas, stored: None, resumes: HashMap::new() }));
            }
        },
    );
}

fn read_journals(
    w: &mut World,
    process: ProcessId,
    (sagas, owned): (Vec<types::SagaId>, Vec<(i16, i64)>),
    resumes: HashMap<types::SagaId, i32>,
) {
    let asked = sagas.clone();
    w.transact(
        process,
        move |w| {
            let found = asked.iter().filter_map(|saga| w.tables.load(*saga));
            let is_owned = |stored: &Stored| {
                owned.contains(&(stored.shard, w.tables.epoch(stored.shard))) || w.has(Bug::LoadWithoutFence)
            };
            found.filter(is_owned).collect::<Vec<_>>()
        },
        move |w, stored| {
            let loaded = match stored {
                Ok(stored) => Loaded { asked: sagas, stored: Some(stored), resumes },
                Err(_) => Loaded { asked: sagas, stored: None, resumes: HashMap::new() },
            };
            end(w, process, Some(loaded));
        },
    );
}

fn end(w: &mut World, process: ProcessId, loaded: Option<Loaded>) {
    if let Some(o) = w.orchestrators.get_mut(&process) {
        o.reading = false;
    }
    if let Some(loaded) = loaded {
        if loaded.stored.is_none() {
            // The next sweep tries again.
            super::plan_sweep(w, process, 5_000);
        }
        for stored in loaded.stored.iter().flatten() {
            let known = w.orchestrators.get(&process).and_then(|o| {
                o.registry.find(&stored.kind, stored.definition_version, stored.definition_hash)
            });
            if known.is_none() {
                w.mark(Mark::UnknownDefinition);
            }
            w.tell_of(process, stored.saga, || format!("loaded at version {}", stored.version));
        }
        feed(w, process, Feed::Loaded(loaded));
    }
    read(w, process);
}
