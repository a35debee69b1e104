//! A client's own record, and the keys that are stored, held against the orders that are there.

use amends::audit::{self, Error, Invariant::*, Options};
use uuid::Uuid;

use super::{
    found,
    world::{World, broken, shown},
};

async fn acknowledged(world: &World, lines: &str) -> Result<audit::Report, Error> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("acknowledged.jsonl");
    std::fs::write(&path, lines).unwrap();
    let options = Options { quiescent: true, acknowledged: Some(path), ..Options::default() };
    audit::run(&world.sources(), &options).await
}

fn line(key: &str, fingerprint: &str, order: Uuid) -> String {
    format!("{{\"key\":\"{key}\",\"fingerprint\":\"{fingerprint}\",\"order_id\":\"{}\"}}\n", shown(order))
}

#[tokio::test]
async fn what_was_acknowledged_is_held_against_what_is_there() {
    let mut world = World::new().await;
    let (one, two) = (world.completed, world.refused);
    let good = line(&format!("key-{one}"), "f1", one).repeat(2) + &line("of-the-client", "f2", two);
    let report = acknowledged(&world, &good).await.unwrap();
    assert!(report.is_clean(), "{:#?}", report.violations());
    assert_eq!(report.judged(I7).unwrap().checked, 3);

    let missing = acknowledged(&world, &line("k", "f", Uuid::from_u128(7))).await.unwrap();
    assert_eq!((broken(&missing, I7), broken(&missing, I8)), (1, 0));
    for bad in [
        // The key stands for another order; one key for two; two keys for one; one key with two bodies.
        line(&format!("key-{one}"), "f", two),
        line("k", "f", one) + &line("k", "f", two),
        line("k", "f", one) + &line("l", "f", one),
        line("k", "f", one) + &line("k", "g", one),
    ] {
        let report = acknowledged(&world, &bad).await.unwrap();
        assert_eq!((broken(&report, I7), broken(&report, I8)), (0, 1), "{bad}");
    }

    let cut = acknowledged(&world, &(line("k", "f", one) + "{\"key\":\"l")).await.unwrap();
    assert!(cut.is_clean() && cut.judged(I7).unwrap().information.first[0].contains("cut off"));
    let wrong = acknowledged(&world, "{\"key\":\"l\n").await.unwrap_err();
    assert!(matches!(wrong, Error::Line { line: 1, .. }), "{wrong}");

    world.run(&format!("delete from orchestrator.\"order\" where order_id = '{two}'")).await;
    let report = world.audit().await;
    assert!(broken(&report, I8) > 0, "a key without its order");
}

#[tokio::test]
async fn a_stored_key_that_points_elsewhere_is_found() {
    found(
        I8,
        &[
            &|w| {
                format!(
                    "update orchestrator.idempotency_key set order_id = '{}' where order_id = '{}'",
                    w.completed, w.refused
                )
            },
            &|w| {
                format!(
                    "update orchestrator.\"order\" set merchant_id = 'm_2' where order_id = '{}'",
                    w.completed
                )
            },
            &|w| {
                format!(
                    "update orchestrator.idempotency_key set order_id = gen_random_uuid() where order_id = '{}'",
                    w.refused
                )
            },
        ],
    )
    .await;
}
