//! The auditor on worlds made by hand: nothing is found in a whole one, and each kind of damage is found by the
//! invariant that it breaks.

mod acknowledged;
mod chain;
mod early;
mod grace;
mod secrets;
mod since;
mod verdict;
pub(crate) mod world;

use amends::audit::{self, Error, Invariant, Invariant::*, Options, Room, Sources};
use types::PaymentId;
use uuid::Uuid;

use self::world::{World, broken, payment};

#[tokio::test]
async fn every_statement_fits_the_schemas() {
    let world = World::new().await;
    let mut connection = world.database.connect().await;
    for statement in audit::statements() {
        assert_eq!(chassis::sql::check(&mut connection, statement).await, Ok(()));
    }
}

#[tokio::test]
async fn a_whole_world_is_clean() {
    let world = World::new().await;
    for quiescent in [true, false] {
        let report = world.audit_as(&Options { quiescent, ..Options::default() }).await;
        assert!(report.is_clean() && report.clean, "{:#?}", report.violations());
        let checked: Vec<u64> = report.invariants.iter().map(|judged| judged.checked).collect();
        assert!(checked.iter().enumerate().all(|(at, count)| *count > 0 || at == I7 as usize), "{checked:?}");
        let parked = &report.judged(I5).unwrap().information.first;
        assert_eq!(parked.len(), 1);
        assert!(parked[0].contains("parked: MISMATCH"), "{parked:?}");
    }
}

#[tokio::test]
async fn each_service_may_have_a_database_and_a_role_of_its_own() {
    let world = World::new().await;
    let sources = Sources::of(|room| {
        let schema = match room {
            Room::Orders => order_svc::SCHEMA,
            Room::Inventory => inventory_svc::SCHEMA,
            Room::Risk => risk_svc::SCHEMA,
            Room::Payments => payment_svc::SCHEMA,
            Room::Simulator => payment_svc::SIMULATOR_SCHEMA,
            Room::Ledger => ledger_svc::SCHEMA,
            Room::Orchestrator => orchestrator::SCHEMA,
        };
        world.database.url(&schema)
    });
    let report = audit::run(&sources, &Options { quiescent: true, ..Options::default() }).await.unwrap();
    assert!(report.is_clean(), "{:#?}", report.violations());
}

#[tokio::test]
async fn a_database_that_cannot_be_read_is_no_clean_one() {
    let mut world = World::new().await;
    world.run("drop schema ledger cascade").await;
    let error = audit::run(&world.sources(), &Options::default()).await.unwrap_err();
    assert!(matches!(error, Error::Unreadable { schema: "ledger", .. }), "{error}");
    let nowhere = Sources::one("postgres://nobody@127.0.0.1:1/nothing");
    assert!(matches!(audit::run(&nowhere, &Options::default()).await, Err(Error::Unreadable { .. })));
}

/// Each damage, done to a world of its own, is found by its invariant.
async fn found(invariant: Invariant, damages: &[&dyn Fn(&World) -> String]) {
    for damage in damages {
        let mut world = World::new().await;
        let sql = damage(&world);
        world.run(&sql).await;
        let report = world.audit().await;
        assert!(
            broken(&report, invariant) > 0,
            "not found by {invariant:?}:\n{sql}\n{:#?}",
            report.violations()
        );
    }
}

#[tokio::test]
async fn books_that_do_not_balance_are_found() {
    let sale =
        "select transaction_id from ledger.transaction where kind = 'POST' and outcome = 'DONE' limit 1";
    found(
        I1,
        &[
            // Half a pair.
            &|_| format!("delete from ledger.entry where transaction_id = ({sale}) and amount_minor > 0"),
            &|_| format!("update ledger.entry set amount_minor = 1300 where amount_minor = 1200 and transaction_id = ({sale})"),
            // A transaction in two currencies balances in neither.
            &|_| {
                format!(
                    "update ledger.entry set currency = 'USD', account_id = 'provider_clearing:USD' \
                     where amount_minor = 1200 and transaction_id = ({sale})"
                )
            },
            // The counters of an account.
            &|_| "update ledger.account set debits_minor = debits_minor + 1 where account_id = 'suspense:EUR'".into(),
            &|_| "delete from ledger.account where account_id = 'suspense:EUR'".into(),
            &|_| format!("delete from ledger.transaction where transaction_id = ({sale})"),
        ],
    )
    .await;
}

