//! Everything there is: the orchestrator's database, the participants, what is under way between them, and the processes.
//!
//! Two worlds are the same when everything that can still happen is the same. So the journal itself is [`Unseen`]: what
//! it says is in the state that it folds to, and `a_journal_is_the_state` (in `property.rs`) holds for every journal.

use std::{
    hash::{Hash, Hasher},
    sync::Arc,
};

use chassis::barrier;

use super::{
    bounds::Budget,
    owner::{Commit, Owner},
};
use crate::saga::{Event, State};

/// Something that takes no part in what makes two worlds the same.
#[derive(Debug, Clone, Default)]
pub(super) struct Unseen<T>(pub(super) T);

impl<T> PartialEq for Unseen<T> {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl<T> Eq for Unseen<T> {}

impl<T> Hash for Unseen<T> {
    fn hash<H: Hasher>(&self, _: &mut H) {}
}

/// What must never happen, where a later look could not see it any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Breach {
    /// I5: something was written after an end.
    AfterTheEnd = 1,
    /// I6: an effect came after its compensation.
    AfterItsCompensation = 2,
    /// I10: a version was left out or written twice.
    Version = 4,
    /// I10: a lower epoch wrote after a higher one.
    Epoch = 8,
    /// A fact did not fit where it was recorded or written.
    Illegal = 16,
    /// A step after the pivot found nothing to close.
    NothingToClose = 32,
}

/// What others said to the saga: rows that an owner may read at any time, and more than once.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub(super) struct Signals {
    pub(super) cancel: bool,
    pub(super) forced: bool,
    /// Verbs are read once: the commit that answers them marks them so.
    pub(super) retries: u8,
    /// Per step: whether its compensation was applied.
    pub(super) answers: Vec<Option<bool>>,
    /// Per step: whether what was pending is done, or refused.
    pub(super) settled: Vec<Option<bool>>,
    /// Per step: which of its commands is in the dead queue.
    pub(super) dead: Vec<Option<u32>>,
}

/// A participant's record of one step, and what it did.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub(super) struct Place {
    pub(super) record: Option<barrier::Record>,
    pub(super) closed: Option<barrier::Closed>,
    /// How often the effect was made: two says "too often".
    pub(super) made: u8,
    /// How often it was taken back.
    pub(super) taken_back: u8,
}

/// What time it is, as far as anybody decides by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Clock {
    /// In the beginning.
    Early,
    /// Whoever waits before the next attempt has waited long enough.
    Waited,
    /// The deadline has passed.
    Late,
}

impl Clock {
    /// Milliseconds since 1970.
    pub(super) const fn now(self) -> i64 {
        self as i64
    }
}

/// Everything there is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct World {
    /// The fence.
    pub(super) epoch: u8,
    /// What the journal says: its fold, its version, and who wrote last.
    pub(super) saga: Arc<State>,
    pub(super) version: u8,
    pub(super) wrote: u8,
    pub(super) journal: Unseen<Arc<Vec<Event>>>,
    pub(super) signals: Arc<Signals>,
    /// Commands that left, a bit per step; a message may be delivered at any time and any number of times.
    pub(super) commanded: u8,
    /// Words that a review is withdrawn, likewise.
    pub(super) withdrawn: u8,
    pub(super) places: Arc<Vec<Place>>,
    /// Calls that nobody waits for any more and that may still arrive.
    pub(super) strays: u8,
    /// In the order of their epochs, two at most: the last may be the owner, another one has not noticed.
    pub(super) owners: Vec<Owner>,
    /// The last owner died, and nobody has taken over.
    pub(super) is_orphan: bool,
    /// Commits that somebody gave up or died over, and that may still land.
    pub(super) ghosts: Vec<Commit>,
    pub(super) clock: Clock,
    pub(super) left: Budget,
    pub(super) breaches: u8,
}

impl World {
    pub(super) fn breach(&mut self, breach: Breach) {
        self.breaches |= breach as u8;
    }

    pub(super) fn has(&self, breach: Breach) -> bool {
        self.breaches & breach as u8 != 0
    }

    pub(super) fn is_commanded(&self, step: usize) -> bool {
        self.commanded & (1 << step) != 0
    }

    pub(super) fn is_withdrawn(&self, step: usize) -> bool {
        self.withdrawn & (1 << step) != 0
    }

    pub(super) fn is_astray(&self, step: usize) -> bool {
        self.strays & (1 << step) != 0
    }
}
