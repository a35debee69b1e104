//! The chain: what was booked is sealed, once, by however many, and whatever order things commit in.

use std::time::Duration;

use chassis::database;
use ledger_svc::{SCHEMA, seal};
use sqlx::{Connection as _, Executor as _, PgConnection, PgPool};
use tokio::time::Instant;

use crate::bed::{Bed, Running, done, reversal, saga, sale};

/// Other tests of the same server have transactions under way, and nothing behind them is final.
const PATIENCE: Duration = Duration::from_secs(60);

async fn number(owner: &mut PgConnection, query: &'static str) -> i64 {
    sqlx::query_as::<_, (i64,)>(query).fetch_one(owner).await.unwrap().0
}

async fn sealed(owner: &mut PgConnection) -> i64 {
    number(owner, "select coalesce(sum(transactions), 0)::bigint from ledger.block").await
}

/// Waits until so many are sealed, sealing too.
async fn until_sealed(pool: &PgPool, owner: &mut PgConnection, wanted: i64) {
    let begin = Instant::now();
    while sealed(owner).await < wanted {
        assert!(begin.elapsed() < PATIENCE, "{} of {wanted} are sealed", sealed(owner).await);
        seal(pool).await.unwrap();
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(sealed(owner).await, wanted);
}

#[tokio::test]
async fn what_was_booked_is_sealed_by_itself_and_the_blocks_follow_each_other() {
    let bed = Bed::new().await;
    let mut owner = bed.database.connect().await;
    let begin = Instant::now();
    for count in 1..=3 {
        done(bed.ledger.post(vec![sale(saga(), 100, 0)]).await.remove(0));
        while sealed(&mut owner).await < count {
            assert!(begin.elapsed() < PATIENCE, "not sealed by itself");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    let follows = "select count(*) from ledger.block b join ledger.block a on a.block_no = b.block_no - 1 \
                   where b.previous = a.hash and (b.last_era, b.last_xid, b.last_transaction_id) > \
                     (a.last_era, a.last_xid, a.last_transaction_id)";
    let blocks = number(&mut owner, "select count(*) from ledger.block").await;
    assert_eq!(number(&mut owner, follows).await, blocks - 1);
}

#[tokio::test]
async fn several_that_seal_at_once_make_one_chain() {
    let bed = Bed::new().await;
    let other = Running::on(&bed.database).await;
    let (mut owner, pool) = (bed.database.connect().await, bed.database.pool(&SCHEMA).await);
    for _ in 0..10 {
        let sagas: Vec<_> = (0..6).map(|_| saga()).collect();
        let sales: Vec<_> = sagas.iter().map(|saga| sale(*saga, 500, 100)).collect();
        let (here, there) = sales.split_at(3);
        tokio::join!(
            bed.ledger.post(here.to_vec()),
            other.post(there.to_vec()),
            async { seal(&pool).await.unwrap() },
            async { seal(&pool).await.unwrap() },
        );
        bed.ledger.reverse(vec![reversal(sagas[0])]).await;
    }
    until_sealed(&pool, &mut owner, 70).await;
    assert_eq!(number(&mut owner, "select count(*) from ledger.transaction").await, 70);
}

#[tokio::test]
async fn nothing_is_sealed_before_what_began_earlier_has_ended() {
    let bed = Bed::new().await;
    let (mut owner, pool) = (bed.database.connect().await, bed.database.pool(&SCHEMA).await);
    let mut slow = bed.database.connect().await;
    let mut slow = slow.begin().await.unwrap();
    slow.execute(
        "insert into ledger.transaction (transaction_id, saga_id, step, kind, outcome, create_time) \
         values (gen_random_uuid(), gen_random_uuid(), 'post', 'POST', 'BLOCKED', now())",
    )
    .await
    .unwrap();
    done(bed.ledger.post(vec![sale(saga(), 100, 0)]).await.remove(0));
    assert_eq!(seal(&pool).await.unwrap(), 0, "a row may still come before this one");
    slow.commit().await.unwrap();
    until_sealed(&pool, &mut owner, 2).await;
}

#[tokio::test]
async fn blocks_are_for_good() {
    let bed = Bed::new().await;
    let (mut owner, pool) = (bed.database.connect().await, bed.database.pool(&SCHEMA).await);
    done(bed.ledger.post(vec![sale(saga(), 100, 0)]).await.remove(0));
    until_sealed(&pool, &mut owner, 1).await;
    for (statement, as_role) in [
        ("update ledger.block set transactions = 2", "42501"),
        ("delete from ledger.block", "42501"),
        ("truncate ledger.block", "42501"),
        ("insert into ledger.era (era) values (9)", "42501"),
    ] {
        let code = |error: sqlx::Error| error.into_database_error().unwrap().code().unwrap().into_owned();
        assert_eq!(code(pool.execute(statement).await.unwrap_err()), as_role, "{statement}");
        if !statement.starts_with("insert") {
            assert_eq!(code(owner.execute(statement).await.unwrap_err()), "55000", "{statement}");
        }
    }
}

#[tokio::test]
async fn what_was_there_before_the_chain_is_sealed_in_more_than_one_block() {
    let bed = Bed::new().await;
    let (mut owner, pool) = (bed.database.connect().await, bed.database.pool(&SCHEMA).await);
    // As the migration leaves it: thousands of rows with one number.
    owner
        .execute(
            "insert into ledger.transaction (transaction_id, saga_id, step, kind, outcome, create_time) \
             select gen_random_uuid(), gen_random_uuid(), 'post', 'POST', 'BLOCKED', now() from generate_series(1, 4100)",
        )
        .await
        .unwrap();
    until_sealed(&pool, &mut owner, 4100).await;
    assert!(number(&mut owner, "select count(*) from ledger.block").await >= 3);
}

#[tokio::test]
async fn a_restored_ledger_goes_on_in_the_next_era() {
    let bed = Bed::new().await;
    let (mut owner, pool) = (bed.database.connect().await, bed.database.pool(&SCHEMA).await);
    // Written under a number that this cluster will not reach for long: as a dump of another one brings it.
    owner
        .execute(
            "insert into ledger.transaction (transaction_id, saga_id, step, kind, outcome, create_time, xid) values \
               (gen_random_uuid(), gen_random_uuid(), 'post', 'POST', 'BLOCKED', now(), '99999999999')",
        )
        .await
        .unwrap();
    assert_eq!(seal(&pool).await.unwrap(), 0, "nothing says that it is final");
    let eras = "select max(era)::bigint from ledger.era";
    for _ in 0..2 {
        database::provision(&mut owner, &SCHEMA).await.unwrap();
        assert_eq!(number(&mut owner, eras).await, 1, "one restore is one era");
    }
    done(bed.ledger.post(vec![sale(saga(), 100, 0)]).await.remove(0));
    until_sealed(&pool, &mut owner, 2).await;
    let last = "select last_era::bigint from ledger.block order by block_no desc limit 1";
    assert_eq!(number(&mut owner, last).await, 1);
}
