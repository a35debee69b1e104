//! I12: whatever is done to the books after they were sealed is found, and a rewritten chain by an anchor.

use amends::audit::{Anchor, Invariant::*, Options};

use super::{
    found,
    world::{World, broken},
};

const SALE: &str =
    "select transaction_id from ledger.transaction where kind = 'POST' and outcome = 'DONE' limit 1";

#[tokio::test]
async fn books_that_were_changed_after_they_were_sealed_are_found() {
    found(
        I12,
        &[
            // Balanced all the same.
            &|_| format!("update ledger.entry set amount_minor = amount_minor * 2 where transaction_id = ({SALE})"),
            &|_| "update ledger.entry set account_id = 'merchant:m_2:EUR' where account_id = 'merchant:m_1:EUR'".into(),
            &|w| format!("update ledger.transaction set reason = 'x' where saga_id = '{}'", w.reversed),
            &|w| format!("update ledger.transaction set reply = '\\x02' where saga_id = '{}'", w.completed),
            &|w| format!("update ledger.transaction set create_time = now() where saga_id = '{}'", w.completed),
            // A pair of entries more, to a transaction that was sealed.
            &|_| {
                format!(
                    "insert into ledger.entry select gen_random_uuid(), t.transaction_id, 'suspense:EUR', n, 'EUR' \
                     from ({SALE}) t cross join unnest(array[5, -5]) n"
                )
            },
            // Taken out, and slipped in where it was looked at already.
            &|w| format!("delete from ledger.transaction where saga_id = '{}'", w.refused),
            &|w| {
                format!(
                    "insert into ledger.transaction (transaction_id, saga_id, step, kind, outcome, create_time, era, xid) \
                     select gen_random_uuid(), gen_random_uuid(), 'post', 'POST', 'BLOCKED', create_time, era, xid \
                     from ledger.transaction where saga_id = '{}' limit 1",
                    w.completed
                )
            },
        ],
    )
    .await;
}

#[tokio::test]
async fn a_chain_that_is_broken_is_found() {
    found(
        I12,
        &[
            &|_| "update ledger.block set hash = decode(repeat('cd', 32), 'hex') where block_no = 2".into(),
            &|_| {
                "update ledger.block set previous = decode(repeat('ab', 32), 'hex') where block_no = 3".into()
            },
            &|_| {
                "update ledger.block set create_time = create_time - interval '1 second' where block_no = 1"
                    .into()
            },
            &|_| "update ledger.block set transactions = transactions + 1 where block_no = 1".into(),
            &|_| "update ledger.block set rule = 7 where block_no = 1".into(),
            &|_| "delete from ledger.block where block_no = 1".into(),
            &|_| "delete from ledger.block where block_no = 2".into(),
            &|_| "update ledger.block set last_transaction_id = gen_random_uuid() where block_no = 1".into(),
            // What it sealed is sealed no longer.
            &|_| "delete from ledger.block where block_no = (select max(block_no) from ledger.block)".into(),
        ],
    )
    .await;
}

#[tokio::test]
async fn a_chain_that_was_made_again_is_found_by_an_anchor_alone() {
    let mut world = World::new().await;
    let anchor: Anchor = world.audit().await.anchor.unwrap().parse().unwrap();
    let with = |anchor| Options { quiescent: true, anchors: vec![anchor], ..Options::default() };
    assert!(world.audit_as(&with(anchor)).await.is_clean());
    // Who may do anything changes a sale and seals it as if it had always been so.
    world
        .run(
            "update ledger.entry set account_id = 'tax_payable:EUR' where amount_minor in (-1000, 1000); \
             update ledger.account a set debits_minor = e.debits, credits_minor = e.credits from ( \
               select account_id, coalesce(sum(amount_minor) filter (where amount_minor > 0), 0) as debits, \
                 coalesce(-sum(amount_minor) filter (where amount_minor < 0), 0) as credits \
               from ledger.entry group by account_id) e where e.account_id = a.account_id; \
             update ledger.account set debits_minor = 0, credits_minor = 0 where account_id = 'merchant:m_1:EUR'; \
             delete from ledger.block",
        )
        .await;
    world.seal().await;
    assert_eq!(broken(&world.audit().await, I12), 0, "the books are whole in themselves");
    assert_eq!(broken(&world.audit_as(&with(anchor)).await, I12), 1);
    let future = Anchor { block: 1_000, ..anchor };
    assert_eq!(broken(&world.audit_as(&with(future)).await, I12), 1);
}

#[tokio::test]
async fn what_was_just_booked_has_its_time_to_be_sealed() {
    let mut world = World::new().await;
    let book = |age: &str| {
        format!(
            "insert into ledger.transaction (transaction_id, saga_id, step, kind, outcome, create_time) \
             select gen_random_uuid(), saga_id, 'late', 'POST', 'BLOCKED', now() - interval '{age}' \
             from ledger.transaction where outcome = 'BLOCKED' and kind = 'POST' limit 1"
        )
    };
    let options = Options::default();
    world.run(&book("1 minute")).await;
    assert_eq!(broken(&world.audit_as(&options).await, I12), 0);
    world.run("delete from ledger.transaction where step = 'late'").await;
    world.run(&book("3 minutes")).await;
    // Somebody is at it: the last block is new.
    assert_eq!(broken(&world.audit_as(&options).await, I12), 0);
    // Nobody is. (The block is no longer what it was, either.)
    world.run("update ledger.block set create_time = create_time - interval '1 hour'").await;
    let report = world.audit_as(&options).await;
    let text = report.violations().join("\n");
    assert!(text.contains("is not sealed"), "{text}");
}
