//! The barrier: a step happens at most once, and never after its compensation.
//!
//! Pure rules only. A participant keeps, in the record of the step itself, two sets of columns, `forward_*` and
//! `back_*`; it loads them under lock, asks [`forward`] or [`back`] what follows, and writes the outcome in the
//! transaction of the effect. A tombstone is a record whose `forward_outcome` is `BLOCKED` and whose business columns
//! are null.

use sha2::{Digest as _, Sha256};
use types::StepName;

/// What a record says of one direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// An outside call may be under way.
    Started,
    /// Somebody was told to wait.
    Pending,
    /// It happened.
    Done,
    /// It was refused, and stays so.
    Refused,
    /// It can never happen: a tombstone (forward), or nothing was there to take back (compensation).
    Blocked,
}

impl Outcome {
    /// As the column says it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Started => "STARTED",
            Self::Pending => "PENDING",
            Self::Done => "DONE",
            Self::Refused => "REFUSED",
            Self::Blocked => "BLOCKED",
        }
    }

    /// Reads the column; none when it says something else.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Started, Self::Pending, Self::Done, Self::Refused, Self::Blocked]
            .into_iter()
            .find(|o| o.as_str() == text)
    }
}

/// What was there.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Record {
    /// Of the step.
    pub forward: Outcome,
    /// Of what was asked; empty in a tombstone.
    pub forward_hash: Vec<u8>,
    /// Of its compensation, if one was asked for.
    pub back: Option<Outcome>,
}

/// What follows for a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Forward {
    /// Do it.
    Fresh,
    /// Answer the stored reply.
    Done,
    /// Answer the stored refusal.
    Refused,
    /// Answer pending; never call in parallel.
    InProgress,
    /// Its compensation came first.
    Fenced,
    /// Asked before with another body.
    Mismatch,
}

/// What follows for a compensation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Back {
    /// Nothing is there: write the tombstone and answer *not applied*.
    Tombstone,
    /// The step was done: take it back.
    TakeBack,
    /// The step was refused: record that it is blocked and answer *not applied*.
    Block,
    /// The step is under way: record that it is wanted back; the answer comes when that is done.
    WantBack,
    /// Answer *done* again.
    Done,
    /// Answer *not applied* again.
    NotApplied,
    /// The taking back is under way; the answer comes when it is done.
    InProgress,
}

/// What follows when a step with this hash is asked for.
#[must_use]
pub fn forward(found: Option<&Record>, hash: &[u8]) -> Forward {
    let Some(record) = found else { return Forward::Fresh };
    if record.back.is_some() || record.forward == Outcome::Blocked {
        return Forward::Fenced;
    }
    if record.forward_hash != hash {
        return Forward::Mismatch;
    }
    match record.forward {
        Outcome::Done => Forward::Done,
        Outcome::Refused => Forward::Refused,
        Outcome::Started | Outcome::Pending => Forward::InProgress,
        Outcome::Blocked => Forward::Fenced,
    }
}

/// What follows when a compensation is asked for.
#[must_use]
pub fn back(found: Option<&Record>) -> Back {
    let Some(record) = found else { return Back::Tombstone };
    match (record.back, record.forward) {
        (Some(Outcome::Done), _) => Back::Done,
        (Some(Outcome::Blocked | Outcome::Refused), _) | (None, Outcome::Blocked) => Back::NotApplied,
        (Some(Outcome::Started | Outcome::Pending), _) => Back::InProgress,
        (None, Outcome::Done) => Back::TakeBack,
        (None, Outcome::Refused) => Back::Block,
        (None, Outcome::Started | Outcome::Pending) => Back::WantBack,
    }
}

/// A later step that closed another step's record: from then on that is not taken back, nor closed again.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Closed {
    /// The later step.
    pub step: StepName,
    /// Of what it was asked.
    pub hash: Vec<u8>,
}

/// What follows for a step that closes another step's record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Close {
    /// Do it.
    Fresh,
    /// It is closed: answer *done* again.
    Done,
    /// Asked before with another body.
    Mismatch,
    /// A mistake of the caller, for a person to see: there is nothing live to close.
    Impossible(&'static str),
}

/// What follows when `step` with this hash is to close a record.
#[must_use]
pub fn close(found: Option<&Record>, closed: Option<&Closed>, step: &StepName, hash: &[u8]) -> Close {
    let Some(record) = found else { return Close::Impossible("there is no record of its step") };
    match (closed, record.back, record.forward) {
        (Some(closed), ..) if closed.step != *step => Close::Impossible("another step closed it"),
        (Some(closed), ..) if closed.hash != hash => Close::Mismatch,
        (Some(_), ..) => Close::Done,
        (None, Some(_), _) | (None, None, Outcome::Blocked) => Close::Impossible("it was taken back"),
        (None, None, Outcome::Done) => Close::Fresh,
        (None, None, Outcome::Refused) => Close::Impossible("its step was refused"),
        (None, None, Outcome::Started | Outcome::Pending) => Close::Impossible("its step is under way"),
    }
}

