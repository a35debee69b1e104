//! What is not judged yet: a saga has its time, and an end has its half minute.

use amends::audit::{Invariant::*, Options};

use super::world::{World, broken};

#[tokio::test]
async fn a_saga_is_given_its_time_and_no_more() {
    let mut world = World::new().await;
    let parked = world.parked;
    let running = format!(
        "update orchestrator.saga set state = 'RUNNING', reason = '' where saga_id = '{parked}'; \
         update orchestrator.\"order\" set status = 'CREATED' where order_id = '{parked}'"
    );
    world.run(&running).await;
    // Its deadline was in 1970.
    assert_eq!(broken(&world.audit_as(&Options::default()).await, I5), 1);
    let soon = chassis::clock::now().timestamp_millis();
    let late = format!(
        "update orchestrator.journal set events = replace(events, '1800000', '{soon}') where saga_id = '{parked}'"
    );
    world.run(&late).await;
    let report = world.audit_as(&Options::default()).await;
    assert!(report.is_clean(), "{:#?}", report.violations());
}

#[tokio::test]
async fn what_has_just_ended_is_not_judged_yet() {
    let mut world = World::new().await;
    let refused = world.refused;
    world.run(&format!("update orchestrator.saga set update_time = now() where saga_id = '{refused}'")).await;
    world
        .run(&format!(
            "update orders.document set back_outcome = null, back_reply = null where saga_id = '{refused}'"
        ))
        .await;
    assert!(world.audit_as(&Options::default()).await.is_clean());
    assert!(!world.audit().await.is_clean());
}
