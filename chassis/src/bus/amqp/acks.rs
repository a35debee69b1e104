//! What was settled, until the broker is told: together, because each acknowledgement is an entry in the log of a quorum
//! queue of its own, however many messages it is for.
//!
//! Delivery tags count up from 1. The broker is told of all up to the first that is not settled yet at once. One that is
//! settled behind a message that is held is told by itself, when it has waited for a while: it takes a place in the window,
//! and the broker sends no more once those are full. What is not told when the connection breaks comes again.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::sync::Notify;

/// The broker is told of a settled message this much later.
const LINGER: Duration = Duration::from_millis(20);

/// Of one session, that is of one channel.
#[derive(Debug)]
pub(super) struct Acks {
    tags: Mutex<Tags>,
    /// So many are not waited with.
    many: usize,
    some: Notify,
    enough: Notify,
}

impl Acks {
    /// Where the broker has `window` messages in hand at most.
    pub(super) fn new(window: u16) -> Self {
        let many = usize::from(window - window / 4).max(1);
        Self { tags: Mutex::default(), many, some: Notify::new(), enough: Notify::new() }
    }

    /// It is settled, and the broker may be told.
    pub(super) fn settled(&self, tag: u64) {
        let mut tags = self.tags();
        tags.settled(tag);
        if tags.waiting() >= self.many {
            self.enough.notify_one();
        }
        self.some.notify_one();
    }

    /// Until the broker should be told.
    pub(super) async fn ripe(&self) {
        self.some.notified().await;
        tokio::select! {
            () = tokio::time::sleep(LINGER) => {}
            () = self.enough.notified() => {}
        }
    }

    /// What it is told.
    pub(super) fn take(&self) -> Told {
        let mut tags = self.tags();
        let told = tags.take(self.many);
        if tags.waiting() > 0 {
            self.some.notify_one();
        }
        told
    }

    /// What it is told at the end: all.
    pub(super) fn take_all(&self) -> Told {
        self.tags().take(0)
    }

    fn tags(&self) -> MutexGuard<'_, Tags> {
        self.tags.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the broker is told.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Told {
    /// All up to this one. Never one that was told before: of such the broker knows nothing, and closes the channel.
    pub(super) up_to: Option<u64>,
    /// And these.
    pub(super) alone: Vec<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Settled,
    /// It stood behind one that is not settled when the broker was told last.
    Behind,
    /// The broker was told of it alone.
    Told,
}

#[derive(Debug, Default)]
struct Tags {
    /// It and all before it are settled.
    through: u64,
    /// Those settled after it.
    behind: BTreeMap<u64, State>,
    told: usize,
}

impl Tags {
    fn settled(&mut self, tag: u64) {
        self.behind.insert(tag, State::Settled);
    }

    /// How many are settled that the broker was not told of.
    fn waiting(&self) -> usize {
        self.behind.len() - self.told
    }

    /// Where `many` are left behind, none of them waits.
    fn take(&mut self, many: usize) -> Told {
        let mut told = Told::default();
        while let Some(first) = self.behind.first_entry()
            && *first.key() == self.through + 1
        {
            let (tag, state) = first.remove_entry();
            self.through = tag;
            if state == State::Told {
                self.told -= 1;
            } else {
                told.up_to = Some(tag);
            }
        }
        let urgent = self.waiting() >= many;
        for (tag, state) in &mut self.behind {
            *state = match *state {
                State::Settled if !urgent => State::Behind,
                State::Settled | State::Behind => {
                    told.alone.push(*tag);
                    self.told += 1;
                    State::Told
                }
                State::Told => State::Told,
            };
        }
        told
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn tags(settled: &[u64]) -> Tags {
        let mut tags = Tags::default();
        settled.iter().for_each(|tag| tags.settled(*tag));
        tags
    }

    fn told(up_to: Option<u64>, alone: &[u64]) -> Told {
        Told { up_to, alone: alone.to_vec() }
    }

    #[test]
    fn all_up_to_the_first_that_is_not_settled_are_told_at_once() {
        let mut tags = tags(&[2, 1, 3, 5]);
        assert_eq!(tags.take(9), told(Some(3), &[]));
        tags.settled(4);
        assert_eq!(tags.take(9), told(Some(5), &[]));
        assert_eq!((tags.take(9), tags.waiting()), (told(None, &[]), 0));
    }

    #[test]
    fn what_stands_behind_one_that_is_held_is_told_alone_after_a_while() {
        let mut tags = tags(&[1, 3]);
        assert_eq!(tags.take(9), told(Some(1), &[]));
        tags.settled(4);
        assert_eq!(tags.take(9), told(None, &[3]), "it has waited");
        assert_eq!(tags.take(9), told(None, &[4]));
        assert_eq!(tags.waiting(), 0);
        tags.settled(2);
        assert_eq!(tags.take(9), told(Some(2), &[]), "the broker knows nothing of 3 and 4 any more");
    }

    #[test]
    fn nobody_waits_behind_one_that_is_held_where_many_do() {
        assert_eq!(tags(&[1, 3, 4]).take(3), told(Some(1), &[]));
        assert_eq!(tags(&[1, 3, 4]).take(2), told(Some(1), &[3, 4]));
    }

    #[tokio::test(start_paused = true)]
    async fn a_lone_message_waits_for_others_and_most_of_a_window_for_nobody() {
        let acks = Acks::new(5);
        let began = tokio::time::Instant::now();
        acks.settled(1);
        acks.ripe().await;
        assert_eq!((began.elapsed(), acks.take()), (LINGER, told(Some(1), &[])));
        let began = tokio::time::Instant::now();
        (2..6).for_each(|tag| acks.settled(tag));
        acks.ripe().await;
        assert_eq!((began.elapsed(), acks.take()), (Duration::ZERO, told(Some(5), &[])));
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_is_left_behind_is_seen_to_without_another_being_settled() {
        let acks = Acks::new(5);
        acks.settled(2);
        acks.ripe().await;
        assert_eq!(acks.take(), told(None, &[]));
        acks.ripe().await;
        assert_eq!(acks.take(), told(None, &[2]));
        assert!(tokio::time::timeout(Duration::from_secs(60), acks.ripe()).await.is_err(), "nothing is left");
    }

    /// What a broker does (`collect_acks`): it closes the channel when it is told of a tag that is not in hand.
    fn hear(in_hand: &mut BTreeSet<u64>, told: &Told) {
        if let Some(tag) = told.up_to {
            assert!(in_hand.contains(&tag), "{tag} is not in hand");
            *in_hand = in_hand.split_off(&(tag + 1));
        }
        for tag in &told.alone {
            assert!(in_hand.remove(tag), "{tag} is not in hand");
        }
    }

    proptest! {
        #[test]
        fn whatever_the_order_all_are_told_once_and_none_before_it_is_settled(
            order in Just((1..=40u64).collect::<Vec<_>>()).prop_shuffle(),
            looks in prop::collection::vec(prop::option::of(0..6usize), 40),
        ) {
            let (mut tags, mut in_hand) = (Tags::default(), (1..=40).collect::<BTreeSet<u64>>());
            let mut open: BTreeSet<u64> = in_hand.clone();
            for (tag, look) in order.into_iter().zip(looks) {
                tags.settled(tag);
                open.remove(&tag);
                if let Some(many) = look {
                    hear(&mut in_hand, &tags.take(many));
                    prop_assert!(in_hand.is_superset(&open), "told before it was settled");
                }
            }
            hear(&mut in_hand, &tags.take(0));
            prop_assert!(in_hand.is_empty());
        }
    }
}
