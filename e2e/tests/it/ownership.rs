//! Who may drive a saga, at the level of the rows: epochs, fences, take-over.

use std::{sync::Arc, time::Duration};

use chassis::{batcher::Command as _, testbed::TestDatabase};
use e2e::{Builder, BusKind, Spec, eventually};
use orchestrator::{
    catalog::{Kind as _, order::OrderSaga},
    journal::{self, Recorded, Transition},
    saga::Event,
    shard::{self, ShardRow},
    signal::{self, Discarded, Said, Signal, StoreSignals},
    store::start::{Start, StartOrders},
};
use sqlx::{Connection as _, Executor as _, PgConnection};
use types::OrderId;
use uuid::Uuid;

async fn start(database: &TestDatabase, shard: i16) -> OrderId {
    let kind = OrderSaga::version(1, 60_000, 60_000).unwrap();
    let definition = kind.definition();
    let order = OrderId::from_uuid(chassis::clock::new_uuid());
    let started = Event::Started {
        kind: definition.kind.into(),
        version: definition.version,
        hash: definition.hash(),
        steps: definition.steps.iter().map(|s| s.name.clone()).collect(),
        skipped: vec![],
        deadline: i64::MAX,
        input: "{}".into(),
    };
    let item = Start {
        order,
        shard,
        epoch: 0,
        kind: definition.kind,
        definition_version: 1,
        definition_hash: definition.hash(),
        started: Recorded { at: 1, trace: String::new(), event: started },
        customer: "c".into(),
        merchant: "m".into(),
        currency: "EUR".into(),
        total: 1,
        key: None,
        fingerprint: vec![],
    };
    let pool = database.pool(&orchestrator::SCHEMA).await;
    StartOrders { pool: chassis::database::Warm::new(&pool), hunch: chassis::quick::Hunch::default() }
        .run(&[item])
        .await
        .unwrap();
    order
}

fn transition(order: OrderId, shard: i16, epoch: i64) -> Transition {
    Transition {
        saga: order.saga(),
        shard,
        epoch,
        version: 1,
        commit_id: chassis::clock::new_uuid(),
        events: vec![Recorded {
            at: 2,
            trace: String::new(),
            event: Event::CancelRequested { reason: "x".into() },
        }],
        state: "RUNNING",
        reason: String::new(),
        ended: false,
        projection: None,
        messages: vec![],
        signals: vec![],
        is_fresh: true,
    }
}

fn free(shard: i16, epoch: i64) -> ShardRow {
    ShardRow { shard, owner: None, released: true, epoch }
}

