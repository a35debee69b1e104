//! Plans are kept, and made while tables are small or empty: none of them may read ever more as they grow.

use chassis::{database::PLANNING, outbox::Outbox, sql, testbed::TestDatabase};
use e2e::{Spec, World};
use serde_json::Value;
use sqlx::{AssertSqlSafe, Executor as _, PgConnection, SqlSafeStr as _, types::Json};

use crate::statements::statements;

/// As busy commands plan, and at the usual prices, as whoever asks now and then may come to.
fn prices() -> [Vec<(&'static str, &'static str)>; 2] {
    [PLANNING.to_vec(), vec![("plan_cache_mode", "force_generic_plan")]]
}

/// From here on plans are made at these prices, of tables as they are now.
async fn plan_at(connection: &mut PgConnection, prices: &[(&str, &str)]) {
    let prices: String = prices.iter().map(|(name, value)| format!("set {name} = {value};")).collect();
    let settings = format!("reset all; {prices} set enable_seqscan = off; set jit = off; analyze");
    connection.execute(sqlx::raw_sql(AssertSqlSafe(settings))).await.unwrap();
}

/// The plan that is kept for a statement.
async fn plan(connection: &mut PgConnection, text: &str) -> Value {
    let (parameters, _) = sql::describe(connection, text).await.unwrap();
    let nulls = vec!["null"; parameters.len()].join(", ");
    let arguments = if nulls.is_empty() { String::new() } else { format!("({nulls})") };
    let prepare = AssertSqlSafe(format!("prepare looked_at as {text}")).into_sql_str();
    connection.execute(sqlx::raw_sql(prepare)).await.unwrap();
    let explain =
        AssertSqlSafe(format!("explain (verbose, format json) execute looked_at{arguments}")).into_sql_str();
    let (Json(plans),): (Json<Vec<Value>>,) =
        sqlx::query_as(explain).fetch_one(&mut *connection).await.unwrap();
    connection.execute(sqlx::raw_sql("deallocate looked_at")).await.unwrap();
    plans[0]["Plan"].clone()
}

/// A node of a plan, and what stands above it in what is run together with it.
#[derive(Clone, Copy)]
struct Place<'p> {
    node: &'p Value,
    is_joined: bool,
    is_limited: bool,
}

impl<'p> Place<'p> {
    /// Every node of a plan.
    fn all(plan: &'p Value) -> Vec<Self> {
        let mut found = vec![Self { node: plan, is_joined: false, is_limited: false }];
        let mut at = 0;
        while let Some(place) = found.get(at).copied() {
            found.extend(place.node["Plans"].as_array().into_iter().flatten().map(|node| {
                // Run once, whatever stands above it: an array, or what has a name in front of the statement.
                let is_apart = node["Parent Relationship"] == "InitPlan";
                Self {
                    node,
                    is_joined: !is_apart && (place.is_joined || place.joins()),
                    is_limited: !is_apart && (place.is_limited || place.node["Node Type"] == "Limit"),
                }
            }));
            at += 1;
        }
        found
    }

    fn says(&self, what: &str) -> &'p str {
        self.node[what].as_str().unwrap_or_default()
    }

    fn joins(&self) -> bool {
        ["Nested Loop", "Hash Join", "Merge Join"].contains(&self.says("Node Type"))
    }

    /// Where it looks; nothing when it looks everywhere.
    fn condition(&self) -> &'p str {
        ["Index Cond", "TID Cond", "Recheck Cond"]
            .into_iter()
            .map(|cond| self.says(cond))
            .max()
            .unwrap_or_default()
    }

    /// Of that table it reads all that there is, or all of a slice for each row of something else.
    fn reads_too_much(&self, table: &str) -> bool {
        let is_of_table = format!("{}.{}", self.says("Schema"), self.says("Relation Name")) == table;
        let is_scan = self.says("Node Type").contains("Scan");
        let condition = self.condition();
        let reads_all = condition.is_empty() && !self.is_limited;
        is_of_table && is_scan && (reads_all || (condition.contains(" ANY ") && self.is_joined))
    }

    /// What is taken of something is taken again for each row of something else, so that its limit does not hold.
    fn takes_again(&self) -> bool {
        self.is_joined && ["Limit", "LockRows"].contains(&self.says("Node Type"))
    }
}

fn shown(plan: &Value) -> String {
    serde_json::to_string_pretty(plan).unwrap()
}

