//! A pool whose server breaks its connections.

use std::{future::Future, task::Poll, time::Duration};

use chassis::{
    database::{self, Options, Trouble},
    sql::Statement,
    stop::Stop,
    testbed::TestDatabase,
};
use sqlx::{Executor as _, PgPool};

use crate::wire::Wire;

static ONE: Statement<(), (i32,)> = Statement::new("select 1");

async fn pool(database: &TestDatabase) -> PgPool {
    pool_at(database.owner_url().to_owned()).await
}

async fn pool_at(url: String) -> PgPool {
    let options = Options { url, application: "pool-test".into(), connections: 4, allow_unsafe: false };
    database::open(&options, &Stop::new()).await.unwrap()
}

/// All four connections stand, and are then broken by the server, as by a restart.
async fn broken(pool: &PgPool, database: &TestDatabase) {
    let all = futures_util::future::join_all((0..4).map(|_| pool.acquire())).await;
    drop(all);
    tokio::time::sleep(Duration::from_millis(200)).await;
    let mut owner = database.connect().await;
    let terminate = "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'pool-test' \
                     and datname = current_database()";
    owner.execute(terminate).await.unwrap();
    tokio::time::sleep(Duration::from_millis(100)).await;
}

async fn ask(pool: &PgPool) -> Result<i32, Trouble> {
    let mut connection = database::acquire(pool).await?;
    Ok(ONE.one(&mut connection, ()).await?.0)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restarted_server_costs_one_failure_and_not_one_for_each_connection() {
    let database = TestDatabase::create(&[]).await;
    let pool = pool(&database).await;
    broken(&pool, &database).await;
    let mut failures = 0;
    for _ in 0..8 {
        failures += usize::from(ask(&pool).await.is_err());
    }
    assert!(failures <= 1, "{failures}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_was_idle_is_asked_whether_it_lives() {
    let database = TestDatabase::create(&[]).await;
    let pool = pool(&database).await;
    broken(&pool, &database).await;
    tokio::time::sleep(Duration::from_millis(1200)).await;
    for _ in 0..4 {
        assert_eq!(ask(&pool).await.unwrap(), 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_server_nothing_was_begun_and_that_is_said_in_time() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let nobody = listener.local_addr().unwrap();
    drop(listener);
    let pool = sqlx::postgres::PgPoolOptions::new()
        .acquire_timeout(Duration::from_millis(300))
        .connect_lazy(&format!("postgres://x@{nobody}/x"))
        .unwrap();
    assert!(matches!(ask(&pool).await, Err(Trouble::Away(_))));
    assert!(matches!(database::begin_on(&pool).await, Err(Trouble::Away(_))));
}

/// Polls the work so often and drops it; whether it was through before.
async fn dropped_after<F: Future>(work: F, polls: usize) -> bool {
    let mut work = Box::pin(work);
    let mut left = polls;
    std::future::poll_fn(|context| {
        if work.as_mut().poll(context).is_ready() {
            return Poll::Ready(true);
        }
        left -= 1;
        if left == 0 { Poll::Ready(false) } else { Poll::Pending }
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_begin_that_is_dropped_in_the_middle_leaves_no_transaction_open_in_the_pool() {
    let database = TestDatabase::create(&[]).await;
    // From here an answer may be there before anybody waits for it.
    let url = database.owner_url();
    let authority = url.split_once("://").unwrap().1.split('/').next().unwrap();
    let server = authority.rsplit_once('@').map_or(authority, |(_, server)| server);
    let wire = Wire::to(server).await;
    wire.lengthen();
    let pool = pool_at(url.replace(server, &wire.address.to_string())).await;
    let mut dropped = 0;
    for polls in 1..100 {
        // A first statement, so that BEGIN finds a connection that stands.
        ask(&pool).await.unwrap();
        let of_the_pool = dropped_after(database::begin_on(&pool), polls).await;
        let mut connection = database::acquire(&pool).await.unwrap();
        let of_a_connection = dropped_after(database::begin(&mut connection), polls).await;
        drop(connection);
        let all = futures_util::future::join_all((0..4).map(|_| database::acquire(&pool))).await;
        for connection in all {
            let mut connection = connection.unwrap();
            let mut began = Vec::new();
            for _ in 0..2 {
                let now = sqlx::query_as("select now()::text").fetch_one(&mut *connection).await;
                let (begin,): (String,) = now.unwrap();
                began.push(begin);
            }
            // Each statement is a transaction of its own.
            assert_ne!(began[0], began[1], "after {polls} polls a transaction is open");
        }
        if of_the_pool && of_a_connection {
            break;
        }
        dropped += 1;
    }
    // Over a wire that takes time each waits for its answer at least once, so each was dropped in the middle.
    assert!(dropped >= 1, "{dropped}");
}
