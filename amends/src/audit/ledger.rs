//! I1: the books balance, transaction by transaction, account by account and as a whole.
//!
//! All within one snapshot of the ledger, so every finding is certain. Sums are read as text, because what broke may
//! not fit 64 bits.

use chassis::sql::{Checked, Statement};
use types::TransactionId;
use uuid::Uuid;

use super::{
    Error,
    report::Invariant,
    sources::{Room, Snapshot, unreadable},
    tally::Tally,
};

static COUNT: Statement<(), (i64, i64)> =
    Statement::new("select (select count(*) from ledger.transaction), (select count(*) from ledger.account)");

static UNBALANCED: Statement<(), (Uuid, String, String)> = Statement::new(
    "select transaction_id, currency::text, sum(amount_minor)::text from ledger.entry \
     group by transaction_id, currency having sum(amount_minor) <> 0 order by transaction_id",
);

static STRAY_ENTRIES: Statement<(), (Uuid, i64)> = Statement::new(
    "select e.transaction_id, count(*) from ledger.entry e \
     left join ledger.transaction t on t.transaction_id = e.transaction_id \
     where t.transaction_id is null group by e.transaction_id order by e.transaction_id",
);

/// Account, whether it is there, its counters, the sums of its entries.
type AccountRow = (String, Option<i64>, Option<i64>, String, String);

static ACCOUNTS: Statement<(), AccountRow> = Statement::new(
    "select coalesce(a.account_id, e.account_id), a.debits_minor, a.credits_minor, \
       coalesce(e.debits, 0)::text, coalesce(e.credits, 0)::text \
     from ledger.account a \
     full join (select account_id, sum(amount_minor) filter (where amount_minor > 0) as debits, \
                  -sum(amount_minor) filter (where amount_minor < 0) as credits \
                from ledger.entry group by account_id) e on e.account_id = a.account_id \
     where a.account_id is null or a.debits_minor <> coalesce(e.debits, 0) or a.credits_minor <> coalesce(e.credits, 0) \
     order by 1",
);

static TOTALS: Statement<(), (String, String)> = Statement::new(
    "select currency::text, (sum(debits_minor) - sum(credits_minor))::text from ledger.account \
     group by currency having sum(debits_minor) <> sum(credits_minor) order by 1",
);

pub(super) fn statements() -> Vec<&'static dyn Checked> {
    vec![&COUNT, &UNBALANCED, &STRAY_ENTRIES, &ACCOUNTS, &TOTALS]
}

/// Judges I1.
pub(super) async fn judge(snapshot: &mut Snapshot, tally: &mut Tally) -> Result<(), Error> {
    let ledger = || unreadable(Room::Ledger);
    let books = snapshot.at(Room::Ledger);
    let (transactions, accounts) = COUNT.one(books, ()).await.map_err(ledger())?;
    let checked = transactions.saturating_add(accounts);
    tally.checked(Invariant::I1, u64::try_from(checked).unwrap_or_default());
    for (transaction, currency, sum) in UNBALANCED.all(books, ()).await.map_err(ledger())? {
        let transaction = TransactionId::from_uuid(transaction);
        tally.certain(Invariant::I1, format!("{transaction} sums to {sum} {currency}, not to zero"));
    }
    for (transaction, entries) in STRAY_ENTRIES.all(books, ()).await.map_err(ledger())? {
        let transaction = TransactionId::from_uuid(transaction);
        tally
            .certain(Invariant::I1, format!("{entries} entries belong to {transaction}, which is not there"));
    }
    for row in ACCOUNTS.all(books, ()).await.map_err(ledger())? {
        tally.certain(Invariant::I1, account(&row));
    }
    judge_totals(snapshot, tally).await
}

/// Judges the part of I1 that costs little: what all accounts hold together.
pub(super) async fn judge_totals(snapshot: &mut Snapshot, tally: &mut Tally) -> Result<(), Error> {
    let books = snapshot.at(Room::Ledger);
    for (currency, difference) in TOTALS.all(books, ()).await.map_err(unreadable(Room::Ledger))? {
        let text = format!("all accounts in {currency} together hold {difference}, not zero");
        tally.certain(Invariant::I1, text);
    }
    Ok(())
}

fn account((account, debits, credits, entry_debits, entry_credits): &AccountRow) -> String {
    match (debits, credits) {
        (Some(debits), Some(credits)) => format!(
            "account {account} counts {debits} debits and {credits} credits, its entries sum to {entry_debits} and \
             {entry_credits}"
        ),
        _ => format!(
            "account {account} is not there, but has entries: {entry_debits} debits, {entry_credits} credits"
        ),
    }
}
