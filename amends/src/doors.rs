//! What fuzzing knocks at: the readers of what comes in, as they are, and nothing else of this crate.
//!
//! Nobody else calls these; no handler does anything that is not done here. Read next: the room `fuzz/`.

use clap::Parser as _;
use uuid::Uuid;

/// A command line, the program's name first.
///
/// # Errors
/// What is wrong with it, for people (or the help that it asks for).
pub fn command_line(words: &[String]) -> Result<(), String> {
    crate::cli::Cli::try_parse_from(words).map(drop).map_err(|error| error.to_string())
}

/// A line of a client's own record, for the auditor: the order, and under which key.
///
/// # Errors
/// What is wrong with it.
pub fn acknowledged(line: &str) -> Result<(Uuid, Option<String>), String> {
    crate::audit::acknowledged(line)
}
