//! What a process remembers of the shards that it reached for: pure.
//!
//! Whatever is found locked is left to whoever is at it, and reached for alone when the next look finds it locked at the
//! same epoch, since that one throws out who keeps it: a commit under way, or another's take of many, is over by then.

use std::collections::{BTreeMap, BTreeSet};

use uuid::Uuid;

use super::ShardRow;

/// A shard that is reached for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reached {
    /// As it was read.
    pub row: ShardRow,
    /// Its last owner died.
    pub died: bool,
    /// This process had not reached for it before.
    is_first: bool,
}

/// What a process remembers.
#[derive(Debug, Default)]
pub struct Reach {
    /// Perhaps acquired by this process, whatever the answer was: a row that names us there is no death's.
    reached: BTreeSet<i16>,
    /// Missed in the last look, at which epoch.
    missed: BTreeMap<i16, i64>,
}

impl Reach {
    /// Reaches for a shard.
    pub fn out(&mut self, me: Uuid, row: ShardRow) -> Reached {
        let is_first = self.reached.insert(row.shard);
        let is_own = row.owner == Some(me) && !is_first;
        let died = !is_own && (row.owner.is_some() || !row.released);
        Reached { row, died, is_first }
    }

    /// It was surely not acquired.
    pub fn miss(&mut self, missed: &Reached) {
        if missed.is_first {
            self.reached.remove(&missed.row.shard);
        }
    }

    /// All that a look missed; those that the look before missed as well are to be taken alone.
    pub fn miss_all(&mut self, missed: Vec<Reached>) -> Vec<ShardRow> {
        missed.iter().for_each(|one| self.miss(one));
        let now = missed.iter().map(|one| (one.row.shard, one.row.epoch)).collect();
        let before = std::mem::replace(&mut self.missed, now);
        let again = |row: &ShardRow| before.get(&row.shard) == Some(&row.epoch);
        missed.into_iter().map(|one| one.row).filter(again).collect()
    }

    /// A look failed: the next one does not follow the last.
    pub fn look_away(&mut self) {
        self.missed.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ME: Uuid = Uuid::from_u128(1);

    fn row(shard: i16, owner: Option<Uuid>, epoch: i64) -> ShardRow {
        ShardRow { shard, owner, released: owner.is_none(), epoch }
    }

    /// A look that misses all of these; what is to be taken alone.
    fn missing(reach: &mut Reach, rows: &[ShardRow]) -> Vec<i16> {
        let missed = rows.iter().map(|row| reach.out(ME, row.clone())).collect();
        reach.miss_all(missed).iter().map(|row| row.shard).collect()
    }

    #[test]
    fn what_two_looks_in_a_row_find_locked_at_one_epoch_is_taken_alone_and_nothing_else_is() {
        let mut reach = Reach::default();
        assert_eq!(missing(&mut reach, &[row(3, None, 0), row(4, None, 7)]), [0_i16; 0], "seen once");
        assert_eq!(missing(&mut reach, &[row(3, None, 0), row(4, None, 8), row(5, None, 0)]), [3]);
        assert_eq!(missing(&mut reach, &[row(3, None, 0)]), [3], "as often as it is missed");
        assert_eq!(missing(&mut reach, &[]), [0_i16; 0]);
        assert_eq!(missing(&mut reach, &[row(3, None, 0)]), [0_i16; 0], "a look between did not miss it");
        reach.look_away();
        assert_eq!(missing(&mut reach, &[row(3, None, 0)]), [0_i16; 0], "a look between failed");
    }

    #[test]
    fn a_row_that_names_us_is_a_deaths_until_this_process_may_have_acquired_it() {
        let mut reach = Reach::default();
        let left = row(3, Some(ME), 4);
        // From before a restart, and locked: we do not have it, so what is said of it stays the same.
        assert_eq!(missing(&mut reach, std::slice::from_ref(&left)), [0_i16; 0]);
        assert_eq!(missing(&mut reach, std::slice::from_ref(&left)), [3]);
        let alone = reach.out(ME, left);
        assert!(alone.died);
        // The answer was lost: the row may name us by this.
        assert!(!reach.out(ME, row(3, Some(ME), 5)).died);
        assert!(reach.out(ME, row(3, Some(Uuid::from_u128(2)), 6)).died, "another's");
        assert!(!reach.out(ME, row(3, None, 6)).died, "handed over");
    }
}
