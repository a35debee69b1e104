//! A time that may be missing, in the room of a time.

/// Milliseconds since 1970, or never: `Option<i64>` would take sixteen bytes, and a saga that waits holds some of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Moment(i64);

impl Moment {
    /// No time at all.
    pub const NEVER: Self = Self(i64::MIN);

    /// This time; the earliest that there is counts as the one after it.
    #[must_use]
    pub fn at(time: i64) -> Self {
        Self(time.max(i64::MIN + 1))
    }

    /// The time, if there is one.
    #[must_use]
    pub const fn get(self) -> Option<i64> {
        if self.0 == Self::NEVER.0 { None } else { Some(self.0) }
    }
}

impl From<Option<i64>> for Moment {
    fn from(time: Option<i64>) -> Self {
        time.map_or(Self::NEVER, Self::at)
    }
}
