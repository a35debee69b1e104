//! What commits passes crash points: by `chassis::database::commit`, or as a statement of `chassis::sql`.
//!
//! A transaction that is committed by hand, or a statement that is run past them, would be a place where no process ever
//! died. Read next: `chassis/src/crash.rs`.

use crate::finding::{self, Finding};
use crate::house;

/// Where a commit by hand is right: the function itself and provisioning; a shard, whose points go by the clock; and the
/// benchmark's baseline, which is what one writes without any of this.
const BY_HAND: &[&str] =
    &["chassis/src/database.rs", "orchestrator/src/shard.rs", "bench/src/baseline/store.rs"];

#[test]
fn what_commits_passes_crash_points() {
    let mut findings = Vec::new();
    let sources = house::rust_sources();
    let services = |path: &str| path.starts_with("orchestrator/src/") || path.contains("-svc/src/");
    for source in sources.iter().filter(|source| !source.is_test()) {
        for (number, line) in source.text.lines().enumerate() {
            let code = line.split("//").next().unwrap_or_default();
            let by_hand = code.contains(".commit()") && !BY_HAND.contains(&source.path.as_str());
            // What is no `Statement` passes no point by itself.
            let past = services(&source.path) && code.contains("sqlx::query");
            if by_hand || past {
                let what =
                    "passes no crash points: use `chassis::database::commit` and `chassis::sql::Statement`";
                findings.push(Finding::new(&source.path, number + 1, what.to_owned()));
            }
        }
    }
    finding::none("a write without crash points", findings);
}
