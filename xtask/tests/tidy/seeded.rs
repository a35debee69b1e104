//! Bugs that are seeded on purpose stay with the tests: their feature is on for nobody but `e2e`, on which nothing
//! depends, so `cargo build`, `cargo build -p amends` and the image have none of them.
//!
//! Read next: `chassis/src/seeded.rs`.

use crate::finding::{self, Finding};
use crate::house::{self, Source};

const FEATURE: &str = "seeded-bugs";

#[test]
fn nobody_but_the_scenarios_turns_seeded_bugs_on() {
    let manifests = house::sources(&["toml"]);
    let findings = manifests.iter().flat_map(strangers).collect();
    finding::none("way by which seeded bugs could come into what people run", findings);
    let asks = |path: &str, line: &str| {
        let manifest = manifests.iter().find(|manifest| manifest.path == path);
        manifest.is_some_and(|manifest| manifest.text.lines().any(|said| said.starts_with(line)))
    };
    assert!(
        asks("chassis/Cargo.toml", "seeded-bugs = []"),
        "the feature has another name now: look here again"
    );
    assert!(asks("e2e/Cargo.toml", "chassis = {"), "the scenarios have no seeded bugs any more");
}

/// Lines of a manifest that name the feature and may not.
fn strangers(manifest: &Source) -> Vec<Finding> {
    let lines = manifest.text.lines().enumerate().filter(|(_, line)| line.contains(FEATURE));
    let strange = lines.filter(|(_, line)| match manifest.path.as_str() {
        // Defined, and part of no other feature: not of `default`, above all.
        "chassis/Cargo.toml" => !line.starts_with("seeded-bugs = []"),
        "e2e/Cargo.toml" => !line.starts_with("chassis = {"),
        _ => true,
    });
    strange
        .map(|(at, _)| {
            Finding::new(
                &manifest.path,
                at + 1,
                format!("`{FEATURE}`: only e2e's own dependency turns it on"),
            )
        })
        .collect()
}

#[test]
fn a_stranger_is_found() {
    let strange =
        |path: &str, text: &str| strangers(&Source { path: path.to_owned(), text: text.to_owned() }).len();
    assert_eq!(strange("chassis/Cargo.toml", "[features]\ndefault = [\"seeded-bugs\"]\nseeded-bugs = []"), 1);
    assert_eq!(
        strange("amends/Cargo.toml", "chassis = { workspace = true, features = [\"seeded-bugs\"] }"),
        1
    );
    assert_eq!(strange("e2e/Cargo.toml", "chassis = { workspace = true, features = [\"seeded-bugs\"] }"), 0);
}
