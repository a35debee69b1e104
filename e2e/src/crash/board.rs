//! Which life comes next: pure.
//!
//! A column is what grows in one direction: the points of a kind, or, in pairs, the second points of a kind and its first
//! one. It ends where lives are no longer long enough to reach the point, not at a number that was known before. Points
//! that run side by side may change places from one life to the next, so one that was not reached below one that was is
//! tried again.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use serde::{Deserialize, Serialize};

use super::Life;
use crate::{load::Kind, stack::Member};

/// Lives that do not reach their point, beyond the last that did, before a column is at its end.
const BEYOND: usize = 2;
/// How often a point is tried that was not reached although a later one was.
const TRIES: u32 = 4;

/// Where the second death is to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Second {
    /// The j-th point of work since the start.
    Work(u64),
    /// The j-th point of what goes by the clock.
    Clock(u64),
}

impl fmt::Display for Second {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Work(at) => write!(f, "{at}"),
            Self::Clock(at) => write!(f, "clock {at}"),
        }
    }
}

/// One life to be led.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Job {
    pub kind: Kind,
    pub first: u64,
    pub second: Option<Second>,
    /// Who is to die, where every service is a process of its own.
    pub member: Option<Member>,
    column: usize,
    at: u64,
}

impl Job {
    /// One that is on no board.
    pub(super) const fn new(kind: Kind, first: u64, second: Option<Second>) -> Self {
        Self { kind, first, second, member: None, column: 0, at: first }
    }
}

impl fmt::Display for Job {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} ", self.kind)?;
        self.member.map_or(Ok(()), |member| write!(f, "{member} "))?;
        write!(f, "{}", self.first)?;
        self.second.map_or(Ok(()), |second| write!(f, ", then {second}"))
    }
}

/// What a column counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Axis {
    First,
    Second { first: u64 },
    Clock { first: u64, until: u64 },
}

#[derive(Debug, Clone)]
struct Column {
    kind: Kind,
    member: Option<Member>,
    axis: Axis,
    next: u64,
    step: u64,
    /// The farthest that was reached.
    farthest: u64,
    missed: BTreeMap<u64, u32>,
    done: BTreeSet<u64>,
    in_hand: usize,
    /// Its first death did not come, over and over; or a life of it failed.
    given_up: u32,
    /// About how long it is.
    expected: u64,
}

impl Column {
    fn is_at_its_end(&self) -> bool {
        let by_clock = matches!(self.axis, Axis::Clock { until, .. } if self.next > until);
        let beyond = self.missed.range(self.farthest + 1..).count() >= BEYOND;
        by_clock || beyond || self.given_up >= TRIES
    }

    fn again(&self) -> Option<u64> {
        if self.given_up >= TRIES {
            return None;
        }
        let again = self.missed.range(..self.farthest).find(|(_, tries)| **tries < TRIES);
        again.map(|(at, _)| *at)
    }

    fn has_something(&self) -> bool {
        !self.is_at_its_end() || self.again().is_some()
    }

    fn take(&mut self) -> Option<u64> {
        let at = if self.is_at_its_end() {
            let at = self.again()?;
            *self.missed.entry(at).or_default() += 1;
            at
        } else {
            let at = self.next;
            self.next += self.step;
            at
        };
        self.in_hand += 1;
        Some(at)
    }

    fn note(&mut self, at: u64, reached: bool) {
        if reached {
            self.farthest = self.farthest.max(at);
            self.missed.remove(&at);
            self.done.insert(at);
        } else {
            self.missed.entry(at).or_insert(1);
        }
    }
}

/// All columns.
#[derive(Debug, Clone, Default)]
pub struct Board {
    columns: Vec<Column>,
    keep: Option<(f64, u64)>,
    lives: u64,
    known: BTreeSet<(Kind, u64, Option<Second>)>,
}

impl Board {
    /// Every `step`-th point of each kind, from `from` on.
    #[must_use]
    pub fn of_points(kinds: &[Kind], from: u64, step: u64) -> Self {
        let column = |kind: &Kind| Column { next: from, step, ..column(*kind, Axis::First, 0) };
        Self { columns: kinds.iter().map(column).collect(), ..Self::default() }
    }

    /// Every point of each kind from `from` on: every second one of all kinds first, so that a run whose time is up has been
    /// everywhere.
    #[must_use]
    pub fn of_all_points(kinds: &[Kind], from: u64) -> Self {
        let mut board = Self::of_points(kinds, from, 2);
        board.columns.extend(Self::of_points(kinds, from + 1, 2).columns);
        board
    }

    /// Every `step`-th point of each member in orders of each kind.
    #[must_use]
    pub fn of_members(kinds: &[Kind], members: &[Member], from: u64, step: u64) -> Self {
        let mut board = Self::default();
        for member in members {
            let columns = Self::of_points(kinds, from, step).columns;
            board.columns.extend(columns.into_iter().map(|c| Column { member: Some(*member), ..c }));
        }
        board
    }