/// The hash of what was asked: a version byte, then the first 16 bytes of SHA-256 over the named fields.
///
/// Only fields that say what should happen go in; times, attempts and traces do not. The version stands in front so
/// that a newer build with other fields knows which rule an old row was made by.
#[derive(Debug, Clone)]
pub struct RequestHash {
    version: u8,
    hash: Sha256,
}

impl RequestHash {
    /// Begins with a version of the field list.
    #[must_use]
    pub fn new(version: u8) -> Self {
        Self { version, hash: Sha256::new() }
    }

    /// Adds a field. Name and length go in too, so that fields cannot run into each other.
    #[must_use]
    pub fn field(mut self, name: &str, value: &[u8]) -> Self {
        for part in [name.as_bytes(), value] {
            self.hash.update((part.len() as u64).to_be_bytes());
            self.hash.update(part);
        }
        self
    }

    /// The 17 bytes.
    #[must_use]
    pub fn finish(self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(17);
        bytes.push(self.version);
        bytes.extend_from_slice(&self.hash.finalize()[..16]);
        bytes
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn record(forward: Outcome, back: Option<Outcome>) -> Record {
        Record { forward, forward_hash: vec![1], back }
    }

    #[test]
    fn a_repeat_answers_what_is_stored() {
        assert_eq!(forward(None, &[1]), Forward::Fresh);
        assert_eq!(forward(Some(&record(Outcome::Done, None)), &[1]), Forward::Done);
        assert_eq!(forward(Some(&record(Outcome::Refused, None)), &[1]), Forward::Refused);
        assert_eq!(forward(Some(&record(Outcome::Started, None)), &[1]), Forward::InProgress);
        assert_eq!(forward(Some(&record(Outcome::Done, None)), &[2]), Forward::Mismatch);
    }

    #[test]
    fn a_compensation_first_leaves_a_tombstone_for_ever() {
        assert_eq!(back(None), Back::Tombstone);
        let tombstone =
            Record { forward: Outcome::Blocked, forward_hash: vec![], back: Some(Outcome::Blocked) };
        assert_eq!(forward(Some(&tombstone), &[1]), Forward::Fenced);
        assert_eq!(back(Some(&tombstone)), Back::NotApplied);
    }

    #[test]
    fn a_record_is_closed_once_and_only_while_it_lives() {
        let step: StepName = "commit".parse().unwrap();
        let closed = Closed { step: step.clone(), hash: vec![7] };
        let other = Closed { step: "sell".parse().unwrap(), hash: vec![7] };
        let live = record(Outcome::Done, None);
        assert_eq!(close(Some(&live), None, &step, &[7]), Close::Fresh);
        assert_eq!(close(Some(&live), Some(&closed), &step, &[7]), Close::Done);
        assert_eq!(close(Some(&live), Some(&closed), &step, &[8]), Close::Mismatch);
        for (name, found, closed) in [
            ("nothing there", None, None),
            ("closed by another step", Some(&live), Some(&other)),
            ("taken back", Some(&record(Outcome::Done, Some(Outcome::Done))), None),
            ("a tombstone", Some(&record(Outcome::Blocked, Some(Outcome::Blocked))), None),
            ("refused", Some(&record(Outcome::Refused, None)), None),
            ("under way", Some(&record(Outcome::Started, None)), None),
        ] {
            assert!(matches!(close(found, closed, &step, &[7]), Close::Impossible(_)), "{name}");
        }
    }

    fn outcomes() -> impl Strategy<Value = Outcome> {
        prop::sample::select(vec![
            Outcome::Started,
            Outcome::Pending,
            Outcome::Done,
            Outcome::Refused,
            Outcome::Blocked,
        ])
    }

    proptest! {
        /// Whatever was there, a step never runs once a compensation was recorded, not even as a stored DONE.
        #[test]
        fn never_after_its_compensation(f in outcomes(), b in outcomes(), hash in any::<u8>()) {
            prop_assert_eq!(forward(Some(&record(f, Some(b))), &[hash]), Forward::Fenced);
        }

        /// A compensation takes back exactly what was done, and only while nobody has.
        #[test]
        fn taken_back_once(f in outcomes(), b in prop::option::of(outcomes())) {
            let takes = back(Some(&record(f, b))) == Back::TakeBack;
            prop_assert_eq!(takes, f == Outcome::Done && b.is_none());
        }
    }
}
