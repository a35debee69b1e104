//! Where SQL may be, and how it is written: only in the files whose business it is, keywords in lower case.
//!
//! A literal counts as SQL by its opening and one more word of the same statement, so that prose ("update the
//! ledger") does not. Read next: STYLE.md, "SQL".

use crate::finding::{self, Finding};
use crate::house::{self, Source};
use crate::literals;

/// Files that hold statements, in any crate, and the folders of the same name.
const ROOMS: &[&str] = &["store", "journal", "shard", "signal"];
/// `testbed` makes the private databases of the tests.
const CHASSIS_ROOMS: &[&str] = &["barrier", "outbox", "database", "testbed"];
/// The auditor reads every database; provisioning makes databases and roles.
const AMENDS_ROOMS: &[&str] = &["amends/src/audit/", "amends/src/audit.rs", "amends/src/provision.rs"];

/// Words that stand in capitals in SQL only if somebody wrote them so. Names and values are quoted.
const KEYWORDS: &[&str] = &[
    "SELECT",
    "INSERT",
    "UPDATE",
    "DELETE",
    "WITH",
    "FROM",
    "WHERE",
    "INTO",
    "VALUES",
    "SET",
    "RETURNING",
    "JOIN",
    "ON",
    "AND",
    "OR",
    "NOT",
    "NULL",
    "ORDER",
    "GROUP",
    "BY",
    "LIMIT",
    "FOR",
    "AS",
    "CREATE",
    "ALTER",
    "DROP",
    "TABLE",
    "INDEX",
    "SCHEMA",
    "ROLE",
    "DATABASE",
    "GRANT",
    "REVOKE",
    "CONSTRAINT",
    "CHECK",
    "DEFAULT",
    "PRIMARY",
    "UNIQUE",
    "REFERENCES",
];

#[test]
fn sql_is_only_where_it_may_be() {
    let mut findings = Vec::new();
    for source in house::rust_sources().iter().filter(|source| !may_hold_sql(source)) {
        for literal in literals::of(&source.parsed()).iter().filter(|literal| !literal.in_test) {
            if is_sql(&literal.text) {
                findings.push(Finding::new(
                    &source.path,
                    literal.line,
                    format!(
                        "SQL (`{}…`) outside a store: move the statement to this crate's store.rs",
                        start(&literal.text)
                    ),
                ));
            }
        }
    }
    finding::none("SQL in a wrong room", findings);
}

#[test]
fn sql_keywords_are_lower_case() {
    let mut findings = Vec::new();
    let mut say = |path: &str, line: usize, word: &str| {
        let what = format!("SQL keyword `{word}` in capitals: write `{}`", word.to_lowercase());
        findings.push(Finding::new(path, line, what));
    };
    for source in house::rust_sources().iter().filter(|source| source.path != "xtask/tests/tidy/sql.rs") {
        for literal in literals::of(&source.parsed()).iter().filter(|literal| is_sql(&literal.text)) {
            if let Some((line, word)) = shouted(&literal.text) {
                say(&source.path, literal.line + line, word);
            }
        }
    }
    for source in house::sources(&["sql"]) {
        if let Some((line, word)) = shouted(&source.text) {
            say(&source.path, line + 1, word);
        }
    }
    finding::none("SQL keyword in capitals", findings);
}

fn may_hold_sql(source: &Source) -> bool {
    let is_room = |room: &&str| {
        source.file_name() == format!("{room}.rs") || source.path.contains(&format!("/{room}/"))
    };
    source.is_test()
        || ROOMS.iter().any(&is_room)
        || (source.path.starts_with("chassis/") && CHASSIS_ROOMS.iter().any(is_room))
        || AMENDS_ROOMS.iter().any(|room| source.path.starts_with(room))
}

fn is_sql(text: &str) -> bool {
    let lines = text.lines().filter(|line| !line.trim_start().starts_with("--"));
    let words: Vec<String> = lines.flat_map(str::split_whitespace).map(str::to_lowercase).collect();
    let has = |word: &str| words.iter().any(|other| other == word);
    let Some(first) = words.first() else { return false };
    let second = words.get(1).map_or("", String::as_str);
    match first.as_str() {
        // `select 1`, `select $1`, `select pg_notify(…)`, `select … from …`; not "select a payment method".
        "select" => {
            has("from")
                || second.contains('(')
                || second.starts_with(|c: char| c.is_ascii_digit() || c == '$')
        }
        "insert" => second == "into",
        "delete" => second == "from",
        "update" => has("set"),
        "with" => has("as") && text.contains('('),
        "create" | "alter" | "drop" | "truncate" => [
            "table", "index", "unique", "schema", "database", "role", "user", "type", "sequence", "function",
            "trigger",
        ]
        .contains(&second),
        "grant" | "revoke" => has("on") && (has("to") || has("from")),
        "copy" => has("from") || has("to"),
        _ => false,
    }
}

/// The first keyword in capitals and how many lines below the start it stands. Quoted text and comments may shout.
fn shouted(text: &str) -> Option<(usize, &str)> {
    text.lines().enumerate().find_map(|(number, line)| {
        let code = line.split("--").next().unwrap_or_default();
        let unquoted = code.split(['\'', '"']).step_by(2);
        let mut words =
            unquoted.flat_map(|part| part.split(|c: char| !c.is_ascii_alphanumeric() && c != '_'));
        words.find(|word| KEYWORDS.contains(word)).map(|word| (number, word))
    })
}

fn start(text: &str) -> String {
    text.split_whitespace().take(4).collect::<Vec<_>>().join(" ")
}

#[test]
fn statements_are_told_from_prose() {
    for sql in [
        "select 1",
        "\n    -- comment\n    SELECT saga_id from orchestrator.saga",
        "insert into orders.orders (a) values ($1)",
        "with due as (select 1) delete from a",
        "update a set b = 1",
        "create database x",
        "select pg_notify($1, $2)",
    ] {
        assert!(is_sql(sql), "{sql}");
    }
    for prose in
        ["select a payment method", "update the ledger", "with a key", "delete is not allowed", "insert", ""]
    {
        assert!(!is_sql(prose), "{prose}");
    }
}

#[test]
fn capitals_are_seen_outside_quotes_and_comments() {
    assert_eq!(shouted("select a\n FROM b"), Some((1, "FROM")));
    assert_eq!(shouted("select 'NOT' from a -- AND so on\n where \"ORDER\" = 'OR'"), None);
}
