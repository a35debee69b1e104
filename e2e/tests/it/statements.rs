//! The SQL check: every statement of every crate, prepared on the migrated schemas, parameter and column types compared.

use chassis::{
    database::PLANNING,
    outbox::Outbox,
    sql::{self, Checked},
    testbed::TestDatabase,
};
use e2e::{Spec, World};
use sqlx::{AssertSqlSafe, Executor as _, PgConnection, SqlSafeStr as _};

fn statements() -> Vec<(&'static str, Vec<&'static dyn Checked>)> {
    vec![
        ("orchestrator", orchestrator::statements()),
        ("order-svc", order_svc::statements()),
        ("inventory-svc", inventory_svc::statements()),
        ("risk-svc", risk_svc::statements()),
        ("payment-svc", payment_svc::statements()),
        ("ledger-svc", ledger_svc::statements()),
        ("notification-svc", notification_svc::statements()),
        ("amends", amends::audit::statements()),
    ]
}

#[tokio::test]
async fn every_statement_holds_against_the_migrated_schemas() {
    let database = TestDatabase::create(&amends::provision::schemas()).await;
    let mut connection = database.connect().await;
    let mut wrong = Vec::new();
    let mut count = 0;
    for (name, statements) in statements() {
        assert!(!statements.is_empty(), "{name} lists no statement");
        for statement in statements {
            count += 1;
            if let Err(why) = sql::check(&mut connection, statement).await {
                wrong.push(format!("{name}: {why}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
    assert!(count > 50, "only {count} statements are listed");
}

/// What the plan that is kept for a statement reads.
async fn plan(connection: &mut PgConnection, text: &str, parameters: usize) -> String {
    let nulls = vec!["null"; parameters].join(", ");
    let arguments = if parameters == 0 { String::new() } else { format!("({nulls})") };
    let run = async |connection: &mut PgConnection, sql: String| {
        connection.execute(sqlx::raw_sql(AssertSqlSafe(sql))).await.map(|_| ())
    };
    run(connection, format!("prepare looked_at as {text}")).await.unwrap();
    let explain = AssertSqlSafe(format!("explain execute looked_at{arguments}")).into_sql_str();
    let lines: Vec<(String,)> = sqlx::query_as(explain).fetch_all(&mut *connection).await.unwrap();
    run(connection, "deallocate looked_at".into()).await.unwrap();
    lines.into_iter().map(|(line,)| line + "\n").collect()
}

/// Whether a plan reads all of one of these keys: what is looked for says where.
fn reads_a_whole_key(plan: &str, keys: &[(String,)]) -> bool {
    let mut lines = plan.lines().peekable();
    while let Some(line) = lines.next() {
        let is_by_index = keys.iter().any(|(key,)| line.contains(&format!(" using {key} on ")));
        if is_by_index && !lines.peek().is_some_and(|next| next.contains("Index Cond:")) {
            return true;
        }
    }
    false
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
    let planning = PLANNING.map(|(name, value)| format!("set {name} = {value};")).concat();
    let settings = format!("{planning} set enable_seqscan = off; set jit = off; analyze");
    connection.execute(sqlx::raw_sql(AssertSqlSafe(settings))).await.unwrap();
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
            let (parameters, _) = sql::describe(&mut connection, text).await.unwrap();
            let plan = plan(&mut connection, text, parameters.len()).await;
            if reads_a_whole_key(&plan, &keys) {
                wrong.push(format!("{name}:\n{text}\n{plan}"));
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
    let settings =
        "set plan_cache_mode = force_generic_plan; set enable_seqscan = off; set jit = off; analyze";
    connection.execute(settings).await.unwrap();
    let partial: Vec<(String,)> = sqlx::query_as(
        "select c.relname::text from pg_index i join pg_class c on c.oid = i.indexrelid \
         where i.indpred is not null and not i.indisunique",
    )
    .fetch_all(&mut connection)
    .await
    .unwrap();
    assert!(partial.iter().any(|(name,)| name == "saga_open"));
    let mut wrong = Vec::new();
    for (name, statements) in statements() {
        for statement in statements {
            let text = statement.sql();
            // By a shard is how what is open is looked for.
            let is_slice = text.contains("unnest(") || text.contains("= any ($");
            if !is_slice || text.contains("limit ") || text.contains("shard_id = any") {
                continue;
            }
            let (parameters, _) = sql::describe(&mut connection, text).await.unwrap();
            let plan = plan(&mut connection, text, parameters.len()).await;
            for (index,) in &partial {
                if plan.contains(&format!("using {index} ")) || plan.contains(&format!("on {index} ")) {
                    wrong.push(format!("{name}: {index} in\n{text}\n{plan}"));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

/// Whether a plan looks through all of a table more than once: a scan without a condition that is not below a limit, or is
/// done again for each row of something else.
fn looks_through_all(plan: &str, table: &str) -> bool {
    let lines: Vec<&str> = plan.lines().collect();
    let depth = |line: &str| line.len() - line.trim_start().trim_start_matches("->").trim_start().len();
    lines.iter().enumerate().any(|(at, line)| {
        let is_scan = line.contains("Scan") && line.contains(&format!(" on {table}"));
        let has_condition = lines.get(at + 1).is_some_and(|next| next.contains("Cond:"));
        if !is_scan || has_condition {
            return false;
        }
        let mut nearest = depth(line);
        let above: Vec<&str> = lines[..at]
            .iter()
            .rev()
            .filter(|line| {
                let is_above = depth(line) < nearest;
                nearest = nearest.min(depth(line));
                is_above
            })
            .copied()
            .collect();
        let is_bounded = above.iter().any(|line| line.contains("Limit "));
        let is_joined = plan.contains("Nested Loop") || plan.contains(" Join ");
        let is_done_once = above.iter().any(|line| line.contains("InitPlan") || line.contains("CTE "));
        !is_bounded || (is_joined && !is_done_once)
    })
}

/// What is mostly empty is analyzed while it is empty, and its plans are kept for the day when a hundred thousand messages
/// wait for a broker: what is due, joined, would be looked for again for each of them.
#[tokio::test]
async fn no_plan_made_while_a_queue_was_empty_looks_through_all_of_it_for_each_row() {
    let database = TestDatabase::create(&amends::provision::schemas()).await;
    let mut connection = database.connect().await;
    let planning = PLANNING.map(|(name, value)| format!("set {name} = {value};")).concat();
    let settings = format!("{planning} set enable_seqscan = off; set jit = off; analyze");
    connection.execute(sqlx::raw_sql(AssertSqlSafe(settings))).await.unwrap();
    let outbox = Outbox::new("orchestrator", "orchestrator");
    let mut texts: Vec<String> = outbox.statements().map(str::to_owned).to_vec();
    for (_, statements) in statements() {
        texts.extend(statements.iter().map(|statement| statement.sql().to_owned()));
    }
    let mut wrong = Vec::new();
    let mut count = 0;
    for table in ["outbox", "signal", "delivery", "attempt"] {
        for text in texts.iter().filter(|text| text.contains(&format!(".{table}"))) {
            // What people list is asked on the other pool, whose plans are not kept. Deliveries and attempts stay, so slices of
            // them get new plans soon (the test of a hundred orders); only what is due of them is none for long.
            let is_busy = !text.starts_with("select") || text.contains(".outbox");
            let is_a_queue = matches!(table, "outbox" | "signal") || text.contains("limit ");
            if !is_busy || !is_a_queue {
                continue;
            }
            count += 1;
            let (parameters, _) = sql::describe(&mut connection, text).await.unwrap();
            let plan = plan(&mut connection, text, parameters.len()).await;
            if looks_through_all(&plan, table) {
                wrong.push(format!("{table}:\n{text}\n{plan}"));
            }
        }
    }
    assert!(count > 10, "only {count} were looked at");
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

#[tokio::test]
async fn every_outbox_has_the_same_shape() {
    let database = TestDatabase::create(&amends::provision::schemas()).await;
    let mut connection = database.connect().await;
    for schema in ["orchestrator", "orders", "inventory", "risk", "payments", "ledger"] {
        for statement in Outbox::new(schema, "x").statements() {
            let text = AssertSqlSafe(statement.to_owned()).into_sql_str();
            let prepared = (&mut connection).prepare(text).await;
            assert!(prepared.is_ok(), "{schema}: {:?}\n{statement}", prepared.err());
        }
    }
}

#[tokio::test]
async fn migrating_again_changes_nothing_and_a_newer_schema_is_left_alone() {
    let schemas = amends::provision::schemas();
    let database = TestDatabase::create(&schemas).await;
    let mut connection = database.connect().await;
    for schema in &schemas {
        let insert = format!(
            "insert into {}._sqlx_migrations (version, description, success, checksum, execution_time) \
             values (9999, 'from a newer build', true, '\\x00', 1)",
            schema.name
        );
        connection.execute(AssertSqlSafe(insert).into_sql_str()).await.unwrap();
        chassis::database::provision(&mut connection, schema).await.unwrap();
    }
}
