//! Bugs to be put in, one at a time: a simulator that does not find them sees nothing.
//!
//! Each breaks one rule of DESIGN sections 4 to 6, in what the simulator puts around the real code, or in what the real
//! code is given. `tests/it.rs` asserts that each is found.

use std::str::FromStr;

macro_rules! bugs {
    ($($(#[doc = $doc:literal])* $name:ident = $text:literal,)*) => {
        /// One of them.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Bug {
            $($(#[doc = $doc])* $name,)*
        }

        impl Bug {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// As the command line says it.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }
        }
    };
}

bugs! {
    /// Participants do not ask whether they did it before.
    NoBarrier = "no-barrier",
    /// A compensation that finds nothing leaves no tombstone.
    NoTombstone = "no-tombstone",
    /// A compensation takes back what was taken back before.
    BackTwice = "back-twice",
    /// A participant answers before its commit.
    AnswerBeforeCommit = "answer-before-commit",
    /// A commit of the journal does not look at the fence.
    NoFence = "no-fence",
    /// Whoever lost a shard loads its sagas all the same.
    LoadWithoutFence = "load-without-fence",
    /// Taking a shard over does not raise its epoch.
    NoEpoch = "no-epoch",
    /// A commit of the journal does not compare the version.
    NoCompare = "no-compare",
    /// After an error at COMMIT a transition is written again, whether it had landed or not.
    LostCommitAssumedFailed = "lost-commit-assumed-failed",
    /// After an error at COMMIT a transition counts as landed.
    LostCommitAssumedLanded = "lost-commit-assumed-landed",
    /// The driver is told that a transition is durable when it was queued.
    LandedBeforeCommit = "landed-before-commit",
    /// After a load only those steps count as called that the journal knows of.
    StaleOwnerForward = "stale-owner-forward",
    /// A consumer acknowledges, then commits.
    AckBeforeCommit = "ack-before-commit",
    /// The relay deletes what it published without waiting for the confirm.
    SentWithoutConfirm = "sent-without-confirm",
    /// The sweep of the outbox follows a cursor over ids.
    CursorOutbox = "cursor-outbox",
    /// A refund of a charge that is under way answers at once.
    RefundWithoutLookup = "refund-without-lookup",
    /// A charge that is in doubt is sent again at once.
    ChargeAgain = "charge-again",
    /// Each send of a charge has a key of its own.
    KeyPerSend = "key-per-send",
    /// A refund of the provider is recorded by nobody in the books.
    NoSuspense = "no-suspense",
    /// A posting books one side only.
    HalfPosting = "half-posting",
    /// CreateOrder answers before its commit.
    OrderBeforeCommit = "order-before-commit",
    /// The idempotency key is looked up, and not taken in the start's commit.
    KeyNotTaken = "key-not-taken",
    /// A stale owner marks signals read, by what it has in memory.
    ReadWithoutFence = "read-without-fence",
    /// A signal is marked read when it is heard, not in the commit that answers it.
    SignalReadEarly = "signal-read-early",
}

impl FromStr for Bug {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL.iter().copied().find(|bug| bug.as_str() == text).ok_or_else(|| {
            let names: Vec<_> = Self::ALL.iter().map(|bug| bug.as_str()).collect();
            format!("there is no bug `{text}`: {}", names.join(", "))
        })
    }
}
