//! The three locks of the books: what the role may do, what the triggers stop, what cannot be committed.

use chassis::{sql, testbed::TestDatabase};
use ledger_svc::{SCHEMA, statements};
use sqlx::Executor as _;

use crate::bed::{Bed, done, saga, sale};

fn code(error: &sqlx::Error) -> String {
    error.as_database_error().and_then(|e| e.code().map(Into::into)).unwrap_or_default()
}

#[tokio::test]
async fn every_statement_fits_the_schema() {
    let database = TestDatabase::create(&[SCHEMA]).await;
    let mut connection = database.pool(&SCHEMA).await.acquire().await.unwrap();
    for statement in statements() {
        sql::check(&mut connection, statement).await.unwrap();
    }
    for statement in ledger_svc::outbox().statements() {
        connection
            .prepare(sqlx::SqlSafeStr::into_sql_str(sqlx::AssertSqlSafe(statement.to_owned())))
            .await
            .unwrap();
    }
}

#[tokio::test]
async fn the_role_can_add_to_the_books_and_never_change_them() {
    let bed = Bed::new().await;
    done(bed.ledger.post(vec![sale(saga(), 100, 0)]).await.remove(0));
    let pool = bed.database.pool(&SCHEMA).await;
    for statement in [
        "update ledger.entry set amount_minor = amount_minor + 1",
        "update ledger.transaction set outcome = 'BLOCKED'",
        "delete from ledger.entry",
        "delete from ledger.transaction",
        "truncate ledger.entry",
        "truncate ledger.transaction cascade",
        "delete from ledger.account",
        "update ledger.account set account_id = 'merchant:m_2:EUR'",
        "update ledger.account set currency = 'USD'",
        "insert into ledger.chart (pattern, type, note) values ('%', 'ASSET', '')",
        "alter table ledger.entry disable trigger all",
        "drop trigger entry_history on ledger.entry",
    ] {
        let error = pool.execute(statement).await.unwrap_err();
        assert_eq!(code(&error), "42501", "{statement}: {error}");
    }
    bed.audit().await;
}

#[tokio::test]
async fn the_triggers_stop_even_the_owner() {
    let bed = Bed::new().await;
    done(bed.ledger.post(vec![sale(saga(), 100, 0)]).await.remove(0));
    let mut owner = bed.database.connect().await;
    for statement in [
        "update ledger.entry set amount_minor = amount_minor + 1",
        "update ledger.entry set amount_minor = 1 where false",
        "delete from ledger.entry",
        "truncate ledger.entry",
        "update ledger.transaction set reply = null",
        "delete from ledger.transaction",
        "truncate ledger.transaction, ledger.entry",
    ] {
        let error = owner.execute(statement).await.unwrap_err();
        assert_eq!(code(&error), "55000", "{statement}: {error}");
    }
    assert_eq!(bed.entries().await.len(), 2);
}

#[tokio::test]
async fn what_does_not_sum_to_zero_cannot_be_committed() {
    let bed = Bed::new().await;
    done(bed.ledger.post(vec![sale(saga(), 100, 0)]).await.remove(0));
    let pool = bed.database.pool(&SCHEMA).await;
    let mut connection = pool.acquire().await.unwrap();
    // One-sided; one-sided on top of what was balanced; balanced in number but not in each currency.
    for (account, amount, other) in [
        ("tax_payable:EUR", 5, None),
        ("tax_payable:EUR", -5, None),
        ("tax_payable:EUR", 5, Some("suspense:USD")),
    ] {
        let sides = [(account, amount)].into_iter().chain(other.map(|other| (other, -amount)));
        let (accounts, amounts): (Vec<_>, Vec<_>) = sides.map(|(a, n)| (a.to_owned(), i64::from(n))).unzip();
        let added = sqlx::query(
            "insert into ledger.entry (entry_id, transaction_id, account_id, amount_minor, currency) \
             select gen_random_uuid(), transaction_id, a, n, right(a, 3) \
             from ledger.transaction, unnest($1::text[], $2::bigint[]) as side (a, n)",
        );
        let error = added.bind(accounts).bind(amounts).execute(&mut *connection).await.unwrap_err();
        assert_eq!(code(&error), "23514", "{account} {amount}: {error}");
        assert_eq!(error.as_database_error().unwrap().constraint(), Some("entry_balance"));
    }
    let stray = "insert into ledger.entry (entry_id, transaction_id, account_id, amount_minor, currency) \
                 select gen_random_uuid(), '00000000-0000-0000-0000-000000000001', 'suspense:EUR', n, 'EUR' \
                 from unnest(array[5, -5]) as n";
    let error = connection.execute(stray).await.unwrap_err();
    assert_eq!(code(&error), "23503", "of no transaction: {error}");
    bed.audit().await;
}

/// The check's plan is kept from when the table was small, whatever looked cheap then: it must not be one that reads all.
#[tokio::test]
async fn the_check_of_what_is_added_reads_no_other_transaction() {
    let bed = Bed::new().await;
    bed.ledger
        .post((0..30).map(|_| sale(saga(), 100, 0)).collect())
        .await
        .into_iter()
        .for_each(|a| drop(done(a)));
    let mut owner = bed.database.connect().await;
    owner.execute("analyze; set enable_nestloop = off; set enable_seqscan = off; begin").await.unwrap();
    let add = "insert into ledger.entry (entry_id, transaction_id, account_id, amount_minor, currency) \
               select gen_random_uuid(), t.id, 'suspense:EUR', n, 'EUR' \
               from (select transaction_id as id from ledger.transaction order by 1 desc limit 1) t, unnest(array[5, -5]) as n";
    let read = "select coalesce(sum(pg_stat_get_xact_tuples_returned(indexrelid)), 0)::bigint from pg_index \
                where indrelid = 'ledger.transaction'::regclass";
    let before: i64 = sqlx::query_scalar(read).fetch_one(&mut owner).await.unwrap();
    assert_eq!(owner.execute(add).await.unwrap().rows_affected(), 2);
    let after: i64 = sqlx::query_scalar(read).fetch_one(&mut owner).await.unwrap();
    // One by the statement itself, one by the check.
    assert!((1..=2).contains(&(after - before)), "{} rows were read", after - before);
}

#[tokio::test]
async fn accounts_open_by_the_chart() {
    let bed = Bed::new().await;
    done(bed.ledger.post(vec![sale(saga(), 119, 19)]).await.remove(0));
    let mut owner = bed.database.connect().await;
    let accounts: Vec<(String, String)> =
        sqlx::query_as("select account_id, type from ledger.account order by account_id")
            .fetch_all(&mut owner)
            .await
            .unwrap();
    let expected = [
        ("merchant:m_1:EUR", "LIABILITY"),
        ("provider_clearing:EUR", "ASSET"),
        ("tax_payable:EUR", "LIABILITY"),
    ];
    assert_eq!(accounts, expected.map(|(id, kind)| (id.to_owned(), kind.to_owned())));
}
