//! Every statement of the books, and the rows they read and write. Decides nothing.
//!
//! Transactions and entries are only ever inserted. Read next: `migrations/ledger/0001_first.sql`; [`reading`] for what
//! people ask; [`chain`] for what is sealed.

pub(crate) mod chain;
pub(crate) mod reading;

use std::collections::{BTreeSet, HashMap, HashSet};

use chassis::{
    barrier::{Outcome, Record},
    clock,
    database::Trouble,
    quick,
    seeded::{self, Bug},
    sql::{Checked, Statement},
};
use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use types::{SagaId, StepKey};
use uuid::Uuid;

use crate::domain::{self, AccountId, Entry};

/// What the service's role may do: add to the books, never change them. The first lock; the triggers of the schema are
/// the second. A restored ledger gets its new era on the way.
pub(crate) const GRANTS: &str = "\
    revoke all on all tables in schema ledger from {role}; \
    grant usage on schema ledger to {role}; \
    grant select on ledger.chart, ledger.era to {role}; \
    grant select, insert on ledger.transaction, ledger.entry, ledger.block to {role}; \
    grant select, insert on ledger.account to {role}; \
    grant update (debits_minor, credits_minor, closed, state_time, state_reason, version, update_time) \
      on ledger.account to {role}; \
    grant select, insert, update, delete on ledger.outbox to {role}; \
    select ledger.follow_restore();";

/// What a ledger transaction is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Kind {
    Post,
    Reverse,
    Suspense,
}

impl Kind {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Post => "POST",
            Self::Reverse => "REVERSE",
            Self::Suspense => "SUSPENSE",
        }
    }

    fn parse(text: &str) -> Option<Self> {
        [Self::Post, Self::Reverse, Self::Suspense].into_iter().find(|kind| kind.as_str() == text)
    }

    /// The id of a step's transaction of this kind.
    pub(crate) fn transaction(self, key: &StepKey) -> Uuid {
        let step = key.saga.derive(&key.step);
        match self {
            Self::Post => step,
            Self::Reverse | Self::Suspense => Uuid::new_v5(&step, self.as_str().as_bytes()),
        }
    }
}

/// A row to add.
#[derive(Debug)]
pub(crate) struct NewRow {
    pub(crate) key: StepKey,
    pub(crate) kind: Kind,
    pub(crate) outcome: Outcome,
    pub(crate) hash: Option<Vec<u8>>,
    pub(crate) reply: Option<Vec<u8>>,
    pub(crate) order: Option<Uuid>,
    pub(crate) payment: Option<Uuid>,
    pub(crate) reason: Option<String>,
    pub(crate) entries: Vec<Entry>,
}

impl NewRow {
    /// A row that says nothing but its outcome.
    pub(crate) const fn bare(key: StepKey, kind: Kind, outcome: Outcome) -> Self {
        Self {
            key,
            kind,
            outcome,
            hash: None,
            reply: None,
            order: None,
            payment: None,
            reason: None,
            entries: Vec::new(),
        }
    }
}

/// A row that was there.
#[derive(Debug)]
pub(crate) struct OldRow {
    pub(crate) outcome: Outcome,
    pub(crate) hash: Vec<u8>,
    pub(crate) reply: Vec<u8>,
}

/// What the books say of some sagas.
#[derive(Debug, Default)]
pub(crate) struct History {
    rows: HashMap<(StepKey, Kind), OldRow>,
    sold: HashSet<SagaId>,
}

impl History {
    /// One row.
    pub(crate) fn row(&self, key: &StepKey, kind: Kind) -> Option<&OldRow> {
        self.rows.get(&(key.clone(), kind))
    }

    /// A step's two rows as one barrier record.
    pub(crate) fn record(&self, key: &StepKey) -> Option<Record> {
        let post = self.row(key, Kind::Post)?;
        Some(Record {
            forward: post.outcome,
            forward_hash: post.hash.clone(),
            back: self.row(key, Kind::Reverse).map(|row| row.outcome),
        })
    }

    /// Whether any step of the saga was booked, be it reversed since or not.
    pub(crate) fn has_sale(&self, saga: SagaId) -> bool {
        self.sold.contains(&saga)
    }
}

type HistoryRow = (Uuid, String, String, String, Option<Vec<u8>>, Option<Vec<u8>>);

