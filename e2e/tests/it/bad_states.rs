//! What is well said and wrong all the same: unknown names, wrong states, repeats with another body, forged page tokens.
//!
//! Each says which of these it is, by code and reason, and stores nothing.

use e2e::{
    Spec, World,
    doors::{
        Method,
        call::{Answer, Call},
        good::Shop,
        prints::{Camera, changed},
    },
};
use prost::Message as _;
use prost_reflect::{DynamicMessage, Value};
use proto::step::turned_away;
use tonic::Code;

struct Counter {
    world: World,
    shop: Shop,
}

fn method(name: &str) -> Method {
    Method::all().into_iter().find(|method| method.name() == name).unwrap()
}

impl Counter {
    async fn open() -> Self {
        let world = World::local().await;
        let shop = Shop::open(&world).await;
        Self { world, shop }
    }

    async fn good(&self, name: &str) -> DynamicMessage {
        self.shop.request(&self.world, &method(name)).await
    }

    async fn send(&self, name: &str, request: &DynamicMessage) -> Answer {
        let method = method(name);
        Call::of(&method, &request.encode_to_vec()).send(method.callee(&self.world)).await
    }
}

fn with(mut request: DynamicMessage, field: &str, value: Value) -> DynamicMessage {
    request.set_field_by_name(field, value);
    request
}

fn text(text: &str) -> Value {
    Value::String(text.into())
}

fn item(request: &mut DynamicMessage) -> &mut DynamicMessage {
    request.get_field_by_name_mut("items").unwrap().as_list_mut().unwrap()[0].as_message_mut().unwrap()
}

/// Method, field, value; code and reason.
type Row = (&'static str, &'static str, &'static str, Code, &'static str);

const NOBODYS_ORDER: &str = "ord_01h2xcejqtf2nbrexx3vqjhp41";
const NOBODYS_SAGA: &str = "saga_01h2xcejqtf2nbrexx3vqjhp41";
const NOBODYS_UUID: &str = "0188bac7-4afa-78aa-bc3b-bd1eef28d881";

const ROWS: &[Row] = &[
    ("Orders/GetOrder", "order_id", NOBODYS_ORDER, Code::NotFound, "ORDER_NOT_FOUND"),
    ("Orders/CancelOrder", "order_id", NOBODYS_ORDER, Code::NotFound, "ORDER_NOT_FOUND"),
    ("Orders/WatchOrder", "order_id", NOBODYS_ORDER, Code::NotFound, "ORDER_NOT_FOUND"),
    ("Sagas/GetSaga", "saga_id", NOBODYS_SAGA, Code::NotFound, "SAGA_NOT_FOUND"),
    ("Sagas/WatchSaga", "saga_id", NOBODYS_ORDER, Code::NotFound, "SAGA_NOT_FOUND"),
    ("Sagas/ListJournal", "saga_id", NOBODYS_SAGA, Code::NotFound, "SAGA_NOT_FOUND"),
    ("Sagas/Retry", "saga_id", NOBODYS_SAGA, Code::NotFound, "SAGA_NOT_FOUND"),
    ("Sagas/ForceCompensate", "saga_id", NOBODYS_SAGA, Code::NotFound, "SAGA_NOT_FOUND"),
    ("Sagas/Resolve", "saga_id", NOBODYS_SAGA, Code::NotFound, "SAGA_NOT_FOUND"),
    ("Catalog/GetDocument", "order_id", NOBODYS_ORDER, Code::NotFound, "DOCUMENT_NOT_FOUND"),
    ("Inventory/GetStock", "sku", "NOBODY-SELLS-IT", Code::NotFound, "STOCK_NOT_FOUND"),
    ("Ledger/GetAccount", "account_id", "merchant:nobody:EUR", Code::NotFound, "ACCOUNT_NOT_FOUND"),
    ("Ledger/CloseAccount", "account_id", "merchant:nobody:EUR", Code::NotFound, "ACCOUNT_NOT_FOUND"),
    ("Ledger/ReopenAccount", "account_id", "merchant:nobody:EUR", Code::NotFound, "ACCOUNT_NOT_FOUND"),
    ("Reviews/GetReview", "saga_id", NOBODYS_SAGA, Code::NotFound, "REVIEW_NOT_FOUND"),
    ("Reviews/DecideReview", "saga_id", NOBODYS_SAGA, Code::NotFound, "REVIEW_NOT_FOUND"),
    ("Attempts/GetAttempt", "payment_id", NOBODYS_SAGA, Code::NotFound, "PAYMENT_NOT_FOUND"),
    ("Notifications/Resend", "delivery_id", NOBODYS_UUID, Code::NotFound, "DELIVERY_NOT_FOUND"),
    // The shop's order is complete.
    ("Orders/CancelOrder", "reason", "too late", Code::FailedPrecondition, "ORDER_NOT_CANCELLABLE"),
    ("Sagas/Retry", "reason", "too late", Code::FailedPrecondition, "SAGA_NOT_PARKED"),
    ("Sagas/ForceCompensate", "reason", "too late", Code::FailedPrecondition, "SAGA_NOT_FORWARD"),
    ("Sagas/Resolve", "reason", "too late", Code::FailedPrecondition, "NOTHING_TO_RESOLVE"),
    ("Ledger/CloseAccount", "account_id", "tax_payable:EUR", Code::FailedPrecondition, "HOUSE_ACCOUNT"),
    ("Ledger/CloseAccount", "account_id", "suspense:EUR", Code::FailedPrecondition, "HOUSE_ACCOUNT"),
    (
        "Ledger/ReopenAccount",
        "account_id",
        "provider_clearing:EUR",
        Code::FailedPrecondition,
        "HOUSE_ACCOUNT",
    ),
    ("Orders/CreateOrder", "currency_code", "USD", Code::InvalidArgument, "VALIDATION"),
];

