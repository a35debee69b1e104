//! The rule of the chain: what a block's hash is made of. Pure: no I/O, no clock.
//!
//! A rule never changes; a better one gets the next number and stands beside it, because blocks are for good. The auditor
//! computes by this file what [`crate::sealer`] wrote, from the rows alone; a test pins its results. Every field goes in
//! with its length or a mark of its absence, so that no two rows are one text.

use chrono::{DateTime, Utc};
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

/// The rule by which blocks are made now.
pub const RULE: i16 = 1;

/// A block's.
pub type Hash = [u8; 32];

/// What the first block follows.
pub const ORIGIN: Hash = [0; 32];

/// Where a transaction stands in the order of sealing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// Which count of transaction numbers.
    pub era: i16,
    /// The database's number of the transaction that wrote it.
    pub xid: u64,
    /// Several are written by one.
    pub transaction: Uuid,
}

impl Position {
    /// Before everything.
    pub const START: Self = Self { era: 0, xid: 0, transaction: Uuid::nil() };
}

/// A ledger transaction as its row has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// Where it stands; holds its id.
    pub position: Position,
    /// Whose it is.
    pub saga: Uuid,
    /// Of which step.
    pub step: String,
    /// `POST`, `REVERSE` or `SUSPENSE`.
    pub kind: String,
    /// What came of it.
    pub outcome: String,
    /// Of what was asked.
    pub hash: Option<Vec<u8>>,
    /// As it went out.
    pub reply: Option<Vec<u8>>,
    /// The order.
    pub order: Option<Uuid>,
    /// The payment.
    pub payment: Option<Uuid>,
    /// Why it was reversed.
    pub reason: Option<String>,
    /// When it was booked.
    pub create_time: DateTime<Utc>,
}

/// One of its entries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Entries go in by the order of their ids.
    pub id: Uuid,
    /// Where.
    pub account: String,
    /// Positive: debit. Minor units.
    pub amount: i64,
    /// ISO 4217.
    pub currency: String,
}

/// A block that is being made.
pub struct Seal {
    hasher: Sha256,
    count: u64,
    last: Position,
}

impl Seal {
    /// The block with this number, behind one with this hash that ended here.
    #[must_use]
    pub fn begin(block_no: i64, previous: &Hash, last: Position) -> Self {
        let mut hasher = Sha256::new();
        hasher.update(b"amends.ledger.block.1\n");
        hasher.update(block_no.to_be_bytes());
        hasher.update(previous);
        Self { hasher, count: 0, last }
    }

    /// The next transaction, in the order of positions.
    pub fn add(&mut self, line: &Line, entries: &[Entry]) {
        self.hasher.update(leaf(line, entries));
        self.count += 1;
        self.last = line.position;
    }

    /// How many there are so far.
    #[must_use]
    pub const fn count(&self) -> u64 {
        self.count
    }

    /// Where it ends so far.
    #[must_use]
    pub const fn last(&self) -> Position {
        self.last
    }

    /// The block's hash, made at this time.
    #[must_use]
    pub fn close(mut self, create_time: DateTime<Utc>) -> Hash {
        self.hasher.update(self.count.to_be_bytes());
        position(&mut self.hasher, self.last);
        self.hasher.update(create_time.timestamp_micros().to_be_bytes());
        self.hasher.finalize().into()
    }
}

fn leaf(line: &Line, entries: &[Entry]) -> Hash {
    let mut hasher = Sha256::new();
    hasher.update(b"amends.ledger.transaction.1\n");
    position(&mut hasher, line.position);
    hasher.update(line.saga);
    bytes(&mut hasher, line.step.as_bytes());
    bytes(&mut hasher, line.kind.as_bytes());
    bytes(&mut hasher, line.outcome.as_bytes());
    maybe(&mut hasher, line.hash.as_deref());
    maybe(&mut hasher, line.reply.as_deref());
    maybe(&mut hasher, line.order.as_ref().map(|id| &id.as_bytes()[..]));
    maybe(&mut hasher, line.payment.as_ref().map(|id| &id.as_bytes()[..]));
    maybe(&mut hasher, line.reason.as_deref().map(str::as_bytes));
    hasher.update(line.create_time.timestamp_micros().to_be_bytes());
    hasher.update((entries.len() as u64).to_be_bytes());
    for entry in entries {
        hasher.update(entry.id);
        bytes(&mut hasher, entry.account.as_bytes());
        hasher.update(entry.amount.to_be_bytes());
        bytes(&mut hasher, entry.currency.as_bytes());
    }
    hasher.finalize().into()
}

