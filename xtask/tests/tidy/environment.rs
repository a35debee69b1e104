//! `.env.sample` is the list of everything that can be configured: each variable that a clap struct or the compose file
//! reads, no other; and the compose file hands all of them through.
//!
//! Variables of others (`PATH`, `RUST_LOG`) do not belong there. Read next: any `config.rs`.

use std::collections::{BTreeMap, BTreeSet};

use proc_macro2::{TokenStream, TokenTree};

use crate::finding::{self, Finding};
use crate::house::{self, Source};

const SAMPLE: &str = ".env.sample";
const COMPOSE: &str = "docker-compose.yml";

/// What has no place in a container: its folders are volumes, its schemas are made by `provision`, its store is empty,
/// its auditor is a service of its own, and whoever asks from inside asks the process beside.
const NOT_IN_CONTAINERS: [&str; 6] = [
    "AMENDS_DATA_DIR",
    "AMENDS_MIGRATE",
    "AMENDS_NO_AUDIT",
    "AMENDS_NO_DEMO",
    "AMENDS_POSTGRES_BIN",
    "AMENDS_SERVER",
];

#[test]
fn the_sample_lists_every_variable_and_no_other() {
    let mut read = read_by_programs();
    for (line, name) in substituted(&compose()) {
        read.entry(name.to_owned()).or_insert((COMPOSE.to_owned(), line));
    }
    let Ok(text) = std::fs::read_to_string(house::root().join(SAMPLE)) else {
        let names: Vec<&String> = read.keys().collect();
        panic!(
            "{SAMPLE}:1: is not there: write it, with one commented line `# NAME=default` for each of {names:#?}"
        );
    };
    let listed: BTreeMap<&str, usize> = listed(&text).collect();

    let missing = read.iter().filter(|(name, _)| !listed.contains_key(name.as_str()));
    let mut findings: Vec<Finding> = missing
        .map(|(name, (path, line))| {
            Finding::new(path, *line, format!("`{name}` is not in {SAMPLE}: add it there"))
        })
        .collect();
    for (name, line) in listed.iter().filter(|(name, _)| !read.contains_key(**name)) {
        findings.push(Finding::new(SAMPLE, *line, format!("nothing reads `{name}`: take it out")));
    }
    finding::none("variable that .env.sample has wrong", findings);
}

/// Who sets something in `.env` expects that the containers hear of it.
#[test]
fn the_compose_file_hands_every_variable_through_and_no_other() {
    let (read, text) = (read_by_programs(), compose());
    let own: BTreeSet<&str> = substituted(&text).map(|(_, name)| name).collect();
    let given: BTreeMap<&str, usize> = given(&text).collect();
    let missing = read
        .keys()
        .filter(|name| !given.contains_key(name.as_str()) && !NOT_IN_CONTAINERS.contains(&name.as_str()));
    let mut findings: Vec<Finding> = missing
        .map(|name| {
            Finding::new(COMPOSE, 1, format!("`{name}` is not handed to its service: add a line `{name}:`"))
        })
        .collect();
    for (name, line) in &given {
        if !read.contains_key(*name) && !own.contains(name) {
            findings.push(Finding::new(COMPOSE, *line, format!("nothing reads `{name}`: take it out")));
        }
    }
    finding::none("variable that the compose file has wrong", findings);
}

fn compose() -> String {
    let file = house::root().join(COMPOSE);
    std::fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}

/// With the place where each is read first.
fn read_by_programs() -> BTreeMap<String, (String, usize)> {
    let mut read = BTreeMap::new();
    for source in house::rust_sources() {
        for (line, name) in variables(&source) {
            read.entry(name).or_insert((source.path.clone(), line));
        }
    }
    read
}

/// Every `${NAME…}` of a compose file.
fn substituted(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines().enumerate().flat_map(|(number, line)| {
        let names = line.split("${").skip(1).filter_map(|rest| rest.split([':', '}', '-']).next());
        names.map(move |name| (number + 1, name))
    })
}

/// Every `AMENDS_…:` or `OTEL_…:` that a compose file gives to a container.
fn given(text: &str) -> impl Iterator<Item = (&str, usize)> {
    text.lines().enumerate().filter_map(|(number, line)| {
        let (name, _) = line.trim_start().split_once(':')?;
        (name.starts_with("AMENDS_") || name.starts_with("OTEL_")).then_some((name, number + 1))
    })
}

/// Every `env = "AMENDS_…"` or `env = "OTEL_…"` of a file, in attributes and inside macros alike.
fn variables(source: &Source) -> Vec<(usize, String)> {
    let tokens: TokenStream = match source.text.parse() {
        Ok(tokens) => tokens,
        Err(error) => panic!("{}: not Rust: {error}; mend it first", source.path),
    };
    let mut found = Vec::new();
    collect(tokens, &mut found);
    found
}

fn collect(tokens: TokenStream, found: &mut Vec<(usize, String)>) {
    let tokens: Vec<TokenTree> = tokens.into_iter().collect();
    for (at, token) in tokens.iter().enumerate() {
        match token {
            TokenTree::Group(group) => collect(group.stream(), found),
            TokenTree::Literal(literal) => {
                let is_env =
                    at >= 2 && tokens[at - 2].to_string() == "env" && tokens[at - 1].to_string() == "=";
                if let (true, syn::Lit::Str(text)) = (is_env, syn::Lit::new(literal.clone())) {
                    let name = text.value();
                    if name.starts_with("AMENDS_") || name.starts_with("OTEL_") {
                        found.push((literal.span().start().line, name));
                    }
                }
            }
            TokenTree::Ident(_) | TokenTree::Punct(_) => {}
        }
    }
}

/// `NAME=value`, or `# NAME=value` for what has a default.
fn listed(text: &str) -> impl Iterator<Item = (&str, usize)> {
    text.lines().enumerate().filter_map(|(number, line)| {
        let (name, _) = line.trim_start_matches(['#', ' ']).split_once('=')?;
        let is_name = !name.is_empty()
            && name.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_');
        is_name.then_some((name, number + 1))
    })
}

#[test]
fn variables_are_read_from_attributes_and_listed_with_or_without_a_hash() {
    let text = [
        "struct C { #[arg(long, env = \"AMENDS_A\", default_value = \"x\")] a: A,",
        "  #[arg(env = \"HOME\")] b: B }",
        "macro_rules! m { () => { #[arg(env = \"OTEL_B\")] } }",
    ];
    let text = text.join("\n");
    let source = Source { path: "x.rs".to_owned(), text };
    assert_eq!(variables(&source), [(1, "AMENDS_A".to_owned()), (3, "OTEL_B".to_owned())]);
    let listed: Vec<_> = listed("# What it is.\nAMENDS_A=1\n\n# AMENDS_B=a=b\n# see x = y\n").collect();
    assert_eq!(listed, [("AMENDS_A", 2), ("AMENDS_B", 4)]);
}

#[test]
fn a_compose_file_substitutes_and_gives() {
    let text = "  x: ${A:-1}:${B}\n  AMENDS_C:\n  AMENDS_D: ${AMENDS_E:-a}\n  # AMENDS_F says\n";
    assert_eq!(substituted(text).collect::<Vec<_>>(), [(1, "A"), (1, "B"), (3, "AMENDS_E")]);
    assert_eq!(given(text).collect::<Vec<_>>(), [("AMENDS_C", 2), ("AMENDS_D", 3)]);
}
