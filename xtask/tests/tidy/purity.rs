//! What only decides must not be able to do: the saga core and the rules of the services have no async, no clock, no
//! I/O crate.
//!
//! Token by token, so that macros, attributes and tests inside these files count too. Read next: the code map in ARCHITECTURE.md.

use proc_macro2::{Delimiter, Spacing, TokenStream, TokenTree};

use crate::finding::{self, Finding};
use crate::house::{self, Source};

/// Crates that wait, draw or talk to somebody.
const CRATES: &[&str] = &["sqlx", "tonic", "lapin", "redis", "tokio", "uuid"];
const CLOCKS: &[&str] = &["SystemTime", "Instant"];

#[test]
fn what_decides_is_pure() {
    let mut findings = Vec::new();
    for source in house::rust_sources().iter().filter(|source| is_pure_room(&source.path)) {
        findings.extend(impurities(source));
    }
    finding::none("impurity where only deciding is done", findings);
}

/// The saga core, and `domain` of every service.
fn is_pure_room(path: &str) -> bool {
    let in_service = path.split('/').next().is_some_and(|room| room.ends_with("-svc"));
    path == "orchestrator/src/saga.rs"
        || path.starts_with("orchestrator/src/saga/")
        || (in_service && (path.ends_with("/src/domain.rs") || path.contains("/src/domain/")))
}

fn impurities(source: &Source) -> Vec<Finding> {
    let tokens: TokenStream = match source.text.parse() {
        Ok(tokens) => tokens,
        Err(error) => panic!("{}: not Rust: {error}; mend it first", source.path),
    };
    let mut words = Vec::new();
    flatten(tokens, &mut words);
    let word = |at: Option<usize>| at.and_then(|at| words.get(at)).map_or("", |(_, word)| word.as_str());

    let mut findings = Vec::new();
    for (at, (line, text)) in words.iter().enumerate() {
        let starts_path = word(Some(at + 1)) == "::";
        let before = word(at.checked_sub(1));
        // `a::redis::b` is a module of `a`; `use ::redis::b` is the crate.
        let is_inner = before == "::" && !["", "use", "(", "{", ","].contains(&word(at.checked_sub(2)));
        let what = match text.as_str() {
            name if CRATES.contains(&name) && (starts_path || before == "use") && !is_inner => {
                format!(
                    "names the crate `{name}`: cut it in two, the part that decides stays, the part that does moves out"
                )
            }
            name if CLOCKS.contains(&name) => format!("names `{name}`: take the time as an argument"),
            "Utc" | "Local" if starts_path && word(Some(at + 2)) == "now" => {
                "reads the clock: take the time as an argument".to_owned()
            }
            "async" => "is async: what decides never waits".to_owned(),
            "await" if before == "." => "awaits: what decides never waits".to_owned(),
            _ => continue,
        };
        findings.push(Finding::new(&source.path, *line, what));
    }
    findings
}

/// Identifiers and punctuation with their lines; `::` is one word; groups are opened, brackets kept as words.
fn flatten(tokens: TokenStream, words: &mut Vec<(usize, String)>) {
    let mut half_colon = false;
    for token in tokens {
        let line = token.span().start().line;
        match token {
            TokenTree::Punct(punct) if punct.as_char() == ':' => {
                if half_colon {
                    words.push((line, "::".to_owned()));
                }
                half_colon = !half_colon && punct.spacing() == Spacing::Joint;
                continue;
            }
            TokenTree::Group(group) => {
                if group.delimiter() != Delimiter::None {
                    words.push((line, "(".to_owned()));
                }
                flatten(group.stream(), words);
            }
            TokenTree::Ident(ident) => words.push((line, ident.to_string())),
            TokenTree::Punct(punct) => words.push((line, punct.as_char().to_string())),
            TokenTree::Literal(_) => words.push((line, "literal".to_owned())),
        }
        half_colon = false;
    }
}

#[test]
fn impurities_are_found_and_innocent_names_are_not() {
    let lines = |text: &str| {
        let source = Source { path: "order-svc/src/domain.rs".to_owned(), text: text.to_owned() };
        impurities(&source).into_iter().map(|finding| finding.line).collect::<Vec<_>>()
    };
    let bad = [
        "use tokio;",
        "use std::time::Instant;",
        "async fn a() { b().await }",
        "#[derive(sqlx::Type)]",
        "struct C;",
        "use {a, uuid::Uuid};",
        "fn n() { chrono::Utc::now(); }",
        "use ::sqlx::Row;",
    ];
    assert_eq!(lines(&bad.join("\n")), [1, 2, 3, 3, 4, 6, 7, 8]);
    let good = [
        "//! No tokio, no await, no Instant here.",
        "fn redis(uuid: Id) -> Id { uuid.uuid(a::redis::b) }",
        "type T = DateTime<Utc>;",
    ];
    assert_eq!(lines(&good.join("\n")), [] as [usize; 0]);
}

#[test]
fn the_pure_rooms_are_known() {
    for path in ["orchestrator/src/saga/next.rs", "orchestrator/src/saga.rs", "risk-svc/src/domain/score.rs"]
    {
        assert!(is_pure_room(path), "{path}");
    }
    assert!(!is_pure_room("orchestrator/src/driver.rs") && !is_pure_room("chassis/src/domain.rs"));
}
