//! Bugs on purpose, for the proof that the auditor sees what they break.
//!
//! Each is a line or two at the place where somebody might really have made it, behind [`is`]. Without the feature
//! `seeded-bugs`, which only the tests' crate turns on, [`is`] is a constant `false` and nothing of them is compiled in;
//! with it, one of them may be planted in a process, once, by whoever wants to see it caught. Which invariant has to
//! catch which is said in `e2e/src/seeded.rs`.

use types::{StepKey, StepName};

macro_rules! bugs {
    ($($(#[$doc:meta])* $bug:ident = $name:literal,)*) => {
        /// What can be planted.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Bug {
            $($(#[$doc])* $bug,)*
        }

        impl Bug {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$bug),*];

            /// As people call it.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$bug => $name,)*
                }
            }
        }
    };
}

bugs! {
    // Barriers and stock.
    /// The barrier's key of a reservation holds the number of the attempt: each attempt is a step of its own.
    BarrierKeyPerAttempt = "barrier-key-per-attempt",
    /// The same in the ledger: a posting that is asked for again is booked again.
    LedgerPostedTwice = "ledger-posted-twice",
    /// A compensation that finds no step answers *not applied* and leaves no tombstone.
    TombstoneNotWritten = "tombstone-not-written",
    /// A release that comes again puts the stock back again.
    StockReleasedTwice = "stock-released-twice",
    /// What is sold can be released.
    ReleaseOfTheSold = "release-of-the-sold",
    /// A refused reservation is stored as done.
    RefusedStoredAsDone = "refused-stored-as-done",
    /// Cancel is answered, and the document stays open.
    CancelledInWordOnly = "cancelled-in-word-only",
    // Money.
    /// The order's charge leaves out its tax.
    ChargedWithoutTax = "charged-without-tax",
    /// The provider's key of a charge is another one each time.
    ProviderKeyPerSend = "provider-key-per-send",
    /// A charge in doubt that is wanted back is taken for none, without asking the provider.
    RefundWithoutLookUp = "refund-without-look-up",
    /// A refund is recorded and never sent.
    RefundNotSent = "refund-not-sent",
    /// Less is given back than was taken.
    RefundFallsShort = "refund-falls-short",
    /// The provider's key of a refund is another one each time, and the provider does not add refunds up.
    RefundedTwice = "refunded-twice",
    /// Nobody looks for money that is taken after a charge was given up.
    LateMoneyNotRefunded = "late-money-not-refunded",
    /// Who was told to wait for a charge is not told what it came to.
    SettlementLost = "settlement-lost",
    /// Of a ledger transaction only the first entry is written.
    LedgerPairHalfWritten = "ledger-pair-half-written",
    /// A booking leaves the accounts' counters as they are.
    CountersNotRaised = "counters-not-raised",
    /// A reversal books the same entries again instead of their opposites.
    ReversalNotMirrored = "reversal-not-mirrored",
    // Messages.
    /// A message is acknowledged whatever became of its effect.
    AckBeforeCommit = "ack-before-commit",
    /// Messages are handed to the bus and stored nowhere.
    OutboxBesidesTheCommit = "outbox-besides-the-commit",
    /// An outbox row is deleted before the bus has said that its message is safe.
    OutboxRowDeletedFirst = "outbox-row-deleted-first",
    /// The sweep of an outbox goes by a cursor over ids.
    CursorOutbox = "cursor-outbox",
    /// A message that came back from the broker counts as sent.
    ReturnIgnored = "return-ignored",
    /// A command dies and its saga is not told.
    DeadCommandWithoutSignal = "dead-command-without-signal",
    // The saga.
    /// A new owner goes by what the journal heard of: what a stale owner called besides is not taken back.
    StaleOwnerForgotten = "stale-owner-forgotten",
    /// Steps behind the pivot are called before the pivot is committed.
    CalledBeforeTheCommit = "called-before-the-commit",
    /// A saga that goes back ends when its commands were sent.
    FinishedBeforeAnswers = "finished-before-answers",
    /// Cancel, which declares the end, does not wait for the others.
    CancelSentFirst = "cancel-sent-first",
    /// An answer in a slice is given to whoever waits first.
    ReplyToTheWrongSaga = "reply-to-the-wrong-saga",
    /// The projection of a compensated saga says COMPLETED.
    CompletedInWordOnly = "completed-in-word-only",
    // The journal.
    /// A commit asks which epoch is the present one, instead of which is its own.
    NoEpochCheck = "no-epoch-check",
    /// A saga's row counts versions that its journal does not have.
    VersionSkipped = "version-skipped",
    /// A commit whose answer was lost is taken for lost itself, and written again.
    CommitWrittenAgain = "commit-written-again",
    /// The facts of the last commit are written twice.
    EndWrittenTwice = "end-written-twice",
    // The doors.
    /// Idempotency keys are not stored.
    KeyNotStored = "key-not-stored",
    /// A known key answers whatever is asked under it.
    FingerprintIgnored = "fingerprint-ignored",
    /// An order whose start failed is acknowledged all the same.
    AcknowledgedUnstored = "acknowledged-unstored",
}

