//! What can go wrong with a step or a compensation.

use std::fmt;

/// Which way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Direction {
    /// The step: a call.
    Forward,
    /// Its compensation: a command and its answer, both messages.
    Back,
}

impl fmt::Display for Direction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Forward => "forward",
            Self::Back => "back",
        })
    }
}

/// An answer that is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Garbage {
    /// It names a saga that is not there.
    Saga,
    /// It names a step that was not asked.
    Step,
    /// What it says was done is not what this step gives.
    Done,
    /// It says nothing.
    NoOutcome,
    /// It does not say of which direction it is; messages only.
    NoDirection,
    /// It is no message at all.
    Undecodable,
}

/// What is done to one call, or to one command or its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Fault {
    /// No. A step: by the participant's own rule, or said at its door where it has none. A command: it can never be
    /// handled, and is dead.
    Refuse,
    /// A failure before any effect: the stream ends with INTERNAL; the consumer fails, and the message climbs the ladder.
    Error,
    /// A failure of this item alone (`turned_away` FAILED); a consumer whose database is away.
    Unable,
    /// Nothing happens; the participant's server says that the time is up. The command is lost.
    TimeoutBefore,
    /// It takes effect and the answer never comes: the participant's server says that the time is up.
    TimeoutAfter,
    /// It takes effect and nobody says anything, until whoever asked gives up by itself; calls only.
    Silence,
    /// It takes effect, and the connection breaks; the command takes effect, and its acknowledgement is lost.
    Broken,
    /// It takes effect when whoever asked has given up already; a command, when it was sent again and handled.
    Late,
    /// It arrives after the saga's end; for a command, its answer does.
    AfterEnd,
    /// The answer is none.
    Garbage(Garbage),
    /// The answer comes twice.
    Duplicate,
    /// The answer comes twice, the second time as a message of its own; messages only.
    Again,
    /// The callee's breaker is open.
    BreakerOpen,
    /// Not a fault, but a way to make a saga wait: it takes effect and is answered as pending until it is let go.
    Hold,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Refuse => "refuse",
            Self::Error => "error",
            Self::Unable => "error (this one alone)",
            Self::TimeoutBefore => "time-out without effect",
            Self::TimeoutAfter => "time-out with effect",
            Self::Silence => "time-out with effect, in silence",
            Self::Broken => "broken off after the effect",
            Self::Late => "success after the deadline",
            Self::AfterEnd => "success after the end",
            Self::Garbage(Garbage::Saga) => "garbage reply (saga)",
            Self::Garbage(Garbage::Step) => "garbage reply (step)",
            Self::Garbage(Garbage::Done) => "garbage reply (type)",
            Self::Garbage(Garbage::NoOutcome) => "garbage reply (no outcome)",
            Self::Garbage(Garbage::NoDirection) => "garbage reply (no direction)",
            Self::Garbage(Garbage::Undecodable) => "garbage reply (bytes)",
            Self::Duplicate => "duplicate reply",
            Self::Again => "duplicate reply (new message)",
            Self::BreakerOpen => "breaker open",
            Self::Hold => "held",
        })
    }
}
