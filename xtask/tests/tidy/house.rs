//! The sources of the house: every file that people write, with its path from the root.
//!
//! Generated code is not here: it lies in build folders, or below a folder named `generated`. Read next: `sql.rs` or
//! any other rule.

use std::fs;
use std::path::{Path, PathBuf};

pub(crate) struct Source {
    /// From the root of the workspace, with `/`.
    pub(crate) path: String,
    pub(crate) text: String,
}

impl Source {
    pub(crate) fn file_name(&self) -> &str {
        self.path.rsplit('/').next().unwrap_or(&self.path)
    }

    /// Code that only tests run: a `tests` folder or file, or the crate of scenarios.
    pub(crate) fn is_test(&self) -> bool {
        self.path.starts_with("e2e/") || self.path.contains("/tests/") || self.path.ends_with("/tests.rs")
    }

    /// The parsed file. What does not parse does not compile either, so rustc says it better than a finding could.
    pub(crate) fn parsed(&self) -> syn::File {
        syn::parse_file(&self.text).unwrap_or_else(|error| {
            panic!("{}:{}: not Rust: {error}; mend it first", self.path, error.span().start().line)
        })
    }
}

pub(crate) fn root() -> PathBuf {
    let mut root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    root.pop();
    root
}

pub(crate) fn rust_sources() -> Vec<Source> {
    sources(&["rs"])
}

/// Every file with one of these endings, in the order of the paths.
pub(crate) fn sources(endings: &[&str]) -> Vec<Source> {
    let root = root();
    let mut files = Vec::new();
    walk(&root, &mut files);
    files.retain(|file| {
        let ending = file.extension().and_then(|ending| ending.to_str()).unwrap_or_default();
        endings.contains(&ending)
    });
    files.sort();
    files.iter().map(|file| read(&root, file)).collect()
}

fn read(root: &Path, file: &Path) -> Source {
    let text =
        fs::read_to_string(file).unwrap_or_else(|error| panic!("cannot read {}: {error}", file.display()));
    let path = file.strip_prefix(root).unwrap_or(file);
    Source { path: path.to_string_lossy().replace('\\', "/"), text }
}

fn walk(folder: &Path, files: &mut Vec<PathBuf>) {
    let entries =
        fs::read_dir(folder).unwrap_or_else(|error| panic!("cannot list {}: {error}", folder.display()));
    for entry in entries.flatten() {
        let path = entry.path();
        let name = entry.file_name();
        let name = name.to_string_lossy();
        // Hidden folders hold git's and Postgres' data; cargo marks its build folders, whatever their name.
        if path.is_dir() {
            let is_ours =
                !name.starts_with('.') && name != "generated" && !path.join("CACHEDIR.TAG").exists();
            if is_ours {
                walk(&path, files);
            }
        } else {
            files.push(path);
        }
    }
}
