//! What the sealer reads and writes: transactions that are final and in no block yet, and blocks.
//!
//! Blocks are only ever inserted. Read next: [`crate::sealer`], `migrations/ledger/0002_chain.sql`.

use std::collections::HashMap;

use chassis::sql::{Checked, Statement};
use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::chain::{Entry, Hash, Line, ORIGIN, Position, RULE};

/// The end of the chain.
pub(crate) struct Tip {
    pub(crate) block_no: i64,
    pub(crate) hash: Hash,
    pub(crate) last: Position,
}

static TIP: Statement<(), (i64, Vec<u8>, i16, String, Uuid)> = Statement::new(
    "select block_no, hash, last_era, last_xid::text, last_transaction_id from ledger.block \
     order by block_no desc limit 1",
);

/// The last block; before the first, what that will follow.
pub(crate) async fn tip(connection: &mut PgConnection) -> sqlx::Result<Tip> {
    let Some((block_no, hash, era, xid, transaction)) = TIP.maybe(connection, ()).await? else {
        return Ok(Tip { block_no: 0, hash: ORIGIN, last: Position::START });
    };
    let hash = hash.try_into().map_err(|_| unreadable(format!("block {block_no} has no whole hash")))?;
    Ok(Tip { block_no, hash, last: Position { era, xid: number(&xid)?, transaction } })
}

#[rustfmt::skip]
type LineRow = (
    i16, String, Uuid, Uuid, String, String, String, Option<Vec<u8>>, Option<Vec<u8>>, Option<Uuid>, Option<Uuid>,
    Option<String>, DateTime<Utc>,
);

// Below the oldest number under way everything has ended, one way or the other: no later commit can put a row there. In an
// era that is over nothing is under way.
static FINAL: Statement<(i16, String, Uuid, i64), LineRow> = Statement::new(
    "select t.era, t.xid::text, t.transaction_id, t.saga_id, t.step, t.kind, t.outcome, t.hash, t.reply, t.order_id, \
       t.payment_id, t.reason, t.create_time \
     from ledger.transaction t \
     where (t.era, t.xid, t.transaction_id) > ($1, $2::text::xid8, $3) \
       and (t.xid < pg_snapshot_xmin(pg_current_snapshot()) or t.era < (select max(era) from ledger.era)) \
     order by t.era, t.xid, t.transaction_id limit $4",
);

/// What is final behind a position, at most so many.
pub(crate) async fn final_lines(
    connection: &mut PgConnection,
    after: Position,
    limit: i64,
) -> sqlx::Result<Vec<Line>> {
    let parameters = (after.era, after.xid.to_string(), after.transaction, limit);
    FINAL.all(connection, parameters).await?.into_iter().map(line).collect()
}

fn line(row: LineRow) -> sqlx::Result<Line> {
    let (era, xid, transaction, saga, step, kind, outcome, hash, reply, order, payment, reason, create_time) =
        row;
    let position = Position { era, xid: number(&xid)?, transaction };
    Ok(Line { position, saga, step, kind, outcome, hash, reply, order, payment, reason, create_time })
}

static BEHIND: Statement<(i16, String, Uuid), (bool,)> = Statement::new(
    "select exists (select from ledger.transaction t where (t.era, t.xid, t.transaction_id) > ($1, $2::text::xid8, $3))",
);

/// Whether anything is in no block yet, final or not.
pub(crate) async fn is_behind(connection: &mut PgConnection) -> sqlx::Result<bool> {
    let end = tip(connection).await?.last;
    Ok(BEHIND.one(connection, (end.era, end.xid.to_string(), end.transaction)).await?.0)
}

type EntryRow = (Uuid, Uuid, String, i64, String);

static ENTRIES: Statement<(Vec<Uuid>,), EntryRow> = Statement::new(
    "select transaction_id, entry_id, account_id, amount_minor, currency::text from ledger.entry \
     where transaction_id = any ($1) order by transaction_id, entry_id",
);

/// The entries of transactions, each in its order.
pub(crate) async fn entries(
    connection: &mut PgConnection,
    transactions: Vec<Uuid>,
) -> sqlx::Result<HashMap<Uuid, Vec<Entry>>> {
    let mut entries: HashMap<Uuid, Vec<Entry>> = HashMap::new();
    for (transaction, id, account, amount, currency) in ENTRIES.all(connection, (transactions,)).await? {
        entries.entry(transaction).or_default().push(Entry { id, account, amount, currency });
    }
    Ok(entries)
}

#[rustfmt::skip]
type NewBlock = (i64, i16, Vec<u8>, Vec<u8>, i16, String, Uuid, i64, DateTime<Utc>);

// `on conflict`: of several that seal the same transactions, one is first, and the others have nothing left to say.
static ADD: Statement<NewBlock> = Statement::new(
    "insert into ledger.block (block_no, rule, previous, hash, last_era, last_xid, last_transaction_id, transactions, \
       create_time) \
     values ($1, $2, $3, $4, $5, $6::text::xid8, $7, $8, $9) on conflict do nothing",
);

/// A block to add.
pub(crate) struct Block {
    pub(crate) block_no: i64,
    pub(crate) previous: Hash,
    pub(crate) hash: Hash,
    pub(crate) last: Position,
    pub(crate) transactions: u64,
    pub(crate) create_time: DateTime<Utc>,
}

/// Adds a block; false when somebody else has added one with its number.
pub(crate) async fn add(connection: &mut PgConnection, block: &Block) -> sqlx::Result<bool> {
    let transactions = i64::try_from(block.transactions).unwrap_or(i64::MAX);
    let row = (
        block.block_no,
        RULE,
        block.previous.to_vec(),
        block.hash.to_vec(),
        block.last.era,
        block.last.xid.to_string(),
        block.last.transaction,
        transactions,
        block.create_time,
    );
    Ok(ADD.run(connection, row).await? > 0)
}

fn number(xid: &str) -> sqlx::Result<u64> {
    xid.parse().map_err(|_| unreadable(format!("{xid} is no transaction number")))
}

fn unreadable(what: String) -> sqlx::Error {
    sqlx::Error::Decode(what.into())
}

pub(super) fn statements() -> [&'static dyn Checked; 5] {
    [&TIP, &FINAL, &BEHIND, &ENTRIES, &ADD]
}
