//! Every Rust file opens with `//!`: what it is, what it must never do, what to read next.
//!
//! Only that the opening is there can be tested; what it says is for readers. Read next: STYLE.md, "Comments".

use crate::finding::{self, Finding};
use crate::house;

#[test]
fn every_module_says_what_it_is() {
    let mut findings = Vec::new();
    for source in house::rust_sources() {
        if !source
            .text
            .lines()
            .find(|line| !line.trim().is_empty())
            .is_some_and(|line| line.starts_with("//! "))
        {
            let what = "does not open with `//!`: say what it is, what it must never do, what to read next";
            findings.push(Finding::new(&source.path, 1, what));
        }
    }
    finding::none("module without an opening", findings);
}
