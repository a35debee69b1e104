//! A pool whose server breaks its connections.

use std::time::Duration;

use chassis::{
    database::{self, Options, Trouble},
    sql::Statement,
    stop::Stop,
    testbed::TestDatabase,
};
use sqlx::{Executor as _, PgPool};

static ONE: Statement<(), (i32,)> = Statement::new("select 1");

async fn pool(database: &TestDatabase) -> PgPool {
    let options = Options {
        url: database.owner_url().to_owned(),
        application: "pool-test".into(),
        connections: 4,
        allow_unsafe: false,
    };
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
