//! Callers that hang up at every point where a handler waits: no transaction stays open in any pool, nothing is half
//! done, and whoever calls again is served.

use std::time::Duration;

use e2e::{
    Builder, BusKind, Kind, Meddling, Record, Spec, World,
    doors::{
        Method,
        call::{Answer, Call},
        drops::{HangUp, Until, no_transaction_is_open, nobody_sits_in_a_transaction},
        good::{self, Shop},
    },
    eventually,
};
use futures_util::future::join_all;
use prost::Message as _;
use proto::{
    order::v1::{Order, OrderStatus},
    saga::v1::{ForceCompensateRequest, ResolveRequest, RetryRequest},
};
use sqlx::Executor as _;
use tonic::Code;
use types::SagaId;

/// More than any handler waits.
const MANY: usize = 600;

/// So often in a row a caller was not too early to hear the answer: then every wait was hung up on.
const THROUGH: usize = 4;

/// How often a method was called, and hung up on.
#[derive(Debug, Clone, Copy)]
struct Swept {
    hung_up: usize,
    calls: usize,
}

fn method(name: &str) -> Method {
    Method::all().into_iter().find(|method| method.name() == name).unwrap()
}

async fn nothing_is_open(world: &World, method: &Method, who: &str) {
    for pool in method.pools(world) {
        no_transaction_is_open(pool, who).await;
    }
    nobody_sits_in_a_transaction(world, who).await;
}

/// Hangs up at each wait of the method, and calls again each time.
async fn hang_up_everywhere(
    world: &World,
    method: &Method,
    mut request: impl AsyncFnMut(usize) -> Vec<u8>,
    is_fine: impl Fn(&Answer) -> bool,
) -> Swept {
    let [mut was_through, mut hung_up] = [0; 2];
    for k in 0..MANY {
        let hang_up = HangUp::nth(k);
        let who = format!("{} {hang_up:?}", method.name());
        let call = Call::of(method, &request(k).await);
        let brought = Until::new(call.clone().exchange(method.inside(world)), hang_up).await;
        nothing_is_open(world, method, &who).await;
        let again = call.send(method.inside(world)).await;
        assert!(is_fine(&again), "{who}: {again:?}");
        // A busy machine may wake it more or less often: so several times over.
        was_through = if brought.is_some() { was_through + 1 } else { 0 };
        hung_up += usize::from(brought.is_none());
        if was_through == THROUGH {
            return Swept { hung_up, calls: k + 1 };
        }
    }
    panic!("{} waits more than {MANY} times", method.name());
}

async fn count(world: &World, query: &'static str) -> i64 {
    let mut connection = world.ground.database.connect().await;
    let (count,): (i64,) = sqlx::query_as(query).fetch_one(&mut connection).await.unwrap();
    count
}

