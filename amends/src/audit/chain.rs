//! I12: the chain of the ledger. Every block is made again from the rows that are there now, and compared.
//!
//! All within one snapshot of the ledger, so what it says of a block is certain. Blocks hold everything behind the block
//! before them, so a row that was slipped in, taken out or changed falls into one and changes what comes out; and a
//! block that was changed no longer fits the next. Whoever rewrites the whole chain is found by an [`Anchor`] alone. What
//! is in no block yet is given its time. Read next: `ledger_svc::chain`, the rule.

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use chassis::sql::{Checked, Statement};
use chrono::{DateTime, SecondsFormat, Utc};
use ledger_svc::chain::{Entry, Hash, Line, ORIGIN, Position, RULE, Seal};
use sqlx::PgConnection;
use tokio::time::Instant;
use types::TransactionId;
use uuid::Uuid;

use super::{
    Error, Options, Progress, Rule,
    anchor::Anchor,
    report::Invariant::{I1, I12},
    sources::{self, Room, Snapshot, Sources, unreadable},
    tally::{Tally, hash},
};

/// Blocks read at once.
const BLOCKS_AT_ONCE: i64 = 500;
/// Transactions read at once.
const LINES_AT_ONCE: i64 = 2_000;
/// How long a sealer that works may take for what is final when nothing moves any more.
const PATIENCE: Duration = Duration::from_secs(10);

#[rustfmt::skip]
type BlockRow = (i64, i16, Vec<u8>, Vec<u8>, i16, String, Uuid, i64, DateTime<Utc>);

static BLOCKS: Statement<(i64, i64), BlockRow> = Statement::new(
    "select block_no, rule, previous, hash, last_era, last_xid::text, last_transaction_id, transactions, create_time \
     from ledger.block where block_no > $1 order by block_no limit $2",
);

static TIP: Statement<(), BlockRow> = Statement::new(
    "select block_no, rule, previous, hash, last_era, last_xid::text, last_transaction_id, transactions, create_time \
     from ledger.block order by block_no desc limit 1",
);

static BLOCK: Statement<(i64,), BlockRow> = Statement::new(
    "select block_no, rule, previous, hash, last_era, last_xid::text, last_transaction_id, transactions, create_time \
     from ledger.block where block_no = $1",
);

#[rustfmt::skip]
type LineRow = (
    i16, String, Uuid, Uuid, String, String, String, Option<Vec<u8>>, Option<Vec<u8>>, Option<Uuid>, Option<Uuid>,
    Option<String>, DateTime<Utc>,
);

/// Behind a position, up to another, at most so many.
static LINES: Statement<(i16, String, Uuid, i16, String, Uuid, i64), LineRow> = Statement::new(
    "select era, xid::text, transaction_id, saga_id, step, kind, outcome, hash, reply, order_id, payment_id, reason, \
       create_time \
     from ledger.transaction t \
     where (t.era, t.xid, t.transaction_id) > ($1, $2::text::xid8, $3) \
       and (t.era, t.xid, t.transaction_id) <= ($4, $5::text::xid8, $6) \
     order by t.era, t.xid, t.transaction_id limit $7",
);

type EntryRow = (Uuid, Uuid, String, i64, String);

static ENTRIES: Statement<(Vec<Uuid>,), EntryRow> = Statement::new(
    "select transaction_id, entry_id, account_id, amount_minor, currency::text from ledger.entry \
     where transaction_id = any ($1) order by transaction_id, entry_id",
);

/// How many; how many of them are final; when the first was booked.
static TAIL: Statement<(i16, String, Uuid), (i64, i64, Option<DateTime<Utc>>)> = Statement::new(
    "select count(*), count(*) filter (where t.is_final), min(t.create_time) from ( \
       select create_time, xid < pg_snapshot_xmin(pg_current_snapshot()) or era < (select max(era) from ledger.era) as is_final \
       from ledger.transaction where (era, xid, transaction_id) > ($1, $2::text::xid8, $3)) t",
);

pub(super) fn statements() -> Vec<&'static dyn Checked> {
    vec![&BLOCKS, &TIP, &BLOCK, &LINES, &ENTRIES, &TAIL]
}

/// A block as it is stored.
struct Block {
    number: i64,
    rule: i16,
    previous: Vec<u8>,
    hash: Vec<u8>,
    last: Position,
    transactions: u64,
    create_time: DateTime<Utc>,
}

impl Block {
    fn of(row: BlockRow) -> sqlx::Result<Self> {
        let (number, rule, previous, hash, era, xid, transaction, transactions, create_time) = row;
        Ok(Self {
            number,
            rule,
            previous,
            hash,
            last: Position { era, xid: xid_of(&xid)?, transaction },
            transactions: u64::try_from(transactions).unwrap_or_default(),
            create_time,
        })
    }

    fn anchor(&self) -> Option<Anchor> {
        Some(Anchor { block: self.number, hash: self.hash.as_slice().try_into().ok()? })
    }
}

