//! Every statement of the baseline. One function is one transaction.

use load::mix::{self, Drawn};
use sqlx::{Connection as _, Executor as _, PgConnection, PgPool, Postgres, Transaction};
use uuid::Uuid;

const DATABASE: &str = "bench_baseline";

/// As narrow as the tables of a careful team: keys, checks, no foreign keys on the hot path.
const TABLES: &str = "
create table orders (
    order_id uuid primary key, customer_id text not null, merchant_id text not null, sku text not null,
    amount_minor bigint not null check (amount_minor > 0),
    status text not null check (status in ('CREATED', 'COMPLETED', 'CANCELLED')),
    create_time timestamptz not null default now(), update_time timestamptz not null default now()
) with (fillfactor = 60);
create table stock (
    sku text primary key, available bigint not null check (available >= 0), reserved bigint not null check (reserved >= 0)
) with (fillfactor = 60);
create table reservation (
    order_id uuid primary key, sku text not null, quantity bigint not null check (quantity > 0),
    status text not null check (status in ('HELD', 'RELEASED')), create_time timestamptz not null default now()
);
create table payment (
    order_id uuid primary key, amount_minor bigint not null, status text not null check (status in ('CHARGED', 'DECLINED')),
    create_time timestamptz not null default now()
);
create table entry (
    entry_id bigint generated always as identity primary key, order_id uuid not null, account_id text not null,
    amount_minor bigint not null check (amount_minor <> 0), create_time timestamptz not null default now()
);
create index entry_order on entry (order_id);
create table done (order_id uuid, step text, reply text not null, primary key (order_id, step));
";

/// Makes the database anew; its URL.
pub(super) async fn create_database(url: &str) -> sqlx::Result<String> {
    let mut server = PgConnection::connect(url).await?;
    server.execute("drop database if exists bench_baseline with (force)").await?;
    server.execute("create database bench_baseline").await?;
    let (base, _) = url.rsplit_once('/').unwrap_or((url, ""));
    Ok(format!("{base}/{DATABASE}"))
}

pub(super) async fn fill(pool: &PgPool) -> sqlx::Result<()> {
    pool.execute(sqlx::raw_sql(TABLES)).await?;
    let mut skus: Vec<String> = (0..mix::GOODS).map(mix::sku).collect();
    skus.push(mix::SCARCE.into());
    sqlx::query(
        "insert into stock (sku, available, reserved)
         select sku, case when sku = $2 then 0 else $3 end, 0 from unnest($1::text[]) as sku",
    )
    .bind(skus)
    .bind(mix::SCARCE)
    .bind(mix::STOCK)
    .execute(pool)
    .await?;
    Ok(())
}

/// Begins, and absorbs a repeat of the step.
async fn begin<'p>(pool: &'p PgPool, order: Uuid, step: &str) -> sqlx::Result<Transaction<'p, Postgres>> {
    let mut transaction = pool.begin().await?;
    // A repeat after a lost answer: the unique key says so, and the transaction goes no further.
    sqlx::query("insert into done (order_id, step, reply) values ($1, $2, 'ok')")
        .bind(order)
        .bind(step)
        .execute(&mut *transaction)
        .await?;
    Ok(transaction)
}

pub(super) async fn open(pool: &PgPool, id: Uuid, order: &Drawn) -> sqlx::Result<()> {
    let mut transaction = begin(pool, id, "open").await?;
    sqlx::query(
        "insert into orders (order_id, customer_id, merchant_id, sku, amount_minor, status)
         values ($1, $2, $3, $4, $5, 'CREATED')",
    )
    .bind(id)
    .bind(&order.customer)
    .bind(&order.merchant)
    .bind(&order.sku)
    .bind(mix::PRICE)
    .execute(&mut *transaction)
    .await?;
    transaction.commit().await
}

/// False when there is not enough.
pub(super) async fn reserve(pool: &PgPool, id: Uuid, sku: &str) -> sqlx::Result<bool> {
    let mut transaction = begin(pool, id, "reserve").await?;
    sqlx::query("insert into reservation (order_id, sku, quantity, status) values ($1, $2, 1, 'HELD')")
        .bind(id)
        .bind(sku)
        .execute(&mut *transaction)
        .await?;
    // The hot row last, so that it is locked for as short as can be.
    let taken = sqlx::query(
        "update stock set available = available - 1, reserved = reserved + 1 where sku = $1 and available >= 1",
    )
    .bind(sku)
    .execute(&mut *transaction)
    .await?;
    if taken.rows_affected() == 0 {
        transaction.rollback().await?;
        return Ok(false);
    }
    transaction.commit().await?;
    Ok(true)
}

pub(super) async fn charge(pool: &PgPool, id: Uuid, approved: bool) -> sqlx::Result<()> {
    let mut transaction = begin(pool, id, "charge").await?;
    sqlx::query("insert into payment (order_id, amount_minor, status) values ($1, $2, $3)")
        .bind(id)
        .bind(mix::PRICE)
        .bind(if approved { "CHARGED" } else { "DECLINED" })
        .execute(&mut *transaction)
        .await?;
    transaction.commit().await
}

pub(super) async fn post(pool: &PgPool, id: Uuid, merchant: &str) -> sqlx::Result<()> {
    let mut transaction = begin(pool, id, "post").await?;
    let tax = mix::PRICE / 6;
    sqlx::query(
        "insert into entry (order_id, account_id, amount_minor)
         select $1, account_id, amount_minor from unnest($2::text[], $3::bigint[]) as row (account_id, amount_minor)",
    )
    .bind(id)
    .bind(vec!["provider_clearing".to_owned(), format!("merchant:{merchant}"), "tax".to_owned(), "fee".to_owned()])
    .bind(vec![mix::PRICE, tax + 30 - mix::PRICE, -tax, -30])
    .execute(&mut *transaction)
    .await?;
    transaction.commit().await
}

pub(super) async fn release(pool: &PgPool, id: Uuid, sku: &str) -> sqlx::Result<()> {
    let mut transaction = begin(pool, id, "release").await?;
    sqlx::query("update reservation set status = 'RELEASED' where order_id = $1 and status = 'HELD'")
        .bind(id)
        .execute(&mut *transaction)
        .await?;
    sqlx::query("update stock set available = available + 1, reserved = reserved - 1 where sku = $1")
        .bind(sku)
        .execute(&mut *transaction)
        .await?;
    transaction.commit().await
}

pub(super) async fn end(pool: &PgPool, id: Uuid, status: &str) -> sqlx::Result<()> {
    let mut transaction = begin(pool, id, "end").await?;
    sqlx::query(
        "update orders set status = $2, update_time = now() where order_id = $1 and status = 'CREATED'",
    )
    .bind(id)
    .bind(status)
    .execute(&mut *transaction)
    .await?;
    transaction.commit().await
}

/// What does not add up.
pub(super) async fn audit(pool: &PgPool) -> sqlx::Result<Option<String>> {
    sqlx::query_scalar(
        "select string_agg(what, '; ') from (
             select 'entries sum to ' || sum(amount_minor) as what from entry having sum(amount_minor) <> 0
             union all
             select count(*) || ' orders are open' from orders where status = 'CREATED' having count(*) > 0
             union all
             select 'stock of ' || sku from stock
             where available + reserved <> case when sku = $1 then 0 else $2 end
         ) as wrong",
    )
    .bind(mix::SCARCE)
    .bind(mix::STOCK)
    .fetch_one(pool)
    .await
}
