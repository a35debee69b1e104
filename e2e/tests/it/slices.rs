//! Slices: one bad item harms nobody, and two processes of one service make one effect.

use e2e::{Kind, Spec, World, eventually};
use proto::{
    inventory::v1::{
        ReleaseItem, ReleaseRequest, ReserveItem, ReserveLine, ReserveReply, ReserveRequest,
        inventory_steps_client::InventoryStepsClient, reserve_reply,
    },
    order::v1::OrderStatus,
    step::StepHeader,
};
use sqlx::{Acquire as _, Executor as _};
use types::SagaId;

#[tokio::test(flavor = "multi_thread")]
async fn a_poison_item_in_a_slice_fails_alone_until_its_budget_ends() {
    let world = World::local().await;
    let mut owner = world.ground.database.connect().await;
    owner
        .execute(
            "create function inventory.poison() returns trigger language plpgsql as $$ begin \
               if 'P1003' = any (new.skus) then raise exception 'poison'; end if; return new; end $$; \
             create trigger poison before insert on inventory.reservation for each row execute function inventory.poison()",
        )
        .await
        .unwrap();
    let specs = (0..50).map(|i| if i == 25 { Spec::of(1).line("P1003", 1) } else { Spec::of(1) });
    let world = &world;
    let orders =
        futures_util::future::join_all(specs.map(|spec| async move { world.create(&spec).await })).await;
    for (i, order) in orders.iter().enumerate() {
        if i == 25 {
            // Its release would hit the trigger too: the tombstone has no lines, so it does not.
            let order = world.is_cancelled(&order.order_id).await;
            assert_eq!(order.status_reason, "STEP_FAILED");
            assert_eq!(order.status_metadata["step"], "reserve");
        } else {
            world.completes(&order.order_id).await;
            let saga = world.saga(&order.order_id).await;
            assert_eq!(saga.steps[1].attempts, 1);
            assert_eq!(saga.steps[1].breaker, "CLOSED");
        }
    }
    assert_eq!(world.stock("P1001").await.sold, 49);
    world.audit().await;
}

fn item(saga: SagaId) -> ReserveItem {
    ReserveItem {
        header: Some(header(saga)),
        order_id: saga.order().to_string(),
        lines: vec![ReserveLine { sku: "P1001".into(), quantity: 1 }],
        hold_until: Some(prost_types::Timestamp { seconds: 4_000_000_000, nanos: 0 }),
    }
}

fn header(saga: SagaId) -> StepHeader {
    StepHeader { saga_id: saga.to_string(), step: "reserve".into(), attempt: 1, ..StepHeader::default() }
}

async fn reserve(callee: chassis::grpc::Callee, sagas: Vec<SagaId>) -> Vec<ReserveReply> {
    let request = ReserveRequest { items: sagas.into_iter().map(item).collect() };
    let mut stream = InventoryStepsClient::new(callee).reserve(request).await.unwrap().into_inner();
    let mut replies = Vec::new();
    while let Some(reply) = stream.message().await.unwrap() {
        replies.push(reply);
    }
    replies.sort_by(|a, b| a.saga_id.cmp(&b.saga_id));
    replies
}

#[tokio::test(flavor = "multi_thread")]
async fn two_processes_with_the_same_item_reserve_it_once_and_answer_alike() {
    let world = World::amqp().await;
    let second = world.second(Kind::Inventory).await;
    let other = chassis::grpc::remote(&format!("http://{}", second.address)).unwrap();
    let ids = |n: usize| (0..n).map(|_| SagaId::from_uuid(chassis::clock::new_uuid())).collect::<Vec<_>>();
    let (shared, mine, theirs) = (ids(1), ids(49), ids(49));
    // Both have loaded and wait for the stock row: the pause between load and write.
    let mut owner = world.ground.database.connect().await;
    let mut pause = owner.begin().await.unwrap();
    pause.execute("select 1 from inventory.stock where sku = 'P1001' for update").await.unwrap();
    let first = tokio::spawn(reserve(world.callee(Kind::Inventory), [shared.clone(), mine].concat()));
    let then = tokio::spawn(reserve(other, [shared.clone(), theirs].concat()));
    tokio::time::sleep(std::time::Duration::from_millis(700)).await;
    pause.commit().await.unwrap();
    let (first, then) = (first.await.unwrap(), then.await.unwrap());
    let of = |replies: &[ReserveReply]| {
        replies.iter().find(|r| r.saga_id == shared[0].to_string()).cloned().unwrap().outcome.unwrap()
    };
    assert_eq!(of(&first), of(&then));
    assert_eq!((first.len(), then.len()), (50, 50));
    for reply in first.iter().chain(&then) {
        assert!(matches!(reply.outcome, Some(reserve_reply::Outcome::Done(_))), "{reply:?}");
    }
    assert_eq!(world.stock("P1001").await.reserved, 99);
    second.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_release_against_a_reserve_leaves_nothing_whichever_comes_first() {
    let world = World::local().await;
    for _ in 0..20 {
        let saga = SagaId::from_uuid(chassis::clock::new_uuid());
        let release = ReleaseItem {
            header: Some(header(saga)),
            order_id: saga.order().to_string(),
            reason: "x".into(),
        };
        let callee = world.callee(Kind::Inventory);
        let back = async {
            let request = ReleaseRequest { items: vec![release] };
            let mut stream = InventoryStepsClient::new(callee).release(request).await.unwrap().into_inner();
            stream.message().await.unwrap().unwrap()
        };
        tokio::join!(reserve(world.callee(Kind::Inventory), vec![saga]), back);
        let again = reserve(world.callee(Kind::Inventory), vec![saga]).await;
        assert!(matches!(again[0].outcome, Some(reserve_reply::Outcome::Fenced(_))), "{again:?}");
    }
    assert_eq!(world.stock("P1001").await.reserved, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_step_with_another_body_is_turned_away_and_changes_nothing() {
    let world = World::local().await;
    let order = world.create(&Spec::of(1).wait(20)).await;
    world.completes(&order.order_id).await;
    let saga: SagaId = order.saga_id.parse().unwrap();
    let mut other = item(saga);
    other.lines[0].quantity = 7;
    let request = ReserveRequest { items: vec![other] };
    let mut stream =
        InventoryStepsClient::new(world.callee(Kind::Inventory)).reserve(request).await.unwrap().into_inner();
    let reply = stream.message().await.unwrap().unwrap();
    let Some(reserve_reply::Outcome::TurnedAway(away)) = reply.outcome else { panic!("{reply:?}") };
    assert_eq!(away.code(), proto::step::turned_away::Code::Mismatch);
    eventually("it stays as it was", || async {
        (world.order(&order.order_id).await.status() == OrderStatus::Completed).then_some(())
    })
    .await;
}