static LOAD_HISTORY: Statement<(Vec<Uuid>,), HistoryRow> = Statement::new(
    "select saga_id, step, kind, outcome, hash, reply from ledger.transaction where saga_id = any ($1)",
);

/// Reads all rows of some sagas. Takes no locks: rows never change, and a row that somebody adds meanwhile has the key
/// of the row that follows from its absence, so that [`book`] fails and the command runs again.
pub(crate) async fn load_history(
    connection: &mut PgConnection,
    sagas: impl IntoIterator<Item = SagaId>,
) -> Result<History, Trouble> {
    let sagas: BTreeSet<_> = sagas.into_iter().map(SagaId::uuid).collect();
    let rows = LOAD_HISTORY.all(connection, (sagas.into_iter().collect(),)).await?;
    let mut history = History::default();
    for (saga, step, kind, outcome, hash, reply) in rows {
        let unreadable = || Trouble::Failed(format!("cannot read {kind} {outcome} of {step} of {saga}"));
        let key = StepKey { saga: SagaId::from_uuid(saga), step: step.parse().map_err(|_| unreadable())? };
        let kind = Kind::parse(&kind).ok_or_else(unreadable)?;
        let outcome = Outcome::parse(&outcome).ok_or_else(unreadable)?;
        let row = OldRow { outcome, hash: hash.unwrap_or_default(), reply: reply.unwrap_or_default() };
        if kind == Kind::Post && outcome == Outcome::Done {
            history.sold.insert(key.saga);
        }
        history.rows.insert((key, kind), row);
    }
    Ok(history)
}

static LOAD_ENTRIES: Statement<(Vec<Uuid>,), (Uuid, String, i64)> = Statement::new(
    "select transaction_id, account_id, amount_minor from ledger.entry where transaction_id = any ($1) \
     order by transaction_id, entry_id",
);

/// Reads the entries of transactions, each in its order.
pub(crate) async fn load_entries(
    connection: &mut PgConnection,
    mut transactions: Vec<Uuid>,
) -> Result<HashMap<Uuid, Vec<Entry>>, Trouble> {
    let mut entries: HashMap<Uuid, Vec<Entry>> = HashMap::new();
    if transactions.is_empty() {
        return Ok(entries);
    }
    transactions.sort_unstable();
    for (transaction, account, amount) in LOAD_ENTRIES.all(connection, (transactions,)).await? {
        let account = account.parse().map_err(Trouble::Failed)?;
        entries.entry(transaction).or_default().push(Entry { account, amount });
    }
    Ok(entries)
}

static LOAD_ACCOUNTS: Statement<(Vec<String>,), (String, bool)> =
    Statement::new("select account_id, closed from ledger.account where account_id = any ($1)");

// `on conflict`: another process may open the same account at the same time.
static OPEN_ACCOUNTS: Statement<(Vec<String>, Vec<String>, DateTime<Utc>)> = Statement::new(
    "insert into ledger.account (account_id, type, currency, create_time, update_time) \
     select o.account_id, c.type, o.currency, $3, $3 from unnest($1::text[], $2::text[]) as o (account_id, currency) \
     join ledger.chart c on o.account_id like c.pattern order by o.account_id on conflict (account_id) do nothing",
);

/// Sees to it that the accounts are there, opening by the chart what is not, and says which are closed. An account that
/// was opened for a batch which then failed has zero counters and harms nobody.
pub(crate) async fn ready_accounts(
    connection: &mut PgConnection,
    accounts: &BTreeSet<AccountId>,
) -> Result<BTreeSet<AccountId>, Trouble> {
    let ids = accounts.iter().map(|id| id.as_str().to_owned()).collect();
    let found: HashMap<_, _> = LOAD_ACCOUNTS.all(connection, (ids,)).await?.into_iter().collect();
    let missing = accounts.iter().filter(|id| !found.contains_key(id.as_str()));
    let (ids, currencies): (Vec<_>, Vec<_>) =
        missing.map(|id| (id.as_str().to_owned(), id.currency_code().to_owned())).unzip();
    if !ids.is_empty() {
        tracing::info!(accounts = ids.len(), "accounts are opened");
        OPEN_ACCOUNTS.run(connection, (ids, currencies, clock::now())).await?;
    }
    Ok(accounts.iter().filter(|id| found.get(id.as_str()) == Some(&true)).cloned().collect())
}

