//! What is not judged yet: a saga has its time, and an end has its half minute.

use amends::audit::{Invariant::*, Options};
use types::PaymentId;

use super::world::{World, broken, payment};

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

#[tokio::test]
async fn what_is_under_way_at_the_provider_is_not_judged_yet() {
    let mut world = World::new().await;
    let order = world.parked;
    let (id, key) = (payment(order), PaymentId::from_uuid(payment(order)));
    world
        .run(&format!(
            "insert into payments.attempt (saga_id, step, payment_id, state, forward_outcome, forward_hash, order_id, \
               customer_id, merchant_id, amount_minor, currency, provider, sends, next_look_time, create_time, update_time) \
             values ('{order}', 'charge', '{id}', 'STARTED', 'STARTED', '\\x01', '{order}', 'c_1', 'm_1', 1200, 'EUR', \
               'simulator', 1, now(), now(), now())"
        ))
        .await;
    // The provider has not heard of it; heard of it; charged it, which payment-svc does not know yet.
    let received = format!(
        "insert into simulator.charge values ('{key}:charge:1', 'ch_p', 1200, 'EUR', 'slow', '\\x01', 'RECEIVED', null, 1, \
           null, now())"
    );
    let charged =
        "update simulator.charge set state = 'PENDING', effect_time = now() where reference = 'ch_p'";
    // Wanted back and not given back yet; given back, which payment-svc does not know yet.
    let wanted_back = format!(
        "update payments.attempt set state = 'REFUNDING', back_outcome = 'STARTED' where saga_id = '{order}'"
    );
    let refunded = format!(
        "insert into simulator.refund values ('{key}:refund:1', 're_p', 'ch_p', 1200, 'EUR', '\\x01', 'REFUNDED', 1, now(), \
           now())"
    );
    for step in ["select 1", &received, charged, &wanted_back, &refunded] {
        world.run(step).await;
        let report = world.audit().await;
        assert!(report.is_clean(), "{step}\n{:#?}", report.violations());
    }
    // A record that says it is over, and is not.
    world.run(&format!("update payments.attempt set state = 'SUCCEEDED' where saga_id = '{order}'")).await;
    assert_eq!(broken(&world.audit().await, I2), 1);
}
