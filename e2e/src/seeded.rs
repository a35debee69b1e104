//! Seeded bugs: each is planted in a process of its own and provoked; the auditor then has to name the invariant that it
//! breaks. The same provocation without a bug must leave nothing to find.
//!
//! A trial is one process of `rig` with a whole world in it, because a bug is planted for good and for everybody in a
//! process. What is provoked, and how, stands in `stock`, `money`, `messages`, `owners` and `doors`; how it comes to rest
//! and is judged in `scene`.

mod doors;
mod messages;
mod money;
mod owners;
mod scene;
mod stock;
mod trial;

use amends::audit::Invariant::{self, I1, I2, I3, I4, I5, I6, I7, I8, I9, I10};
use chassis::seeded::Bug;

pub use scene::Found;
pub use trial::{Trial, Verdict, run, table, trial};

macro_rules! provocations {
    ($($(#[doc = $doc:literal])* $name:ident = $text:literal by $how:path;)*) => {
        /// What is done to a world, so that a bug bites.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Provocation {
            $($(#[doc = $doc])* $name,)*
        }

        impl Provocation {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$name),*];

            /// For people, in a few words.
            #[must_use]
            pub const fn text(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)*
                }
            }

            async fn provoke(self) -> scene::Scene {
                match self {
                    $(Self::$name => $how().await,)*
                }
            }
        }
    };
}

provocations! {
    Sale = "an order is sold" by money::sale;
    SaleWithoutTrigger = "an order is sold, and the database does not add its bookings up" by money::sale_without_trigger;
    LostAnswers = "an order is sold, and the first answer to every step is lost" by stock::lost_answers;
    OutOfStock = "an order wants more than there is" by stock::out_of_stock;
    LateStep = "a step arrives after its saga was taken back" by stock::late_step;
    SaidTwice = "every message is said twice, and one release comes after the sale" by stock::said_twice;
    MixedSlice = "orders with and without stock share a slice" by stock::mixed_slice;
    TakenBack = "an order is refused at its last step" by money::taken_back;
    LostCharge = "the answer to a charge is lost" by money::lost_charge;
    LostChargeCancelled = "the answer to a charge is lost, and its order is cancelled" by money::lost_charge_cancelled;
    LateMoney = "the provider charges after the charge was given up" by money::late_money;
    Settled = "a charge is confirmed later" by money::settled;
    LedgerAway = "the ledger cannot write when it hears of a refund" by messages::ledger_away;
    Unroutable = "the queue for a refund is gone" by messages::unroutable;
    LateId = "a message with an earlier id is committed later" by messages::late_id;
    PoisonCommand = "a command cannot be read" by messages::poison_command;
    TakenOver = "an owner ends in the middle of a commit, and the next one hears of a cancel" by owners::taken_over;
    NotTheOwner = "an owner does not hear that its shard was taken over" by owners::not_the_owner;
    LostCommitAnswer = "the answer to a commit is lost" by owners::lost_commit_answer;
    Repeated = "a request is sent again, and its key with another order" by doors::repeated;
    StartRefused = "the database refuses to store a new order" by doors::start_refused;
}

/// A bug, what makes it bite, and which invariant has to name it.
#[derive(Debug, Clone, Copy)]
pub struct Case {
    /// What is planted.
    pub bug: Bug,
    /// What makes it bite.
    pub provocation: Provocation,
    /// This one has to be broken.
    pub caught_by: Invariant,
    /// And no others but these may be.
    pub besides: &'static [Invariant],
}

const fn case(
    bug: Bug,
    provocation: Provocation,
    caught_by: Invariant,
    besides: &'static [Invariant],
) -> Case {
    Case { bug, provocation, caught_by, besides }
}

/// All cases, one for each bug.
pub const CASES: &[Case] = &[
    case(Bug::BarrierKeyPerAttempt, Provocation::LostAnswers, I4, &[]),
    case(Bug::LedgerPostedTwice, Provocation::LostAnswers, I2, &[]),
    case(Bug::TombstoneNotWritten, Provocation::LateStep, I4, &[I6, I9]),
    case(Bug::StockReleasedTwice, Provocation::SaidTwice, I4, &[]),
    case(Bug::ReleaseOfTheSold, Provocation::SaidTwice, I4, &[]),
    case(Bug::RefusedStoredAsDone, Provocation::OutOfStock, I4, &[]),
    case(Bug::CancelledInWordOnly, Provocation::TakenBack, I6, &[I9]),
    case(Bug::ChargedWithoutTax, Provocation::Sale, I2, &[]),
    case(Bug::ProviderKeyPerSend, Provocation::LostCharge, I3, &[I2, I5, I6]),
    case(Bug::RefundWithoutLookUp, Provocation::LostChargeCancelled, I6, &[I2]),
    case(Bug::RefundNotSent, Provocation::TakenBack, I2, &[I6]),
    case(Bug::RefundFallsShort, Provocation::TakenBack, I2, &[I6]),
    case(Bug::RefundedTwice, Provocation::LostChargeCancelled, I3, &[I2, I5, I6]),
    case(Bug::LateMoneyNotRefunded, Provocation::LateMoney, I2, &[]),
    case(Bug::SettlementLost, Provocation::Settled, I5, &[]),
    case(Bug::LedgerPairHalfWritten, Provocation::SaleWithoutTrigger, I1, &[]),
    case(Bug::CountersNotRaised, Provocation::Sale, I1, &[]),
    case(Bug::ReversalNotMirrored, Provocation::TakenOver, I6, &[I2]),
    case(Bug::AckBeforeCommit, Provocation::LedgerAway, I2, &[]),
    case(Bug::OutboxBesidesTheCommit, Provocation::LedgerAway, I2, &[]),
    case(Bug::OutboxRowDeletedFirst, Provocation::LedgerAway, I2, &[]),
    case(Bug::CursorOutbox, Provocation::LateId, I9, &[]),
    case(Bug::ReturnIgnored, Provocation::Unroutable, I2, &[]),
    case(Bug::DeadCommandWithoutSignal, Provocation::PoisonCommand, I5, &[]),
    case(Bug::StaleOwnerForgotten, Provocation::TakenOver, I2, &[I6]),
    case(Bug::CalledBeforeTheCommit, Provocation::TakenOver, I4, &[]),
    case(Bug::FinishedBeforeAnswers, Provocation::TakenBack, I9, &[]),
    case(Bug::CancelSentFirst, Provocation::PoisonCommand, I5, &[]),
    case(Bug::ReplyToTheWrongSaga, Provocation::MixedSlice, I4, &[I2, I5, I6]),
    case(Bug::CompletedInWordOnly, Provocation::TakenBack, I5, &[I2]),
    case(Bug::NoEpochCheck, Provocation::NotTheOwner, I10, &[]),
    case(Bug::VersionSkipped, Provocation::Sale, I10, &[]),
    case(Bug::CommitWrittenAgain, Provocation::LostCommitAnswer, I10, &[I5]),
    case(Bug::EndWrittenTwice, Provocation::Sale, I5, &[]),
    case(Bug::KeyNotStored, Provocation::Repeated, I8, &[]),
    case(Bug::FingerprintIgnored, Provocation::Repeated, I8, &[]),
    case(Bug::AcknowledgedUnstored, Provocation::StartRefused, I7, &[]),
];
