//! What a service stands on goes away and comes back: at its start, and under load.

use std::{
    process::Stdio,
    time::{Duration, Instant},
};

use chassis::testbed::variable;
use e2e::{
    Spec, eventually, eventually_within,
    house::{Ground, House, get},
    infra::{End, Server},
    process::Launch,
    proxy::Manner,
    stack::Member,
    till::Till,
};
use proto::{
    order::v1::OrderStatus,
    saga::v1::{GetSagaRequest, sagas_client::SagasClient},
};
use sqlx::{Connection as _, Executor as _, PgConnection};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::{Child, Command},
    sync::watch,
};

/// How long something stays away; a minute and more with `AMENDS_E2E_AWAY=60`.
fn away() -> Duration {
    let seconds = std::env::var("AMENDS_E2E_AWAY").ok().and_then(|seconds| seconds.parse().ok());
    Duration::from_secs(seconds.unwrap_or(10))
}

/// A process that may never say that it is ready.
struct Waiting {
    child: Child,
    said: watch::Receiver<String>,
}

impl Waiting {
    fn start(launch: &Launch) -> Self {
        let mut command = Command::new(variable("AMENDS_TEST_BINARY"));
        command.args(&launch.arguments).envs(launch.environment.iter().map(|(k, v)| (k, v)));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let (say, said) = watch::channel(String::new());
        tokio::spawn(async move {
            while let Ok(Some(line)) = lines.next_line().await {
                say.send_modify(|said| {
                    said.push_str(&line);
                    said.push('\n');
                });
            }
        });
        Self { child, said }
    }

    async fn says(&mut self, words: &str, times: usize) -> String {
        let said = self.said.wait_for(|said| said.matches(words).count() >= times);
        match tokio::time::timeout(Duration::from_secs(30), said).await {
            Ok(said) => said.unwrap().clone(),
            Err(_) => panic!("it never said {words:?} {times} times"),
        }
    }

    async fn ends(&mut self, within: Duration) -> Option<i32> {
        tokio::time::timeout(within, self.child.wait()).await.expect("it ends in time").unwrap().code()
    }

