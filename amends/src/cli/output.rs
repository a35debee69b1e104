//! What the operator's commands show: a table, the fields of one thing, or JSON.
//!
//! The only place that writes to standard output. Texts from the server are shown without control characters, so that
//! an order's metadata cannot drive somebody's terminal. Read next: `failure.rs`, for what goes wrong.

use std::{
    fmt::{self, Write as _},
    io::{self, Write as _},
};

use serde_json::Value;

use super::failure::Failure;

/// How answers are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Screen {
    /// For people.
    Text,
    /// For programs.
    Json,
}

impl Screen {
    /// One answer, as one JSON document or as text.
    pub(crate) fn one(self, json: impl FnOnce() -> Value, text: impl fmt::Display) -> Result<(), Failure> {
        match self {
            Self::Json => write(format_args!("{:#}", json())),
            Self::Text => write(format_args!("{text}")),
        }
    }

    /// One of many answers that come over time, as one line.
    pub(crate) fn next(self, json: impl FnOnce() -> Value, text: impl fmt::Display) -> Result<(), Failure> {
        match self {
            Self::Json => write(format_args!("{}", json())),
            Self::Text => write(format_args!("{text}")),
        }
    }

    /// A remark beside the answer, on standard error; never in JSON.
    pub(crate) fn remark(self, text: &str) {
        if self == Self::Text {
            remark(text);
        }
    }
}

/// A line on standard error that is drawn over itself while somebody waits.
#[derive(Debug)]
pub(crate) struct Line {
    is_drawn: bool,
    is_wanted: bool,
}

impl Line {
    /// `is_wanted`: somebody looks at it.
    pub(crate) const fn new(is_wanted: bool) -> Self {
        Self { is_drawn: false, is_wanted }
    }

    pub(crate) fn draw(&mut self, text: &str) {
        if self.is_wanted {
            self.is_drawn = true;
            let _ = write!(io::stderr(), "\r\x1b[K{text}");
        }
    }

    pub(crate) fn clear(&mut self) {
        if std::mem::take(&mut self.is_drawn) {
            let _ = write!(io::stderr(), "\r\x1b[K");
        }
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.clear();
    }
}

/// A line on standard error. If even that is closed there is nobody to tell.
pub(crate) fn remark(text: &str) {
    let _ = writeln!(io::stderr(), "{text}");
}

fn write(text: fmt::Arguments<'_>) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "{text}").and_then(|()| stdout.flush()).map_err(Failure::Output)
}

/// Text from elsewhere, safe for a terminal.
pub(crate) fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '·' } else { c }).collect()
}

/// Rows under headings. A heading that starts with `>` is aligned to the right.
#[derive(Debug)]
pub(crate) struct Table<const N: usize> {
    head: [&'static str; N],
    rows: Vec<[String; N]>,
}

impl<const N: usize> Table<N> {
    /// A table of these rows.
    pub(crate) fn new(head: [&'static str; N], rows: impl IntoIterator<Item = [String; N]>) -> Self {
        let rows = rows.into_iter().map(|row| row.map(|cell| plain(&cell))).collect();
        Self { head, rows }
    }
}

impl<const N: usize> fmt::Display for Table<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.head.map(|name| name.trim_start_matches('>').to_owned());
        let mut lines = Vec::with_capacity(self.rows.len() + 1);
        for row in [&names].into_iter().chain(&self.rows) {
            let mut line = String::new();
            for (at, cell) in row.iter().enumerate() {
                let width = [&names].into_iter().chain(&self.rows).map(|row| row[at].chars().count()).max();
                let width = width.unwrap_or_default();
                let gap = if at == 0 { "" } else { "  " };
                if self.head[at].starts_with('>') {
                    write!(line, "{gap}{cell:>width$}")?;
                } else {
                    write!(line, "{gap}{cell:<width$}")?;
                }
            }
            lines.push(line.trim_end().to_owned());
        }
        f.write_str(&lines.join("\n"))
    }
}

/// The fields of one thing, one per line; empty ones are left out.
#[derive(Debug, Default)]
pub(crate) struct Fields {
    lines: Vec<(String, String)>,
}

impl Fields {
    /// With one more.
    pub(crate) fn with(mut self, name: impl Into<String>, value: impl fmt::Display) -> Self {
        let value = value.to_string();
        if !value.is_empty() {
            self.lines.push((name.into(), plain(&value)));
        }
        self
    }
}

impl fmt::Display for Fields {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self.lines.iter().map(|(name, _)| name.chars().count()).max().unwrap_or_default();
        let lines: Vec<_> =
            self.lines.iter().map(|(name, value)| format!("{name:<width$}  {value}")).collect();
        f.write_str(&lines.join("\n"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = [["P1001".to_owned(), "7".to_owned()], ["P2".to_owned(), "1000".to_owned()]];
        assert_eq!(
            Table::new(["SKU", ">AVAILABLE"], rows).to_string(),
            "SKU    AVAILABLE\nP1001          7\nP2          1000"
        );
        assert_eq!(Table::new(["SKU", "TITLE"], []).to_string(), "SKU  TITLE");
    }

    #[test]
    fn what_the_server_says_cannot_drive_the_terminal() {
        let fields = Fields::default().with("title", "a\x1b[2Jb").with("empty", "").with("n", 1);
        assert_eq!(fields.to_string(), "title  a·[2Jb\nn      1");
    }
}
