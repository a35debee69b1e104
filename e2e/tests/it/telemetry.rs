//! What people see of an order: one trace from CreateOrder to the letter, through every process, and past `kill -9`.
//!
//! Judged in the file of a collector. The same processes show their health, their readiness and their metrics.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    time::{Duration, Instant},
};

use chassis::{
    grpc::Callee,
    testbed::{TestDatabase, variable},
};
use e2e::{
    Collector, Span, Spec, eventually,
    process::{self, Launch, Process, folder},
};
use proto::{
    inventory::v1::{RestockRequest, inventory_client::InventoryClient},
    ledger::v1::{CloseAccountRequest, ledger_client::LedgerClient},
    money::Money,
    order::v1::{
        GetOrderRequest, Order, OrderStatus, SetPriceRequest, catalog_client::CatalogClient,
        orders_client::OrdersClient,
    },
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

const ROOT: &str = "amends.order.v1.Orders/CreateOrder";

/// Found nowhere but in the orders of this file.
const CUSTOMER: &str = "c_seen_by_nobody";

type Environment = Vec<(&'static str, String)>;

async fn get(address: &str, path: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}

/// A process that serves is alive and ready, and counts something.
async fn shows_itself(process: &Process) -> String {
    let http = &process.addresses["http"];
    assert_eq!(get(http, "/healthz").await, (200, "alive\n".into()));
    eventually("it is ready", || async { (get(http, "/readyz").await.0 == 200).then_some(()) }).await;
    let (status, metrics) = get(http, "/metrics").await;
    assert_eq!(status, 200);
    metrics
}

async fn create(callee: &Callee, token: &str, wait: i64) -> Order {
    let spec = Spec::of(1).customer(CUSTOMER).token(token).wait(wait);
    OrdersClient::new(callee.clone()).create_order(spec.request()).await.unwrap().into_inner()
}

/// The one trace of an order, as far as it has come.
fn trace(collector: &Collector, order: &Order) -> Vec<Span> {
    let all = collector.spans();
    let of = |span: &&Span| span.attribute("saga.id") == order.saga_id;
    let ids: BTreeSet<&str> = all.iter().filter(of).map(|span| span.trace_id.as_str()).collect();
    assert!(ids.len() <= 1, "one order, one trace: {ids:?}");
    all.iter().filter(|span| ids.contains(span.trace_id.as_str())).cloned().collect()
}

/// What holds it together: one root, and every parent is there.
fn loose(spans: &[Span]) -> Vec<String> {
    let ids: BTreeSet<&str> = spans.iter().map(|span| span.span_id.as_str()).collect();
    let roots: Vec<&str> =
        spans.iter().filter(|s| s.parent_span_id.is_empty()).map(|s| s.name.as_str()).collect();
    let mut loose: Vec<String> = spans
        .iter()
        .filter(|s| !s.parent_span_id.is_empty() && !ids.contains(s.parent_span_id.as_str()))
        .map(|s| format!("{} of {}", s.name, s.service))
        .collect();
    if roots != [ROOT] {
        loose.push(format!("roots: {roots:?}"));
    }
    loose
}

/// Waits until the trace holds these spans and hangs together; the last of them is the letter that was sent.
async fn is_whole(collector: &Collector, order: &Order, names: &[&str]) -> Vec<Span> {
    let until = Instant::now() + Duration::from_secs(30);
    loop {
        let spans = trace(collector, order);
        let there: BTreeSet<&str> = spans.iter().map(|span| span.name.as_str()).collect();
        let sent = spans.iter().any(|s| s.name == "send letter" && s.attribute("outcome") == "sent");
        let missing: Vec<_> = names.iter().filter(|name| !there.contains(**name)).collect();
        let loose = loose(&spans);
        if missing.is_empty() && loose.is_empty() && sent {
            return spans;
        }
        let id = &order.order_id;
        assert!(
            Instant::now() < until,
            "the trace of {id} is not whole after 30 s: missing {missing:?}, loose {loose:?}, letter sent: {sent}"
        );
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

fn outcome<'s>(spans: &'s [Span], name: &str) -> &'s str {
    spans.iter().find(|span| span.name == name).map_or("", |span| span.attribute("step.outcome"))
}

fn root(spans: &[Span]) -> &Span {
    spans.iter().find(|span| span.parent_span_id.is_empty()).unwrap()
}

/// A call lasts as long as what it asks for.
fn lasts(spans: &[Span]) {
    for span in spans.iter().filter(|span| span.name.starts_with("amends.") && span.name != root(spans).name)
    {
        let call = spans.iter().find(|call| call.span_id == span.parent_span_id).unwrap();
        assert!(call.start_ns <= span.start_ns && call.end_ns >= span.end_ns, "{call:?}\n{span:?}");
    }
}

/// A line that was written in a trace names it, beside its own fields; each line is JSON.
async fn logs_say_their_trace(process: &Process, log: &Path, collector: &Collector) {
    let doubtful = create(&process.callee(), "tok_timeout_after", 1).await;
    let line = eventually("the log tells of the provider", || async {
        let text = std::fs::read_to_string(log).unwrap();
        let lines = text.lines().filter(|line| line.starts_with('{'));
        let mut lines = lines.map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
        lines.find(|line| line["message"] == "the provider did not answer")
    })
    .await;
    let spans = eventually("its trace is there", || async {
        Some(trace(collector, &doubtful)).filter(|spans| !spans.is_empty())
    })
    .await;
    assert_eq!(line["trace_id"], spans[0].trace_id.as_str(), "{line}");
    assert_eq!(
        (&line["call"], line["span_id"].as_str().map(str::len)),
        (&"charge".into(), Some(16)),
        "{line}"
    );
}

/// Whoever calls the program may be in a trace of its own.
async fn a_command_is_part_of_its_callers_trace(process: &Process, collector: &Collector) {
    let environment = [("TRACEPARENT", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".to_owned())];
    let server = format!("http://{}", process.addresses["grpc"]);
    let (code, text) = process::run(&["order", "list", "--server", &server], &environment).await;
    assert_eq!(code, Some(0), "{text}");
    eventually("the call is in the trace", || async {
        let spans = collector.spans();
        let listed = spans.iter().find(|span| span.name == "amends.order.v1.Orders/ListOrders")?;
        assert_eq!(listed.trace_id, "0af7651916cd43dd8448eb211c80319c");
        assert_eq!(listed.parent_span_id, "b7ad6b7169203331");
        Some(())
    })
    .await;
}

fn nothing_is_told(collector: &Collector) {
    let text = collector.text();
    for secret in ["tok_", CUSTOMER] {
        assert!(!text.contains(secret), "{secret} stands in a trace");
    }
}

/// A quote is not here: it may be remembered from the order before.
const FORWARD: [&str; 16] = [
    "call open",
    "amends.order.v1.OrderSteps/Open",
    "call reserve",
    "amends.inventory.v1.InventorySteps/Reserve",
    "call screen",
    "amends.risk.v1.RiskSteps/Screen",
    "call charge",
    "amends.payment.v1.PaymentSteps/Charge",
    "provider charge",
    "call post",
    "amends.ledger.v1.LedgerSteps/Post",
    "amends.inventory.v1.InventorySteps/Commit",
    "amends.order.v1.OrderSteps/Complete",
    "commit",
    "process events.order.completed",
    "send letter",
];

const BACK: [&str; 8] = [
    "call charge",
    "amends.payment.v1.PaymentSteps/Charge",
    "commit",
    "process commands.inventory",
    "process commands.order",
    "process replies.orchestrator",
    "process events.order.cancelled",
    "send letter",
];

async fn up(data: &Path, collector: &Collector) -> Process {
    let log = Some(data.join("log"));
    let (data, postgres) = (data.to_str().unwrap(), variable("AMENDS_TEST_POSTGRES_BIN"));
    let arguments = "up --grpc-listen 127.0.0.1:0 --http-listen 127.0.0.1:0 --simulator-slow 8s --payment-horizon 3s \
                     --payment-call-timeout 900ms --payment-look 200ms --log-format json";
    let mut arguments: Vec<&str> = arguments.split_whitespace().collect();
    arguments.extend(["--data-dir", data, "--postgres-bin", &postgres]);
    let arguments = arguments.into_iter().map(str::to_owned).collect();
    let environment = vec![("OTEL_EXPORTER_OTLP_ENDPOINT".to_owned(), collector.endpoint())];
    Process::launch(&Launch { arguments, environment, log, ..Launch::default() }).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_is_one_trace_from_its_creation_to_the_letter_even_past_kill_minus_nine() {
    let data = folder("traces");
    let collector = Collector::start(&data.join("traces.jsonl")).await;
    let first = up(&data, &collector).await;

    let done = create(&first.callee(), "tok_approve", 20).await;
    assert_eq!(done.status(), OrderStatus::Completed, "{done:?}");
    let spans = is_whole(&collector, &done, &FORWARD).await;
    assert_eq!((outcome(&spans, "call charge"), outcome(&spans, "call open")), ("done", "done"));
    let quote = spans.iter().find(|span| span.name == "quote");
    assert!(quote.is_some_and(|quote| quote.parent_span_id == root(&spans).span_id), "{quote:?}");
    assert_eq!(root(&spans).attribute("saga.id"), done.saga_id);
    lasts(&spans);
    let facts: Vec<&str> = spans.iter().map(|span| span.attribute("saga.events")).collect();
    assert!(facts.iter().any(|f| f.contains("PivotPassed")), "{facts:?}");
    assert!(facts.iter().any(|f| f.contains("Finished")), "{facts:?}");

    let declined = create(&first.callee(), "tok_decline", 20).await;
    assert_eq!(declined.status(), OrderStatus::Cancelled, "{declined:?}");
    let spans = is_whole(&collector, &declined, &BACK).await;
    assert_eq!(outcome(&spans, "call charge"), "refused");
    logs_say_their_trace(&first, &data.join("log"), &collector).await;
    assert!(spans.iter().any(|span| span.attribute("saga.events").contains("TurnedRound")));

    // It waits for its payment when the process is killed; everything so far has reached the collector.
    let waiting = create(&first.callee(), "tok_slow", 20).await;
    assert_eq!(waiting.status(), OrderStatus::AwaitingPayment, "{waiting:?}");
    eventually("what happened so far is in the file", || async {
        let spans = trace(&collector, &waiting);
        let waits = spans.iter().any(|span| span.attribute("saga.events").contains("StepPending"));
        (waits && loose(&spans).is_empty()).then_some(())
    })
    .await;
    a_command_is_part_of_its_callers_trace(&first, &collector).await;
    let metrics = shows_itself(&first).await;
    for name in [
        "amends_sagas_ended_total{outcome=\"completed\"}",
        "amends_sagas_ended_total{outcome=\"compensated\"} 1",
        "amends_saga_seconds_count{outcome=\"completed\"}",
        "amends_step_calls_total{step=\"charge\",outcome=\"refused\"} 1",
        "amends_step_call_seconds_count{step=\"open\"}",
        "amends_sagas{state=\"PARKED\"} 0",
        "amends_shards_owned 16",
        "amends_journal_group_size_bucket",
        "amends_journal_commit_seconds_count",
        "amends_compensation_seconds_count",
        "amends_compensation_lag_seconds",
        "amends_outbox_rows{service=\"orchestrator\"}",
        "amends_outbox_oldest_seconds{service=\"payment\"}",
        "amends_breaker_state{callee=\"payment\"} 0",
    ] {
        assert!(metrics.contains(name), "{name} is not in\n{metrics}");
    }
    first.kill().await;
    let before = trace(&collector, &waiting).len();

    let second = up(&data, &collector).await;
    let ended = eventually("it completes", || async {
        let request = GetOrderRequest { order_id: waiting.order_id.clone() };
        let order = OrdersClient::new(second.callee()).get_order(request).await.ok()?.into_inner();
        (order.status() == OrderStatus::Completed).then_some(order)
    })
    .await;
    let spans = is_whole(&collector, &ended, &FORWARD).await;
    assert!(spans.len() > before, "the second process has its part in the trace");
    nothing_is_told(&collector);
    assert_eq!(second.terminate().await, Some(0));
}

/// Everything that seven processes are told.
fn environment(database: &TestDatabase, collector: &Collector, letters: &Path) -> Environment {
    vec![
        ("OTEL_EXPORTER_OTLP_ENDPOINT", collector.endpoint()),
        ("AMENDS_AMQP_URL", variable("AMENDS_TEST_AMQP_URL")),
        ("AMENDS_AMQP_PREFIX", format!("e2e-{}.", chassis::clock::new_uuid().simple())),
        ("AMENDS_TOKEN_KEY", chassis::testbed::TOKEN_KEY.to_owned()),
        ("AMENDS_NOTIFICATION_OUTBOX_DIR", letters.to_str().unwrap().to_owned()),
        ("AMENDS_ORCHESTRATOR_DATABASE_URL", database.url(&orchestrator::SCHEMA)),
        ("AMENDS_ORDER_DATABASE_URL", database.url(&order_svc::SCHEMA)),
        ("AMENDS_INVENTORY_DATABASE_URL", database.url(&inventory_svc::SCHEMA)),
        ("AMENDS_RISK_DATABASE_URL", database.url(&risk_svc::SCHEMA)),
        ("AMENDS_PAYMENT_DATABASE_URL", database.url(&payment_svc::SCHEMA)),
        ("AMENDS_SIMULATOR_DATABASE_URL", database.url(&payment_svc::SIMULATOR_SCHEMA)),
        ("AMENDS_LEDGER_DATABASE_URL", database.url(&ledger_svc::SCHEMA)),
        ("AMENDS_NOTIFICATION_DATABASE_URL", database.url(&notification_svc::SCHEMA)),
    ]
}

/// The ledger refuses a merchant who left: what was charged goes back, and the books hear of it.
async fn money_that_goes_back_is_in_the_trace(orders: &Callee, ledger: Callee, collector: &Collector) {
    let account_id = "merchant:m_1:EUR".to_owned();
    let close = CloseAccountRequest { account_id, reason: "left".into() };
    LedgerClient::new(ledger).close_account(close).await.unwrap();
    let refunded = create(orders, "tok_approve", 20).await;
    assert_eq!(refunded.status_reason, "ACCOUNT_CLOSED", "{refunded:?}");
    let names = ["process commands.payment", "provider refund", "process events.payment.refunded"];
    let spans = is_whole(collector, &refunded, &names).await;
    let booked = spans.iter().find(|span| span.name == names[2]).unwrap();
    assert_eq!((booked.service.as_str(), booked.attribute("outcome")), ("amends-ledger", "done"));
}

/// A process whose database takes no connections is alive, and not ready; when it takes them again, it is.
async fn unready_without_a_database(database: &TestDatabase, process: &Process) {
    let mut owner = database.connect().await;
    let mut limit = async |connections: i32| {
        let set = "execute format('alter database %I connection limit %s', current_database()";
        let set = format!("do $$ begin {set}, {connections}); end $$");
        sqlx::raw_sql(sqlx::AssertSqlSafe(set)).execute(&mut owner).await.unwrap();
    };
    let http = &process.addresses["http"];
    limit(0).await;
    let (status, why) = get(http, "/readyz").await;
    assert!(status == 503 && why.starts_with("database: "), "{status} {why}");
    assert_eq!(get(http, "/healthz").await.0, 200);
    limit(-1).await;
    assert_eq!(get(http, "/readyz").await, (200, "ready\n".into()));
}

async fn alone(service: &str, environment: &Environment) -> Process {
    let arguments = [service, "--grpc-listen", "127.0.0.1:0", "--http-listen", "127.0.0.1:0"];
    Process::start(&arguments, environment).await
}

async fn stock_up(catalog: Callee, inventory: Callee) {
    let unit_price = Some(Money { minor_units: 1999, currency_code: "EUR".into() });
    let price = SetPriceRequest { sku: "P1001".into(), unit_price, title: "Cup".into() };
    CatalogClient::new(catalog).set_price(price).await.unwrap();
    let restock = RestockRequest { request_id: "first".into(), sku: "P1001".into(), quantity: 10 };
    InventoryClient::new(inventory).restock(restock).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn seven_processes_over_a_broker_make_one_trace_of_an_order() {
    let data = folder("seven");
    let collector = Collector::start(&data.join("traces.jsonl")).await;
    let database = TestDatabase::create(&amends::provision::schemas()).await;
    let mut environment = environment(&database, &collector, &data);
    let urls = [
        ("order", "AMENDS_ORDER_URL"),
        ("inventory", "AMENDS_INVENTORY_URL"),
        ("risk", "AMENDS_RISK_URL"),
        ("payment", "AMENDS_PAYMENT_URL"),
        ("ledger", "AMENDS_LEDGER_URL"),
        ("notification", ""),
        ("orchestrator", ""),
    ];
    let mut running = BTreeMap::new();
    for (service, url) in urls {
        let process = alone(service, &environment).await;
        if !url.is_empty() {
            environment.push((url, format!("http://{}", process.addresses["grpc"])));
        }
        running.insert(service, process);
    }
    stock_up(running["order"].callee(), running["inventory"].callee()).await;
    for process in running.values() {
        assert!(shows_itself(process).await.contains("amends_"));
    }

    let callee = running["orchestrator"].callee();
    let done = create(&callee, "tok_approve", 20).await;
    assert_eq!(done.status(), OrderStatus::Completed, "{done:?}");
    let spans = is_whole(&collector, &done, &FORWARD).await;
    let services: BTreeSet<&str> = spans.iter().map(|span| span.service.as_str()).collect();
    let all = ["inventory", "ledger", "notification", "orchestrator", "order", "payment", "risk"];
    assert_eq!(
        services,
        all.iter().map(|s| format!("amends-{s}")).collect::<Vec<_>>().iter().map(String::as_str).collect()
    );

    let declined = create(&callee, "tok_decline", 20).await;
    assert_eq!(declined.status(), OrderStatus::Cancelled, "{declined:?}");
    let spans = is_whole(&collector, &declined, &BACK).await;
    let answered = spans.iter().filter(|span| span.name == "process replies.orchestrator");
    assert!(answered.clone().count() >= 2, "inventory and order answered: {answered:?}");

    money_that_goes_back_is_in_the_trace(&callee, running["ledger"].callee(), &collector).await;
    nothing_is_told(&collector);
    unready_without_a_database(&database, &running["ledger"]).await;
    for (service, process) in running {
        assert_eq!(process.terminate().await, Some(0), "{service}");
    }
}