    /// And, after a death at `first` in an order of this kind, each point of the clock up to `until`.
    pub fn add_clock(&mut self, kind: Kind, first: u64, until: u64) {
        self.columns.push(column(kind, Axis::Clock { first, until }, until));
    }

    /// Adds a column of pairs: the second points after a death at `first`, about this many.
    pub fn add_pairs(&mut self, kind: Kind, first: u64, expected: u64) {
        self.columns.push(column(kind, Axis::Second { first }, expected));
    }

    /// Only this part of the pairs, drawn by the seed.
    pub fn sample(&mut self, part: f64, seed: u64) {
        self.keep = (part < 1.0).then_some((part, seed));
    }

    /// In an order drawn by the seed, so that the time that is left can be told from the time that was needed.
    pub fn shuffle(&mut self, seed: u64) {
        self.columns.sort_by_key(|column| match column.axis {
            Axis::First => 0,
            Axis::Second { first } | Axis::Clock { first, .. } => mix(seed, column.kind, first, 0),
        });
    }

    /// A life that an earlier run has led.
    pub fn remember(&mut self, life: &Life) {
        let column = self.columns.iter_mut().find(|column| {
            let same = match (column.axis, life.second) {
                (Axis::First, None) => true,
                (Axis::Second { first }, Some(Second::Work(_)))
                | (Axis::Clock { first, .. }, Some(Second::Clock(_))) => first == life.first,
                _ => false,
            };
            column.kind == life.kind && same
        });
        if let Some(column) = column {
            let at = match life.second {
                Some(Second::Work(at) | Second::Clock(at)) => at,
                None => life.first,
            };
            if life.died.is_empty() && life.second.is_some() {
                column.given_up += 1;
            } else {
                column.note(at, life.reached());
            }
            self.known.insert((life.kind, life.first, life.second));
            self.lives += 1;
        }
    }

    /// The next life, of the column that has the fewest in hand.
    pub fn take(&mut self) -> Option<Job> {
        loop {
            let open = self.columns.iter_mut().enumerate().filter(|(_, column)| column.has_something());
            let (place, column) = open.min_by_key(|(_, column)| column.in_hand)?;
            let at = column.take()?;
            let (first, second) = match column.axis {
                Axis::First => (at, None),
                Axis::Second { first } => (first, Some(Second::Work(at))),
                Axis::Clock { first, .. } => (first, Some(Second::Clock(at))),
            };
            let Column { kind, member, .. } = *column;
            let job = Job { kind, first, second, member, column: place, at };
            let is_left_out = self.keep.is_some_and(|(part, seed)| {
                let drawn = mix(seed, job.kind, first, at);
                // Beyond what is expected each is led, or the column would have no end.
                at <= column.expected && drawn as f64 / u64::MAX as f64 > part
            });
            let is_again = column.missed.contains_key(&at);
            if is_left_out || (self.known.contains(&(job.kind, first, second)) && !is_again) {
                column.in_hand -= 1;
                continue;
            }
            return Some(job);
        }
    }

    /// What became of it.
    pub fn note(&mut self, job: &Job, life: &Life) {
        let column = &mut self.columns[job.column];
        column.in_hand -= 1;
        self.lives += 1;
        if life.died.is_empty() && job.second.is_some() {
            column.given_up += 1;
        } else {
            column.note(job.at, life.reached());
        }
    }

    /// The life failed: its point is not tried again, and a column in which that happens over and over is left.
    pub fn give_up(&mut self, job: &Job) {
        let column = &mut self.columns[job.column];
        column.in_hand -= 1;
        column.given_up += 1;
        self.lives += 1;
    }

    #[must_use]
    pub fn is_done(&self) -> bool {
        self.columns.iter().all(|column| column.in_hand == 0 && !column.has_something())
    }

    /// Lives led, and about how many there are, if that is known.
    #[must_use]
    pub fn progress(&self) -> (u64, Option<u64>) {
        let part = self.keep.map_or(1.0, |(part, _)| part);
        let expected: u64 = self.columns.iter().map(|column| column.expected).sum();
        let of = (expected as f64 * part) as u64;
        (self.lives, (of > 0 && self.columns.iter().all(|column| column.expected > 0)).then_some(of))
    }

    /// Per kind: the farthest point that was reached; summed over members.
    #[must_use]
    pub fn farthest(&self) -> BTreeMap<Kind, u64> {
        let mut of_members = BTreeMap::<(Kind, Option<String>), u64>::new();
        for column in self.columns.iter().filter(|column| column.axis == Axis::First) {
            let member = column.member.map(|member| member.to_string());
            let farthest = of_members.entry((column.kind, member)).or_default();
            *farthest = column.farthest.max(*farthest);
        }
        let mut farthest = BTreeMap::new();
        for ((kind, _), of_member) in of_members {
            *farthest.entry(kind).or_default() += of_member;
        }
        farthest
    }

