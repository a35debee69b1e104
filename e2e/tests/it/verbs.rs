//! What an operator does about a saga that is parked.

use e2e::{Kind, Spec, World, eventually};
use proto::{
    order::v1::OrderStatus,
    saga::v1::{ForceCompensateRequest, ListJournalRequest, ResolveRequest, RetryRequest, SagaState},
};
use sqlx::Executor as _;
use tonic::Code;

#[tokio::test(flavor = "multi_thread")]
async fn verbs_need_a_person_a_reason_and_the_right_state() {
    let world = World::local().await;
    let order = world.create(&Spec::of(1).wait(20)).await;
    world.completes(&order.order_id).await;
    let retry = |actor: &str, reason: &str| RetryRequest {
        saga_id: order.saga_id.clone(),
        actor: actor.into(),
        reason: reason.into(),
    };
    let code = |status: tonic::Status| status.code();
    assert_eq!(world.sagas().retry(retry("", "x")).await.map_err(code).unwrap_err(), Code::InvalidArgument);
    assert_eq!(
        world.sagas().retry(retry("ada", " ")).await.map_err(code).unwrap_err(),
        Code::InvalidArgument
    );
    assert_eq!(
        world.sagas().retry(retry("ada", "x")).await.map_err(code).unwrap_err(),
        Code::FailedPrecondition
    );
    let force =
        ForceCompensateRequest { saga_id: order.saga_id.clone(), actor: "ada".into(), reason: "x".into() };
    assert_eq!(
        world.sagas().force_compensate(force).await.map_err(code).unwrap_err(),
        Code::FailedPrecondition
    );
    let resolve = ResolveRequest {
        saga_id: order.saga_id.clone(),
        actor: "ada".into(),
        reason: "x".into(),
        step: "nonsense".into(),
        outcome: "DONE".into(),
        evidence: "e".into(),
        ..Default::default()
    };
    assert_eq!(world.sagas().resolve(resolve).await.map_err(code).unwrap_err(), Code::InvalidArgument);
    world.audit().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_compensation_that_is_dead_parks_and_a_retry_ends_it() {
    let world = World::local().await;
    let mut owner = world.ground.database.connect().await;
    // Every release fails by itself until somebody repairs the participant.
    owner
        .execute(
            "create function inventory.poison() returns trigger language plpgsql as $$ begin \
               if new.back_outcome is not null then raise exception 'poison'; end if; return new; end $$; \
             create trigger poison before update on inventory.reservation for each row execute function inventory.poison()",
        )
        .await
        .unwrap();
    let order = world.create(&Spec::of(2).token("tok_decline")).await;
    let saga_id = order.saga_id.clone();
    // The ladder takes minutes: its end is brought about by letting the command die in the outbox.
    eventually("the command failed once", || async {
        let (failed,): (i64,) = sqlx::query_as(
            "select count(*) from orchestrator.outbox where exchange = 'commands' and routing_key = 'inventory' and attempt > 0",
        )
        .fetch_one(&mut world.ground.database.connect().await)
        .await
        .unwrap();
        (failed > 0).then_some(())
    })
    .await;
    eventually("the saga is parked", || async {
        // Again: who has it in hand just now writes down what it knew.
        let dying = "update orchestrator.outbox set attempt = 5, not_before = now() where exchange = 'commands' \
                     and dead_time is null and attempt between 1 and 4";
        world.ground.database.connect().await.execute(dying).await.unwrap();
        (world.saga(&saga_id).await.state() == SagaState::Parked).then_some(())
    })
    .await;
    let saga = world.saga(&saga_id).await;
    let reserve = saga.steps.iter().find(|s| s.name == "reserve").unwrap();
    assert_eq!(reserve.compensation_state, "PARKED");
    // Cancel declares the end and waits for it.
    assert_ne!(world.order(&order.order_id).await.status(), OrderStatus::Cancelled);
    owner.execute("drop trigger poison on inventory.reservation").await.unwrap();
    let retry = RetryRequest { saga_id: saga_id.clone(), actor: "ada".into(), reason: "repaired".into() };
    world.sagas().retry(retry).await.unwrap();
    world.is_cancelled(&order.order_id).await;
    assert_eq!(world.stock("P1001").await.available, 1000);
    let journal =
        world.sagas().list_journal(ListJournalRequest { saga_id, ..Default::default() }).await.unwrap();
    let text: String = journal.into_inner().entries.into_iter().flat_map(|e| e.events).collect();
    assert!(text.contains("Retried") && text.contains("ada") && text.contains("CommandDead"), "{text}");
    assert!(!text.contains("tok_"), "payment tokens are not shown");
    owner.execute("delete from orchestrator.outbox where dead_time is not null").await.unwrap();
    world.audit().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_saga_before_its_pivot_can_be_turned_round_by_force() {
    let mut world = World::local().await;
    world.take_down(Kind::Ledger).await;
    let order = world.create(&Spec::of(1)).await;
    eventually("it was charged", || async {
        (world.saga(&order.saga_id).await.steps[3].state == "DONE").then_some(())
    })
    .await;
    let force = ForceCompensateRequest {
        saga_id: order.saga_id.clone(),
        actor: "ada".into(),
        reason: "asked".into(),
    };
    world.sagas().force_compensate(force).await.unwrap();
    world.bring_back(Kind::Ledger).await;
    let order = world.is_cancelled(&order.order_id).await;
    assert_eq!(order.status_reason, "FORCED");
    assert_eq!(world.book(&order).await, (1200, 1200));
    world.audit().await;
}
