//! Several orchestrators over one database, as processes: every door works at each, one that stops fails no call, one
//! that dies is followed within the promise.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use e2e::{
    Spec, eventually, eventually_within,
    house::{Ground, House},
    proxy::CutAt,
    stack::Member,
    till::{Client, Till},
};
use proto::order::v1::{CancelOrderRequest, OrderStatus, WatchOrderRequest, orders_client::OrdersClient};
use tonic::Code;
use tonic_types::StatusExt as _;
use types::OrderId;

const FIRST: Member = Member::Orchestrator(1);
const SECOND: Member = Member::Orchestrator(2);

/// How many shards each address drives.
async fn owners(house: &House) -> Vec<(String, i64)> {
    let mut connection = house.databases.connect(&orchestrator::SCHEMA).await;
    sqlx::query_as(
        "select i.address, count(*) from orchestrator.shard s \
         join orchestrator.instance i on i.instance_id = s.owner_id group by i.address order by 2, 1",
    )
    .fetch_all(&mut connection)
    .await
    .unwrap()
}

async fn are_even(house: &House, instances: usize) {
    eventually("the shards are even", || async {
        let owners = owners(house).await;
        let sum: i64 = owners.iter().map(|(_, count)| count).sum();
        let spread = owners.last()?.1 - owners.first()?.1;
        (owners.len() == instances && sum == 16 && spread <= 1).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rolling_restart_of_everything_fails_no_call() {
    let mut house = House::start(Ground::default(), 2).await;
    house.stock_up().await;
    are_even(&house, 2).await;
    let till = Till::with(&house.client());
    let open = till.open(20);
    tokio::time::sleep(Duration::from_secs(2)).await;
    for member in [FIRST, SECOND] {
        let began = Instant::now();
        let (other, kept) = if member == FIRST { (SECOND, FIRST) } else { (FIRST, SECOND) };
        assert_eq!(house.terminate(member).await, Some(0));
        assert!(began.elapsed() < Duration::from_secs(12), "{member} took {:?}", began.elapsed());
        // Handed over, not lapsed: the other has them by now.
        let all = vec![(house.address(other).to_owned(), 16)];
        let until = Instant::now() + Duration::from_secs(5);
        loop {
            let now = owners(&house).await;
            if now == all {
                break;
            }
            assert!(Instant::now() < until, "5 s after {member} left, {other} does not drive all: {now:?}");
            tokio::time::sleep(Duration::from_millis(30)).await;
        }
        house.open(kept).await;
        are_even(&house, 2).await;
    }
    for member in Member::SERVICES {
        assert_eq!(house.terminate(member).await, Some(0));
        house.open(member).await;
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    open.close().await;
    assert_eq!(till.failed(), Vec::<String>::new());
    let completed = till.ends(Duration::from_secs(60)).await;
    assert!(completed > till.sold().len() / 3, "{completed} of {}", till.sold().len());
    house.audit().await;
}

/// For how many milliseconds nothing ran here that should have, from now on.
fn starved() -> Arc<AtomicU64> {
    let starved = Arc::new(AtomicU64::new(0));
    let sum = Arc::downgrade(&starved);
    tokio::spawn(async move {
        const TICK: Duration = Duration::from_millis(20);
        while let Some(sum) = sum.upgrade() {
            let began = Instant::now();
            tokio::time::sleep(TICK).await;
            let late = began.elapsed().saturating_sub(TICK + Duration::from_millis(5));
            sum.fetch_add(u64::try_from(late.as_millis()).unwrap_or(0), Ordering::Relaxed);
        }
    });
    starved
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_with_two_hundred_orders_in_flight_another_takes_over_within_the_promise() {
    let environment = vec![("AMENDS_LEASE", "10s".into()), ("AMENDS_SIMULATOR_SLOW", "4s".into())];
    let ground = Ground { environment, ..Ground::default() };
    let mut house = House::start(ground, 2).await;
    house.stock_up().await;
    are_even(&house, 2).await;
    let first = Till::with(&Client::of(vec![house.callee(FIRST)]));
    // Half of them wait for the provider, half are on their way.
    for token in ["tok_slow", "tok_approve"] {
        let specs: Vec<Spec> = (0..100).map(|_| Spec::of(1).token(token)).collect();
        futures_util::future::join_all(specs.iter().map(|spec| first.sell(spec))).await;
    }
    assert_eq!(first.sold().len(), 200);
    let starved = starved();
    house.kill(FIRST).await;
    let killed = Instant::now();
    let at = chassis::clock::now();
    // Read at the one that lives.
    let second = Client::of(vec![house.callee(SECOND)]);
    let mut sagas = Vec::new();
    for order_id in first.sold() {
        let what = format!("{order_id} ends");
        let left = Duration::from_secs(45).saturating_sub(killed.elapsed());
        let order = eventually_within(left, &what, || async {
            let order = Till::with(&second).get(&order_id).await.ok()?;
            (order.status() == OrderStatus::Completed).then_some(order)
        })
        .await;
        sagas.push(order.order_id.parse::<OrderId>().unwrap().uuid());
    }
    // Every saga with work in hand that had to move was resumed within 15 s.
    let mut connection = house.databases.connect(&orchestrator::SCHEMA).await;
    let (moved, slowest): (i64, f64) = sqlx::query_as(
        "select count(*), coalesce(max(extract(epoch from (resume_time - $2)))::float8, 0) from orchestrator.saga \
         where saga_id = any ($1) and resumes > 0",
    )
    .bind(&sagas)
    .bind(at)
    .fetch_one(&mut connection)
    .await
    .unwrap();
    eprintln!("{moved} sagas taken over, the last {slowest:.1} s after the kill");
    assert!(moved > 0, "the run is void: nothing was in flight");
    // A machine that is starved of its cores by other tests is given what it was starved of.
    let starved = starved.load(Ordering::Relaxed) as f64 / 1000.0;
    assert!(slowest <= 15.0 + starved, "{slowest}, starved for {starved} s");
    house.audit().await;
}

/// The orchestrator that drives an order, and another.
async fn owner_and_other(house: &House, order_id: &str) -> (Member, Member) {
    let saga = order_id.parse::<OrderId>().unwrap().uuid();
    let mut connection = house.databases.connect(&orchestrator::SCHEMA).await;
    let (address,): (String,) = sqlx::query_as(
        "select i.address from orchestrator.saga g join orchestrator.shard s on s.shard_id = g.shard_id \
         join orchestrator.instance i on i.instance_id = s.owner_id where g.saga_id = $1",
    )
    .bind(saga)
    .fetch_one(&mut connection)
    .await
    .unwrap();
    if address == house.address(FIRST) { (FIRST, SECOND) } else { (SECOND, FIRST) }
}

#[tokio::test(flavor = "multi_thread")]
async fn cancel_wait_and_the_same_key_work_at_the_one_that_does_not_own_the_saga() {
    let mut ground = Ground::default();
    // An order still runs when somebody has found out who drives it, however busy the machine.
    ground.environment.push(("AMENDS_SIMULATOR_SLOW", "6s".into()));
    let house = House::start(ground, 2).await;
    house.stock_up().await;
    are_even(&house, 2).await;
    let either = house.client();
    let till = Till::with(&either);
    for _ in 0..4 {
        // Somebody waits at the one that does not drive it, with the key of an order that runs.
        let spec = Spec::of(1).token("tok_slow");
        let order = till.sell(&spec).await;
        let (_, other) = owner_and_other(&house, &order.order_id).await;
        let mut orders = OrdersClient::new(house.callee(other));
        let again = orders.create_order(spec.clone().wait(20).request()).await.unwrap();
        assert!(again.metadata().contains_key("idempotent-replayed"));
        let again = again.into_inner();
        assert_eq!(again.order_id, order.order_id);
        assert!(
            matches!(again.status(), OrderStatus::Completed | OrderStatus::AwaitingPayment),
            "it waited until somebody else was waited for: {again:?}"
        );
        let mut changed = spec.request();
        changed.lines[0].quantity = 7;
        assert_eq!(orders.create_order(changed).await.unwrap_err().code(), Code::AlreadyExists);

        let spec = Spec::of(1).token("tok_slow");
        let order = till.sell(&spec).await;
        let (_, other) = owner_and_other(&house, &order.order_id).await;
        let mut orders = OrdersClient::new(house.callee(other));
        let cancel = CancelOrderRequest { order_id: order.order_id.clone(), reason: "no".into() };
        let cancelled = orders.cancel_order(cancel).await.unwrap().into_inner();
        assert!(cancelled.cancel_requested, "{cancelled:?}");
        eventually("it is cancelled", || async {
            let order = till.get(&order.order_id).await.ok()?;
            (order.status() == OrderStatus::Cancelled).then_some(())
        })
        .await;
    }
    till.ends(Duration::from_secs(30)).await;
    house.audit().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_cut_at_commit_under_fifty_sagas_leaves_none_stuck_and_none_doubled() {
    let house = House::start(Ground::default(), 1).await;
    house.stock_up().await;
    let till = Till::with(&house.client());
    for at in [CutAt::Before, CutAt::After, CutAt::Before, CutAt::After] {
        let before = house.database(FIRST).cut_so_far();
        let specs: Vec<Spec> = (0..50)
            .map(|n| match n % 5 {
                0 => Spec::of(1).token("tok_decline"),
                1 => Spec::of(1).token("tok_slow"),
                _ => Spec::of(1),
            })
            .collect();
        let sales = futures_util::future::join_all(specs.iter().map(|spec| till.sell(spec)));
        let cuts = async {
            for _ in 0..4 {
                house.database(FIRST).cut_at_commit(2, at);
                tokio::time::sleep(Duration::from_millis(150)).await;
            }
        };
        let (sales, ()) = tokio::join!(sales, cuts);
        assert_eq!(sales.len(), 50);
        // The run is void otherwise.
        eventually("a commit is cut", || async {
            (house.database(FIRST).cut_so_far() > before).then_some(())
        })
        .await;
        house.database(FIRST).cut_at_commit(0, at);
        till.ends(Duration::from_secs(15)).await;
    }
    house.audit().await;
}

/// What somebody is told who waits for an order at an orchestrator that is told to stop, while the order cannot be booked
/// for so long.
async fn is_told_by_one_that_stops(unbooked: Duration) -> OrderStatus {
    let mut ground = Ground::default();
    ground.environment.push(("AMENDS_BREAKER_COOL_DOWN", "100ms".into()));
    ground.environment.push(("AMENDS_PAYMENT_PATIENCE", "4s".into()));
    let mut house = House::start(ground, 2).await;
    house.stock_up().await;
    are_even(&house, 2).await;
    // Orders cannot be booked, so they run.
    let ledger = house.database(Member::Ledger);
    ledger.take_down();
    let waiting = |member| {
        let till = Till::with(&Client::of(vec![house.callee(member)]));
        tokio::spawn(async move { (till.sell(&Spec::of(1).wait(25)).await, till.failed()) })
    };
    let (at_first, at_second) = (waiting(FIRST), waiting(SECOND));
    let mut payments = house.databases.connect(&payment_svc::SCHEMA).await;
    let charged = "select count(*) from payments.attempt where state = 'SUCCEEDED'";
    let until = Instant::now() + Duration::from_secs(20);
    while sqlx::query_scalar::<_, i64>(charged).fetch_one(&mut payments).await.unwrap() < 2 {
        assert!(Instant::now() < until, "both are charged");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    tokio::spawn(async move {
        tokio::time::sleep(unbooked).await;
        ledger.bring_back();
    });
    assert_eq!(house.terminate(FIRST).await, Some(0));
    let (order, failed) = at_first.await.unwrap();
    assert_eq!(failed, Vec::<String>::new());
    let (second, failed) = at_second.await.unwrap();
    assert_eq!((second.status(), failed), (OrderStatus::Completed, Vec::new()));
    house.audit().await;
    order.status()
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_at_an_orchestrator_that_stops_is_told_what_another_drives() {
    // The second drives the first one's order on; the first still looks, and answers what it sees. On a busy machine it may
    // be at its own end first.
    let told = is_told_by_one_that_stops(Duration::from_secs(2)).await;
    assert!(matches!(told, OrderStatus::Completed | OrderStatus::PaymentSuccess), "{told:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_for_longer_than_an_orchestrator_takes_to_stop_is_told_what_it_saw_last() {
    assert_eq!(is_told_by_one_that_stops(Duration::from_secs(12)).await, OrderStatus::PaymentSuccess);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_watches_at_an_orchestrator_that_stops_is_told_to_go_elsewhere() {
    let mut ground = Ground::default();
    ground.environment.push(("AMENDS_SIMULATOR_SLOW", "30s".into()));
    let mut house = House::start(ground, 2).await;
    house.stock_up().await;
    let order = Till::with(&house.client()).sell(&Spec::of(1).token("tok_slow")).await;
    let request = WatchOrderRequest { order_id: order.order_id };
    let mut watching =
        OrdersClient::new(house.callee(FIRST)).watch_order(request).await.unwrap().into_inner();
    let watched = tokio::spawn(async move {
        loop {
            match watching.message().await {
                Ok(Some(_)) => {}
                end => break end,
            }
        }
    });
    assert_eq!(house.terminate(FIRST).await, Some(0));
    let end = watched.await.unwrap().unwrap_err();
    assert_eq!(end.code(), Code::Unavailable, "{end:?}");
    assert_eq!(end.get_details_error_info().unwrap().reason, "STOPPING");
}

#[tokio::test(flavor = "multi_thread")]
async fn shards_whose_acquisition_was_answered_by_nobody_are_driven_all_the_same() {
    let mut house = House::empty(Ground::default()).await;
    let launch = house.launch(FIRST).await;
    drop(launch);
    house.database(FIRST).cut_at_commit(5, CutAt::After);
    house.open(FIRST).await;
    eventually("it drives all", || async {
        let text = house.metrics(FIRST).await?;
        text.lines()
            .any(|line| line.starts_with("amends_shards_owned") && line.ends_with(" 16"))
            .then_some(())
    })
    .await;
    assert_eq!(house.database(FIRST).cut_so_far(), 5, "the run is void: nothing was cut");
}
