//! Who takes what, and who hands what over: pure.
//!
//! Every instance works the same shares out of the same look, so that they need not speak to each other: shards divided
//! by the living, and what does not divide goes one each to those that hold most. Shares add up to all shards; who has
//! its share does nothing, so nobody moves a shard back and forth. Nothing is handed over while something is free.

use uuid::Uuid;

use super::{Look, ShardRow};

/// What an instance should do about shards.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Plan {
    /// Acquire these.
    pub take: Vec<ShardRow>,
    /// Hand these over.
    pub release: Vec<i16>,
}

/// Decides. `mine` are the shards that this process drives now.
///
/// A row that names this instance but is not driven is free to this instance and to nobody else: it is left from before
/// a restart under the same id, or from a commit whose answer was lost.
#[must_use]
pub fn plan(me: Uuid, mine: &[i16], look: &Look, alive: impl Fn(Uuid) -> bool) -> Plan {
    let is_living = |id: Uuid| id == me || alive(id);
    let held = |id: Uuid| look.shards.iter().filter(|row| row.owner == Some(id)).count();
    let mut living: Vec<(usize, Uuid)> =
        look.instances.keys().filter(|id| is_living(**id)).map(|id| (held(*id), *id)).collect();
    living.sort_by_key(|(held, id)| (std::cmp::Reverse(*held), *id));
    let (each, more) = match living.len() {
        0 => return Plan::default(),
        owners => (look.shards.len() / owners, look.shards.len() % owners),
    };
    let share = |place: usize| each + usize::from(place < more);
    let Some(place) = living.iter().position(|(_, id)| *id == me) else { return Plan::default() };

    let undriven: Vec<&ShardRow> =
        look.shards.iter().filter(|row| row.owner == Some(me) && !mine.contains(&row.shard)).collect();
    let free: Vec<&ShardRow> =
        look.shards.iter().filter(|row| row.owner.is_none_or(|owner| !is_living(owner))).collect();
    // Those before me take the first of what is free: nobody reaches for the same shard.
    let before: usize =
        living.iter().enumerate().take(place).map(|(i, (held, _))| share(i).saturating_sub(*held)).sum();
    let again = share(place).saturating_sub(mine.len()).min(undriven.len());
    let new = share(place).saturating_sub(mine.len() + undriven.len());
    let take = undriven.iter().take(again).chain(free.iter().skip(before).take(new));
    let surplus = if free.is_empty() { mine.len().saturating_sub(share(place)) } else { 0 };
    let given_up = undriven.iter().skip(again).map(|row| row.shard);
    Plan {
        take: take.map(|row| (*row).clone()).collect(),
        release: mine.iter().rev().take(surplus).copied().chain(given_up).collect(),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use proptest::prelude::*;

    use super::*;

    pub(in crate::shard) fn id(n: u128) -> Uuid {
        Uuid::from_u128(n)
    }

    pub(in crate::shard) fn look(owners: &[Option<u128>], instances: &[u128]) -> Look {
        Look {
            instances: instances.iter().map(|n| (id(*n), (1, vec![]))).collect(),
            shards: owners
                .iter()
                .zip(0..)
                .map(|(owner, shard)| ShardRow { shard, owner: owner.map(id), released: true, epoch: 1 })
                .collect(),
        }
    }

    fn taken(plan: &Plan) -> Vec<i16> {
        plan.take.iter().map(|row| row.shard).collect()
    }

    #[test]
    fn a_lone_instance_takes_all() {
        let look = look(&[None; 16], &[1]);
        assert_eq!(taken(&plan(id(1), &[], &look, |_| true)).len(), 16);
    }

    #[test]
    fn what_names_an_instance_and_is_not_driven_is_its_own_and_nobody_else_takes_it() {
        let look = look(&[Some(1); 4], &[1, 2]);
        let of_owner = plan(id(1), &[], &look, |_| true);
        // A share of it; what is over is given up, since nobody drives it.
        assert_eq!((taken(&of_owner), of_owner.release), (vec![0, 1], vec![2, 3]));
        assert!(taken(&plan(id(2), &[], &look, |_| true)).is_empty());
        // A commit whose answer was lost: of four, three are driven.
        let lone = super::tests::look(&[Some(1); 4], &[1]);
        assert_eq!(taken(&plan(id(1), &[0, 1, 3], &lone, |_| true)), [2]);
    }

    #[test]
    fn a_newcomer_is_given_its_share() {
        let look = look(&[Some(1); 16], &[1, 2]);
        let mine: Vec<i16> = (0..16).collect();
        assert_eq!(plan(id(1), &mine, &look, |_| true).release.len(), 8);
        assert!(plan(id(2), &[], &look, |_| true).take.is_empty());
    }

    #[test]
    fn shards_of_the_dead_are_shared_and_no_two_reach_for_one() {
        let look = look(&[Some(9), Some(9), Some(9), Some(1)], &[1, 2, 9]);
        let alive = |who: Uuid| who != id(9);
        assert_eq!(taken(&plan(id(1), &[3], &look, alive)), [0]);
        assert_eq!(taken(&plan(id(2), &[], &look, alive)), [1, 2]);
    }

    #[test]
    fn nobody_hands_over_while_something_is_free_or_shares_are_even() {
        let mine: Vec<i16> = (0..8).collect();
        let even: Vec<Option<u128>> = [Some(1); 8].into_iter().chain([Some(2); 8]).collect();
        assert!(plan(id(1), &mine, &look(&even, &[1, 2]), |_| true).release.is_empty());
        let some_free: Vec<Option<u128>> = [Some(1); 12].into_iter().chain([None; 4]).collect();
        let mine: Vec<i16> = (0..12).collect();
        assert!(plan(id(1), &mine, &look(&some_free, &[1, 2]), |_| true).release.is_empty());
    }

    /// Instances and the rows they share.
    #[derive(Debug, Clone)]
    struct House {
        rows: Vec<ShardRow>,
        /// Who lives, and what it drives.
        living: BTreeMap<u128, BTreeSet<i16>>,
        dead: BTreeSet<u128>,
    }

    impl House {
        fn new(shards: i16) -> Self {
            let row = |shard| ShardRow { shard, owner: None, released: true, epoch: 0 };
            Self { rows: (0..shards).map(row).collect(), living: BTreeMap::new(), dead: BTreeSet::new() }
        }

        fn look(&self) -> Look {
            let ids = self.living.keys().chain(&self.dead);
            Look { instances: ids.map(|n| (id(*n), (1, vec![]))).collect(), shards: self.rows.clone() }
        }

        /// One instance looks (or looked, some moments ago) and acts. How many shards it moved.
        fn act(&mut self, who: u128, look: &Look) -> usize {
            let mine: Vec<i16> = self.living[&who].iter().copied().collect();
            let plan = plan(id(who), &mine, look, |other| self.living.keys().any(|n| id(*n) == other));
            let is_free = |row: &ShardRow| row.owner.is_none_or(|o| !self.living.keys().any(|n| id(*n) == o));
            let hands_over_what_it_drives = plan.release.iter().any(|shard| mine.contains(shard));
            assert!(
                !hands_over_what_it_drives || !look.shards.iter().any(is_free),
                "while something is free"
            );
            let mut moved = 0;
            for wanted in &plan.take {
                let row = self.rows.iter_mut().find(|row| row.shard == wanted.shard).unwrap();
                if row.epoch == wanted.epoch {
                    (row.owner, row.epoch) = (Some(id(who)), row.epoch + 1);
                    self.living.get_mut(&who).unwrap().insert(wanted.shard);
                    moved += 1;
                }
            }
            for shard in &plan.release {
                let row = self.rows.iter_mut().find(|row| row.shard == *shard).unwrap();
                if row.owner == Some(id(who)) {
                    row.owner = None;
                    self.living.get_mut(&who).unwrap().remove(shard);
                    moved += 1;
                }
            }
            moved
        }

        /// Everybody looks once: one after the other, or all at the same moment. How many shards moved.
        fn round(&mut self, order: &[u128], at_once: bool) -> usize {
            let before = self.look();
            order
                .iter()
                .map(|who| {
                    let look = if at_once { before.clone() } else { self.look() };
                    self.act(*who, &look)
                })
                .sum()
        }

        /// Becomes even and moves nothing afterwards. One hands over per round at worst, since nobody does while something is
        /// free: as many rounds as instances, and a few.
        fn settles(&mut self, rotate: usize, at_once: bool) {
            let mut order: Vec<u128> = self.living.keys().copied().collect();
            order.rotate_left(rotate % self.living.len());
            let longest = self.living.len() + 4;
            let rests = (0..longest).any(|_| self.round(&order, at_once) == 0);
            assert!(rests, "still moving after {longest} rounds: {self:?}");
            let counts: Vec<usize> = self.living.values().map(BTreeSet::len).collect();
            assert_eq!(counts.iter().sum::<usize>(), self.rows.len(), "nothing is left over: {self:?}");
            assert!(counts.iter().max().unwrap() - counts.iter().min().unwrap() <= 1, "even: {counts:?}");
            assert_eq!(self.round(&order, !at_once), 0, "nothing moves any more");
            for row in &self.rows {
                let drivers: Vec<_> = self.living.iter().filter(|(_, m)| m.contains(&row.shard)).collect();
                assert_eq!(drivers.len(), 1, "one owner: {row:?}");
                assert_eq!(row.owner, Some(id(*drivers[0].0)));
            }
        }
    }

    #[derive(Debug, Clone)]
    enum Turn {
        Join,
        /// Its rows go on naming it until the others see that it is dead.
        Die(usize),
        Leave(usize),
        /// The answer to its last commits was lost: rows name it and it drives nothing of them.
        Forget(usize),
        /// One round of a few moments, with whatever is half done.
        Look(usize, bool),
    }

    fn turn() -> impl Strategy<Value = Turn> {
        prop_oneof![
            3 => Just(Turn::Join),
            2 => (0_usize..8).prop_map(Turn::Die),
            2 => (0_usize..8).prop_map(Turn::Leave),
            1 => (0_usize..8).prop_map(Turn::Forget),
            4 => (0_usize..8, any::<bool>()).prop_map(|(rotate, at_once)| Turn::Look(rotate, at_once)),
        ]
    }

    proptest! {
        #[test]
        fn any_house_becomes_even_in_a_look_each_and_then_rests(
            turns in proptest::collection::vec(turn(), 1..40),
            rotate in 0_usize..8,
            at_once: bool,
        ) {
            let mut house = House::new(16);
            house.living.insert(1, BTreeSet::new());
            let mut next = 2;
            for turn in turns {
                let nth = |n: usize| house.living.keys().nth(n % house.living.len()).copied().unwrap();
                match turn {
                    Turn::Join => {
                        house.living.insert(next, BTreeSet::new());
                        next += 1;
                    }
                    Turn::Die(n) if house.living.len() > 1 => {
                        let who = nth(n);
                        house.living.remove(&who);
                        house.dead.insert(who);
                    }
                    Turn::Leave(n) if house.living.len() > 1 => {
                        let who = nth(n);
                        house.living.remove(&who);
                        for row in &mut house.rows {
                            if row.owner == Some(id(who)) {
                                row.owner = None;
                            }
                        }
                    }
                    Turn::Forget(n) => house.living.get_mut(&nth(n)).unwrap().clear(),
                    Turn::Look(rotate, at_once) => {
                        let mut order: Vec<u128> = house.living.keys().copied().collect();
                        order.rotate_left(rotate % house.living.len());
                        house.round(&order, at_once);
                    }
                    Turn::Die(_) | Turn::Leave(_) => {}
                }
            }
            house.settles(rotate, at_once);
        }
    }

    #[test]
    fn one_then_three_then_two_then_five_instances_share_evenly_at_each_stage() {
        for at_once in [false, true] {
            let mut house = House::new(16);
            house.living.insert(1, BTreeSet::new());
            house.settles(0, at_once);
            house.living.extend([(2, BTreeSet::new()), (3, BTreeSet::new())]);
            house.settles(1, at_once);
            house.living.remove(&1);
            house.dead.insert(1);
            house.settles(0, at_once);
            house.living.extend([(4, BTreeSet::new()), (5, BTreeSet::new()), (6, BTreeSet::new())]);
            house.settles(2, at_once);
        }
    }
}
