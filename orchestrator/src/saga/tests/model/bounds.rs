//! How much may go wrong in one run, and what is wrong with the house itself.

use crate::saga::Definition;

/// How often each of these may happen. Messages are reordered, delayed, repeated and lost without a bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Budget {
    /// A process dies.
    pub(super) crashes: u8,
    /// Somebody acquires the shard, whoever had it.
    pub(super) takeovers: u8,
    /// Whoever finds its commit refused has not noticed that its shard is gone, and loads the saga again.
    pub(super) reloads: u8,
    /// The answer of a call does not come in time.
    pub(super) timeouts: u8,
    /// The reply of a commit is lost.
    pub(super) lost_commits: u8,
    /// A participant refuses.
    pub(super) refusals: u8,
    /// A participant needs time.
    pub(super) pendings: u8,
    /// What is pending is asked for again.
    pub(super) reminders: u8,
    /// A command that was not answered is sent again.
    pub(super) resends: u8,
    /// A command goes to the dead queue.
    pub(super) deaths: u8,
    /// The customer cancels.
    pub(super) cancels: u8,
    /// An operator has it tried again.
    pub(super) retries: u8,
    /// An operator wants it taken back.
    pub(super) forces: u8,
    /// The deadline passes.
    pub(super) deadlines: u8,
}

/// Nothing goes wrong, and nobody wants anything.
pub(super) const NONE: Budget = Budget {
    crashes: 0,
    takeovers: 0,
    reloads: 0,
    timeouts: 0,
    lost_commits: 0,
    refusals: 0,
    pendings: 0,
    reminders: 0,
    resends: 0,
    deaths: 0,
    cancels: 0,
    retries: 0,
    forces: 0,
    deadlines: 0,
};

/// Takes one, if one is left.
pub(super) fn spend(left: &mut u8) -> bool {
    let some = *left > 0;
    *left = left.saturating_sub(1);
    some
}

/// A rule of the house that somebody forgot. The model must see each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mutation {
    /// A participant does what it is asked, whatever its record says.
    BarrierOff,
    /// A compensation that finds nothing leaves nothing.
    NoTombstone,
    /// A commit does not look at the fence.
    NoFence,
    /// A commit does not compare versions.
    NoCompare,
    /// Whoever loads a saga thinks that nothing was called.
    ForgetsCalls,
    /// After a time-out a step counts as not called.
    ForgetsDoubt,
    /// Commands leave when they are decided, not with the commit.
    HastyCommands,
    /// Calls leave while a decision is not durable.
    HastyCalls,
    /// The end is declared when every command was sent.
    EndsUnanswered,
    /// Whoever has decided the end leaves, durable or not.
    LeavesEarly,
    /// A step that is the pivot is called while the facts that lead to it are not durable.
    HastyPivot,
}

/// What is explored.
#[derive(Debug, Clone)]
pub(super) struct Model {
    pub(super) name: &'static str,
    pub(super) definition: Definition,
    /// Steps whose participant may need time.
    pub(super) may_pend: Vec<usize>,
    /// A later step and the one whose record it closes.
    pub(super) closes: Vec<(usize, usize)>,
    pub(super) budget: Budget,
    pub(super) mutation: Option<Mutation>,
}

impl Model {
    pub(super) fn is(&self, mutation: Mutation) -> bool {
        self.mutation == Some(mutation)
    }

    pub(super) fn mutated(mut self, mutation: Mutation) -> Self {
        self.mutation = Some(mutation);
        self
    }
}
