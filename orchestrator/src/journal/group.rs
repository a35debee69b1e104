//! Which transitions go in the next commit.

use std::collections::{HashMap, HashSet, VecDeque};

use super::Transition;
use crate::participants::CROWD;

/// Transitions in one commit at most.
const GROUP: usize = 512;

/// The next group, in order. A saga stands in it once, and a shard under one epoch: what was decided before a shard was lost
/// and won again may still wait here, and what is written for one must not go for the other. An outage leaves a crowd, and of
/// those that it held up no more go together than [`CROWD`]. What does not fit keeps its place.
pub fn take_group(waiting: &mut VecDeque<Transition>) -> Vec<Transition> {
    let (mut sagas, mut epochs) = (HashSet::new(), HashMap::new());
    let mut may_go = |transition: &Transition| {
        let is_first = sagas.insert(transition.saga);
        is_first && *epochs.entry(transition.shard).or_insert(transition.epoch) == transition.epoch
    };
    let candidates: Vec<bool> = waiting.iter().map(&mut may_go).collect();
    let count = |is_fresh| {
        waiting.iter().zip(&candidates).filter(|(t, may_go)| **may_go && t.is_fresh == is_fresh).count()
    };
    let mut others = count(false).min(CROWD);
    let mut fresh = count(true).min(GROUP - others);
    let (mut group, mut rest) = (Vec::new(), VecDeque::new());
    for (transition, may_go) in waiting.drain(..).zip(candidates) {
        let room = if transition.is_fresh { &mut fresh } else { &mut others };
        if may_go && *room > 0 {
            *room -= 1;
            group.push(transition);
        } else {
            rest.push_back(transition);
        }
    }
    *waiting = rest;
    group
}

#[cfg(test)]
mod tests {
    use types::SagaId;
    use uuid::Uuid;

    use super::*;

    fn one(saga: u128, shard: i16, epoch: i64) -> Transition {
        Transition {
            saga: SagaId::from_uuid(Uuid::from_u128(saga)),
            shard,
            epoch,
            version: 1,
            commit_id: chassis::clock::new_uuid(),
            events: Vec::new(),
            state: "RUNNING",
            reason: String::new(),
            ended: false,
            projection: None,
            messages: Vec::new(),
            signals: Vec::new(),
            is_fresh: true,
        }
    }

    /// Found by the simulator (seeds 64686 and 413178): of two transitions of one saga the first was lost with its epoch, and
    /// its messages went out with the second.
    #[test]
    fn a_group_has_a_saga_once_and_a_shard_under_one_epoch_and_keeps_the_order() {
        let mut waiting = VecDeque::from([
            one(1, 0, 3),
            one(2, 1, 1),
            one(1, 0, 5),
            one(3, 0, 5),
            one(3, 0, 3),
            one(4, 0, 3),
        ]);
        let mut groups = Vec::new();
        while !waiting.is_empty() {
            let group = take_group(&mut waiting);
            groups.push(group.iter().map(|t| (t.saga.uuid().as_u128(), t.epoch)).collect::<Vec<_>>());
        }
        assert_eq!(groups, [vec![(1, 3), (2, 1), (4, 3)], vec![(1, 5), (3, 5)], vec![(3, 3)]]);
        let mut many: VecDeque<_> = (0..600).map(|saga| one(saga, 0, 1)).collect();
        assert_eq!((take_group(&mut many).len(), many.len()), (GROUP, 88));
    }

    #[test]
    fn those_whom_nothing_held_up_have_most_of_a_group_that_a_crowd_waits_for() {
        let one = |saga: u128, is_fresh| Transition { is_fresh, ..one(saga, 0, 1) };
        let numbers =
            |group: &[Transition]| group.iter().map(|t| t.saga.uuid().as_u128()).collect::<Vec<_>>();
        let mut waiting: VecDeque<_> = (0..1000).map(|saga| one(saga, false)).collect();
        waiting.extend([one(1000, true), one(1001, true)]);
        let group = take_group(&mut waiting);
        assert_eq!(numbers(&group), (0..CROWD as u128).chain([1000, 1001]).collect::<Vec<_>>());
        waiting.extend((2000..3000).map(|saga| one(saga, true)));
        let group = take_group(&mut waiting);
        assert_eq!(group.iter().filter(|t| !t.is_fresh).count(), CROWD);
        assert_eq!((group.len(), waiting.len()), (GROUP, 2002 - CROWD - 2 - GROUP));

        // What was decided first for a saga goes first, whatever it is.
        let mut waiting: VecDeque<_> = (0..600).map(|saga| one(saga, false)).collect();
        waiting.push_back(one(599, true));
        assert!(take_group(&mut waiting).iter().all(|t| !t.is_fresh));
    }
}