    /// Points that no life reached although a later one was, and columns that were left.
    #[must_use]
    pub fn not_reached(&self) -> Vec<String> {
        let mut left = Vec::new();
        for column in &self.columns {
            let name = match column.axis {
                Axis::First => {
                    let member = column.member.map_or_else(String::new, |member| format!(" {member}"));
                    format!("{:?}{member}", column.kind)
                }
                Axis::Second { first } => format!("{:?} {first}, then", column.kind),
                Axis::Clock { first, .. } => format!("{:?} {first}, then clock", column.kind),
            };
            if column.given_up >= TRIES {
                left.push(format!("{name} …: left after {TRIES} lives"));
            }
            left.extend(column.missed.range(..column.farthest).map(|(at, _)| format!("{name} {at}")));
        }
        left
    }
}

const fn column(kind: Kind, axis: Axis, expected: u64) -> Column {
    Column {
        kind,
        member: None,
        axis,
        next: 1,
        step: 1,
        farthest: 0,
        missed: BTreeMap::new(),
        done: BTreeSet::new(),
        in_hand: 0,
        given_up: 0,
        expected,
    }
}

/// A number that is drawn from these (splitmix64).
fn mix(seed: u64, kind: Kind, first: u64, second: u64) -> u64 {
    [kind as u64, first, second].into_iter().fold(seed, |state, more| {
        let mut z = (state ^ more).wrapping_add(0x9e37_79b9_7f4a_7c15);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Leads lives that reach their point up to `length`; the points that were tried.
    fn lead(board: &mut Board, length: impl Fn(&Job) -> u64) -> Vec<(u64, Option<Second>)> {
        let mut led = Vec::new();
        while let Some(job) = board.take() {
            let reached = job.at <= length(&job);
            let mut died = vec!["first".to_owned(); usize::from(job.second.is_some() || reached)];
            died.extend((job.second.is_some() && reached).then(|| "second".to_owned()));
            led.push((job.first, job.second));
            let life = Life { died, ..Life::of(&job) };
            board.note(&job, &life);
        }
        assert!(board.is_done());
        led
    }

    #[test]
    fn a_column_ends_where_lives_are_too_short() {
        let mut board = Board::of_points(&[Kind::Plain], 1, 1);
        let led = lead(&mut board, |_| 3);
        assert_eq!(led, [1, 2, 3, 4, 5].map(|at| (at, None)));
        assert_eq!(board.farthest()[&Kind::Plain], 3);
        assert!(board.not_reached().is_empty());
    }

    #[test]
    fn all_points_are_every_second_one_of_all_kinds_and_then_the_others() {
        let mut board = Board::of_all_points(&[Kind::Plain, Kind::Declined], 1);
        let mut both = Vec::new();
        while let Some(job) = board.take() {
            let died = vec!["first".to_owned(); usize::from(job.at <= 4)];
            both.push((job.kind, job.first));
            let life = Life { died, ..Life::of(&job) };
            board.note(&job, &life);
        }
        assert!(board.is_done());
        let odd = |kind| [1, 3, 5, 7].map(|at| (kind, at));
        let even = |kind| [2, 4, 6, 8].map(|at| (kind, at));
        let expected = [odd(Kind::Plain), odd(Kind::Declined), even(Kind::Plain), even(Kind::Declined)];
        assert_eq!(both, expected.concat());
        assert_eq!(board.farthest(), BTreeMap::from([(Kind::Plain, 4), (Kind::Declined, 4)]));
    }

    #[test]
    fn every_so_many_from_some_point_on() {
        let mut board = Board::of_points(&[Kind::Plain], 2, 3);
        let led = lead(&mut board, |_| 7);
        assert_eq!(led, [2, 5, 8, 11].map(|at| (at, None)));
    }

    #[test]
    fn what_was_not_reached_below_what_was_is_tried_again_and_told() {
        let mut board = Board::of_points(&[Kind::Plain], 1, 1);
        let led = lead(&mut board, |job| if job.first == 2 { 0 } else { 3 });
        assert_eq!(led.iter().filter(|(at, _)| *at == 2).count(), 4);
        assert_eq!(board.not_reached(), ["Plain 2"]);
    }

    #[test]
    fn pairs_go_on_until_the_recovery_is_too_short_and_an_earlier_run_is_not_repeated() {
        let mut board = Board::default();
        board.add_pairs(Kind::Plain, 7, 2);
        let job = Job::new(Kind::Plain, 7, Some(Second::Work(1)));
        board.remember(&Life { died: vec!["a".into(), "b".into()], ..Life::of(&job) });
        let led = lead(&mut board, |_| 2);
        assert_eq!(led, [2, 3, 4].map(|at| (7, Some(Second::Work(at)))));
    }

    #[test]
    fn a_sample_is_a_part_and_the_same_part_each_time() {
        let led = || {
            let mut board = Board::default();
            board.add_pairs(Kind::Plain, 7, 1000);
            board.sample(0.1, 42);
            lead(&mut board, |_| 1000)
        };
        let first = led();
        assert!((60..160).contains(&first.len()), "{}", first.len());
        assert_eq!(first, led());
    }
}
