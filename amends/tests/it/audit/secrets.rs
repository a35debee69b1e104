//! I11: whatever must stand nowhere is found wherever it stands, and is not repeated.

use amends::audit::{Invariant::*, Options};

use super::{
    found,
    world::{World, broken},
};

const CARD: &str = "4111 1111 1111 1111";

#[tokio::test]
async fn what_must_stand_nowhere_is_found_in_any_column_of_any_table() {
    found(
        I11,
        &[
            // As the release before kept it.
            &|w| {
                format!(
                    "update orchestrator.journal set events = replace(events, 'c_1', 'tok_approve') where saga_id = '{}'",
                    w.parked
                )
            },
            &|_| {
                "alter table payments.attempt drop constraint attempt_token_while_open; \
                 update payments.attempt set token = 'tok_approve' where state <> 'BLOCKED'"
                    .into()
            },
            &|w| format!("update orchestrator.\"order\" set status_metadata = '{{\"cvv\":\"123\"}}' where order_id = '{}'", w.refused),
            &|w| format!("update orchestrator.idempotency_key set request_key = '{CARD}' where order_id = '{}'", w.refused),
            // Bytes of a message.
            &|_| {
                "insert into ledger.outbox values (gen_random_uuid(), 'replies', 'orchestrator', 'k', \
                 '\\x0a0b746f6b5f617070726f766512', '{}', now())"
                    .into()
            },
            &|_| {
                "insert into payments.outbox (outbox_id, exchange, routing_key, kind, body, headers, create_time, dead_time, \
                   dead_reason) values (gen_random_uuid(), 'events', 'r', 'k', '', '{}', now(), now(), \
                   'cannot reach postgres://amends:geheim@db/x')"
                    .into()
            },
            // A letter, and one of the lists of a reservation.
            &|_| {
                format!(
                    "insert into notifications.delivery (delivery_id, order_id, version, template, recipient, subject, body, \
                       state, create_time, send_time) values (gen_random_uuid(), gen_random_uuid(), 1, 'order.completed', \
                       'c', 's', 'You paid with {CARD}.', 'SENT', now(), now())"
                )
            },
            &|w| format!("update inventory.reservation set skus = array['tok_approve'] where saga_id = '{}'", w.refused),
            // A table that nobody knew of.
            &|_| "create table risk.notes (note json); insert into risk.notes values ('{\"n\":\"tok_approve\"}')".into(),
        ],
    )
    .await;
}

#[tokio::test]
async fn it_is_said_where_and_never_what() {
    let mut world = World::new().await;
    let (parked, refused) = (world.parked, world.refused);
    world
        .run(&format!(
            "update orchestrator.\"order\" set status_reason = 'tok_geheim4711' where order_id = '{parked}'"
        ))
        .await;
    world
        .run(&format!(
            "update orchestrator.idempotency_key set request_key = '{CARD}' where order_id = '{refused}'"
        ))
        .await;
    let report = world.audit().await;
    assert_eq!(broken(&report, I11), 2, "{:#?}", report.violations());
    let text = report.violations().join("\n");
    assert!(
        text.contains(&format!("orchestrator.order, {parked}, status_reason: a payment token")),
        "{text}"
    );
    // Its key is what holds it.
    assert!(text.contains("orchestrator.idempotency_key, the row at (0,"), "{text}");
    assert!(text.contains("request_key: a card number"), "{text}");
    assert!(!text.contains("geheim") && !text.contains("1111 1111"), "{text}");
    assert!(report.judged(I11).unwrap().checked > 40);
}

#[tokio::test]
async fn canaries_are_found_in_databases_and_logs_and_what_is_encrypted_is_none() {
    let mut world = World::new().await;
    let (parked, keys) = (world.parked, chassis::testbed::keyring());
    let token = keys.encrypt(parked.as_bytes(), "tok_canary_4711");
    world
        .run(&format!(
            "update orchestrator.journal set events = replace(events, 'c_1', '{token}') where saga_id = '{parked}'"
        ))
        .await;
    let logs = tempfile::tempdir().unwrap();
    std::fs::create_dir(logs.path().join("deeper")).unwrap();
    let file = logs.path().join("deeper/payment.log");
    std::fs::write(&file, "all is well\nstill\n").unwrap();
    let options = Options {
        quiescent: true,
        canaries: vec!["canary_4711".into()],
        logs: vec![logs.path().to_owned()],
        ..Options::default()
    };
    let report = world.audit_as(&options).await;
    assert!(report.is_clean(), "{:#?}", report.violations());

    std::fs::write(&file, "all is well\ncharging canary_4711 now\n").unwrap();
    world
        .run(&format!("update orchestrator.saga set reason = 'canary_4711' where saga_id = '{parked}'"))
        .await;
    let report = world.audit_as(&options).await;
    let text = report.violations().join("\n");
    assert_eq!(broken(&report, I11), 2, "{text}");
    assert!(text.contains("payment.log:2: a canary") && text.contains("orchestrator.saga"), "{text}");
    assert!(!text.contains("4711"), "{text}");
    let nowhere = Options { logs: vec!["/nowhere/at/all".into()], ..options };
    let error = amends::audit::run(&world.sources(), &nowhere).await.unwrap_err();
    assert!(error.to_string().contains("/nowhere/at/all"), "{error}");
}