/// Where a walk along the chain is.
struct Walk {
    number: i64,
    hash: Vec<u8>,
    last: Position,
}

impl Walk {
    fn origin() -> Self {
        Self { number: 0, hash: ORIGIN.to_vec(), last: Position::START }
    }

    fn behind(block: &Block) -> Self {
        Self { number: block.number, hash: block.hash.clone(), last: block.last }
    }
}

/// Judges the blocks behind one that was judged before, or all; the last of them. With `verified` the transactions behind
/// it are weighed too, because then nobody else reads them (I1).
pub(super) async fn judge(
    snapshot: &mut Snapshot,
    tally: &mut Tally,
    options: &Options,
    verified: Option<Anchor>,
) -> Result<Option<Anchor>, Error> {
    let connection = snapshot.at(Room::Ledger);
    let judged = async {
        for anchor in &options.anchors {
            look_for(connection, *anchor, tally).await?;
        }
        let mut walk = begin(connection, verified, tally).await?;
        loop {
            let rows = BLOCKS.all(connection, (walk.number, BLOCKS_AT_ONCE)).await?;
            if rows.is_empty() {
                break;
            }
            for row in rows {
                let block = Block::of(row)?;
                step(connection, &walk, &block, tally, verified.is_some()).await?;
                walk = Walk::behind(&block);
                let done = u64::try_from(block.number).unwrap_or_default();
                (options.progress)(&Progress { what: "the ledger's chain", done, of: 0 });
            }
        }
        let hash = walk.hash.as_slice().try_into().ok();
        Ok(hash.filter(|_| walk.number > 0).map(|hash| Anchor { block: walk.number, hash }))
    };
    let tip = judged.await.map_err(unreadable(Room::Ledger))?;
    if let Some(tip) = tip {
        tally.inform(I12, format!("the chain ends with block {tip} (--anchor)"));
    }
    Ok(tip)
}

async fn look_for(connection: &mut PgConnection, anchor: Anchor, tally: &mut Tally) -> sqlx::Result<()> {
    let number = anchor.block;
    match BLOCK.maybe(connection, (number,)).await?.map(Block::of).transpose()? {
        Some(block) if block.anchor() == Some(anchor) => {}
        Some(_) => tally
            .certain(I12, format!("block {number} is not the one of the anchor: the chain was rewritten")),
        None => tally.certain(I12, format!("block {number} of the anchor is not there: the chain was cut")),
    }
    Ok(())
}

/// From where to walk: behind the block that was the last when it was looked at before, if it still is what it was.
async fn begin(
    connection: &mut PgConnection,
    verified: Option<Anchor>,
    tally: &mut Tally,
) -> sqlx::Result<Walk> {
    let Some(anchor) = verified else { return Ok(Walk::origin()) };
    match BLOCK.maybe(connection, (anchor.block,)).await?.map(Block::of).transpose()? {
        Some(block) if block.anchor() == Some(anchor) => Ok(Walk::behind(&block)),
        _ => {
            let text = format!("block {} is no longer what it was: the chain was rewritten", anchor.block);
            tally.certain(I12, text);
            Ok(Walk::origin())
        }
    }
}

/// Judges one block by its place and its content.
async fn step(
    connection: &mut PgConnection,
    walk: &Walk,
    block: &Block,
    tally: &mut Tally,
    weighed: bool,
) -> sqlx::Result<()> {
    tally.checked(I12, 1);
    let number = block.number;
    if number != walk.number + 1 {
        tally.certain(
            I12,
            format!("block {number} follows {} in the table: what was between is gone", walk.number),
        );
    } else if block.previous != walk.hash {
        tally.certain(
            I12,
            format!("block {number} was not made behind the block {} that is there", walk.number),
        );
    }
    let (Ok(previous), Ok(hash)) =
        (Hash::try_from(block.previous.as_slice()), Hash::try_from(block.hash.as_slice()))
    else {
        tally.certain(I12, format!("block {number} has no whole hash"));
        return Ok(());
    };
    if block.rule != RULE {
        tally.certain(
            I12,
            format!("block {number} was made by rule {}, which this build does not know", block.rule),
        );
        return Ok(());
    }
    let mut seal = Seal::begin(number, &previous, walk.last);
    while seal.last() < block.last {
        let (from, to) = (seal.last(), block.last);
        let range = (
            from.era,
            from.xid.to_string(),
            from.transaction,
            to.era,
            to.xid.to_string(),
            to.transaction,
            LINES_AT_ONCE,
        );
        let rows = LINES.all(connection, range).await?;
        if rows.is_empty() {
            break;
        }
        let lines = rows.into_iter().map(line).collect::<sqlx::Result<Vec<_>>>()?;
        let entries = entries(connection, &lines).await?;
        for line in &lines {
            let entries = entries.get(&line.position.transaction).map_or(&[][..], Vec::as_slice);
            seal.add(line, entries);
            if weighed {
                weigh(line, entries, tally);
            }
        }
    }
    compare(block, seal, &hash, tally);
    Ok(())
}

