//! The model sees what it is for: each rule of the house, forgotten, breaks the law that it is there for. With every rule
//! in its place the same bounds, and wider ones, break nothing: that is what the runs in `model.rs` show.

use super::{
    bounds::{Budget, Model, Mutation, NONE},
    line, pivot, report, small,
};

fn sees(model: Model, mutation: Mutation, expected: &str) {
    let (law, steps) =
        report::broken(model.mutated(mutation)).unwrap_or_else(|| panic!("{mutation:?} is not seen"));
    assert!(law.starts_with(expected), "{mutation:?} breaks “{law}” after {steps} acts, not “{expected}”");
}

fn cancelled() -> Budget {
    Budget { cancels: 1, ..NONE }
}

fn taken_over() -> Budget {
    Budget { takeovers: 1, ..cancelled() }
}

#[test]
fn a_participant_without_a_barrier() {
    sees(small(Budget { timeouts: 1, ..NONE }), Mutation::BarrierOff, "I3");
}

#[test]
fn a_compensation_that_leaves_no_tombstone() {
    sees(line(taken_over()), Mutation::NoTombstone, "after COMPENSATED nothing is left");
}

#[test]
fn a_commit_that_does_not_look_at_the_fence() {
    let budget = Budget { reloads: 1, takeovers: 1, timeouts: 1, ..NONE };
    sees(line(budget), Mutation::NoFence, "I10: no lower epoch");
}

#[test]
fn a_commit_that_does_not_compare_versions() {
    let budget = Budget { timeouts: 1, lost_commits: 1, ..NONE };
    sees(small(budget), Mutation::NoCompare, "I10: versions");
}

#[test]
fn an_owner_that_believes_nobody_called_before_it() {
    sees(line(taken_over()), Mutation::ForgetsCalls, "after COMPENSATED nothing is left");
}

#[test]
fn a_time_out_that_counts_as_not_called() {
    let budget = Budget { timeouts: 1, ..cancelled() };
    sees(small(budget), Mutation::ForgetsDoubt, "after COMPENSATED nothing is left");
}

#[test]
fn commands_that_leave_before_their_commit() {
    sees(line(taken_over()), Mutation::HastyCommands, "a step after the pivot finds what it closes");
}

#[test]
fn calls_that_leave_while_a_decision_is_not_durable() {
    sees(small(NONE), Mutation::HastyCalls, "nothing is called after the pivot");
}

#[test]
fn an_end_that_is_declared_before_its_commands_are_answered() {
    sees(small(cancelled()), Mutation::EndsUnanswered, "after COMPENSATED nothing is left");
}

#[test]
fn an_owner_that_leaves_when_its_end_is_decided_and_not_durable() {
    sees(line(Budget { timeouts: 1, ..NONE }), Mutation::LeavesEarly, "it goes on");
}

#[test]
fn a_pivot_that_is_called_before_the_facts_that_lead_to_it_are_durable() {
    sees(pivot(taken_over()), Mutation::HastyPivot, "after COMPENSATED nothing is left");
}