fn position(hasher: &mut Sha256, position: Position) {
    hasher.update(position.era.to_be_bytes());
    hasher.update(position.xid.to_be_bytes());
    hasher.update(position.transaction);
}

fn bytes(hasher: &mut Sha256, bytes: &[u8]) {
    hasher.update((bytes.len() as u64).to_be_bytes());
    hasher.update(bytes);
}

fn maybe(hasher: &mut Sha256, value: Option<&[u8]>) {
    hasher.update([u8::from(value.is_some())]);
    if let Some(value) = value {
        bytes(hasher, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line() -> Line {
        Line {
            position: Position { era: 0, xid: 700, transaction: Uuid::from_u128(1) },
            saga: Uuid::from_u128(2),
            step: "post".into(),
            kind: "POST".into(),
            outcome: "DONE".into(),
            hash: Some(vec![1, 2]),
            reply: Some(vec![3]),
            order: Some(Uuid::from_u128(4)),
            payment: None,
            reason: None,
            create_time: DateTime::UNIX_EPOCH,
        }
    }

    fn entry(id: u128, account: &str, amount: i64) -> Entry {
        Entry { id: Uuid::from_u128(id), account: account.into(), amount, currency: "EUR".into() }
    }

    fn entries() -> Vec<Entry> {
        vec![entry(5, "provider_clearing:EUR", 1200), entry(6, "merchant:m_1:EUR", -1200)]
    }

    fn block(line: &Line, entries: &[Entry]) -> Hash {
        let mut seal = Seal::begin(1, &ORIGIN, Position::START);
        seal.add(line, entries);
        assert_eq!((seal.count(), seal.last()), (1, line.position));
        seal.close(DateTime::UNIX_EPOCH)
    }

    /// Whoever changes the rule breaks every chain there is.
    #[test]
    fn the_first_rule_is_what_it_was() {
        assert_eq!(
            hex(block(&line(), &entries())),
            "a36e1fca48e0d166b319a07847ff200fb03a77da17d1e38d78f6ea0756b537b6"
        );
        assert_eq!(
            hex(Seal::begin(2, &[7; 32], line().position).close(DateTime::UNIX_EPOCH)),
            "f420dffd2511f6ae9ff801c8b337c8cd90a79009bbda3b54c4cb70277487082c"
        );
    }

    #[test]
    fn every_field_counts() {
        let whole = block(&line(), &entries());
        let changes: [fn(&mut Line); 13] = [
            |line| line.position.era = 1,
            |line| line.position.xid = 701,
            |line| line.position.transaction = Uuid::nil(),
            |line| line.saga = Uuid::nil(),
            |line| line.step = "pos".into(),
            |line| line.kind = "SUSPENSE".into(),
            |line| line.outcome = "REFUSED".into(),
            |line| line.hash = None,
            |line| line.reply = Some(vec![]),
            |line| line.order = line.payment,
            |line| (line.order, line.payment) = (None, line.order),
            |line| line.reason = Some(String::new()),
            |line| line.create_time += chrono::TimeDelta::microseconds(1),
        ];
        for (at, change) in changes.iter().enumerate() {
            let mut other = line();
            change(&mut other);
            assert_ne!(block(&other, &entries()), whole, "{at}");
        }
        let changes: [fn(&mut Vec<Entry>); 5] = [
            |entries| entries.swap(0, 1),
            |entries| drop(entries.pop()),
            |entries| entries[0].amount = 1201,
            |entries| entries[0].account = "provider_clearing:USD".into(),
            |entries| entries[1].currency = "USD".into(),
        ];
        for (at, change) in changes.iter().enumerate() {
            let mut others = entries();
            change(&mut others);
            assert_ne!(block(&line(), &others), whole, "{at}");
        }
    }

    #[test]
    fn a_block_is_one_of_a_chain() {
        let seal = |block_no, previous: &Hash| Seal::begin(block_no, previous, Position::START);
        let first = seal(1, &ORIGIN).close(DateTime::UNIX_EPOCH);
        assert_ne!(first, seal(2, &ORIGIN).close(DateTime::UNIX_EPOCH));
        assert_ne!(first, seal(1, &[1; 32]).close(DateTime::UNIX_EPOCH));
        assert_ne!(first, seal(1, &ORIGIN).close(DateTime::UNIX_EPOCH + chrono::TimeDelta::seconds(1)));
    }

    fn hex(hash: Hash) -> String {
        use std::fmt::Write as _;
        hash.iter().fold(String::new(), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        })
    }
}
