//! Which crate may depend on which: DESIGN §2 as a table. Arrows only point inward.
//!
//! The test reads `cargo metadata`, so normal, dev and build dependencies count alike. A new crate has to be entered
//! here before it may depend on anything. Read next: DESIGN §2.

use cargo_metadata::MetadataCommand;

use crate::finding::{self, Finding};
use crate::house;

const DOMAIN: &[&str] = &["types", "proto", "chassis"];

/// Crate and what it may depend on. `*-svc`, `e2e` and crates of others are in [`may_depend_on`].
const ARROWS: &[(&str, &[&str])] = &[
    ("types", &[]),
    ("proto", &["types"]),
    ("chassis", &["types"]),
    ("orchestrator", DOMAIN),
    ("gateway", DOMAIN),
    ("bench", DOMAIN),
    ("xtask", &[]),
];

/// What the program that people run, and nobody else, is put together from.
const PARTS: &[&str] = &["types", "proto", "chassis", "orchestrator", "gateway"];

/// `None`: this crate is not in the table.
fn may_depend_on(from: &str, to: &str) -> Option<bool> {
    if from == "e2e" {
        return Some(to != "xtask");
    }
    if from == "amends" {
        return Some(PARTS.contains(&to) || to.ends_with("-svc"));
    }
    if from.ends_with("-svc") {
        return Some(DOMAIN.contains(&to));
    }
    ARROWS.iter().find(|(name, _)| *name == from).map(|(_, allowed)| allowed.contains(&to))
}

#[test]
fn arrows_only_point_inward() {
    let root = house::root();
    let metadata = MetadataCommand::new()
        .manifest_path(root.join("Cargo.toml"))
        .no_deps()
        .other_options(["--offline".to_owned()])
        .exec();
    let packages = metadata.unwrap_or_else(|error| panic!("cannot read the workspace: {error}")).packages;
    let mut findings = Vec::new();
    for package in &packages {
        let manifest = package.manifest_path.strip_prefix(&root).unwrap_or(&package.manifest_path);
        let text = std::fs::read_to_string(&package.manifest_path).unwrap_or_default();
        let mut say = |to: &str, what: String| {
            let line = text.lines().position(|line| line.trim_start().starts_with(to)).map_or(1, |at| at + 1);
            findings.push(Finding::new(manifest.as_str(), line, what));
        };
        let from = package.name.as_str();
        if may_depend_on(from, "").is_none() {
            say(
                "name",
                format!("crate `{from}` is new: enter it in xtask/tests/tidy/arrows.rs and in DESIGN §2"),
            );
            continue;
        }
        // Ours are the ones that lie beside it.
        for dependency in package.dependencies.iter().filter(|dependency| dependency.path.is_some()) {
            let to = dependency.name.as_str();
            if may_depend_on(from, to) == Some(false) {
                let what = format!(
                    "`{from}` may not depend on `{to}` ({} dependency, DESIGN §2): move what both need inward, to \
                     `types` or `chassis`",
                    dependency.kind
                );
                say(to, what);
            }
        }
    }
    finding::none("arrow that points outward", findings);
}

#[test]
fn the_table_knows_the_forbidden_arrows() {
    for (from, to) in [
        ("order-svc", "payment-svc"),
        ("order-svc", "orchestrator"),
        ("orchestrator", "ledger-svc"),
        ("chassis", "proto"),
        ("types", "chassis"),
        ("amends", "e2e"),
        ("amends", "xtask"),
        ("bench", "amends"),
        ("xtask", "types"),
    ] {
        assert_eq!(may_depend_on(from, to), Some(false), "{from} → {to}");
    }
    for (from, to) in [("proto", "types"), ("amends", "risk-svc"), ("e2e", "amends"), ("risk-svc", "chassis")]
    {
        assert_eq!(may_depend_on(from, to), Some(true), "{from} → {to}");
    }
    assert_eq!(may_depend_on("shipping", "types"), None);
}