#[rustfmt::skip]
type Booking = (
    Vec<Uuid>, Vec<Uuid>, Vec<String>, Vec<String>, Vec<String>, Vec<Option<Vec<u8>>>, Vec<Option<Vec<u8>>>,
    Vec<Option<Uuid>>, Vec<Option<Uuid>>, Vec<Option<String>>, DateTime<Utc>,
    Vec<Uuid>, Vec<Uuid>, Vec<String>, Vec<i64>, Vec<String>,
);

// One statement, so that a batch costs two round trips between begin and commit.
static BOOK: Statement<Booking> = Statement::new(
    "with barrier as (\
       insert into ledger.transaction (transaction_id, saga_id, step, kind, outcome, hash, reply, order_id, payment_id, reason, create_time) \
       select t.*, $11 from unnest($1::uuid[], $2::uuid[], $3::text[], $4::text[], $5::text[], $6::bytea[], $7::bytea[], \
                                   $8::uuid[], $9::uuid[], $10::text[]) as t) \
     insert into ledger.entry (entry_id, transaction_id, account_id, amount_minor, currency) \
     select * from unnest($12::uuid[], $13::uuid[], $14::text[], $15::bigint[], $16::text[])",
);

// The subquery locks in account order whatever the plan is. A closed account is not found, except by what must go
// through all the same.
type Raise = (Vec<String>, Vec<i64>, Vec<i64>, bool, DateTime<Utc>);
static RAISE_ACCOUNTS: Statement<Raise> = Statement::new(
    "update ledger.account a set debits_minor = a.debits_minor + r.debits, credits_minor = a.credits_minor + r.credits, \
            version = a.version + 1, update_time = $5 \
     from unnest($1::text[], $2::bigint[], $3::bigint[]) as r (account_id, debits, credits) \
     join (select account_id from ledger.account where account_id = any ($1) order by account_id for no key update) l \
       on l.account_id = r.account_id \
     where a.account_id = r.account_id and (not a.closed or $4)",
);

/// Whether closed accounts stand in the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Closed {
    /// A sale: it was decided on accounts that were open, so run again if one is closed by now.
    Stops,
    /// A correction.
    Lets,
}

/// Adds rows with their entries and raises the counters, within the caller's transaction. The rows are won first; an
/// account is written once, by its sum over the batch.
pub(crate) async fn book(
    connection: &mut PgConnection,
    mut rows: Vec<NewRow>,
    closed: Closed,
) -> Result<(), Trouble> {
    if rows.is_empty() {
        return Ok(());
    }
    rows.sort_by(|a, b| (&a.key, a.kind).cmp(&(&b.key, b.kind)));
    let now = clock::now();
    let (accounts, debits, credits) = rises(&rows)?;
    BOOK.run(connection, booking(&rows, now)).await?;
    let wanted = accounts.len() as u64;
    if wanted > 0 && !seeded::is(Bug::CountersNotRaised) {
        let raised =
            RAISE_ACCOUNTS.run(connection, (accounts, debits, credits, closed == Closed::Lets, now)).await?;
        if raised != wanted {
            return Err(Trouble::Again(format!("{raised} of {wanted} accounts take postings")));
        }
    }
    Ok(())
}

type Rises = (Vec<String>, Vec<i64>, Vec<i64>);

/// By how much each account's debits and credits rise, in the accounts' order.
fn rises(rows: &[NewRow]) -> Result<Rises, Trouble> {
    let rises = domain::rises(rows.iter().flat_map(|row| &row.entries))
        .map_err(|overflow| Trouble::Failed(overflow.to_string()))?;
    let accounts = rises.keys().map(|id| id.as_str().to_owned()).collect();
    let (debits, credits) = rises.values().map(|rise| (rise.debits, rise.credits)).unzip();
    Ok((accounts, debits, credits))
}

#[rustfmt::skip]
type BookingAtOnce = (
    Vec<Uuid>, Vec<Uuid>, Vec<String>, Vec<String>, Vec<String>, Vec<Option<Vec<u8>>>, Vec<Option<Vec<u8>>>,
    Vec<Option<Uuid>>, Vec<Option<Uuid>>, Vec<Option<String>>, DateTime<Utc>,
    Vec<Uuid>, Vec<Uuid>, Vec<String>, Vec<i64>, Vec<String>,
    Vec<String>, Vec<i64>, Vec<i64>, i64,
);

