//! What people ask of the books, and closing and reopening an account. Read next: [`crate::grpc`].

use chassis::sql::{Checked, Statement};
use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use uuid::Uuid;

/// account, type, currency, debits, credits, closed, update time
pub(crate) type AccountRow = (String, String, String, i64, i64, bool, DateTime<Utc>);

/// entry, transaction, account, amount, currency, kind, saga, create time
pub(crate) type EntryRow = (Uuid, Uuid, String, i64, String, String, Uuid, DateTime<Utc>);

static ACCOUNT: Statement<(String,), AccountRow> = Statement::new(
    "select account_id, type, currency::text, debits_minor, credits_minor, closed, update_time \
     from ledger.account where account_id = $1",
);

pub(crate) async fn account(connection: &mut PgConnection, id: String) -> sqlx::Result<Option<AccountRow>> {
    ACCOUNT.maybe(connection, (id,)).await
}

static ACCOUNTS: Statement<(String, String, String, i64), AccountRow> = Statement::new(
    "select account_id, type, currency::text, debits_minor, credits_minor, closed, update_time from ledger.account \
     where account_id >= $1 and account_id < $2 and account_id > $3 order by account_id limit $4",
);

/// A page of the accounts whose id begins with `prefix`, after the account `after` (empty: from the first).
pub(crate) async fn accounts(
    connection: &mut PgConnection,
    prefix: String,
    after: String,
    limit: i64,
) -> sqlx::Result<Vec<AccountRow>> {
    // Ids are visible ASCII, compared byte by byte: DEL stands behind all of them.
    let end = format!("{prefix}\x7f");
    ACCOUNTS.all(connection, (prefix, end, after, limit)).await
}

static ENTRIES: Statement<(Uuid, i64), EntryRow> = Statement::new(
    "select e.entry_id, e.transaction_id, e.account_id, e.amount_minor, e.currency::text, t.kind, t.saga_id, t.create_time \
     from ledger.entry e join ledger.transaction t on t.transaction_id = e.transaction_id \
     where e.entry_id > $1 order by e.entry_id limit $2",
);

static ENTRIES_OF_ACCOUNT: Statement<(Uuid, i64, String), EntryRow> = Statement::new(
    "select e.entry_id, e.transaction_id, e.account_id, e.amount_minor, e.currency::text, t.kind, t.saga_id, t.create_time \
     from ledger.entry e join ledger.transaction t on t.transaction_id = e.transaction_id \
     where e.account_id = $3 and e.entry_id > $1 order by e.entry_id limit $2",
);

// A saga has a handful of entries: the account need not help to find them.
static ENTRIES_OF_SAGA: Statement<(Uuid, i64, Uuid, String), EntryRow> = Statement::new(
    "select e.entry_id, e.transaction_id, e.account_id, e.amount_minor, e.currency::text, t.kind, t.saga_id, t.create_time \
     from ledger.transaction t join ledger.entry e on e.transaction_id = t.transaction_id \
     where t.saga_id = $3 and e.entry_id > $1 and ($4 = '' or e.account_id = $4) order by e.entry_id limit $2",
);

/// A page of entries, oldest first, after the entry `after` (nil: from the first).
pub(crate) async fn entries(
    connection: &mut PgConnection,
    saga: Option<Uuid>,
    account: Option<String>,
    after: Uuid,
    limit: i64,
) -> sqlx::Result<Vec<EntryRow>> {
    match (saga, account) {
        (Some(saga), account) => {
            ENTRIES_OF_SAGA.all(connection, (after, limit, saga, account.unwrap_or_default())).await
        }
        (None, Some(account)) => ENTRIES_OF_ACCOUNT.all(connection, (after, limit, account)).await,
        (None, None) => ENTRIES.all(connection, (after, limit)).await,
    }
}

// A repeat finds the state it wants: it changes nothing, and the first reason stays.
static SET_CLOSED: Statement<(String, bool, String, DateTime<Utc>)> = Statement::new(
    "update ledger.account set closed = $2, state_time = $4, state_reason = $3, version = version + 1, update_time = $4 \
     where account_id = $1 and closed <> $2",
);

/// Closes or reopens an account; whether that changed anything.
pub(crate) async fn set_closed(
    connection: &mut PgConnection,
    id: String,
    closed: bool,
    reason: String,
) -> sqlx::Result<bool> {
    Ok(SET_CLOSED.run(connection, (id, closed, reason, chassis::clock::now())).await? > 0)
}

pub(super) fn statements() -> [&'static dyn Checked; 6] {
    [&ACCOUNT, &ACCOUNTS, &ENTRIES, &ENTRIES_OF_ACCOUNT, &ENTRIES_OF_SAGA, &SET_CLOSED]
}
