//! What the table knows of each saga kind and step, and how each fault must end.

use e2e::{
    Spec,
    faults::{Fault, Garbage},
};
use orchestrator::saga::StepKind;

/// How a step can be made to refuse.
#[derive(Debug, Clone, Copy)]
pub(super) enum Refusal {
    /// By its participant's own rule, which stores it.
    ByRule { order: fn(Spec) -> Spec, reason: &'static str },
    /// It cannot, so somebody at its door says it instead.
    AtTheDoor,
}

/// What the table knows of a step.
#[derive(Debug, Clone, Copy)]
pub(super) struct Facts {
    pub(super) refusal: Refusal,
    /// Its …Done says something, so that another's can be told from it.
    pub(super) gives: bool,
}

/// # Panics
/// The table does not know this step: it has to be told.
pub(super) fn facts(kind: &str, step: &str) -> Facts {
    let by_rule = |order, reason| Facts { refusal: Refusal::ByRule { order, reason }, gives: true };
    match (kind, step) {
        ("order", "open" | "commit" | "complete") => Facts { refusal: Refusal::AtTheDoor, gives: false },
        ("order", "reserve") => by_rule(|spec| spec.line("P9000", 2), "OUT_OF_STOCK"),
        ("order", "screen") => by_rule(|spec| spec.customer("c_bad"), "RISK_DENIED"),
        ("order", "charge") => by_rule(|spec| spec.token("tok_decline"), "CARD_DECLINED"),
        ("order", "post") => by_rule(|spec| spec.merchant("m_closed"), "ACCOUNT_CLOSED"),
        _ => panic!(
            "{step} of the saga kind {kind} is new: tell the table how it refuses and what it gives, and `judge.rs` \
             what it leaves"
        ),
    }
}

/// How an order of a kind begins, before anything is done to it.
///
/// # Panics
/// The table does not know this kind: it has to be told how it is started and judged.
pub(super) fn plain(kind: &str) -> Spec {
    match kind {
        "order" => Spec::of(1),
        _ => panic!(
            "the saga kind {kind} is new: tell the table how one is started, and `judge.rs` what it leaves"
        ),
    }
}

/// As [`plain`], and a person is asked about it.
pub(super) fn reviewed(kind: &str) -> Spec {
    plain(kind).line("P2001", 1)
}

/// How a cell must end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum End {
    Completed,
    /// All made good, for this reason.
    Cancelled(&'static str),
    /// Parked with this reason, until a person moves it; then as the other.
    Parked(&'static str, Way, Box<End>),
    /// It goes on trying, and is not parked, until it heals; then as the other.
    GoesOn(Box<End>),
}

/// What a person does about what is parked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Way {
    /// What was broken is repaired: Retry.
    Retry,
    /// It is done by hand, and its participant says so.
    Answered,
    /// It is done by hand, and the person says so: Resolve.
    Resolve,
}

/// Everything that can go wrong with a step, whether it can last, and what a person may do about it.
pub(super) fn forward(facts: Facts, kind: &StepKind) -> Vec<(Fault, bool, Option<Way>)> {
    let after_pivot = matches!(kind, StepKind::Final);
    let both = [
        Fault::Error,
        Fault::Unable,
        Fault::TimeoutBefore,
        Fault::TimeoutAfter,
        Fault::Broken,
        Fault::Late,
        Fault::AfterEnd,
        Fault::Garbage(Garbage::Saga),
        Fault::Garbage(Garbage::Step),
        Fault::Garbage(Garbage::Done),
        Fault::Garbage(Garbage::NoOutcome),
        Fault::Garbage(Garbage::Undecodable),
        Fault::Duplicate,
        Fault::BreakerOpen,
    ];
    let mut faults: Vec<_> = both
        .into_iter()
        .filter(|fault| facts.gives || *fault != Fault::Garbage(Garbage::Done))
        .flat_map(|fault| [(fault, false, None), (fault, true, None)])
        .collect();
    faults.push((Fault::Silence, false, None));
    if after_pivot {
        faults.extend([Way::Retry, Way::Answered, Way::Resolve].map(|way| (Fault::Refuse, true, Some(way))));
    } else {
        faults.push((Fault::Refuse, true, None));
    }
    faults
}

/// How a step's fault ends.
///
/// # Panics
/// The table does not know this kind of step.
pub(super) fn forward_end(
    facts: Facts,
    kind: &StepKind,
    (fault, lasts, way): (Fault, bool, Option<Way>),
) -> End {
    let after_pivot = match kind {
        StepKind::Compensated { .. } | StepKind::Harmless | StepKind::Withdrawn { .. } => false,
        StepKind::Final => true,
        StepKind::Pivot => {
            panic!("no saga has had a step that is the pivot: tell the table how its faults end")
        }
    };
    match (fault, lasts, after_pivot) {
        (Fault::Refuse, _, true) => {
            End::Parked("REFUSED_AFTER_PIVOT", way.unwrap(), Box::new(End::Completed))
        }
        (Fault::Refuse, _, false) => End::Cancelled(match facts.refusal {
            Refusal::ByRule { reason, .. } => reason,
            Refusal::AtTheDoor => "REFUSED_AT_THE_DOOR",
        }),
        (Fault::Duplicate, _, _) | (_, false, _) => End::Completed,
        (Fault::BreakerOpen, true, false) => End::Cancelled("DEADLINE_EXCEEDED"),
        (_, true, false) => End::Cancelled("STEP_FAILED"),
        (_, true, true) => End::GoesOn(Box::new(End::Completed)),
    }
}

/// Everything that can go wrong with a compensation, how often it does, and what a person may do about it.
pub(super) fn back() -> Vec<(Fault, u32, Option<Way>)> {
    let (once, often) = (1, 3);
    let mut faults = vec![
        (Fault::Refuse, once, Some(Way::Retry)),
        (Fault::Refuse, often, Some(Way::Retry)),
        (Fault::Refuse, once, Some(Way::Answered)),
        (Fault::Refuse, once, Some(Way::Resolve)),
        (Fault::Error, once, None),
        (Fault::Error, u32::MAX, Some(Way::Retry)),
        (Fault::Broken, once, None),
        (Fault::Broken, 2, None),
        (Fault::Late, once, None),
        (Fault::AfterEnd, once, None),
        (Fault::Duplicate, once, None),
        (Fault::Again, once, None),
        (Fault::BreakerOpen, once, None),
    ];
    let both = [
        Fault::Unable,
        Fault::TimeoutBefore,
        Fault::TimeoutAfter,
        Fault::Garbage(Garbage::Saga),
        Fault::Garbage(Garbage::Step),
        Fault::Garbage(Garbage::NoOutcome),
        Fault::Garbage(Garbage::NoDirection),
        Fault::Garbage(Garbage::Undecodable),
    ];
    faults.extend(both.into_iter().flat_map(|fault| [(fault, once, None), (fault, often, None)]));
    faults
}

/// What a fault leaves of a review that its saga has no use for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Review {
    Withdrawn,
    /// Nobody could say so: it stays until its deadline.
    LeftOpen,
    /// There never was one: the withdrawal came first.
    Never,
    /// The one or the other.
    WithdrawnOrNever,
}

/// Everything that can go wrong with a message that nobody answers.
pub(super) const UNANSWERED: [(Fault, Review); 5] = [
    (Fault::Refuse, Review::LeftOpen),
    (Fault::Error, Review::Withdrawn),
    (Fault::Unable, Review::Withdrawn),
    (Fault::TimeoutBefore, Review::LeftOpen),
    (Fault::Broken, Review::Withdrawn),
];

/// What can be the matter with a call whose saga turns round before it is answered.
pub(super) const IN_FLIGHT: [(Fault, Review); 4] = [
    (Fault::TimeoutBefore, Review::Never),
    (Fault::TimeoutAfter, Review::Withdrawn),
    (Fault::Silence, Review::WithdrawnOrNever),
    (Fault::AfterEnd, Review::Never),
];
