//! What must occur sometimes: a campaign in which a fault or a state never occurred proves nothing about it.

macro_rules! marks {
    ($($name:ident = $text:literal,)*) => {
        /// Something that occurred.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Mark {
            $(#[doc = $text] $name,)*
        }

        impl Mark {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// In words.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }
        }
    };
}

marks! {
    CallLost = "a call is lost",
    CallTwice = "a call comes twice",
    CallHeld = "a call is held up",
    CallRefused = "a connection is refused",
    CallLate = "a call is given up, and answered later",
    ReplyLost = "an answer is lost",
    ReplyTwice = "an answer comes twice",
    BreakerOpen = "a breaker is open",
    TurnedAway = "an item is turned away",
    Mistake = "a caller is not known",
    CommitLanded = "a commit's answer is lost, and it landed",
    CommitGone = "a commit's answer is lost, and it did not land",
    CommitOfTheDead = "a commit lands after its process died",
    ShardLocked = "a shard that is reached for is locked",
    DiskAway = "a database cannot be had",
    DiskRestart = "a database restarts",
    DiskOutage = "a database is away for a while",
    MessageTwice = "a message comes twice",
    MessageHeld = "a message is held up",
    MessageAgain = "a message is delivered again",
    MessageRetry = "a message climbs the ladder",
    MessageDoneAndFailed = "a handler fails after its commit",
    MessageDead = "a message is dead",
    CommandDead = "a saga hears that its command is dead",
    ConfirmLost = "a confirm is lost",
    PublishReturned = "a publish is returned",
    OutboxSwept = "the sweep finds a row",
    BrokerOutage = "the broker is away for a while",
    ProviderLost = "a request to the provider is lost",
    ProviderHeld = "a request takes effect after its caller gave up",
    ProviderRefuses = "the provider declines",
    ProviderSettles = "a charge is settled later",
    ChargeLookedUp = "a charge is looked up",
    ChargeSentAgain = "a charge is sent again",
    RefundSent = "a refund is sent",
    WantedBack = "a charge is wanted back while it is under way",
    LateMoney = "money is seen after the charge was over",
    Suspense = "a refund without a sale is booked",
    OrchestratorDies = "an orchestrator dies",
    ParticipantDies = "a participant dies",
    OrchestratorPaused = "an orchestrator is stopped and goes on",
    ParticipantPaused = "a participant is stopped and goes on",
    OrchestratorCutOff = "an orchestrator is cut off from its database",
    ParticipantCutOff = "a participant is cut off from its database",
    OrchestratorLeaves = "an orchestrator hands over and stops",
    ClockJumps = "a wall clock jumps",
    TakenOver = "a shard is taken over from the dead",
    HandedOver = "a shard is handed over",
    Lost = "an owner finds its shard lost",
    StaleCall = "a stale owner calls",
    FenceHolds = "the fence stops a commit",
    FenceHoldsSignal = "the fence keeps a signal from a stale owner",
    CompareHolds = "the comparison stops a commit",
    Evicted = "a saga is evicted and loaded again",
    Resumed = "a resume is counted",
    Quarantined = "a saga is quarantined",
    UnknownDefinition = "an older release leaves a saga untouched",
    Version1 = "a saga of version 1 ends",
    Version2 = "a saga of version 2 ends",
    Replayed = "a key is replayed",
    KeyRefused = "a key is used for something else and refused",
    CancelHeard = "a cancel is heard",
    CancelTooLate = "a cancel comes after the end, or for the second time",
    ReviewOpen = "a review is asked for",
    ReviewDecided = "a reviewer decides",
    ReviewExpired = "a review expires",
    ReviewWithdrawn = "a review is withdrawn",
    WithdrawnFirst = "a review is withdrawn before it is asked for",
    SettlementByMessage = "a settlement is heard by message",
    Fenced = "a late step meets its tombstone",
    NotApplied = "a compensation finds nothing",
    CommandRepeated = "a command is sent again",
    TurnedByRefusal = "a refusal turns a saga round",
    TurnedByCancel = "a cancel turns a saga round",
    TurnedByDeadline = "a deadline turns a saga round",
    TurnedByBudget = "a spent budget turns a saga round",
    TurnedByForce = "an operator turns a saga round",
    Parked = "a saga is parked",
    ParkedBack = "a compensation is parked",
    OperatorRetries = "an operator retries",
    OperatorForces = "an operator forces the way back",
    OperatorResolves = "an operator gives an outcome",
    DeadReplayed = "an operator replays a dead message",
    Completed = "a saga is completed",
    Compensated = "a saga is compensated",
    EndsParked = "a saga is parked when all is calm",
}

/// How often each occurred.
#[derive(Debug, Clone)]
pub struct Marks([u64; Mark::ALL.len()]);

impl Default for Marks {
    fn default() -> Self {
        Self([0; Mark::ALL.len()])
    }
}

impl Marks {
    /// It occurred.
    pub fn mark(&mut self, mark: Mark) {
        self.0[mark as usize] += 1;
    }

    /// How often it occurred.
    #[must_use]
    pub const fn count(&self, mark: Mark) -> u64 {
        self.0[mark as usize]
    }

    /// With those of another run.
    pub fn add(&mut self, other: &Self) {
        for (sum, more) in self.0.iter_mut().zip(other.0) {
            *sum += more;
        }
    }

    /// Those that never occurred.
    #[must_use]
    pub fn missing(&self) -> Vec<Mark> {
        Mark::ALL.iter().copied().filter(|mark| self.count(*mark) == 0).collect()
    }
}
