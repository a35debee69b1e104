//! Judges one saga by everything that is stored about it. Pure: no database, no clock.
//!
//! One file per matter: `history` (I10 and what one end means, I5), `money` (I2), `stock` (I4), `barriers` (I6),
//! `commands` (I9). Where a person gave an outcome by hand, databases may differ from what the journal says: that is
//! told and is no violation.

mod barriers;
mod commands;
mod history;
mod money;
mod stock;

use std::collections::HashSet;

use uuid::Uuid;

use super::{
    Rule,
    book::Book,
    report::Invariant,
    rows::{Bundle, End},
    tally::{Tally, hash},
};

/// What every saga is judged by.
pub(super) struct Bench<'a> {
    pub(super) rule: Rule,
    pub(super) book: &'a Book,
    /// Messages of the orchestrator that are dead.
    pub(super) dead: &'a HashSet<Uuid>,
}

/// One saga before the judges.
struct Case<'a> {
    bundle: &'a Bundle,
    bench: &'a Bench<'a>,
    tally: &'a mut Tally,
    /// Its end, if that is to be judged over several databases.
    settled: Option<End>,
}

impl Case<'_> {
    /// Proven by one snapshot of one database.
    fn certain(&mut self, invariant: Invariant, text: &str) {
        self.tally.certain(invariant, format!("{}: {text}", self.bundle.name()));
    }

    /// Put together from several databases.
    fn suspect(&mut self, invariant: Invariant, text: &str) {
        let name = self.bundle.name();
        if self.bundle.is_by_hand() {
            return self.tally.inform(invariant, format!("{name}, where a person gave an outcome: {text}"));
        }
        let lines = self.bundle.attempts.iter().map(|attempt| self.bench.book.line(attempt.payment));
        let witness = hash(&(self.bundle, lines.collect::<Vec<_>>()));
        self.tally.suspect(invariant, witness, format!("{name}: {text}"));
    }
}

/// Judges one saga.
pub(super) fn saga(bundle: &Bundle, bench: &Bench<'_>, tally: &mut Tally) {
    let settled = bundle.settled(&bench.rule);
    let mut case = Case { bundle, bench, tally, settled };
    history::judge(&mut case);
    money::judge(&mut case);
    stock::judge(&mut case);
    barriers::judge(&mut case);
    commands::judge(&mut case);
}