#[tokio::test]
async fn money_that_is_not_where_the_end_says_is_found() {
    let key = |order: Uuid| PaymentId::from_uuid(payment(order));
    found(
        I2,
        &[
            // The refund is missing; the charge is missing; a refund nobody wanted; too little was charged.
            &|w| format!("delete from simulator.refund where idempotency_key like '{}%'", key(w.refunded)),
            &|w| format!("delete from simulator.charge where idempotency_key like '{}%'", key(w.completed)),
            &|w| {
                format!(
                    "insert into simulator.refund select '{}:refund:1', 're_x', reference, amount_minor, currency, \
                     body_hash, 'REFUNDED', 1, now(), now() from simulator.charge where idempotency_key like '{0}%'",
                    key(w.completed)
                )
            },
            &|w| {
                format!("update simulator.charge set amount_minor = 1199 where idempotency_key like '{}%'", key(w.completed))
            },
            &|w| format!("update simulator.charge set currency = 'USD' where idempotency_key like '{}%'", key(w.completed)),
            // payment-svc and the provider disagree.
            &|w| format!("update payments.attempt set state = 'REFUNDED' where saga_id = '{}'", w.completed),
            &|w| format!("update payments.attempt set amount_minor = 1 where saga_id = '{}'", w.refunded),
            &|w| format!("delete from payments.attempt where saga_id = '{}'", w.completed),
            // An ended saga with a charge of unknown outcome.
            &|w| {
                format!(
                    "update payments.attempt set state = 'IN_DOUBT', next_look_time = now() where saga_id = '{}'",
                    w.completed
                )
            },
            // The books: the sale, the reversal, the suspense is not there; money of nobody.
            &|w| format!("delete from ledger.transaction where saga_id = '{}'", w.completed),
            &|w| format!("delete from ledger.transaction where saga_id = '{}' and kind = 'REVERSE'", w.reversed),
            &|w| format!("delete from ledger.transaction where saga_id = '{}' and kind = 'SUSPENSE'", w.refunded),
            &|w| format!("update ledger.transaction set saga_id = gen_random_uuid() where saga_id = '{}'", w.completed),
            // The order was of another amount.
            &|w| format!("update orchestrator.\"order\" set total_minor = 7 where order_id = '{}'", w.completed),
        ],
    )
    .await;
}

#[tokio::test]
async fn what_was_done_twice_at_the_provider_is_found() {
    let key = |order: Uuid| PaymentId::from_uuid(payment(order));
    found(
        I3,
        &[
            &|w| {
                format!(
                    "insert into simulator.charge select '{}:charge:2', 'ch_x', amount_minor, currency, manner, body_hash, \
                     state, null, 1, now(), now() from simulator.charge where idempotency_key like '{0}%'",
                    key(w.completed)
                )
            },
            // Due since a moment, and so in effect.
            &|w| {
                format!(
                    "insert into simulator.charge select '{}:charge:2', 'ch_x', amount_minor, currency, manner, body_hash, \
                     'PENDING', null, 1, now(), now() from simulator.charge where idempotency_key like '{0}%'",
                    key(w.completed)
                )
            },
            &|w| {
                format!(
                    "insert into simulator.refund select '{}:refund:2', 're_x', charge_reference, 1, currency, body_hash, \
                     'REFUNDED', 1, now(), now() from simulator.refund where idempotency_key like '{0}%'",
                    key(w.refunded)
                )
            },
            &|w| format!("update simulator.refund set amount_minor = 1201 where idempotency_key like '{}%'", key(w.refunded)),
            &|w| {
                format!(
                    "update payments.attempt set payment_id = gen_random_uuid() where saga_id = '{}'",
                    w.completed
                )
            },
        ],
    )
    .await;
}

