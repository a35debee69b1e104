//! Suspend: a charge that was given back and never became a sale still stands in the books, through suspense.
//!
//! Said by payment-svc's event `payment.refunded`. A saga whose posting was done has its charge in the books already,
//! and its refund by Reverse, be that there or still to come: nothing is booked then. In any other case charge and
//! refund are booked here, once per charge.
//!
//! *A posting that comes later.* The engine takes steps back in exact reverse: a charge is refunded only when Reverse
//! has answered, or when Post was never called. Reverse answered leaves a row by which Post is fenced; and an owner that
//! took over turns round as if Post had been called, so a stale owner's late Post is fenced too. What is left is a
//! Reverse that is parked while the others go on: the refund may then overtake it, and a Post still on its way may be
//! booked beside the suspense. That is not prevented here, because another posting of the same saga may be right (a
//! second charge after the first came to nothing). It costs no money: every transaction sums to zero by itself, the
//! parked Reverse takes the late posting back, and clearing agrees with the provider again, with the charge and the
//! refund shown twice.

use std::collections::BTreeSet;

use chassis::{
    barrier::Outcome,
    batcher::Command,
    database::{self, Trouble},
};
use types::StepKey;

use super::{Books, count};
use crate::{
    domain::Refunded,
    store::{self, Closed, Kind, NewRow},
};

/// What was said.
#[derive(Debug, Clone)]
pub struct SuspendItem {
    /// Of the charge.
    pub key: StepKey,
    pub refunded: Refunded,
}

/// What came of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Suspended {
    /// Booked now, or by an earlier delivery.
    Booked,
    /// There is a sale: Reverse has booked the refund, or will.
    Sold,
    /// Booked earlier with other numbers.
    Mismatch,
}

/// The command.
pub(crate) struct Suspend(pub(crate) Books);

impl Command for Suspend {
    type Item = SuspendItem;
    type Reply = Suspended;
    type Key = StepKey;
    const NAME: &'static str = "ledger.suspend";

    fn key(item: &SuspendItem) -> StepKey {
        item.key.clone()
    }

    async fn run(&self, items: &[SuspendItem]) -> Result<Vec<Suspended>, Trouble> {
        let mut connection = database::acquire(&self.0.pool).await?;
        let history = store::load_history(&mut connection, items.iter().map(|item| item.key.saga)).await?;
        let (mut rows, mut answers) = (Vec::new(), Vec::new());
        for item in items {
            answers.push(match history.row(&item.key, Kind::Suspense) {
                Some(row) if row.hash == item.refunded.hash() => Suspended::Booked,
                Some(_) => Suspended::Mismatch,
                None if history.has_sale(item.key.saga) => Suspended::Sold,
                None => {
                    rows.push(NewRow {
                        hash: Some(item.refunded.hash()),
                        payment: Some(item.refunded.payment().uuid()),
                        entries: item.refunded.entries(),
                        ..NewRow::bare(item.key.clone(), Kind::Suspense, Outcome::Done)
                    });
                    Suspended::Booked
                }
            });
        }
        if !rows.is_empty() {
            let accounts: BTreeSet<_> =
                rows.iter().flat_map(|row| &row.entries).map(|entry| entry.account.clone()).collect();
            store::ready_accounts(&mut connection, &accounts).await?;
            let booked = rows.len();
            let mut transaction = database::begin(&mut connection).await?;
            store::book(&mut transaction, rows, Closed::Lets).await?;
            database::commit(transaction).await?;
            (0..booked).for_each(|_| count(Kind::Suspense, "DONE"));
        }
        Ok(answers)
    }
}
