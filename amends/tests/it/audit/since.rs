//! An audit of what came since an earlier one.

use amends::audit::{self, Invariant::*, Options, Report, Since};

use super::world::{World, broken};

async fn look(world: &World, since: Option<&Since>) -> (Report, Since) {
    audit::run_since(&world.sources(), &Options::default(), since).await.unwrap()
}

#[tokio::test]
async fn what_came_since_is_judged_and_what_was_open_again() {
    let mut world = World::new().await;
    // Hours ago, as far as ids tell.
    let (refused, parked) = (world.refused, world.parked);
    let (refused, parked) = (world.age(refused).await, world.age(parked).await);
    let (report, since) = look(&world, None).await;
    assert!(report.is_clean(), "{:#?}", report.violations());
    assert_eq!((report.judged(I5).unwrap().checked, report.figures.open_sagas), (5, 1));

    world.another().await;
    let (report, next) = look(&world, Some(&since)).await;
    assert!(report.is_clean(), "{:#?}", report.violations());
    // The four that are new by their ids, with the one that came, and the one that is parked; not the settled old one.
    assert_eq!(report.judged(I5).unwrap().checked, 5);
    assert!(report.judged(I12).unwrap().checked < look(&world, None).await.0.judged(I12).unwrap().checked);

    // Of an old saga that was settled, nothing is read; the whole finds it.
    world
        .run(&format!("update orchestrator.\"order\" set status = 'CREATED' where order_id = '{refused}'"))
        .await;
    assert_eq!(broken(&look(&world, Some(&next)).await.0, I5), 0);
    assert_eq!(broken(&look(&world, None).await.0, I5), 1);
    world
        .run(&format!("update orchestrator.\"order\" set status = 'CANCELLED' where order_id = '{refused}'"))
        .await;

    world.run(&format!("update orchestrator.saga set reason = '' where saga_id = '{parked}'")).await;
    assert_eq!(broken(&look(&world, Some(&next)).await.0, I5), 1);
}

#[tokio::test]
async fn money_of_what_is_new_is_looked_up_at_the_provider() {
    let mut world = World::new().await;
    let (_, since) = look(&world, None).await;
    let order = world.another().await;
    world
        .run(&format!("update simulator.charge set amount_minor = 1199 where reference = 'ch_{order}'"))
        .await;
    assert!(broken(&look(&world, Some(&since)).await.0, I2) > 0);
    world
        .run(&format!("update simulator.charge set amount_minor = 1200 where reference = 'ch_{order}'"))
        .await;
    let refunded = world.refunded;
    world
        .run(&format!(
            "insert into simulator.refund select replace(idempotency_key, ':1', ':2'), 're_x', charge_reference, 1, currency, \
             body_hash, 'REFUNDED', 1, now(), now() from simulator.refund where charge_reference = 'ch_{refunded}'"
        ))
        .await;
    assert!(broken(&look(&world, Some(&since)).await.0, I3) > 0);
}

#[tokio::test]
async fn new_books_are_weighed_and_old_blocks_must_be_what_they_were() {
    let mut world = World::new().await;
    let (_, since) = look(&world, None).await;
    let order = world.another().await;
    world
        .run(&format!(
            "update ledger.entry set amount_minor = 1300 where amount_minor = 1200 and transaction_id in \
                        (select transaction_id from ledger.transaction where saga_id = '{order}')"
        ))
        .await;
    let report = look(&world, Some(&since)).await.0;
    assert_eq!((broken(&report, I1), broken(&report, I12)), (1, 1), "{:#?}", report.violations());

    world.run("delete from ledger.block").await;
    world.seal().await;
    let report = look(&world, Some(&since)).await.0;
    assert_eq!(broken(&report, I12), 1, "{:#?}", report.violations());
    assert!(report.violations().join("\n").contains("rewritten"));
}
