//! `.env.sample` is the list of everything that can be configured: each variable that a clap struct reads, no other.
//!
//! Variables of others (`PATH`, `RUST_LOG`) do not belong there. Read next: any `config.rs`.

use std::collections::BTreeMap;

use proc_macro2::{TokenStream, TokenTree};

use crate::finding::{self, Finding};
use crate::house::{self, Source};

const SAMPLE: &str = ".env.sample";

#[test]
fn the_sample_lists_every_variable_and_no_other() {
    let mut read = BTreeMap::new();
    for source in house::rust_sources() {
        for (line, name) in variables(&source) {
            read.entry(name).or_insert((source.path.clone(), line));
        }
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
