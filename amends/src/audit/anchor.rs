//! A block's number and hash, kept outside of the database: whoever rewrote the chain since cannot show it again.

use std::{fmt, str::FromStr};

use ledger_svc::chain::Hash;

/// A block that was there, as in `17:9f86d0…`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Anchor {
    /// Its number.
    pub block: i64,
    /// Its hash.
    pub hash: Hash,
}

impl fmt::Display for Anchor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.block, hex::encode(self.hash))
    }
}

/// A text that is no anchor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an anchor is a block's number, a colon and its hash in 64 hexadecimal digits")]
pub struct NoAnchor;

impl FromStr for Anchor {
    type Err = NoAnchor;

    fn from_str(text: &str) -> Result<Self, NoAnchor> {
        let (block, digits) = text.trim().split_once(':').ok_or(NoAnchor)?;
        let block = block.parse().ok().filter(|block| *block > 0).ok_or(NoAnchor)?;
        let mut hash = Hash::default();
        hex::decode_to_slice(digits, &mut hash).map_err(|_| NoAnchor)?;
        Ok(Self { block, hash })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_anchor_is_read_as_it_is_shown() {
        let anchor = Anchor { block: 17, hash: [0xab; 32] };
        assert_eq!(anchor.to_string().parse(), Ok(anchor));
        for bad in ["", "17", "17:ab", "0:00", &format!("-1:{}", "ab".repeat(32)), &"ab".repeat(32)] {
            assert_eq!(bad.parse::<Anchor>(), Err(NoAnchor), "{bad}");
        }
    }
}