// Accounts are locked in their order, whatever the plan is. A closed one is not found.
static BOOK_AT_ONCE: Statement<BookingAtOnce, (i32,)> = Statement::new(
    "with barrier as (\
       insert into ledger.transaction (transaction_id, saga_id, step, kind, outcome, hash, reply, order_id, payment_id, reason, create_time) \
       select t.*, $11 from unnest($1::uuid[], $2::uuid[], $3::text[], $4::text[], $5::text[], $6::bytea[], $7::bytea[], \
                                   $8::uuid[], $9::uuid[], $10::text[]) as t), \
     entered as (\
       insert into ledger.entry (entry_id, transaction_id, account_id, amount_minor, currency) \
       select * from unnest($12::uuid[], $13::uuid[], $14::text[], $15::bigint[], $16::text[])), \
     raised as (\
       update ledger.account a set debits_minor = a.debits_minor + r.debits, credits_minor = a.credits_minor + r.credits, \
              version = a.version + 1, update_time = $11 \
       from unnest($17::text[], $18::bigint[], $19::bigint[]) as r (account_id, debits, credits) \
       join (select account_id from ledger.account where account_id = any ($17) order by account_id for no key update) l \
         on l.account_id = r.account_id \
       where a.account_id = r.account_id and not a.closed returning 1) \
     select 1 / (case when (select count(*) from raised) = $20 then 1 else 0 end)",
);

/// Adds rows with their entries and raises the counters, in a commit of its own; none, with nothing written, when a row was
/// there, or when an account is not there or closed.
pub(crate) async fn book_at_once(
    connection: &mut PgConnection,
    mut rows: Vec<NewRow>,
) -> Result<Option<()>, Trouble> {
    if seeded::is(Bug::CountersNotRaised) {
        return Ok(None);
    }
    rows.sort_by(|a, b| (&a.key, a.kind).cmp(&(&b.key, b.kind)));
    let (accounts, debits, credits) = rises(&rows)?;
    let wanted = accounts.len() as i64;
    let b = booking(&rows, clock::now());
    let parameters = (
        b.0, b.1, b.2, b.3, b.4, b.5, b.6, b.7, b.8, b.9, b.10, b.11, b.12, b.13, b.14, b.15, accounts,
        debits, credits, wanted,
    );
    Ok(quick::guarded(BOOK_AT_ONCE.one(connection, parameters).await)?.map(drop))
}

fn booking(rows: &[NewRow], now: DateTime<Utc>) -> Booking {
    let most = if seeded::is(Bug::LedgerPairHalfWritten) { 1 } else { usize::MAX };
    let entries: Vec<_> = rows
        .iter()
        .flat_map(|row| row.entries.iter().take(most).map(|entry| (row.kind.transaction(&row.key), entry)))
        .collect();
    (
        each(rows, |row| row.kind.transaction(&row.key)),
        each(rows, |row| row.key.saga.uuid()),
        each(rows, |row| row.key.step.as_str().to_owned()),
        each(rows, |row| row.kind.as_str().to_owned()),
        each(rows, |row| row.outcome.as_str().to_owned()),
        each(rows, |row| row.hash.clone()),
        each(rows, |row| row.reply.clone()),
        each(rows, |row| row.order),
        each(rows, |row| row.payment),
        each(rows, |row| row.reason.clone()),
        now,
        each(&entries, |_| clock::new_uuid()),
        each(&entries, |(transaction, _)| *transaction),
        each(&entries, |(_, entry)| entry.account.as_str().to_owned()),
        each(&entries, |(_, entry)| entry.amount),
        each(&entries, |(_, entry)| entry.account.currency_code().to_owned()),
    )
}

/// One column of rows.
fn each<R, T>(rows: &[R], column: impl Fn(&R) -> T) -> Vec<T> {
    rows.iter().map(column).collect()
}

/// Every statement, for the check.
pub(crate) fn statements() -> Vec<&'static dyn Checked> {
    let mut all: Vec<&'static dyn Checked> = vec![
        &LOAD_HISTORY,
        &LOAD_ENTRIES,
        &LOAD_ACCOUNTS,
        &OPEN_ACCOUNTS,
        &BOOK,
        &RAISE_ACCOUNTS,
        &BOOK_AT_ONCE,
    ];
    all.extend(reading::statements());
    all.extend(chain::statements());
    all
}
