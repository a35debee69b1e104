//! The auditor sees what it is there for: every seeded bug is named by the invariant that it breaks, and without them
//! there is nothing to find.

use std::{collections::HashSet, path::Path};

use chassis::seeded::Bug;
use e2e::seeded::{self, CASES, Trial};

/// Most of the time a trial waits.
const SIDE_BY_SIDE: usize = 4;

#[tokio::test(flavor = "multi_thread")]
async fn every_seeded_bug_is_caught_by_the_invariant_that_it_breaks_and_without_a_bug_nothing_is_found() {
    let planted: HashSet<Bug> = CASES.iter().map(|case| case.bug).collect();
    assert_eq!((planted.len(), CASES.len()), (Bug::ALL.len(), Bug::ALL.len()), "each bug has one case");
    let rig = Path::new(env!("CARGO_BIN_EXE_rig"));
    let verdicts = seeded::run(rig, Trial::all(), SIDE_BY_SIDE, |_| ()).await;
    // Not the others: among sixty of them the wrong one is where a long output is cut off.
    let wrong: Vec<_> =
        verdicts.iter().filter(|verdict| !verdict.is_as_it_should()).map(ToString::to_string).collect();
    assert!(
        wrong.is_empty(),
        "not as they should be (cargo xtask bugs shows all of them):\n{}",
        wrong.join("\n")
    );
}
