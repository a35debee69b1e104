//! What a step is called, and the key under which a participant remembers it.

use std::{fmt, str::FromStr, sync::Arc};

use serde::{Deserialize, Serialize};

use crate::{KeyError, SagaId};

/// A step's name: 1 to 32 lower-case letters, digits and `_`, beginning with a letter. Clones share it.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct StepName(Arc<str>);

impl TryFrom<String> for StepName {
    type Error = KeyError;

    fn try_from(text: String) -> Result<Self, KeyError> {
        text.parse()
    }
}

impl From<StepName> for String {
    fn from(name: StepName) -> Self {
        name.as_str().to_owned()
    }
}

impl StepName {
    /// The text itself.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for StepName {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        const ALLOWED: &str = "a-z, 0-9, '_', a letter first";
        let Some(first) = text.chars().next() else { return Err(KeyError::Empty) };
        if text.chars().count() > 32 {
            return Err(KeyError::TooLong { max: 32, found: text.chars().count() });
        }
        if !first.is_ascii_lowercase() {
            return Err(KeyError::BadCharacter { found: first, allowed: ALLOWED });
        }
        let bad = text.chars().find(|c| !(c.is_ascii_lowercase() || c.is_ascii_digit() || *c == '_'));
        match bad {
            Some(found) => Err(KeyError::BadCharacter { found, allowed: ALLOWED }),
            None => Ok(Self(text.into())),
        }
    }
}

impl fmt::Display for StepName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for StepName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Whether a step is done or taken back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Direction {
    /// The step itself.
    Forward,
    /// What takes it back.
    Compensation,
}

/// The barrier's key: which step of which saga. Sorts by saga, then step: the order in which rows are locked.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StepKey {
    /// Which saga.
    pub saga: SagaId,
    /// Which of its steps.
    pub step: StepName,
}

/// Why a command has no answer for an item.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoAnswer {
    /// The queue is full; nothing was begun.
    #[error("too much to do, come back in {retry_after:?}")]
    Overloaded {
        /// When to come back.
        retry_after: std::time::Duration,
    },
    /// Its time had passed before work began.
    #[error("its time had passed before work began")]
    TooLate,
    /// This item alone cannot be processed; it was rolled back. The text is for people.
    #[error("{0}")]
    Failed(String),
    /// What it stands on cannot be reached, and nothing was begun.
    #[error("away: {0}")]
    Away(String),
    /// The database cannot be reached, or the answer to a commit was lost: it may have happened.
    #[error("unavailable: {0}")]
    Unavailable(String),
}