async fn all_pools_are_clean(world: &World) {
    for (name, pool) in world.pools() {
        no_transaction_is_open(pool, &name).await;
    }
    nobody_sits_in_a_transaction(world, "at the end").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_hangs_up_on_people_s_doors_leaves_nothing_open() {
    let begun = std::time::Instant::now();
    // What is read from a cache waits for nothing.
    let uncached = |s: &mut amends::stack::Settings| s.inventory.inventory_stock_cache = Duration::ZERO;
    let world = Builder::new(BusKind::Local).far().settings(uncached).start().await;
    let shop = Shop::open(&world).await;
    let [mut hung_up, mut requests] = [0; 2];
    let mut restocks = 0_i64;
    let verbs = ["Sagas/Retry", "Sagas/ForceCompensate", "Sagas/Resolve"];
    let methods = Method::all();
    let people_s = |m: &&Method| !m.is_step() && !verbs.contains(&m.name().as_str());
    let keys_before = count(&world, "select count(*) from orchestrator.idempotency_key").await;
    for method in methods.iter().filter(people_s) {
        let name = method.name();
        let request = async |_| {
            requests += usize::from(name == "Orders/CreateOrder");
            restocks += i64::from(name == "Inventory/Restock");
            shop.request(&world, method).await.encode_to_vec()
        };
        let drops = hang_up_everywhere(&world, method, request, |answer| {
            let decided = name == "Reviews/DecideReview" && answer.reason() == "REVIEW_DECIDED";
            decided || answer.code() == good::answers(method)
        })
        .await;
        eprintln!("{:>4} of {:>3} {name}", drops.hung_up, drops.calls);
        assert!(drops.hung_up >= 2, "{name} waits for nothing: is it read from a cache?");
        hung_up += drops.hung_up;
    }
    // One key, one order; one request, one delivery of stock. Some orders are those that were reviewed.
    let keys = count(&world, "select count(*) from orchestrator.idempotency_key").await - keys_before;
    assert!(keys >= i64::try_from(requests).unwrap());
    let orders = count(&world, "select count(*) from orchestrator.\"order\"").await;
    assert_eq!(
        orders,
        count(&world, "select count(distinct order_id) from orchestrator.idempotency_key").await
    );
    assert_eq!(world.stock("P2001").await.total, 5 * restocks);
    shop.close(&world).await;
    all_pools_are_clean(&world).await;
    world.audit().await;
    eprintln!("hung up {hung_up} times in {:.1} s", begun.elapsed().as_secs_f64());
    assert!(hung_up >= 100, "{hung_up}");
}

/// Orders whose release fails until somebody repairs it, all parked.
async fn parked(world: &World, how_many: usize) -> Vec<Order> {
    let mut owner = world.ground.database.connect().await;
    owner
        .execute(
            "create function inventory.poison() returns trigger language plpgsql as $$ begin \
               if new.back_outcome is not null then raise exception 'poison'; end if; return new; end $$; \
             create trigger poison before update on inventory.reservation for each row execute function inventory.poison()",
        )
        .await
        .unwrap();
    let orders =
        join_all((0..how_many).map(|_| async { world.create(&Spec::of(1).token("tok_decline")).await }))
            .await;
    eventually("every release failed once", || async {
        let failed = count(
            world,
            "select count(*) from orchestrator.outbox where exchange = 'commands' \
            and routing_key = 'inventory' and attempt > 0",
        )
        .await;
        (failed == i64::try_from(how_many).unwrap()).then_some(())
    })
    .await;
    // The ladder takes minutes: its end is brought about by letting the commands die in the outbox.
    eventually("all are parked", || async {
        // Again: who has it in hand just now writes down what it knew.
        let dying = "update orchestrator.outbox set attempt = 5, not_before = now() where exchange = 'commands' \
                     and routing_key = 'inventory' and dead_time is null and attempt < 5";
        world.ground.database.connect().await.execute(dying).await.unwrap();
        let left = count(world, "select count(*) from orchestrator.saga where state <> 'PARKED'").await;
        // One that was sent again meanwhile would be handled once it can be.
        let alive = "select count(*) from orchestrator.outbox where exchange = 'commands' \
                     and routing_key = 'inventory' and dead_time is null";
        (left == 0 && count(world, alive).await == 0).then_some(())
    })
    .await;
    owner.execute("drop trigger poison on inventory.reservation").await.unwrap();
    orders
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_hangs_up_on_a_verb_is_served_when_calling_again() {
    let world = Builder::new(BusKind::Local).far().start().await;
    let orders = parked(&world, 100).await;
    let (actor, reason) = ("ada".to_owned(), "repaired".to_owned());
    let retry = method("Sagas/Retry");
    let next = |k: usize| orders[k].saga_id.clone();
    let retried = hang_up_everywhere(
        &world,
        &retry,
        async |k| {
            RetryRequest { saga_id: next(k), actor: actor.clone(), reason: reason.clone() }.encode_to_vec()
        },
        // The first call may have been heard, though nobody listened to its answer.
        |answer| answer.code() == Code::Ok || answer.reason() == "SAGA_NOT_PARKED",
    )
    .await;
    let first = retried.calls;
    let resolve = method("Sagas/Resolve");
    let release = method("InventorySteps/Release");
    let resolved = hang_up_everywhere(
        &world,
        &resolve,
        async |k| {
            let saga_id = next(first + k);
            // What is said to have happened has happened.
            let body = good::step(&release.name(), saga_id.parse::<SagaId>().unwrap());
            let released = Call::of(&release, &body).send(release.callee(&world)).await;
            assert_eq!(released.turned_away(&release), None);
            ResolveRequest {
                saga_id,
                actor: actor.clone(),
                reason: reason.clone(),
                step: "reserve".into(),
                compensation: true,
                outcome: "DONE".into(),
                evidence: "the shelf".into(),
                ..ResolveRequest::default()
            }
            .encode_to_vec()
        },
        |answer| answer.code() == Code::Ok || answer.reason() == "NOTHING_TO_RESOLVE",
    )
    .await;
    for (k, order) in orders.iter().enumerate() {
        if k >= first + resolved.calls {
            let request =
                RetryRequest { saga_id: order.saga_id.clone(), actor: actor.clone(), reason: reason.clone() };
            world.sagas().retry(request).await.unwrap();
        }
        world.is_cancelled(&order.order_id).await;
    }
    assert_eq!(world.stock("P1001").await.available, 1000);
    all_pools_are_clean(&world).await;
    world
        .ground
        .database
        .connect()
        .await
        .execute("delete from orchestrator.outbox where dead_time is not null")
        .await
        .unwrap();
    world.audit().await;
    eprintln!("hung up: Retry {retried:?}, Resolve {resolved:?}");
    assert!(retried.hung_up >= 4 && resolved.hung_up >= 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_hangs_up_on_force_compensate_is_served_when_calling_again() {
    let mut world = Builder::new(BusKind::Local).far().start().await;
    world.take_down(Kind::Ledger).await;
    let orders = join_all((0..60).map(|_| async { world.create(&Spec::of(1)).await })).await;
    for order in &orders {
        eventually("it was charged", || async {
            (world.saga(&order.saga_id).await.steps[3].state == "DONE").then_some(())
        })
        .await;
    }
    let force = method("Sagas/ForceCompensate");
    let swept = hang_up_everywhere(
        &world,
        &force,
        async |k| {
            let saga_id = orders[k].saga_id.clone();
            ForceCompensateRequest { saga_id, actor: "ada".into(), reason: "asked".into() }.encode_to_vec()
        },
        |answer| answer.code() == Code::Ok || answer.reason() == "SAGA_NOT_FORWARD",
    )
    .await;
    all_pools_are_clean(&world).await;
    world.bring_back(Kind::Ledger).await;
    for (k, order) in orders.iter().enumerate() {
        if k < swept.calls {
            let order = world.is_cancelled(&order.order_id).await;
            assert_eq!(order.status_reason, "FORCED");
        } else {
            world.completes(&order.order_id).await;
        }
    }
    world.audit().await;
    eprintln!("hung up: ForceCompensate {swept:?}");
    assert!(swept.hung_up >= 4);
}

const STEPS: [&str; 7] = [
    "/amends.inventory.v1.InventorySteps/Commit",
    "/amends.inventory.v1.InventorySteps/Reserve",
    "/amends.ledger.v1.LedgerSteps/Post",
    "/amends.order.v1.OrderSteps/Complete",
    "/amends.order.v1.OrderSteps/Open",
    "/amends.payment.v1.PaymentSteps/Charge",
    "/amends.risk.v1.RiskSteps/Screen",
];

/// Hung up at least so often, and at last not before it was through: every wait was one of those.
fn covers(record: &Record, what: &str) {
    let [hung_up, through] = ["hung up", "was through"].map(|how| record.times(&format!("{what}: {how}")));
    eprintln!("{hung_up:>4} hung up, {through:>3} through: {what}");
    assert!(hung_up >= 2 && through >= 1, "{what}: {hung_up}, {through}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_orchestrator_that_hangs_up_on_every_step_makes_one_effect() {
    let record = Record::default();
    let world = Builder::new(BusKind::Local).far().meddling(Meddling::HangUp, &record).start().await;
    for k in 0..20 {
        let order = world.create(&Spec::of(1).wait(30)).await;
        world.completes(&order.order_id).await;
        assert_eq!(world.book(&order).await, (1200, 0), "{k}");
        nobody_sits_in_a_transaction(&world, "an order").await;
    }
    let cancelled = world.create(&Spec::of(1).token("tok_decline")).await;
    world.is_cancelled(&cancelled.order_id).await;
    for step in STEPS {
        covers(&record, step);
    }
    // Compensations by call, of what was taken back by message before.
    let saga: SagaId = cancelled.saga_id.parse().unwrap();
    for name in ["OrderSteps/Cancel", "InventorySteps/Release"] {
        let method = method(name);
        let swept = hang_up_everywhere(
            &world,
            &method,
            async |_| good::step(name, saga),
            |answer| answer.code() == Code::Ok && answer.turned_away(&method).is_none(),
        )
        .await;
        assert!(swept.hung_up >= 2, "{name}: {swept:?}");
    }
    // And of what never was, which stays so.
    for name in ["PaymentSteps/Refund", "LedgerSteps/Reverse"] {
        let method = method(name);
        let swept = hang_up_everywhere(
            &world,
            &method,
            async |_| good::step(name, saga),
            |answer| answer.code() == Code::Ok && answer.turned_away(&method).is_none(),
        )
        .await;
        assert!(swept.hung_up >= 2, "{name}: {swept:?}");
    }
    let stock = world.stock("P1001").await;
    assert_eq!((stock.available, stock.reserved, stock.sold), (980, 0, 20));
    all_pools_are_clean(&world).await;
    world.audit().await;
}

const MESSAGES: [&str; 8] = [
    "amends.order.v1.CancelItem for order",
    "amends.inventory.v1.ReleaseItem for inventory",
    "amends.payment.v1.RefundItem for payment",
    "amends.ledger.v1.ReverseItem for ledger",
    "amends.risk.v1.WithdrawItem for risk",
    "amends.payment.v1.PaymentRefunded for payment.refunded",
    "amends.order.v1.OrderChanged for order.completed",
    "amends.step.v1.StepAnswer for orchestrator",
];

#[tokio::test(flavor = "multi_thread")]
async fn a_bus_that_hangs_up_on_every_consumer_makes_one_effect() {
    const EACH: usize = 16;
    let record = Record::default();
    let mut world = Builder::new(BusKind::Local).far().hanging(&record).start().await;
    world.restock("P1001", 1_000_000).await;
    let create = async |spec: Spec| {
        let order = world.create(&spec.wait(30)).await;
        nobody_sits_in_a_transaction(&world, "an order").await;
        order
    };
    for _ in 0..EACH {
        let order = create(Spec::of(1)).await;
        world.completes(&order.order_id).await;
        let order = create(Spec::of(1).token("tok_decline")).await;
        world.is_cancelled(&order.order_id).await;
        let reviewed = create(Spec::of(900)).await;
        assert_eq!(reviewed.status(), OrderStatus::UnderReview);
        world.cancel(&reviewed.order_id).await.unwrap();
        world.is_cancelled(&reviewed.order_id).await;
    }
    world.take_down(Kind::Ledger).await;
    let orders = join_all((0..EACH).map(|_| async { world.create(&Spec::of(1)).await })).await;
    for order in &orders {
        eventually("it was charged", || async {
            (world.saga(&order.saga_id).await.steps[3].state == "DONE").then_some(())
        })
        .await;
        world.cancel(&order.order_id).await.unwrap();
    }
    world.bring_back(Kind::Ledger).await;
    for order in &orders {
        let order = world.is_cancelled(&order.order_id).await;
        assert_eq!(world.book(&order).await, (1200, 1200));
    }
    tokio::time::timeout(Duration::from_secs(30), world.audit()).await.unwrap();
    for message in MESSAGES {
        covers(&record, message);
    }
    all_pools_are_clean(&world).await;
}