#[tokio::test]
async fn stock_that_does_not_add_up_is_found() {
    let release = "back_outcome = 'DONE', back_reply = '\\x01'";
    let unsell = "commit_step = null, commit_outcome = null, commit_hash = null, commit_reply = null";
    found(
        I4,
        &[
            // Released twice; put in and not counted; counters against reservations.
            &|_| "update inventory.stock set available = available + 2".into(),
            &|_| "delete from inventory.restock where request_id = 'r2'".into(),
            &|_| "update inventory.stock set available = available - 1, reserved = reserved + 1".into(),
            &|_| "update inventory.stock set available = available - 1, sold = sold + 1".into(),
            &|_| "delete from inventory.stock".into(),
            // Held, or sold, for a cancelled order.
            &|w| {
                format!(
                    "update inventory.reservation set back_outcome = null, back_reply = null where saga_id = '{}'; \
                     update inventory.stock set available = available - 2, reserved = reserved + 2",
                    w.refunded
                )
            },
            &|w| {
                format!(
                    "update inventory.reservation set back_outcome = null, back_reply = null, commit_step = 'commit', \
                       commit_outcome = 'DONE', commit_hash = '\\x01', commit_reply = '\\x01' where saga_id = '{}'; \
                     update inventory.stock set available = available - 2, sold = sold + 2",
                    w.refunded
                )
            },
            // Not sold, though completed.
            &|w| {
                format!(
                    "update inventory.reservation set {unsell}, {release} where saga_id = '{}'; \
                     update inventory.stock set available = available + 2, sold = sold - 2",
                    w.completed
                )
            },
            &|w| {
                format!(
                    "delete from inventory.reservation where saga_id = '{}'; \
                     update inventory.stock set available = available + 2, sold = sold - 2",
                    w.completed
                )
            },
            // Held for nobody.
            &|w| {
                format!("update inventory.reservation set saga_id = gen_random_uuid() where saga_id = '{}'", w.parked)
            },
        ],
    )
    .await;
}

