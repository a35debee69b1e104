//! Nothing unfinished lands: no notes to oneself, no holes, no tests that are switched off.
//!
//! The marks are put together from halves here, so that this file does not find itself. Read next: STYLE.md, "Tests".

use syn::visit::Visit;

use crate::finding::{self, Finding};
use crate::house;

const NOTES: [&str; 2] = [concat!("TO", "DO"), concat!("FIX", "ME")];
const HOLES: [&str; 2] = [concat!("to", "do!("), concat!("unimple", "mented!(")];

#[test]
fn nothing_unfinished_lands() {
    let mut findings = Vec::new();
    for source in house::sources(&["rs", "proto", "sql", "toml", "sh", "yml", "yaml"]) {
        for (number, line) in source.text.lines().enumerate() {
            if let Some(mark) = mark(line) {
                let what = format!("`{mark}`: do it now, or open an issue and take the mark out");
                findings.push(Finding::new(&source.path, number + 1, what));
            }
        }
    }
    finding::none("mark of unfinished work", findings);
}

#[test]
fn no_test_is_switched_off() {
    let mut findings = Vec::new();
    for source in house::rust_sources() {
        let mut ignored = Ignored(Vec::new());
        ignored.visit_file(&source.parsed());
        let what = "a test that does not run proves nothing: mend it or delete it";
        findings.extend(ignored.0.into_iter().map(|line| Finding::new(&source.path, line, what)));
    }
    finding::none("ignored test", findings);
}

fn mark(line: &str) -> Option<&'static str> {
    let mut words = line.split(|c: char| !c.is_alphanumeric() && c != '_');
    let note = words.find_map(|word| NOTES.into_iter().find(|note| *note == word));
    note.or_else(|| HOLES.into_iter().find(|hole| line.contains(hole)))
}

struct Ignored(Vec<usize>);

impl<'ast> Visit<'ast> for Ignored {
    fn visit_attribute(&mut self, attribute: &'ast syn::Attribute) {
        if attribute.path().is_ident("ignore") {
            self.0.push(syn::spanned::Spanned::span(attribute).start().line);
        }
    }
}

#[test]
fn marks_are_whole_words() {
    assert!(mark(&format!("// {}: later", NOTES[0])).is_some());
    assert!(mark(&format!("    {}\"later\")", HOLES[0])).is_some());
    assert!(mark("let todos = MASTODON;").is_none());
}
