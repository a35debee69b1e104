//! A command that a text gives must run: `cargo run -p NAME` has to know which program of the package is meant.
//!
//! A second program in a package makes every such command fail, without a word from the compiler. Read next: `arrows.rs`,
//! which asks cargo the same way.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::arrows;
use crate::finding::{self, Finding};
use crate::house::{self, Source};

#[test]
fn every_program_that_a_text_names_can_be_run() {
    let packages: BTreeMap<String, bool> = arrows::packages()
        .iter()
        .map(|package| (arrows::text(package, "name").to_owned(), has_one_program(package)))
        .collect();
    let texts = house::sources(&["md", "rs"]);
    // This file names some that cannot.
    let texts = texts.iter().filter(|text| !text.path.ends_with("tidy/programs.rs"));
    finding::none("command that cargo cannot run", texts.flat_map(|text| mute(text, &packages)).collect());
}

fn has_one_program(package: &Value) -> bool {
    let kinds = |target: &Value| target["kind"].as_array().is_some_and(|kinds| kinds.contains(&"bin".into()));
    let programs = package["targets"].as_array().into_iter().flatten().filter(|target| kinds(target)).count();
    programs == 1 || package["default_run"].is_string()
}

/// Commands for a package of which cargo does not know what to run.
fn mute(text: &Source, packages: &BTreeMap<String, bool>) -> Vec<Finding> {
    let lines = text.text.lines().enumerate();
    let commands =
        lines.flat_map(|(at, line)| line.split("cargo run ").skip(1).map(move |rest| (at + 1, rest)));
    commands
        .filter_map(|(line, command)| {
            // To the program's own words, or to the end of the command.
            let ours = command.split(" -- ").next().and_then(|ours| ours.split(['`', ')', ';']).next())?;
            let mut words = ours.split_whitespace();
            let package =
                words.find(|word| *word == "-p" || *word == "--package").and_then(|_| words.next())?;
            let can_run = ours.contains("--bin ") || packages.get(package).copied().unwrap_or(false);
            let advice = "give its manifest a `default-run`, or the command a `--bin`";
            (!can_run)
                .then(|| Finding::new(&text.path, line, format!("`{package}` has no one program: {advice}")))
        })
        .collect()
}

#[test]
fn a_package_with_two_programs_is_found() {
    let packages = BTreeMap::from([("one".to_owned(), true), ("two".to_owned(), false)]);
    let found = |line: &str| {
        let text = Source { path: "README.md".into(), text: line.into() };
        mute(&text, &packages).len()
    };
    assert_eq!(found("`cargo run --release -p one -- compare` and cargo run"), 0);
    assert_eq!(found("`cargo build && cargo run --release -p two -- compare`"), 1);
    assert_eq!(found("cargo run -p two --bin second, (cargo run -p gone)"), 1);
    assert_eq!(found("`cargo run -p two`; `cargo run --package two --bin second`"), 1);
}
