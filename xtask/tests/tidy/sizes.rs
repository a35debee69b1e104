//! How long a file may be. (How long a function may be is clippy's `too_many_lines`, with its number in `clippy.toml`.)
//!
//! Read next: STYLE.md, "Sizes".

use crate::finding::{self, Finding};
use crate::house;

/// The ceiling; 60 to 250 lines is the custom.
const MOST_LINES: usize = 500;

#[test]
fn no_file_is_longer_than_a_reader_can_hold() {
    let mut findings = Vec::new();
    for source in house::rust_sources() {
        let lines = source.text.lines().count();
        if lines > MOST_LINES {
            let what = format!("{lines} lines, {MOST_LINES} at most: split it by noun");
            findings.push(Finding::new(&source.path, lines, what));
        }
    }
    finding::none("file too long", findings);
}