async fn as_orchestrator(database: &TestDatabase) -> PgConnection {
    PgConnection::connect(&database.url(&orchestrator::SCHEMA)).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_take_over_passes_a_paused_owner_who_then_writes_nothing_for_the_lost_shard_and_all_for_the_kept() {
    let database = TestDatabase::create(&[orchestrator::SCHEMA]).await;
    let (lost, kept) = (start(&database, 0).await, start(&database, 1).await);
    let (mut a, mut a_second, mut b, mut b_second) = (
        as_orchestrator(&database).await,
        as_orchestrator(&database).await,
        as_orchestrator(&database).await,
        as_orchestrator(&database).await,
    );
    let (old, new) = (Uuid::now_v7(), Uuid::now_v7());
    for shard in [0, 1] {
        let epoch = shard::acquire(&mut a, &mut a_second, &free(shard, 0), old).await.unwrap();
        assert_eq!(epoch, Some(1));
    }
    // The owner's statement has taken both fences and hangs on a row that somebody else keeps.
    let mut owner = database.connect().await;
    let mut pause = owner.begin().await.unwrap();
    let hold = format!("select 1 from orchestrator.saga where saga_id = '{}' for update", kept.uuid());
    pause.execute(sqlx::raw_sql(sqlx::AssertSqlSafe(hold))).await.unwrap();
    let batch = vec![transition(lost, 0, 1), transition(kept, 1, 1)];
    let sent = batch.clone();
    let paused = tokio::spawn(async move { journal::commit(&mut a, &sent).await });
    let mut onlooker = database.connect().await;
    let hangs = "select from pg_locks l join pg_stat_activity a using (pid) \
                 where a.datname = current_database() and not l.granted";
    while onlooker.fetch_optional(hangs).await.unwrap().is_none() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }

    let began = std::time::Instant::now();
    let row = ShardRow { shard: 0, owner: Some(old), released: false, epoch: 1 };
    let taken = shard::acquire(&mut b, &mut b_second, &row, new).await.unwrap();
    assert_eq!(taken, Some(2));
    assert!(began.elapsed() < Duration::from_secs(5), "in time: {:?}", began.elapsed());
    assert!(paused.await.unwrap().is_err(), "the paused session was terminated");
    pause.rollback().await.unwrap();

    // It wakes up and does what its writer does: the same batch again.
    let mut again = as_orchestrator(&database).await;
    let won = journal::commit(&mut again, &batch).await.unwrap();
    assert_eq!(won, [kept.saga()]);
    let stored = journal::load(&mut again, &[lost.saga(), kept.saga()]).await.unwrap();
    for saga in stored {
        assert_eq!(saga.version, if saga.saga == lost.saga() { 1 } else { 2 });
        assert_eq!(saga.events.len(), usize::try_from(saga.version).unwrap());
    }
    // The new owner writes the lost one under its own epoch.
    let won = journal::commit(&mut b, &[transition(lost, 0, 2)]).await.unwrap();
    assert_eq!(won, [lost.saga()]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_that_moved_drops_its_own_saga_only() {
    let database = TestDatabase::create(&[orchestrator::SCHEMA]).await;
    let (moved, fresh) = (start(&database, 3).await, start(&database, 3).await);
    let (mut a, mut second) = (as_orchestrator(&database).await, as_orchestrator(&database).await);
    shard::acquire(&mut a, &mut second, &free(3, 0), Uuid::now_v7()).await.unwrap();
    journal::commit(&mut a, &[transition(moved, 3, 1)]).await.unwrap();
    let won = journal::commit(&mut a, &[transition(moved, 3, 1), transition(fresh, 3, 1)]).await.unwrap();
    assert_eq!(won, [fresh.saga()]);
}

/// Found by the simulator: a saga that came to a shard after its owner had lost it is live in its new owner's memory, who takes
/// back only what he has called. The old one must not learn of it.
#[tokio::test(flavor = "multi_thread")]
async fn whoever_lost_a_shard_loads_nothing_of_it_to_drive() {
    let database = TestDatabase::create(&[orchestrator::SCHEMA]).await;
    let saga = start(&database, 3).await.saga();
    let (mut a, mut second) = (as_orchestrator(&database).await, as_orchestrator(&database).await);
    let (old, new) = (Uuid::now_v7(), Uuid::now_v7());
    assert_eq!(shard::acquire(&mut a, &mut second, &free(3, 0), old).await.unwrap(), Some(1));
    let owned = journal::load_owned(&mut a, &[saga], &[(3, 1), (4, 1)]).await.unwrap();
    assert_eq!(owned.iter().map(|stored| stored.saga).collect::<Vec<_>>(), [saga]);
    let row = ShardRow { shard: 3, owner: Some(old), released: false, epoch: 1 };
    assert_eq!(shard::acquire(&mut a, &mut second, &row, new).await.unwrap(), Some(2));
    assert!(journal::load_owned(&mut a, &[saga], &[(3, 1)]).await.unwrap().is_empty(), "at the old epoch");
    assert!(journal::load_owned(&mut a, &[saga], &[(4, 2)]).await.unwrap().is_empty(), "of another shard");
    assert_eq!(journal::load_owned(&mut a, &[saga], &[(3, 2)]).await.unwrap().len(), 1);
    assert_eq!(journal::load(&mut a, &[saga]).await.unwrap().len(), 1, "people read it whoever drives it");
}

#[tokio::test(flavor = "multi_thread")]
async fn only_one_of_two_takes_a_shard() {
    let database = TestDatabase::create(&[orchestrator::SCHEMA]).await;
    let mut tries = Vec::new();
    for _ in 0..4 {
        let (mut first, mut second) = (as_orchestrator(&database).await, as_orchestrator(&database).await);
        tries.push(tokio::spawn(async move {
            shard::acquire(&mut first, &mut second, &free(7, 0), Uuid::now_v7()).await.unwrap()
        }));
    }
    let mut won = 0;
    for one in tries {
        won += usize::from(one.await.unwrap().is_some());
    }
    assert_eq!(won, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_free_is_taken_at_once_and_what_somebody_keeps_locked_waits_alone() {
    let database = TestDatabase::create(&[orchestrator::SCHEMA]).await;
    let (mut a, mut second) = (as_orchestrator(&database).await, as_orchestrator(&database).await);
    let (other, me) = (Uuid::now_v7(), Uuid::now_v7());
    let rows: Vec<_> = (0..16).map(|shard| free(shard, 0)).collect();
    assert_eq!(shard::acquire(&mut a, &mut second, &rows[5], other).await.unwrap(), Some(1));
    // A commit under way keeps one, and somebody who hands over another.
    let (mut commit, mut handing) = (as_orchestrator(&database).await, as_orchestrator(&database).await);
    let (mut commit, mut handing) = (commit.begin().await.unwrap(), handing.begin().await.unwrap());
    for (keeper, hold) in [
        (&mut commit, "select 1 from orchestrator.fence where shard_id = 3 for share"),
        (&mut handing, "select 1 from orchestrator.shard where shard_id = 9 for update"),
    ] {
        keeper.execute(sqlx::raw_sql(hold)).await.unwrap();
    }
    let taken = shard::acquire_free(&mut a, &rows, me).await.unwrap();
    let expected: Vec<(i16, i64)> =
        (0..16).filter(|shard| ![3, 5, 9].contains(shard)).map(|shard| (shard, 1)).collect();
    assert_eq!(taken, expected);
    assert_eq!(shard::acquire_free(&mut a, &rows, other).await.unwrap(), [], "nobody takes them again");
    handing.rollback().await.unwrap();
    assert_eq!(shard::acquire_free(&mut a, &rows, me).await.unwrap(), [(9, 1)]);
    // Whoever hangs is thrown out.
    assert_eq!(shard::acquire(&mut a, &mut second, &rows[3], me).await.unwrap(), Some(1));
    assert!(commit.rollback().await.is_err(), "the session that hung was terminated");
    let owned: Vec<(i16, Option<Uuid>, bool, i64)> = sqlx::query_as(
        "select h.shard_id, h.owner_id, h.released, f.epoch from orchestrator.shard h \
         join orchestrator.fence f using (shard_id) order by h.shard_id",
    )
    .fetch_all(&mut a)
    .await
    .unwrap();
    let expected: Vec<_> =
        (0..16).map(|shard| (shard, Some(if shard == 5 { other } else { me }), false, 1)).collect();
    assert_eq!(owned, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_acquired_is_whatever_became_of_the_terminating() {
    let database = TestDatabase::create(&[orchestrator::SCHEMA]).await;
    let (mut a, mut second) = (as_orchestrator(&database).await, as_orchestrator(&database).await);
    // The one that terminates is in the way itself: it ends in the middle of that.
    let hold = "begin; select 1 from orchestrator.fence where shard_id = 3 for share";
    second.execute(sqlx::raw_sql(hold)).await.unwrap();
    let taken = shard::acquire(&mut a, &mut second, &free(3, 0), Uuid::now_v7()).await.unwrap();
    assert_eq!(taken, Some(1));
    assert!(second.ping().await.is_err(), "the run is void: the terminating went well");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_look_is_of_one_moment() {
    let database = TestDatabase::create(&[orchestrator::SCHEMA]).await;
    let mut observer = as_orchestrator(&database).await;
    let (me, newcomer) = (Uuid::now_v7(), Uuid::now_v7());
    // While somebody looks, a newcomer joins and takes a shard.
    let mut joining = database.connect().await;
    let mut joining = joining.begin().await.unwrap();
    let join = format!(
        "lock table orchestrator.shard in access exclusive mode; \
         insert into orchestrator.instance values ('{newcomer}', 1, '', ''); \
         update orchestrator.shard set owner_id = '{newcomer}', released = false where shard_id = 3"
    );
    joining.execute(sqlx::raw_sql(sqlx::AssertSqlSafe(join))).await.unwrap();
    let looking = tokio::spawn(async move { shard::renew(&mut observer, me, &[], "").await.unwrap() });
    let mut onlooker = database.connect().await;
    while sqlx::query("select from pg_locks where relation = 'orchestrator.shard'::regclass and not granted")
        .fetch_optional(&mut onlooker)
        .await
        .unwrap()
        .is_none()
    {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    joining.commit().await.unwrap();
    let look = looking.await.unwrap();
    assert_eq!(look.shards.iter().map(|row| row.shard).collect::<Vec<_>>(), (0..16).collect::<Vec<_>>());
    assert_eq!(look.shards[2], free(2, 0));
    assert_eq!(look.instances[&me].0, 1);
    for owner in look.shards.iter().filter_map(|row| row.owner) {
        assert!(look.instances.contains_key(&owner), "an owner who is not on the list: {look:?}");
    }
}

/// How often an instance renewed its lease, and its shards.
async fn kept(database: &TestDatabase, instance: Uuid) -> (i64, Vec<i16>) {
    let look = "select i.counter, array_remove(array_agg(h.shard_id order by h.shard_id), null) from orchestrator.instance i \
        left join orchestrator.shard h on h.owner_id = i.instance_id where i.instance_id = $1 group by i.counter";
    sqlx::query_as(look).bind(instance).fetch_one(&mut database.connect().await).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shard_that_cannot_be_had_costs_no_other_and_one_that_somebody_hangs_on_is_had() {
    const HOLD: &str = "select 1 from orchestrator.fence where shard_id = ";
    let mut world = Builder::new(BusKind::Local).start().await;
    world.orchestrators.remove(0).node.stop().await;
    let database = &world.ground.database;
    let (mut hung, mut mighty) = (as_orchestrator(database).await, database.connect().await);
    let (mut hung, mut mighty) = (hung.begin().await.unwrap(), mighty.begin().await.unwrap());
    // Whom the orchestrator's role may terminate, and whom it may not.
    for (keeper, shard) in [(&mut hung, 2), (&mut mighty, 3)] {
        let hold = sqlx::AssertSqlSafe(format!("{HOLD}{shard} for share"));
        keeper.execute(sqlx::raw_sql(hold)).await.unwrap();
    }
    world.add_orchestrator().await;
    let (one, database) = (&world.orchestrators[0], &world.ground.database);
    eventually("it says that it drives", || std::future::ready(one.service.is_driven().then_some(()))).await;
    eventually("it has tried for both", || async {
        assert!(one.service.is_driven(), "not though it drives the others");
        let (renewed, _) = kept(database, one.instance).await;
        (renewed >= 3).then_some(())
    })
    .await;
    let (_, shards) = kept(database, one.instance).await;
    assert_eq!(shards, (0..16).filter(|shard| *shard != 3).collect::<Vec<_>>());
    assert!(hung.rollback().await.is_err(), "the session that hung was terminated");
    mighty.rollback().await.unwrap();
    eventually("it has all", || async {
        let (_, shards) = kept(database, one.instance).await;
        (shards.len() == 16).then_some(())
    })
    .await;
    world.audit().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_four_that_reach_for_all_shards_at_once_each_shard_has_one() {
    let database = TestDatabase::create(&[orchestrator::SCHEMA]).await;
    let rows: Vec<_> = (0..16).map(|shard| free(shard, 0)).collect();
    let mut tries = Vec::new();
    for _ in 0..4 {
        let mut connection = as_orchestrator(&database).await;
        let rows = rows.clone();
        tries.push(tokio::spawn(async move {
            shard::acquire_free(&mut connection, &rows, Uuid::now_v7()).await.unwrap()
        }));
    }
    let mut taken = Vec::new();
    for one in tries {
        taken.extend(one.await.unwrap());
    }
    taken.sort_unstable();
    let expected: Vec<(i16, i64)> = (0..16).map(|shard| (shard, 1)).collect();
    assert_eq!(taken, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_door_works_at_every_orchestrator_and_leaving_moves_the_sagas() {
    use proto::order::v1::{CancelOrderRequest, GetOrderRequest, OrderStatus, orders_client::OrdersClient};
    let mut world = Builder::new(BusKind::Local).orchestrators(2).start().await;
    // Under review they wait, owned by one of the two; the other can cancel them.
    let mut waiting = Vec::new();
    for i in 0..4 {
        let mut client = OrdersClient::new(world.orchestrator(i % 2));
        let order = client.create_order(Spec::of(900).wait(20).request()).await.unwrap().into_inner();
        // Only one fits the stock.
        if i == 0 {
            assert_eq!(order.status(), OrderStatus::UnderReview);
        }
        waiting.push(order.order_id);
    }
    for order_id in &waiting {
        for i in 0..2 {
            let mut client = OrdersClient::new(world.orchestrator(i));
            client.get_order(GetOrderRequest { order_id: order_id.clone() }).await.unwrap();
        }
    }
    let mut other = OrdersClient::new(world.orchestrator(1));
    let cancel = CancelOrderRequest { order_id: waiting[0].clone(), reason: String::new() };
    other.cancel_order(cancel).await.unwrap();
    let left = world.orchestrators.remove(0);
    left.node.stop().await;
    for order_id in &waiting {
        world.is_cancelled(order_id).await;
    }
    let order = world.create(&Spec::of(1).wait(20)).await;
    world.completes(&order.order_id).await;
    world.audit().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stale_owner_marks_no_signal_read() {
    let database = TestDatabase::create(&[orchestrator::SCHEMA]).await;
    let order = start(&database, 3).await;
    let said = Said::Retry { actor: "o_1".into(), reason: "x".into() };
    let signal = Signal { id: chassis::clock::new_uuid(), saga: order.saga(), said };
    let pool = database.pool(&orchestrator::SCHEMA).await;
    StoreSignals { pool, bell: Arc::default() }.run(std::slice::from_ref(&signal)).await.unwrap();
    let (mut first, mut second) = (as_orchestrator(&database).await, as_orchestrator(&database).await);
    let (old, me) = (0, chassis::clock::new_uuid());
    let epoch = shard::acquire(&mut first, &mut second, &free(3, old), me).await.unwrap().unwrap();

    // By what the old owner knows it says nothing new; the new one waits for it.
    for (epoch, unread) in [(old, 1), (epoch, 0)] {
        let discarded = Discarded { signals: vec![signal.id], shard: 3, epoch };
        signal::mark_read(&mut first, discarded).await.unwrap();
        assert_eq!(signal::unread(&mut first, &[3], vec![]).await.unwrap().0.len(), unread, "epoch {epoch}");
    }
}