#[tokio::test]
async fn an_order_without_one_end_is_found() {
    let finished = r#"[{"at":9,"event":"Finished","outcome":"Completed"}]"#;
    let more = |order: Uuid, events: &str| {
        format!(
            "insert into orchestrator.journal select saga_id, version + 1, epoch, commit_id, '{events}', now() \
             from orchestrator.saga where saga_id = '{order}'; \
             update orchestrator.saga set version = version + 1 where saga_id = '{order}'"
        )
    };
    found(
        I5,
        &[
            &|w| format!("delete from orchestrator.saga where saga_id = '{}'", w.completed),
            &|w| format!("delete from orchestrator.\"order\" where order_id = '{}'", w.completed),
            // Two ends; something after the end; an end that only the journal knows, or only the row.
            &|w| more(w.completed, finished),
            &|w| more(w.refused, r#"[{"at":9,"event":"StepDone","step":"open"}]"#),
            &|w| more(w.parked, finished),
            &|w| format!("update orchestrator.saga set state = 'COMPENSATED' where saga_id = '{}'", w.completed),
            &|w| format!("update orchestrator.saga set ended = false where saga_id = '{}'", w.completed),
            &|w| format!("update orchestrator.\"order\" set status = 'CANCELLED' where order_id = '{}'", w.completed),
            &|w| format!("update orchestrator.\"order\" set status = 'CREATED' where order_id = '{}'", w.refused),
            // Nobody moves it, and nobody knows why.
            &|w| format!("update orchestrator.saga set state = 'RUNNING' where saga_id = '{}'", w.parked),
            &|w| format!("update orchestrator.saga set reason = '' where saga_id = '{}'", w.parked),
            // The document says otherwise.
            &|w| {
                format!(
                    "update orders.document set complete_step = null, complete_outcome = null, complete_hash = null, \
                     complete_reply = null where saga_id = '{}'",
                    w.completed
                )
            },
            &|w| format!("update orders.document set saga_id = gen_random_uuid() where saga_id = '{}'", w.refused),
        ],
    )
    .await;
}

#[tokio::test]
async fn an_effect_after_its_compensation_is_found() {
    found(
        I6,
        &[
            &|w| {
                format!(
                    "alter table inventory.reservation drop constraint reservation_sold_is_not_released; \
                     update inventory.reservation set commit_step = 'commit', commit_outcome = 'DONE', \
                       commit_hash = '\\x01', commit_reply = '\\x01' where saga_id = '{}'",
                    w.refunded
                )
            },
            &|w| {
                format!(
                    "alter table inventory.reservation drop constraint reservation_taken_back_is_what_was_done; \
                     update inventory.reservation set back_outcome = 'BLOCKED', back_reply = '\\x01' where saga_id = '{}'",
                    w.parked
                )
            },
            &|w| {
                format!(
                    "alter table orders.document drop constraint document_completed_is_not_cancelled; \
                     update orders.document set complete_step = 'complete', complete_outcome = 'DONE', \
                       complete_hash = '\\x01', complete_reply = '\\x01' where saga_id = '{}'",
                    w.refunded
                )
            },
            &|w| {
                format!("update orders.document set back_outcome = null, back_reply = null where saga_id = '{}'", w.refused)
            },
            &|w| {
                format!(
                    "alter table payments.attempt drop constraint attempt_back_answered; \
                     update payments.attempt set state = 'SUCCEEDED' where saga_id = '{}'",
                    w.refunded
                )
            },
            // Taken back, says payment-svc; the provider has the money.
            &|w| {
                let key = PaymentId::from_uuid(payment(w.refunded));
                format!("update simulator.refund set state = 'RECEIVED', effect_time = null where idempotency_key like '{key}%'")
            },
            &|w| {
                format!("delete from ledger.transaction where saga_id = '{}' and kind = 'REVERSE'", w.reversed)
            },
            // A posting that came after its reversal had found nothing.
            &|w| {
                format!(
                    "update ledger.transaction set outcome = 'BLOCKED', reply = null where saga_id = '{}' and kind = 'REVERSE'",
                    w.reversed
                )
            },
            &|w| {
                format!(
                    "update ledger.entry set account_id = 'merchant:m_2:EUR' where amount_minor = 1000 and transaction_id = \
                     (select transaction_id from ledger.transaction where saga_id = '{}' and kind = 'REVERSE')",
                    w.reversed
                )
            },
        ],
    )
    .await;
}

#[tokio::test]
async fn a_message_or_a_command_that_was_lost_is_found() {
    let row = |schema: &str, age: &str| {
        format!(
            "insert into {schema}.outbox (outbox_id, exchange, routing_key, kind, body, headers, create_time) \
             values (gen_random_uuid(), 'events', 'order.created', 'k', '\\x01', '{{}}', now() - interval '{age}')"
        )
    };
    found(
        I9,
        &[
            &|_| row("orders", "1 second"),
            &|_| row("inventory", "1 second"),
            &|_| row("risk", "1 second"),
            &|_| row("payments", "1 second"),
            &|_| row("ledger", "1 second"),
            &|_| row("orchestrator", "1 second"),
            // Sent, never answered; answered, and the participant knows nothing of it.
            &|w| {
                format!(
                    "update orchestrator.journal set events = replace(events, 'CommandAnswered', 'CommandLost') \
                     where saga_id = '{}' and version = 3",
                    w.refused
                )
            },
            &|w| format!("delete from payments.attempt where saga_id = '{}'", w.refused),
            &|w| format!("delete from ledger.transaction where saga_id = '{}'", w.refused),
        ],
    )
    .await;
    let mut world = World::new().await;
    world.run(&row("orders", "1 minute")).await;
    world.run(&row("ledger", "3 minutes")).await;
    world.run("update ledger.outbox set dead_time = now(), dead_reason = 'nobody takes it'").await;
    let report = world.audit_as(&Options::default()).await;
    assert!(report.is_clean(), "{:#?}", report.violations());
    assert!(report.judged(I9).unwrap().information.first[0].contains("nobody takes it"));
    world.run(&row("ledger", "3 minutes")).await;
    assert_eq!(broken(&world.audit_as(&Options::default()).await, I9), 1);
}

#[tokio::test]
async fn a_history_that_was_tampered_with_is_found() {
    found(
        I10,
        &[
            &|w| {
                format!("delete from orchestrator.journal where saga_id = '{}' and version = 2", w.completed)
            },
            &|w| {
                format!("delete from orchestrator.journal where saga_id = '{}' and version = 4", w.completed)
            },
            &|w| format!("delete from orchestrator.journal where saga_id = '{}'", w.parked),
            &|w| format!("delete from orchestrator.saga where saga_id = '{}'", w.parked),
            &|w| {
                format!(
                    "update orchestrator.journal set epoch = 9 where saga_id = '{}' and version = 2",
                    w.completed
                )
            },
            &|w| format!("update orchestrator.saga set epoch = 1 where saga_id = '{}'", w.completed),
            &|w| {
                format!(
                    "update orchestrator.saga set commit_id = gen_random_uuid() where saga_id = '{}'",
                    w.completed
                )
            },
            &|w| format!("update orchestrator.\"order\" set version = 99 where order_id = '{}'", w.completed),
            &|w| {
                format!(
                    "update orchestrator.journal set events = '[{{}}]' where saga_id = '{}' and version = 2",
                    w.parked
                )
            },
        ],
    )
    .await;
}

#[tokio::test]
async fn a_step_that_a_person_settled_is_told_and_is_no_violation() {
    let mut world = World::new().await;
    let refunded = world.refunded;
    world
        .run(&format!(
            "delete from simulator.refund where charge_reference = 'ch_{refunded}'; \
             update payments.attempt set state = 'REFUNDING', back_outcome = 'STARTED', back_reply = null, \
               next_look_time = now() where saga_id = '{refunded}'; \
             update orchestrator.journal set events = replace(events, '\"event\":\"CommandAnswered\",\"step\":\"charge\"', \
               '\"event\":\"Resolved\",\"compensation\":true,\"step\":\"charge\"') where saga_id = '{refunded}'"
        ))
        .await;
    let report = world.audit().await;
    assert!(report.is_clean(), "{:#?}", report.violations());
    assert!(report.judged(I2).unwrap().information.first[0].contains("a person gave an outcome"));
}

#[tokio::test]
async fn more_sagas_than_a_page_holds_are_all_judged() {
    let mut world = World::new().await;
    let copies = |table: &str, columns: &str, id: &str, of: Uuid| {
        format!(
            "insert into {table} select (md5(n::text || '{of}'))::uuid, {columns} from {table}, generate_series(1, 4500) n \
             where {id} = '{of}';"
        )
    };
    let parked = world.parked;
    let columns = "shard_id, kind, definition_version, definition_hash, version, commit_id, epoch, state, reason, ended, \
                   resumes, resume_time, create_time, update_time";
    let saga = copies("orchestrator.saga", columns, "saga_id", parked);
    let columns = "customer_id, merchant_id, currency, total_minor, status, status_reason, status_metadata, \
                   cancel_requested, version, create_time, update_time";
    let order = copies("orchestrator.\"order\"", columns, "order_id", parked);
    let journal =
        copies("orchestrator.journal", "version, epoch, commit_id, events, create_time", "saga_id", parked);
    world.run(&format!("{saga} {order} {journal}")).await;
    let report = world.audit().await;
    assert!(report.is_clean(), "{:#?}", report.violations());
    assert_eq!(report.judged(I5).unwrap().checked, 4505);
    assert_eq!(report.judged(I10).unwrap().checked, 4505);
    world.run("update orders.document set saga_id = (md5(saga_id::text))::uuid").await;
    world.run("update inventory.reservation set saga_id = (md5(saga_id::text))::uuid").await;
    let report = world.audit().await;
    // One that the parked order holds, one that was sold.
    assert_eq!(broken(&report, I4), 3, "{:#?}", report.violations());
}
