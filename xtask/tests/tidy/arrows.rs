//! Which crate may depend on which, as a table. Arrows only point inward.
//!
//! The test reads `cargo metadata`, so normal, dev and build dependencies count alike. A new crate has to be entered
//! here before it may depend on anything. Read next: the code map in ARCHITECTURE.md.

use std::process::Command;

use serde_json::Value;

use crate::finding::{self, Finding};
use crate::house;

const DOMAIN: &[&str] = &["types", "proto", "chassis"];

/// Crate and what it may depend on. `*-svc`, `bench`, `e2e`, `fuzz` and crates of others are in [`may_depend_on`].
const ARROWS: &[(&str, &[&str])] = &[
    ("types", &[]),
    ("proto", &["types"]),
    ("chassis", &["types"]),
    ("orchestrator", DOMAIN),
    ("gateway", DOMAIN),
    // It knows Amends by its doors alone.
    ("load", DOMAIN),
    ("xtask", &[]),
];

/// What the program that people run, and nobody else, is put together from.
const PARTS: &[&str] = &["types", "proto", "chassis", "orchestrator", "gateway", "load"];

/// `None`: this crate is not in the table.
fn may_depend_on(from: &str, to: &str) -> Option<bool> {
    if from == "e2e" {
        return Some(!["xtask", "sim", "fuzz"].contains(&to));
    }
    // It counts what their pure functions cost; the program itself it runs from outside.
    if from == "bench" {
        return Some(DOMAIN.contains(&to) || ["load", "orchestrator"].contains(&to) || to.ends_with("-svc"));
    }
    if from == "sim" {
        return Some(DOMAIN.contains(&to) || to == "orchestrator" || to.ends_with("-svc"));
    }
    // It knocks at every door.
    if from == "fuzz" {
        return Some(!["xtask", "e2e", "sim"].contains(&to));
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
    let mut findings = Vec::new();
    for package in packages() {
        let manifest = text(&package, "manifest_path");
        let lines = std::fs::read_to_string(manifest).unwrap_or_default();
        let path =
            manifest.rsplit_once(&format!("{}/", house::root().display())).map_or(manifest, |(_, path)| path);
        let mut say = |key: &str, what: String| {
            let line =
                lines.lines().position(|line| line.trim_start().starts_with(key)).map_or(1, |at| at + 1);
            findings.push(Finding::new(path, line, what));
        };
        let from = text(&package, "name");
        if may_depend_on(from, "").is_none() {
            say(
                "name",
                format!(
                    "crate `{from}` is new: enter it in xtask/tests/tidy/arrows.rs and in ARCHITECTURE.md's code map"
                ),
            );
            continue;
        }
        // Ours are the ones that lie beside it.
        let dependencies = package["dependencies"].as_array().into_iter().flatten();
        for dependency in dependencies.filter(|dependency| dependency["path"].is_string()) {
            let to = text(dependency, "name");
            if may_depend_on(from, to) == Some(false) {
                let kind = dependency["kind"].as_str().unwrap_or("normal");
                let advice = "move what both need inward, to `types` or `chassis`";
                say(to, format!("`{from}` may not depend on `{to}` ({kind} dependency): {advice}"));
            }
        }
    }
    finding::none("arrow that points outward", findings);
}

pub(crate) fn packages() -> Vec<Value> {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["metadata", "--no-deps", "--offline", "--format-version", "1"]).current_dir(house::root());
    let output = cargo.output().expect("cargo, which built this test, can be started");
    assert!(output.status.success(), "cargo metadata failed:\n{}", String::from_utf8_lossy(&output.stderr));
    let mut metadata: Value = serde_json::from_slice(&output.stdout).expect("cargo metadata speaks JSON");
    match metadata["packages"].take() {
        Value::Array(packages) => packages,
        other => panic!("cargo metadata has no list of packages but {other}"),
    }
}

pub(crate) fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value[field].as_str().unwrap_or_else(|| panic!("cargo metadata gives no `{field}`"))
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
        ("load", "orchestrator"),
        ("xtask", "types"),
        ("sim", "amends"),
        ("e2e", "sim"),
        ("e2e", "fuzz"),
        ("fuzz", "e2e"),
    ] {
        assert_eq!(may_depend_on(from, to), Some(false), "{from} → {to}");
    }
    for (from, to) in [
        ("proto", "types"),
        ("amends", "risk-svc"),
        ("e2e", "amends"),
        ("fuzz", "amends"),
        ("risk-svc", "chassis"),
    ] {
        assert_eq!(may_depend_on(from, to), Some(true), "{from} → {to}");
    }
    assert_eq!(may_depend_on("shipping", "types"), None);
}