/// While a table is small all of its key costs no more than a few looks, and the plan is kept.
#[tokio::test(flavor = "multi_thread")]
async fn no_slice_reads_all_of_a_key_after_the_first_hundred_orders() {
    let world = World::local().await;
    let orders = (0..100).map(async |_| world.create(&Spec::of(1).wait(25)).await);
    for order in futures_util::future::join_all(orders).await {
        world.completes(&order.order_id).await;
    }
    let mut connection = world.ground.database.connect().await;
    plan_at(&mut connection, &PLANNING).await;
    let keys: Vec<(String,)> = sqlx::query_as(
        "select k.relname::text from pg_index i join pg_class k on k.oid = i.indexrelid \
           join pg_class t on t.oid = i.indrelid join pg_namespace n on n.oid = t.relnamespace \
         where t.reltuples >= 50 and n.nspname not in ('pg_catalog', 'pg_toast', 'information_schema')",
    )
    .fetch_all(&mut connection)
    .await
    .unwrap();
    for key in ["saga_pk", "attempt_pk", "reservation_pk", "document_pk"] {
        assert!(keys.iter().any(|(name,)| name == key), "{key}: {keys:?}");
    }
    let mut wrong = Vec::new();
    for (name, statements) in statements() {
        for statement in statements {
            let text = statement.sql();
            if !text.contains("unnest(") || text.contains("limit ") {
                continue;
            }
            let plan = plan(&mut connection, text).await;
            let reads_a_whole_key = Place::all(&plan).iter().any(|place| {
                let key = place.says("Index Name");
                keys.iter().any(|(name,)| name == key) && place.says("Index Cond").is_empty()
            });
            if reads_a_whole_key {
                wrong.push(format!("{name}:\n{text}\n{}", shown(&plan)));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
    world.audit().await;
}

/// An index of the few rows that something is due for looks cheaper than a table's key while there are few, and the plan is
/// kept: each row of a slice would read all that is due. Whoever looks for what is due says how much of it he takes.
#[tokio::test]
async fn no_slice_goes_by_an_index_of_what_is_due() {
    let database = TestDatabase::create(&amends::provision::schemas()).await;
    let mut connection = database.connect().await;
    let partial: Vec<(String,)> = sqlx::query_as(
        "select c.relname::text from pg_index i join pg_class c on c.oid = i.indexrelid \
         where i.indpred is not null and not i.indisunique",
    )
    .fetch_all(&mut connection)
    .await
    .unwrap();
    assert!(partial.iter().any(|(name,)| name == "saga_open"));
    let mut wrong = Vec::new();
    for prices in prices() {
        plan_at(&mut connection, &prices).await;
        for (name, statements) in statements() {
            for statement in statements {
                let text = statement.sql();
                // By a shard is how what is open is looked for.
                let is_slice = text.contains("unnest(") || text.contains("= any ($");
                if !is_slice || text.contains("limit ") || text.contains("shard_id = any") {
                    continue;
                }
                let plan = plan(&mut connection, text).await;
                for place in Place::all(&plan) {
                    let index = place.says("Index Name");
                    if partial.iter().any(|(name,)| name == index) {
                        wrong.push(format!("{name}: {index} in\n{text}\n{}", shown(&plan)));
                    }
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

/// What is mostly empty is analyzed while it is empty, and its plans are kept for the day when a hundred thousand messages
/// wait for a broker: what is due, joined, would be looked for again for each of them.
#[tokio::test]
async fn no_plan_made_while_a_queue_was_empty_looks_through_all_of_it_for_each_row() {
    let database = TestDatabase::create(&amends::provision::schemas()).await;
    let mut connection = database.connect().await;
    let outbox = Outbox::new("orchestrator", "orchestrator");
    let mut texts: Vec<String> = outbox.statements().map(str::to_owned).to_vec();
    for (_, statements) in statements() {
        texts.extend(statements.iter().map(|statement| statement.sql().to_owned()));
    }
    let mut wrong = Vec::new();
    // Deliveries and attempts stay, so slices of them get new plans soon (the test of a hundred orders); only what is due of
    // them is none for long.
    let queues = [
        ("orchestrator.outbox", false, 6),
        ("orchestrator.signal", false, 4),
        ("notifications.delivery", true, 1),
        ("payments.attempt", true, 1),
    ];
    for prices in prices() {
        plan_at(&mut connection, &prices).await;
        for (table, only_what_is_due, least) in queues {
            let mut count = 0;
            for text in texts.iter().filter(|text| text.contains(table)) {
                // What people list is planned anew each time.
                let is_listed = text.starts_with("select") && table != "orchestrator.outbox";
                if is_listed || (only_what_is_due && !text.contains("limit ")) {
                    continue;
                }
                count += 1;
                let plan = plan(&mut connection, text).await;
                let places = Place::all(&plan);
                if places.iter().any(|place| place.reads_too_much(table) || place.takes_again()) {
                    wrong.push(format!("{table}:\n{text}\n{}", shown(&plan)));
                }
            }
            assert!(count >= least, "{table}: only {count} were looked at");
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}
