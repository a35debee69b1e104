//! Counts what was judged and what was found, over two passes.
//!
//! A *certain* finding is made within one snapshot of one database and counts at once. A *suspect* was put together
//! from several databases: it counts if the second pass finds it again, in the same words and over unchanged rows. Of a
//! suspect only a hash is kept between the passes.

use std::{
    collections::HashSet,
    hash::{DefaultHasher, Hash, Hasher as _},
};

use super::{
    Options,
    anchor::Anchor,
    figures::Figures,
    report::{Invariant, Judged, Listed, Report},
};

/// Which read it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pass {
    First,
    Second,
}

/// The count.
pub(super) struct Tally {
    pass: Pass,
    keep: usize,
    judged: Vec<Judged>,
    suspects: HashSet<(u64, u64)>,
    /// In the present page.
    fresh: bool,
}

impl Tally {
    pub(super) fn new(keep: usize) -> Self {
        let judged = Invariant::ALL.map(|invariant| Judged {
            id: invariant.id(),
            sentence: invariant.sentence(),
            checked: 0,
            violations: Listed::default(),
            information: Listed::default(),
        });
        Self { pass: Pass::First, keep, judged: judged.into(), suspects: HashSet::new(), fresh: false }
    }

    pub(super) fn has_suspects(&self) -> bool {
        !self.suspects.is_empty()
    }

    /// The second pass begins.
    pub(super) const fn look_again(&mut self) {
        self.pass = Pass::Second;
    }

    /// So many more were judged.
    pub(super) fn checked(&mut self, invariant: Invariant, count: u64) {
        if self.pass == Pass::First {
            self.judged[invariant as usize].checked += count;
        }
    }

    /// Proven by one snapshot.
    pub(super) fn certain(&mut self, invariant: Invariant, text: String) {
        if self.pass == Pass::First {
            list(&mut self.judged[invariant as usize].violations, self.keep, text);
        }
    }

    /// To be looked at twice. The witness stands for the rows that it was put together from.
    pub(super) fn suspect(&mut self, invariant: Invariant, witness: u64, text: String) {
        let key = (hash(&(invariant, &text)), witness);
        match self.pass {
            Pass::First => {
                self.fresh |= self.suspects.insert(key);
            }
            Pass::Second if self.suspects.remove(&key) => {
                list(&mut self.judged[invariant as usize].violations, self.keep, text);
            }
            Pass::Second => {}
        }
    }

    /// For people; no violation.
    pub(super) fn inform(&mut self, invariant: Invariant, text: String) {
        if self.pass == Pass::First {
            list(&mut self.judged[invariant as usize].information, self.keep, text);
        }
    }

    /// Whether there was a suspect since this was last asked.
    pub(super) const fn take_fresh(&mut self) -> bool {
        std::mem::replace(&mut self.fresh, false)
    }

    pub(super) fn report(mut self, options: &Options, anchor: Option<Anchor>, figures: Figures) -> Report {
        if options.acknowledged.is_none() {
            let text = "no record of acknowledged orders was given";
            self.inform_at_the_end(Invariant::I7, text);
        }
        let anchor = anchor.map(|anchor| anchor.to_string());
        let mut report = Report { clean: false, invariants: self.judged, anchor, figures };
        report.clean = report.is_clean();
        report
    }

    fn inform_at_the_end(&mut self, invariant: Invariant, text: &str) {
        list(&mut self.judged[invariant as usize].information, self.keep, text.to_owned());
    }
}

fn list(listed: &mut Listed, keep: usize, text: String) {
    listed.total += 1;
    if listed.first.len() < keep {
        listed.first.push(text);
    }
}

/// The same in every pass of one process.
pub(super) fn hash(what: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    what.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn total(tally: Tally, invariant: Invariant) -> u64 {
        tally
            .report(&Options::default(), None, Figures::default())
            .judged(invariant)
            .unwrap()
            .violations
            .total
    }

    #[test]
    fn a_suspect_counts_when_it_is_found_unchanged() {
        let mut tally = Tally::new(20);
        tally.suspect(Invariant::I2, 1, "a".into());
        tally.suspect(Invariant::I2, 1, "b".into());
        tally.suspect(Invariant::I2, 1, "c".into());
        assert!(tally.has_suspects() && tally.take_fresh() && !tally.take_fresh());
        tally.look_again();
        tally.suspect(Invariant::I2, 1, "a".into());
        // Its rows have changed.
        tally.suspect(Invariant::I2, 2, "b".into());
        // Not seen the first time.
        tally.suspect(Invariant::I2, 1, "d".into());
        assert_eq!(total(tally, Invariant::I2), 1);
    }

    #[test]
    fn what_is_certain_counts_once_and_only_the_first_are_kept() {
        let mut tally = Tally::new(2);
        for _ in 0..5 {
            tally.certain(Invariant::I1, "x".into());
        }
        assert!(!tally.has_suspects());
        tally.look_again();
        tally.certain(Invariant::I1, "x".into());
        let report = tally.report(&Options::default(), None, Figures::default());
        assert!(!report.is_clean() && !report.clean);
        assert_eq!(report.judged(Invariant::I1).unwrap().violations.total, 5);
        assert_eq!(report.violations(), ["I1: x", "I1: x"]);
    }
}