#[tokio::test(flavor = "multi_thread")]
async fn unknown_names_and_wrong_states_say_so_and_store_nothing() {
    let counter = Counter::open().await;
    let mut camera = Camera::of(&counter.world).await;
    for (name, field, value, code, reason) in ROWS {
        let request = with(counter.good(name).await, field, text(value));
        let before = camera.at_rest().await;
        let answer = counter.send(name, &request).await;
        assert_eq!((answer.code(), answer.reason().as_str()), (*code, *reason), "{name} {field}: {answer:?}");
        assert_eq!(changed(&before, &camera.take().await), Vec::<String>::new(), "{name} {field}");
    }
    counter.shop.close(&counter.world).await;
    counter.world.audit().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_key_with_another_body_is_refused() {
    let counter = Counter::open().await;
    let mut camera = Camera::of(&counter.world).await;
    for (name, field, value) in [
        ("Orders/CreateOrder", "customer_id", text("c_2")),
        ("Inventory/Restock", "quantity", Value::I64(6)),
        ("Inventory/Restock", "sku", text("P1001")),
    ] {
        let request = counter.good(name).await;
        assert_eq!(counter.send(name, &request).await.code(), Code::Ok);
        let before = camera.at_rest().await;
        let answer = counter.send(name, &with(request.clone(), field, value)).await;
        assert_eq!(answer.reason(), "IDEMPOTENCY_KEY_REUSED", "{name} {field}: {answer:?}");
        assert_eq!(answer.code(), Code::AlreadyExists);
        assert_eq!(counter.send(name, &request).await.code(), Code::Ok, "the first stands");
        assert_eq!(changed(&before, &camera.take().await), Vec::<String>::new(), "{name} {field}");
    }
    let decide = counter.good("Reviews/DecideReview").await;
    assert_eq!(counter.send("Reviews/DecideReview", &decide).await.code(), Code::Ok);
    let before = camera.at_rest().await;
    let again = with(decide, "approve", Value::Bool(true));
    let answer = counter.send("Reviews/DecideReview", &again).await;
    assert_eq!((answer.code(), answer.reason().as_str()), (Code::FailedPrecondition, "REVIEW_DECIDED"));
    assert_eq!(changed(&before, &camera.take().await), Vec::<String>::new());
    counter.shop.close(&counter.world).await;
    counter.world.audit().await;
}

/// Each step, and the field of its item that makes it another one.
const STEPS: &[(&str, &str, fn() -> Value)] = &[
    ("OrderSteps/Open", "customer_id", || text("c_2")),
    ("InventorySteps/Reserve", "lines", || Value::List(Vec::new())),
    ("RiskSteps/Screen", "customer_id", || text("c_2")),
    ("PaymentSteps/Charge", "merchant_id", || text("m_2")),
    ("LedgerSteps/Post", "tax_minor", || Value::I64(100)),
];

/// Without the auditor: these steps are of no saga, which is what it would say.
#[tokio::test(flavor = "multi_thread")]
async fn a_step_asked_with_another_body_is_a_mismatch_and_after_its_compensation_fenced() {
    let counter = Counter::open().await;
    let mut camera = Camera::of(&counter.world).await;
    for (name, field, other) in STEPS {
        let forward = method(name);
        let request = counter.good(name).await;
        let first = counter.send(name, &request).await;
        assert_eq!(first.turned_away(&forward), None, "{name}");
        let before = camera.at_rest().await;
        let mut mismatched = request.clone();
        if *field == "lines" {
            let line = item(&mut mismatched).get_field_by_name_mut("lines").unwrap().as_list_mut().unwrap();
            line[0].as_message_mut().unwrap().set_field_by_name("quantity", Value::I64(2));
        } else {
            item(&mut mismatched).set_field_by_name(field, other());
        }
        let away = counter.send(name, &mismatched).await.turned_away(&forward);
        assert_eq!(away.map(|a| a.code()), Some(turned_away::Code::Mismatch), "{name}");
        assert_eq!(
            counter.send(name, &request).await.messages,
            first.messages,
            "{name}: a repeat says the same"
        );
        assert_eq!(changed(&before, &camera.take().await), Vec::<String>::new(), "{name}");
    }
    for (back, forward) in [
        ("OrderSteps/Cancel", "OrderSteps/Open"),
        ("InventorySteps/Release", "InventorySteps/Reserve"),
        ("PaymentSteps/Refund", "PaymentSteps/Charge"),
        ("LedgerSteps/Reverse", "LedgerSteps/Post"),
    ] {
        let compensation = counter.good(back).await;
        assert_eq!(counter.send(back, &compensation).await.code(), Code::Ok);
        let before = camera.at_rest().await;
        // The step of the same saga, which comes too late.
        let mut request = counter.good(forward).await;
        let mut other = compensation.clone();
        for field in ["header", "order_id"] {
            let value = item(&mut other).get_field_by_name(field).unwrap().into_owned();
            item(&mut request).set_field_by_name(field, value);
        }
        let answer = counter.send(forward, &request).await;
        let reply = DynamicMessage::decode(method(forward).output(), answer.messages[0].clone()).unwrap();
        assert!(reply.has_field_by_name("fenced"), "{forward}: {reply:?}");
        assert_eq!(changed(&before, &camera.take().await), Vec::<String>::new(), "{forward}");
    }
}

/// What each list's tokens belong to, and cursors that it never gave.
fn forgeries(shop: &Shop) -> Vec<(&'static str, Vec<String>, Vec<&'static str>)> {
    let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
    let micros =
        vec!["", " ", "x", "-200000000000000000 a", "9223372036854775807 x", "-9223372036854775808 x"];
    vec![
        (
            "Orders/ListOrders",
            words(&["m_1", "c_1", "COMPLETED"]),
            vec!["", "x", "saga_01h2xcejqtf2nbrexx3vqjhp41"],
        ),
        ("Sagas/ListSagas", words(&["COMPLETED", "order"]), vec!["", "x"]),
        ("Sagas/ListJournal", vec![shop.saga_id.clone()], vec!["", "x", "-1", "9223372036854775808", "1e3"]),
        ("Catalog/ListPrices", words(&["EUR"]), vec!["", " ", "a b c", "\u{7f} \u{7f}", "P1001 EUR\0"]),
        ("Inventory/ListStock", Vec::new(), vec!["", "\0", "a\0b", "\u{10ffff}"]),
        ("Ledger/ListAccounts", words(&["accounts", "merchant:"]), vec!["", "\0", "%", "\u{202e}"]),
        (
            "Ledger/ListEntries",
            vec!["entries".to_owned(), "merchant:m_1:EUR".to_owned(), shop.saga_id.clone()],
            vec!["", "x", "{}"],
        ),
        (
            "Reviews/ListReviews",
            words(&["reviews", "OPEN"]),
            [micros.clone(), vec!["-200000000000000000 saga_01h2xcejqtf2nbrexx3vqjhp41 screen"]].concat(),
        ),
        ("Attempts/ListAttempts", words(&["attempts", "SUCCEEDED"]), vec!["", "/", "x/y", "0/charge"]),
        (
            "Notifications/ListDeliveries",
            vec!["deliveries".to_owned(), shop.order_id.clone()],
            [micros, vec!["-200000000000000000 0188bac7-4afa-78aa-bc3b-bd1eef28d881"]].concat(),
        ),
    ]
}

/// A seal is no secret: whoever reads the source can make one.
#[tokio::test(flavor = "multi_thread")]
async fn a_forged_page_token_is_refused_or_shows_another_page_and_nothing_worse() {
    let counter = Counter::open().await;
    let mut count = 0;
    let mut refused = 0;
    for (name, arguments, cursors) in forgeries(&counter.shop) {
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let good = counter.good(name).await;
        for cursor in cursors {
            let token = proto::page::token(&arguments, cursor);
            let answer = counter.send(name, &with(good.clone(), "page_token", text(&token))).await;
            count += 1;
            match answer.code() {
                Code::Ok => {}
                Code::InvalidArgument => {
                    refused += 1;
                    assert_eq!(answer.bad_fields(), ["page_token"], "{name} {cursor:?}");
                }
                code => panic!("{name} {cursor:?}: {code:?} {}", answer.status.message()),
            }
        }
        // Its own token, with another argument: the page size does not count.
        let first = counter.send(name, &with(good.clone(), "page_size", Value::I32(1))).await;
        assert_eq!(first.code(), Code::Ok, "{name}: {first:?}");
    }
    assert!(refused >= 25, "{refused} of {count} were refused");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_serves_is_unimplemented_and_the_door_stays_open() {
    let world = World::local().await;
    for odd in e2e::doors::transport::strangers() {
        let answer = odd.call.send(world.orchestrator(0)).await;
        assert_eq!(Some(answer.code()), odd.code, "{}: {answer:?}", odd.how);
    }
    let order = world.create(&Spec::of(1).wait(20)).await;
    world.completes(&order.order_id).await;
}

/// Details travel in headers, and headers that are too large are no answer at all.
#[tokio::test(flavor = "multi_thread")]
async fn a_request_in_which_everything_is_wrong_gets_an_answer_that_fits() {
    let world = World::local().await;
    let mut request = Spec::of(1).request();
    let price = proto::money::Money { minor_units: -1, currency_code: "no currency at all".into() };
    let line =
        proto::order::v1::OrderLine { sku: "\u{1f4a3}".repeat(500), quantity: -1, unit_price: Some(price) };
    request.lines = vec![line; 100];
    request.metadata =
        (0..20_u32).map(|i| (format!("{}{i}", "\u{1f4a3}".repeat(62)), "\0".repeat(9000))).collect();
    request.customer_id = "\u{7}".repeat(9000);
    request.payment = None;
    let status = world.orders().create_order(request).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
    assert!(status.message().contains("fields are not valid"), "{status:?}");
    let order = world.create(&Spec::of(1).wait(20)).await;
    world.completes(&order.order_id).await;
}
