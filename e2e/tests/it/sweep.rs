//! What was stored and not sent is sent by the sweep, whatever the clock of its writer said.

use e2e::{World, eventually};
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};
use uuid::Uuid;

/// Writes a message that nobody hands to the relay.
async fn leave(owner: &mut PgConnection, schema: &str, create_time: &str, not_before: &str) -> Uuid {
    let id = chassis::clock::new_uuid();
    let insert = format!(
        "insert into {schema}.outbox (outbox_id, exchange, routing_key, kind, body, headers, create_time, not_before) \
         values ('{id}', 'events', 'left.behind', 'left', '', '{{}}', {create_time}, {not_before})"
    );
    sqlx::query(AssertSqlSafe(insert)).execute(owner).await.unwrap();
    id
}

async fn is_there(owner: &mut PgConnection, schema: &str, id: Uuid) -> bool {
    let count = format!("select count(*) from {schema}.outbox where outbox_id = '{id}'");
    sqlx::query_scalar::<_, i64>(AssertSqlSafe(count)).fetch_one(owner).await.unwrap() > 0
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_is_sent_though_the_clock_of_its_writer_was_wrong() {
    let world = World::local().await;
    let mut owner = world.ground.database.connect().await;
    for schema in ["orchestrator", "orders", "inventory", "risk", "payments", "ledger"] {
        let mut left = Vec::new();
        for create_time in ["now()", "now() + interval '1 hour'", "now() - interval '1 hour'"] {
            // Never claimed; and claimed by somebody who put it off or died.
            for not_before in ["null", "now() + interval '1 second'"] {
                left.push(leave(&mut owner, schema, create_time, not_before).await);
            }
        }
        let held =
            leave(&mut owner, schema, "now() - interval '1 hour'", "now() + interval '1 minute'").await;
        for id in left {
            eventually(&format!("{schema}: it is sent"), || async {
                let mut owner = world.ground.database.connect().await;
                let there = is_there(&mut owner, schema, id).await;
                owner.close().await.unwrap();
                (!there).then_some(())
            })
            .await;
        }
        assert!(is_there(&mut owner, schema, held).await, "{schema}: that one is in somebody's hand");
    }
}
