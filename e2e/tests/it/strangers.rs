//! What a newer release leaves behind and this one does not know: it stays as it is, and stands in nobody's way.

use std::time::Duration;

use e2e::{Spec, World, eventually_within};
use proto::{
    order::v1::{Order, OrderStatus},
    risk::v1::DecideReviewRequest,
    saga::v1::{ListJournalRequest, ListSagasRequest},
};
use sqlx::{Executor as _, PgConnection};
use types::SagaId;
use uuid::Uuid;

async fn under_review(world: &World) -> Order {
    let order = world.create(&Spec::of(900).wait(20)).await;
    assert_eq!(order.status(), OrderStatus::UnderReview, "{order:?}");
    order
}

async fn approve(world: &World, order: &Order) {
    let request = DecideReviewRequest {
        saga_id: order.saga_id.clone(),
        approve: true,
        reviewer: "ada".into(),
        reason: "called them".into(),
    };
    world.reviews().decide_review(request).await.unwrap();
}

fn uuid(order: &Order) -> Uuid {
    order.saga_id.parse::<SagaId>().unwrap().uuid()
}

/// Another process takes everything over from the journals.
async fn change_owner(world: &mut World) {
    world.orchestrators.remove(0).node.stop().await;
    world.add_orchestrator().await;
}

async fn one<T>(connection: &mut PgConnection, query: &'static str, saga: Uuid) -> T
where
    (T,): for<'r> sqlx::FromRow<'r, sqlx::postgres::PgRow> + Send + Unpin,
{
    let row: (T,) = sqlx::query_as(query).bind(saga).fetch_one(connection).await.unwrap();
    row.0
}

const VERSION: &str = "select version from orchestrator.saga where saga_id = $1";
const UNREAD: &str = "select count(*) from orchestrator.signal where saga_id = $1 and read_time is null";

/// A newer release has committed an event of its own, and told the saga something in a signal of its own.
async fn newer_was_here(connection: &mut PgConnection, saga: Uuid) {
    let event = r#"[{"at":1,"event":"Applauded","by":"everybody"}]"#;
    let journal = "insert into orchestrator.journal (saga_id, version, epoch, commit_id, events, create_time) \
                   select saga_id, version + 1, epoch, commit_id, $2, now() from orchestrator.saga where saga_id = $1";
    connection.execute(sqlx::query(journal).bind(saga).bind(event)).await.unwrap();
    let row = "update orchestrator.saga set version = version + 1 where saga_id = $1";
    connection.execute(sqlx::query(row).bind(saga)).await.unwrap();
    let signal = "insert into orchestrator.signal (signal_id, saga_id, kind, body, create_time) \
                  values ($1, $1, 'APPLAUD', convert_to('{\"signal\":\"Applaud\"}', 'UTF8'), now() - interval '1 hour')";
    connection.execute(sqlx::query(signal).bind(saga)).await.unwrap();
}

/// It comes back, and goes on from what it wrote; here by taking it away again.
async fn newer_is_back(connection: &mut PgConnection, saga: Uuid) {
    for statement in [
        "delete from orchestrator.journal where saga_id = $1 and events like '%Applauded%'",
        "update orchestrator.saga set version = version - 1 where saga_id = $1",
        "delete from orchestrator.signal where saga_id = $1 and kind = 'APPLAUD'",
    ] {
        connection.execute(sqlx::query(statement).bind(saga)).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_only_a_newer_release_can_read_is_left_for_it_and_everything_else_goes_on() {
    let mut world = World::local().await;
    world.restock("P1001", 1000).await;
    let (strange, known) = (under_review(&world).await, under_review(&world).await);
    let saga = uuid(&strange);
    let mut connection = world.ground.database.connect().await;
    newer_was_here(&mut connection, saga).await;
    change_owner(&mut world).await;
    let version: i64 = one(&mut connection, VERSION, saga).await;

    // A settlement comes for each: one owner reads them all, in one look.
    approve(&world, &strange).await;
    approve(&world, &known).await;
    world.completes(&known.order_id).await;
    let fresh = world.create(&Spec::of(1)).await;
    world.completes(&fresh.order_id).await;

    assert_eq!(one::<i64>(&mut connection, VERSION, saga).await, version, "nothing was written");
    let unread = eventually_within(Duration::from_secs(30), "both its signals are there", || async {
        let mut connection = world.ground.database.connect().await;
        (one::<i64>(&mut connection, UNREAD, saga).await == 2).then_some(2)
    });
    assert_eq!(unread.await, 2, "and neither counts as read");
    let shown = world.saga(&strange.saga_id).await;
    assert!(
        shown.reason.starts_with("UNREADABLE_JOURNAL") && shown.reason.contains("Applauded"),
        "{shown:?}"
    );
    let all = world.sagas().list_sagas(ListSagasRequest::default()).await.unwrap().into_inner();
    assert_eq!(all.sagas.len(), 3, "it keeps nobody from being listed");
    let request = ListJournalRequest { saga_id: strange.saga_id.clone(), ..Default::default() };
    let journal = world.sagas().list_journal(request).await.unwrap().into_inner();
    assert_eq!(i64::try_from(journal.entries.len()).unwrap(), version, "what is stored is shown as it is");

    newer_is_back(&mut connection, saga).await;
    change_owner(&mut world).await;
    world.completes(&strange.order_id).await;
    world.audit().await;
}
