//! Facts about a saga, in the past tense: the only thing the journal stores.
//!
//! The serde form is the stored format. Changes are additive: a new variant, or a new field with a default. The golden
//! file in `saga/tests.rs` pins each variant.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use types::StepName;

/// How a saga ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Outcome {
    /// Every step is done.
    Completed,
    /// Everything is made good.
    Compensated,
}

/// An outcome that a person gave.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Resolution {
    /// The step, or its compensation, is done.
    Done,
    /// The step was refused.
    Refused,
    /// The compensation had nothing to take back.
    NotApplied,
}

/// A fact. Times are milliseconds since 1970.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event")]
pub enum Event {
    /// The intent is durable.
    Started {
        /// The definition's kind.
        kind: String,
        /// The definition's version.
        version: u32,
        /// The definition's hash.
        hash: i64,
        /// The definition's steps, in order.
        steps: Vec<StepName>,
        /// Steps whose `when` did not hold.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        skipped: Vec<StepName>,
        /// Past it, before the pivot, the saga turns round.
        deadline: i64,
        /// What the saga is about, opaque here.
        input: String,
    },
    /// A call brought nothing.
    AttemptFailed {
        /// Whose call.
        step: StepName,
        /// It may have happened all the same.
        doubt: bool,
        /// It counts against the budget.
        spent: bool,
        /// Why.
        reason: String,
        /// Not to be tried again before.
        not_before: i64,
    },
    /// The participant needs time.
    StepPending {
        /// Whose.
        step: StepName,
        /// To be asked again then.
        until: i64,
        /// Whom it waits for: REVIEW, SETTLEMENT, IN_PROGRESS.
        action: String,
    },
    /// The step is done.
    StepDone {
        /// Which.
        step: StepName,
        /// What it gave, opaque here.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        output: String,
    },
    /// The step was refused, for ever.
    StepRefused {
        /// Which.
        step: StepName,
        /// UPPER_SNAKE.
        reason: String,
        /// Details.
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        metadata: BTreeMap<String, String>,
    },
    /// The participant said that its compensation came first.
    StepFenced {
        /// Which.
        step: StepName,
    },
    /// Somebody wants it taken back.
    CancelRequested {
        /// Why, for people.
        reason: String,
    },
    /// It goes back from here; the same list for every later owner.
    TurnedRound {
        /// UPPER_SNAKE.
        reason: String,
        /// Details.
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        metadata: BTreeMap<String, String>,
        /// The steps to take back.
        take_back: Vec<StepName>,
    },
    /// A compensation command left with this commit.
    CommandSent {
        /// The step it takes back.
        step: StepName,
        /// The message's id.
        message_id: String,
    },
    /// A compensation was answered.
    CommandAnswered {
        /// The step it takes back.
        step: StepName,
        /// False: there was nothing to take back.
        applied: bool,
    },
    /// A compensation command went to the dead queue.
    CommandDead {
        /// The step it takes back.
        step: StepName,
        /// Why.
        reason: String,
    },
    /// From here it only goes forward.
    PivotPassed,
    /// It waits for a person.
    Parked {
        /// UPPER_SNAKE.
        reason: String,
        /// For people.
        detail: String,
    },
    /// A person had it tried again.
    Retried {
        /// Who.
        actor: String,
        /// Why.
        reason: String,
    },
    /// A person wants it taken back.
    CompensationForced {
        /// Who.
        actor: String,
        /// Why.
        reason: String,
    },
    /// A person gave an outcome.
    Resolved {
        /// Of which step.
        step: StepName,
        /// Of its compensation.
        compensation: bool,
        /// The outcome.
        resolution: Resolution,
        /// The step's output, opaque here.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        output: String,
        /// Who.
        actor: String,
        /// Why.
        reason: String,
        /// Where the proof lies.
        evidence: String,
    },
    /// The end.
    Finished {
        /// Which of the two.
        outcome: Outcome,
    },
}

impl Event {
    /// The step that it is about.
    #[must_use]
    pub fn step(&self) -> Option<&StepName> {
        match self {
            Self::AttemptFailed { step, .. }
            | Self::StepPending { step, .. }
            | Self::StepDone { step, .. }
            | Self::StepRefused { step, .. }
            | Self::StepFenced { step }
            | Self::CommandSent { step, .. }
            | Self::CommandAnswered { step, .. }
            | Self::CommandDead { step, .. }
            | Self::Resolved { step, .. } => Some(step),
            Self::Started { .. }
            | Self::CancelRequested { .. }
            | Self::TurnedRound { .. }
            | Self::PivotPassed
            | Self::Parked { .. }
            | Self::Retried { .. }
            | Self::CompensationForced { .. }
            | Self::Finished { .. } => None,
        }
    }

    /// What it is called, as it is stored.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Started { .. } => "Started",
            Self::AttemptFailed { .. } => "AttemptFailed",
            Self::StepPending { .. } => "StepPending",
            Self::StepDone { .. } => "StepDone",
            Self::StepRefused { .. } => "StepRefused",
            Self::StepFenced { .. } => "StepFenced",
            Self::CancelRequested { .. } => "CancelRequested",
            Self::TurnedRound { .. } => "TurnedRound",
            Self::CommandSent { .. } => "CommandSent",
            Self::CommandAnswered { .. } => "CommandAnswered",
            Self::CommandDead { .. } => "CommandDead",
            Self::PivotPassed => "PivotPassed",
            Self::Parked { .. } => "Parked",
            Self::Retried { .. } => "Retried",
            Self::CompensationForced { .. } => "CompensationForced",
            Self::Resolved { .. } => "Resolved",
            Self::Finished { .. } => "Finished",
        }
    }

    /// Whether it must be durable before anything else is done. The others ride on commits that happen anyway, because
    /// repeating a step is harmless.
    #[must_use]
    pub fn is_critical(&self) -> bool {
        match self {
            Self::AttemptFailed { .. }
            | Self::StepDone { .. }
            | Self::StepRefused { .. }
            | Self::StepFenced { .. } => false,
            Self::Started { .. }
            | Self::StepPending { .. }
            | Self::CancelRequested { .. }
            | Self::TurnedRound { .. }
            | Self::CommandSent { .. }
            | Self::CommandAnswered { .. }
            | Self::CommandDead { .. }
            | Self::PivotPassed
            | Self::Parked { .. }
            | Self::Retried { .. }
            | Self::CompensationForced { .. }
            | Self::Resolved { .. }
            | Self::Finished { .. } => true,
        }
    }
}