    async fn terminate(&mut self) {
        let pid = self.child.id().unwrap().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().await.unwrap().success());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_waits_for_what_it_stands_on_and_says_for_what() {
    let mut house = House::empty(Ground::default()).await;
    let mut launch = house.launch(Member::Inventory).await;
    let http = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let at = launch.arguments.iter().position(|argument| argument == "--http-listen").unwrap();
    launch.arguments[at + 1].clone_from(&http);
    for (_, value) in &mut launch.environment {
        // Trusted whatever the password: it is there to be looked for in the log.
        *value = value.replace("amends_inventory@", "amends_inventory:hunter2@");
    }
    house.amqp.take_down();
    house.database(Member::Inventory).take_down();

    let mut service = Waiting::start(&launch);
    let broker = house.amqp.address.to_string();
    let said = service.says("waiting for the broker", 4).await;
    assert!(said.contains(&broker), "{said}");
    assert_eq!(get(&http, "/healthz").await.unwrap().0, 200);
    assert_eq!(get(&http, "/readyz").await.unwrap().0, 503);
    house.amqp.bring_back();
    let database = house.database(Member::Inventory).address.to_string();
    let said = service.says("waiting for the database", 2).await;
    assert!(said.contains(&database), "{said}");
    assert_eq!(get(&http, "/readyz").await.unwrap().0, 503);
    house.database(Member::Inventory).bring_back();
    let said = service.says("ready grpc=", 1).await;
    assert!(!said.contains("hunter2"), "{said}");
    eventually("it is ready", || async { (get(&http, "/readyz").await?.0 == 200).then_some(()) }).await;
    service.terminate().await;
    assert_eq!(service.ends(Duration::from_secs(15)).await, Some(0));

    // The wish to stop ends a wait at once: for a broker that is away, for a database that swallows everything.
    house.amqp.take_down();
    let mut service = Waiting::start(&launch);
    service.says("waiting for the broker", 1).await;
    service.terminate().await;
    assert_eq!(service.ends(Duration::from_secs(5)).await, Some(0));
    house.amqp.bring_back();
    house.database(Member::Inventory).set(Manner::Swallow);
    let mut service = Waiting::start(&launch);
    service.says("connected to the broker", 2).await;
    service.terminate().await;
    assert_eq!(service.ends(Duration::from_secs(5)).await, Some(0));
    house.database(Member::Inventory).bring_back();

    // A database that is still being made is waited for.
    let name = format!("late_{}", chassis::clock::new_uuid().simple());
    let server = variable("AMENDS_TEST_POSTGRES_URL");
    let url =
        |role: &str| format!("{}/{name}", server.rsplit_once('/').unwrap().0.replace("postgres@", role));
    for (variable, value) in &mut launch.environment {
        if variable == "AMENDS_INVENTORY_DATABASE_URL" {
            *value = url("postgres@");
        }
    }
    let mut service = Waiting::start(&launch);
    service.says("waiting for the database", 1).await;
    let mut owner = PgConnection::connect(&server).await.unwrap();
    let create = format!("create database {name} template template0");
    owner.execute(sqlx::raw_sql(sqlx::AssertSqlSafe(create))).await.unwrap();
    service.says("ready grpc=", 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn happy_orders_go_on_while_the_broker_is_away_and_compensations_go_after_its_return() {
    // A charge that takes longer than this settles by message, and there is no broker.
    let mut ground = Ground::default();
    for (name, time) in [
        ("AMENDS_PAYMENT_PATIENCE", "10s"),
        ("AMENDS_PAYMENT_CALL_TIMEOUT", "10s"),
        ("AMENDS_PAYMENT_HORIZON", "25s"),
    ] {
        ground.environment.push((name, time.into()));
    }
    let house = House::start(ground, 1).await;
    house.stock_up().await;
    let till = Till::with(&house.client());
    till.sell(&Spec::of(1).wait(20)).await;
    house.amqp.take_down();
    let gone = Instant::now();
    let mut turned = Vec::new();
    while gone.elapsed() < away() * 2 {
        let order = till.sell(&Spec::of(1).wait(20)).await;
        assert_eq!(order.status(), OrderStatus::Completed, "without the broker: {order:?}");
        turned.push(till.sell(&Spec::of(1).token("tok_decline")).await.order_id);
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    assert_eq!(till.failed(), Vec::<String>::new());
    for order_id in &turned {
        let order = till.get(order_id).await.unwrap();
        assert_ne!(order.status(), OrderStatus::Cancelled, "its stock cannot have been released yet");
    }
    house.amqp.bring_back();
    till.ends(Duration::from_secs(30)).await;
    house.audit().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_services_database_is_away_for_a_while_and_nothing_is_spent() {
    let house = House::start(Ground::default(), 1).await;
    house.stock_up().await;
    let till = Till::with(&house.client());
    let mut sagas = SagasClient::new(house.callee(Member::Orchestrator(1)));
    till.sell(&Spec::of(1).wait(20)).await;
    for member in [Member::Inventory, Member::Risk, Member::Payment, Member::Ledger] {
        let database = house.database(member);
        // Compensations are on their way, too; and one half of the absences swallows instead of refusing.
        let declined = till.sell(&Spec::of(1).token("tok_decline")).await;
        let swallows = matches!(member, Member::Risk | Member::Ledger);
        if swallows {
            database.set(Manner::Swallow)
        } else {
            database.take_down()
        }
        let mut waiting = vec![declined];
        for _ in 0..5 {
            waiting.push(till.sell(&Spec::of(1)).await);
        }
        tokio::time::sleep(away()).await;
        for order in &waiting[1..] {
            let order = till.get(&order.order_id).await.unwrap();
            assert_eq!(order.status_reason, "", "it waits: {order:?}");
        }
        database.bring_back();
        if !swallows {
            for order in &waiting[1..] {
                // What was sent when it fell may be in doubt; after that nothing is spent.
                let request = GetSagaRequest { saga_id: order.order_id.clone() };
                let saga = sagas.get_saga(request).await.unwrap().into_inner();
                let attempts = saga.steps.iter().map(|step| step.attempts).max();
                assert!(attempts <= Some(2), "attempts were spent on {member}: {saga:?}");
            }
        }
        // The backlog moves within 30 s.
        let back = Instant::now();
        for order in &waiting[1..] {
            let left = Duration::from_secs(30).saturating_sub(back.elapsed());
            let what = format!("{} completes after {member} is back", order.order_id);
            eventually_within(left, &what, || async {
                let order = till.get(&order.order_id).await.ok()?;
                assert_ne!(order.status(), OrderStatus::Cancelled, "given up: {order:?}");
                (order.status() == OrderStatus::Completed).then_some(())
            })
            .await;
        }
    }
    till.ends(Duration::from_secs(30)).await;
    house.audit().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres_rabbitmq_and_redis_are_restarted_under_load_and_no_acknowledged_order_is_lost() {
    let (mut postgres, mut rabbit, mut redis) =
        tokio::join!(Server::postgres(), Server::rabbit(), Server::redis());
    let ground = Ground {
        postgres: postgres.url(),
        amqp: rabbit.url(),
        redis: redis.url(),
        environment: vec![("AMENDS_LEASE", "4s".into())],
    };
    let house = House::start(ground, 2).await;
    house.stock_up().await;
    let till = Till::with(&house.client());
    let open = till.open(8);
    tokio::time::sleep(Duration::from_secs(2)).await;
    for end in [End::Gently, End::AtOnce] {
        postgres.stop(end).await;
        tokio::time::sleep(Duration::from_secs(1)).await;
        postgres.start().await;
        tokio::time::sleep(Duration::from_secs(3)).await;
    }
    redis.stop(End::AtOnce).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    redis.start().await;
    rabbit.stop(End::AtOnce).await;
    rabbit.start().await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    open.close().await;
    let completed = till.ends(Duration::from_secs(60)).await;
    assert!(completed > till.sold().len() / 3, "{completed} of {}", till.sold().len());
    house.audit().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_away_then_emptied_is_slower_and_nothing_else() {
    let mut server = Server::redis().await;
    let mut ground = Ground { redis: server.url(), ..Ground::default() };
    // A limit that nobody reaches, so that Redis is asked.
    ground.environment.push(("AMENDS_MERCHANT_ORDERS_PER_SECOND", "1000".into()));
    let house = House::start(ground, 1).await;
    house.stock_up().await;
    let till = Till::with(&house.client());
    let open = till.open(10);
    tokio::time::sleep(Duration::from_secs(1)).await;
    house.redis.set(Manner::Swallow);
    tokio::time::sleep(Duration::from_secs(3)).await;
    house.redis.take_down();
    server.stop(End::AtOnce).await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    server.start().await;
    house.redis.bring_back();
    for _ in 0..5 {
        let client = redis::Client::open(server.url()).unwrap();
        let mut connection = client.get_multiplexed_async_connection().await.unwrap();
        let _: () = redis::cmd("FLUSHALL").query_async(&mut connection).await.unwrap();
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    open.close().await;
    assert_eq!(till.failed(), Vec::<String>::new());
    till.ends(Duration::from_secs(60)).await;
    house.audit().await;
}