impl std::fmt::Display for Bug {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

impl std::str::FromStr for Bug {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let named = Self::ALL.iter().find(|bug| bug.name() == text);
        named.copied().ok_or_else(|| format!("there is no bug called {text}"))
    }
}

/// Whether this bug is planted in this process.
#[cfg(not(feature = "seeded-bugs"))]
#[inline(always)]
#[must_use]
pub const fn is(_: Bug) -> bool {
    false
}

#[cfg(feature = "seeded-bugs")]
pub use self::planted::{is, plant, planted};

#[cfg(feature = "seeded-bugs")]
mod planted {
    use std::sync::OnceLock;

    use super::Bug;

    static PLANTED: OnceLock<Bug> = OnceLock::new();

    /// Whether this bug is planted in this process.
    #[must_use]
    pub fn is(bug: Bug) -> bool {
        PLANTED.get() == Some(&bug)
    }

    /// Which bug is planted in this process.
    #[must_use]
    pub fn planted() -> Option<Bug> {
        PLANTED.get().copied()
    }

    /// Plants a bug in this process, for good.
    ///
    /// # Panics
    /// When another one is planted already: what is then found could be the doing of either.
    pub fn plant(bug: Bug) {
        assert_eq!(PLANTED.set(bug), Ok(()), "one process, one bug");
    }
}

/// A key that counts attempts, as [`Bug::BarrierKeyPerAttempt`] has it: the first attempt has the step's own.
#[must_use]
pub fn key_of_attempt(key: &StepKey, attempt: u32) -> StepKey {
    let step = format!("{}_{attempt}", key.step).parse::<StepName>();
    match step {
        Ok(step) if attempt > 1 => StepKey { saga: key.saga, step },
        _ => key.clone(),
    }
}

/// Another number each time, for keys that should be the same.
#[must_use]
pub fn another_number() -> u64 {
    use std::sync::atomic::{AtomicU64, Ordering};
    static LAST: AtomicU64 = AtomicU64::new(1);
    LAST.fetch_add(1, Ordering::Relaxed)
}

/// Whether an id lies behind all that were asked about before, as [`Bug::CursorOutbox`] has it.
#[must_use]
pub fn is_behind_the_cursor(id: uuid::Uuid) -> bool {
    use std::sync::{Mutex, PoisonError};
    static CURSOR: Mutex<uuid::Uuid> = Mutex::new(uuid::Uuid::nil());
    let mut cursor = CURSOR.lock().unwrap_or_else(PoisonError::into_inner);
    let is_behind = id > *cursor;
    *cursor = id.max(*cursor);
    is_behind
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_bug_has_a_name_of_its_own() {
        let names: HashSet<&str> = Bug::ALL.iter().map(|bug| bug.name()).collect();
        assert_eq!(names.len(), Bug::ALL.len());
        for bug in Bug::ALL {
            assert_eq!(bug.name().parse(), Ok(*bug));
            assert!(!is(*bug), "{bug} is planted and nobody asked for it");
        }
        assert!("a-cockroach".parse::<Bug>().is_err());
    }

    #[test]
    fn the_first_attempt_has_the_steps_own_key() {
        let saga = types::SagaId::from_uuid(uuid::Uuid::from_u128(7));
        let key = StepKey { saga, step: "reserve".parse().unwrap() };
        assert_eq!(key_of_attempt(&key, 1), key);
        assert_eq!(key_of_attempt(&key, 2).step.as_str(), "reserve_2");
    }
}