fn compare(block: &Block, seal: Seal, hash: &Hash, tally: &mut Tally) {
    let Block { number, transactions: sealed, .. } = block;
    let (there, last) = (seal.count(), seal.last());
    if there != *sealed {
        let what = if there < *sealed { "some were taken out" } else { "some were slipped in" };
        tally.certain(I12, format!("block {number} sealed {sealed} transactions, {there} are there: {what}"));
    } else if last != block.last {
        tally.certain(I12, format!("block {number} does not end with a transaction that is there"));
    } else if seal.close(block.create_time) != *hash {
        let text = format!(
            "block {number} does not say what is there: one of its {sealed} transactions, their entries, or the block \
             itself was changed"
        );
        tally.certain(I12, text);
    }
}

/// I1, for a transaction that nothing else of this audit reads.
fn weigh(line: &Line, entries: &[Entry], tally: &mut Tally) {
    tally.checked(I1, 1);
    let mut sums: BTreeMap<&str, i128> = BTreeMap::new();
    for entry in entries {
        *sums.entry(&entry.currency).or_default() += i128::from(entry.amount);
    }
    for (currency, sum) in sums.into_iter().filter(|(_, sum)| *sum != 0) {
        let transaction = TransactionId::from_uuid(line.position.transaction);
        tally.certain(I1, format!("{transaction} sums to {sum} {currency}, not to zero"));
    }
}

/// Judges what is in no block: when nothing moves, everything that is final should be; else it is given its time, and
/// more of it while blocks are being made.
pub(super) async fn judge_tail(snapshot: &mut Snapshot, rule: &Rule, tally: &mut Tally) -> Result<(), Error> {
    let connection = snapshot.at(Room::Ledger);
    let (tip, tail) = tail(connection).await.map_err(unreadable(Room::Ledger))?;
    let (unsealed, is_final, Some(first)) = tail else { return Ok(()) };
    let behind = tip.as_ref().map_or(0, |block| block.number);
    let sealed = tip.map(|block| block.create_time);
    let since = first.to_rfc3339_opts(SecondsFormat::Secs, true);
    let lies =
        |time: DateTime<Utc>| time.checked_add_signed(rule.seal_grace).is_some_and(|end| end < rule.now);
    let is_late = lies(first) && sealed.is_none_or(lies);
    if is_late || (rule.quiescent && is_final > 0) {
        let text = format!("what was booked since {since} is not sealed; the chain ends with block {behind}");
        tally.suspect(I12, hash(&(behind, first)), text);
    } else if lies(first) {
        tally.inform(I12, format!("{unsealed} transactions since {since} are still to be sealed"));
    }
    Ok(())
}

async fn tail(
    connection: &mut PgConnection,
) -> sqlx::Result<(Option<Block>, (i64, i64, Option<DateTime<Utc>>))> {
    let tip = TIP.maybe(connection, ()).await?.map(Block::of).transpose()?;
    let end = tip.as_ref().map_or(Position::START, |block| block.last);
    let tail = TAIL.one(connection, (end.era, end.xid.to_string(), end.transaction)).await?;
    Ok((tip, tail))
}

/// Nothing moves any more: gives a sealer the time to seal what is final.
pub(super) async fn settle(sources: &Sources) -> Result<(), Error> {
    let settled = async {
        let mut connection = sources::glance(sources, Room::Ledger).await?;
        let until = Instant::now() + PATIENCE;
        while tail(&mut connection).await?.1.1 > 0 && Instant::now() < until {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        sqlx::Connection::close(connection).await
    };
    settled.await.map_err(unreadable(Room::Ledger))
}

async fn entries(connection: &mut PgConnection, lines: &[Line]) -> sqlx::Result<HashMap<Uuid, Vec<Entry>>> {
    let ids: Vec<_> = lines.iter().map(|line| line.position.transaction).collect();
    let mut entries: HashMap<Uuid, Vec<Entry>> = HashMap::new();
    for (transaction, id, account, amount, currency) in ENTRIES.all(connection, (ids,)).await? {
        entries.entry(transaction).or_default().push(Entry { id, account, amount, currency });
    }
    Ok(entries)
}

#[rustfmt::skip]
fn line(row: LineRow) -> sqlx::Result<Line> {
    let (era, xid, transaction, saga, step, kind, outcome, hash, reply, order, payment, reason, create_time) = row;
    let position = Position { era, xid: xid_of(&xid)?, transaction };
    Ok(Line { position, saga, step, kind, outcome, hash, reply, order, payment, reason, create_time })
}

fn xid_of(text: &str) -> sqlx::Result<u64> {
    text.parse().map_err(|_| sqlx::Error::Decode(format!("{text} is no transaction number").into()))
}
