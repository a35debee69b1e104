//! Of two ways that come to the same both write the same: the same orders, once with every command's short way closed, and once
//! without a wire between the orchestrator and its participants.

use std::{collections::BTreeMap, sync::atomic::Ordering};

use chassis::quick::proof::{CLOSED, GONE};
use e2e::{Builder, BusKind, Spec, World};
use proto::{
    ledger::v1::CloseAccountRequest,
    order::v1::{Order, OrderStatus},
    risk::v1::DenyRequest,
};
use regex::Regex;
use sqlx::Connection as _;

/// Tables whose rows depend on when things came, not on what came: the order of answers, leases, blocks, messages and letters
/// that left. No short way has a statement of its own for them.
const BY_TIME: [&str; 9] =
    ["journal", "outbox", "instance", "shard", "fence", "signal", "block", "delivery", "_sqlx_migrations"];

/// None is so dear that a person would look at it: that would race with what it is refused for.
async fn play(world: &World) {
    let deny = DenyRequest { customer_id: "c_bad".into(), reason: "chargebacks".into() };
    world.rules().deny(deny).await.unwrap();
    let ends = |order: Order, status| assert_eq!(order.status(), status, "{order:?}");
    let orders = [
        Spec::of(1),
        Spec::of(2).line("P1002", 3).line("P1001", 1).key("k-several"),
        Spec::of(1).merchant("m_2").customer("c_2"),
        Spec::of(1).line("P1003", 1000),
    ];
    for order in orders {
        let created = world.create(&order.wait(20)).await;
        ends(world.completes(&created.order_id).await, OrderStatus::Completed);
    }
    let close = CloseAccountRequest { account_id: "merchant:m_2:EUR".into(), reason: "x".into() };
    world.ledger().close_account(close).await.unwrap();
    let refused = [
        Spec::of(2).token("tok_decline"),
        Spec::of(1).line("P1003", 2000),
        Spec::of(1).line("P1003", 1),
        Spec::of(2).customer("c_bad"),
        Spec::of(1).merchant("m_2"),
    ];
    for order in refused {
        let created = world.create(&order.wait(20)).await;
        ends(world.is_cancelled(&created.order_id).await, OrderStatus::Cancelled);
    }
    // A repeat, and one more after all that.
    let again = world.create(&Spec::of(2).line("P1002", 3).line("P1001", 1).key("k-several").wait(20)).await;
    ends(again, OrderStatus::Completed);
    let last = world.create(&Spec::of(3).wait(20)).await;
    ends(world.completes(&last.order_id).await, OrderStatus::Completed);
    world.audit().await;
}

/// Every row of every table, without what is another one each time.
async fn rows(world: &World) -> BTreeMap<String, Vec<String>> {
    let mut owner = world.ground.database.connect().await;
    let tables: Vec<(String, String)> = sqlx::query_as(
        "select schemaname::text, tablename::text from pg_tables \
         where schemaname not in ('pg_catalog', 'information_schema') order by 1, 2",
    )
    .fetch_all(&mut owner)
    .await
    .unwrap();
    let other = [
        (r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", "uuid"),
        (r"\b[a-z]{2,5}_[0-9a-hjkmnp-tv-z]{20,}\b", "id"),
        (r"\\\\x[0-9a-f]+", "bytes"),
        (r"\d{4}-\d\d-\d\d[T ][\d:.]+(\+00:00|Z)?", "time"),
        (r"\b\d{13}\b", "ms"),
        (r#""(xid|era|shard_id)":"?\d+"?"#, "number"),
    ]
    .map(|(pattern, name)| (Regex::new(pattern).unwrap(), name));
    let versions = Regex::new(r#""version":\d+"#).unwrap();
    let mut all = BTreeMap::new();
    for (schema, table) in tables.into_iter().filter(|(_, table)| !BY_TIME.contains(&table.as_str())) {
        let read = format!("select row_to_json(t)::text from {schema}.\"{table}\" t");
        let found: Vec<String> =
            sqlx::query_scalar(sqlx::AssertSqlSafe(read)).fetch_all(&mut owner).await.unwrap();
        let is_of_sagas = schema == "orchestrator";
        let plain = |row: String| {
            let row =
                other.iter().fold(row, |row, (pattern, name)| pattern.replace_all(&row, *name).into_owned());
            // How many commits a saga makes of its facts depends on when they come.
            if is_of_sagas { versions.replace_all(&row, "version").into_owned() } else { row }
        };
        let mut found: Vec<String> = found.into_iter().map(plain).collect();
        found.sort();
        all.insert(format!("{schema}.{table}"), found);
    }
    owner.close().await.unwrap();
    all
}

/// Opens them again whatever happens: other tests run beside this one, and either way is right for them.
struct Closed;

impl Drop for Closed {
    fn drop(&mut self) {
        CLOSED.store(false, Ordering::Relaxed);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_short_way_of_every_command_writes_what_the_long_one_writes() {
    let world = World::local().await;
    let before = GONE.load(Ordering::Relaxed);
    play(&world).await;
    assert!(GONE.load(Ordering::Relaxed) - before > 30, "the short ways were gone");
    let short = rows(&world).await;

    CLOSED.store(true, Ordering::Relaxed);
    let closed = Closed;
    let world = World::local().await;
    play(&world).await;
    let long = rows(&world).await;
    drop(closed);

    are_alike(&short, &long);
}

#[tokio::test(flavor = "multi_thread")]
async fn steps_that_are_handed_over_come_to_what_they_come_to_over_the_wire() {
    let mut all = Vec::new();
    for builder in [Builder::new(BusKind::Local), Builder::new(BusKind::Local).embedded()] {
        let world = builder.start().await;
        play(&world).await;
        all.push(rows(&world).await);
    }
    are_alike(&all[0], &all[1]);
}

fn are_alike(some: &BTreeMap<String, Vec<String>>, others: &BTreeMap<String, Vec<String>>) {
    assert_eq!(some.keys().collect::<Vec<_>>(), others.keys().collect::<Vec<_>>());
    assert!(some["ledger.entry"].len() > 12 && some["inventory.reservation"].len() > 8, "{some:?}");
    for (table, rows) in some {
        assert_eq!(rows, &others[table], "{table}");
    }
}
