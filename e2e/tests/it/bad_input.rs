//! Bad input: a clear error that names the field, and nothing stored.

use e2e::{Line, Spec, World};
use proto::{
    money::Money,
    order::v1::{
        CreateOrderRequest, GetOrderRequest, ListOrdersRequest, OrderLine, orders_client::OrdersClient,
    },
};
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

type Change = fn(&mut CreateOrderRequest);

fn cases() -> Vec<(&'static str, Change)> {
    fn line(r: &mut CreateOrderRequest) -> &mut OrderLine {
        &mut r.lines[0]
    }
    vec![
        ("lines", |r| r.lines.clear()),
        ("lines", |r| r.lines = vec![r.lines[0].clone(); 10_000]),
        ("lines[0].quantity", |r| line(r).quantity = 0),
        ("lines[0].quantity", |r| line(r).quantity = -1),
        ("lines[0].quantity", |r| line(r).quantity = i64::MIN),
        ("lines[0].quantity", |r| line(r).quantity = i64::MAX),
        ("lines[0].sku", |r| line(r).sku.clear()),
        ("lines[0].sku", |r| line(r).sku = "NO-SUCH-SKU".into()),
        ("lines[0].sku", |r| line(r).sku = "P1001\0".into()),
        ("lines[0].sku", |r| line(r).sku = "x".repeat(65)),
        ("lines[0].sku", |r| line(r).sku = "'; drop table orders.price; --".into()),
        ("lines[0].unit_price", |r| {
            line(r).unit_price = Some(Money { minor_units: 1, currency_code: "EUR".into() })
        }),
        ("lines[0].unit_price", |r| {
            line(r).unit_price = Some(Money { minor_units: -1, currency_code: "EUR".into() })
        }),
        ("lines[0].unit_price.currency_code", |r| {
            line(r).unit_price = Some(Money { minor_units: 1000, currency_code: "USD".into() });
        }),
        // 10.001 yen cannot even be said: yen has no minor unit, so a price in thousandths is another price.
        ("lines[0].unit_price", |r| {
            r.currency_code = "JPY".into();
            line(r).unit_price = Some(Money { minor_units: 10_001, currency_code: "JPY".into() });
        }),
        ("currency_code", |r| r.currency_code.clear()),
        ("currency_code", |r| r.currency_code = "ZZZ".into()),
        ("currency_code", |r| r.currency_code = "eur".into()),
        ("currency_code", |r| r.currency_code = "XAU".into()),
        ("customer_id", |r| r.customer_id.clear()),
        ("customer_id", |r| r.customer_id = "c\u{0}".into()),
        ("customer_id", |r| r.customer_id = "ü".into()),
        ("merchant_id", |r| r.merchant_id = "m".repeat(65)),
        ("payment", |r| r.payment = None),
        ("payment", |r| r.payment = Some(Default::default())),
        ("request_id", |r| r.request_id = "a b".into()),
        ("request_id", |r| r.request_id = "x".repeat(256)),
        ("wait", |r| r.wait = Some(prost_types::Duration { seconds: -1, nanos: 0 })),
        ("wait", |r| r.wait = Some(prost_types::Duration { seconds: 3600, nanos: 0 })),
        ("metadata", |r| r.metadata = (0..21).map(|i| (i.to_string(), String::new())).collect()),
        ("metadata[a]", |r| r.metadata = [("a".to_owned(), "\0".to_owned())].into()),
    ]
}

fn fields(status: &Status) -> Vec<String> {
    let violations = status.get_details_bad_request().map(|b| b.field_violations).unwrap_or_default();
    violations.into_iter().map(|v| v.field).collect()
}

async fn rows(world: &World) -> Vec<i64> {
    let mut connection = world.ground.database.connect().await;
    let mut counts = Vec::new();
    for table in ["saga", "journal", "\"order\"", "idempotency_key", "outbox", "signal"] {
        let query = format!("select count(*) from orchestrator.{table}");
        let (count,): (i64,) =
            sqlx::query_as(sqlx::AssertSqlSafe(query)).fetch_one(&mut connection).await.unwrap();
        counts.push(count);
    }
    counts
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_orders_name_the_field_and_store_nothing() {
    let world = World::local().await;
    for (field, change) in cases() {
        let mut request = Spec::of(1).request();
        change(&mut request);
        let status = world.orders().create_order(request).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument, "{field}: {status:?}");
        assert!(fields(&status).iter().any(|f| f == field), "{field}: {:?}", fields(&status));
        assert_eq!(status.get_details_error_info().unwrap().reason, "VALIDATION");
    }
    assert_eq!(rows(&world).await, [0; 6]);
    world.audit().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sums_that_overflow_are_refused() {
    let world = World::local().await;
    let request = proto::order::v1::SetPriceRequest {
        sku: "GOLD".into(),
        title: "GOLD".into(),
        unit_price: Some(Money { minor_units: 1_000_000_000_000, currency_code: "EUR".into() }),
    };
    let mut catalog = proto::order::v1::catalog_client::CatalogClient::new(world.callee(e2e::Kind::Order));
    catalog.set_price(request).await.unwrap();
    let mut spec = Spec::of(1);
    spec.lines = (0..20).map(|_| Line { sku: "GOLD".into(), quantity: 1_000_000 }).collect();
    let status = world.send(&spec).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
    assert_eq!(rows(&world).await, [0; 6]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_oversize_message_is_refused_at_the_door() {
    let world = World::local().await;
    let mut request = Spec::of(1).request();
    request.metadata = [("big".to_owned(), "x".repeat(2 * 1024 * 1024))].into();
    let mut client = OrdersClient::new(world.orchestrator(0)).max_encoding_message_size(64 << 20);
    let status = client.create_order(request).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
    assert_eq!(rows(&world).await, [0; 6]);
    // The connection and the server are unharmed.
    let order = world.create(&Spec::of(1).wait(20)).await;
    world.completes(&order.order_id).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_names_and_pages_are_refused() {
    let world = World::local().await;
    for bad in ["", "ord_", "ord_x", "saga_01h2xcejqtf2nbrexx3vqjhp41", "\0", "../../etc/passwd"] {
        let status = world.orders().get_order(GetOrderRequest { order_id: bad.into() }).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument, "{bad:?}");
    }
    let unknown = GetOrderRequest { order_id: "ord_01h2xcejqtf2nbrexx3vqjhp41".into() };
    assert_eq!(world.orders().get_order(unknown).await.unwrap_err().code(), Code::NotFound);
    let negative = ListOrdersRequest { page_size: -1, ..Default::default() };
    assert_eq!(world.orders().list_orders(negative).await.unwrap_err().code(), Code::InvalidArgument);
    let token = ListOrdersRequest { page_token: "nonsense".into(), ..Default::default() };
    assert_eq!(world.orders().list_orders(token).await.unwrap_err().code(), Code::InvalidArgument);
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_show_every_order_once() {
    let world = World::local().await;
    for _ in 0..7 {
        world.create(&Spec::of(1)).await;
    }
    let mut seen = Vec::new();
    let mut page_token = String::new();
    loop {
        let request =
            ListOrdersRequest { page_size: 3, page_token, merchant_id: "m_1".into(), ..Default::default() };
        let page = world.orders().list_orders(request).await.unwrap().into_inner();
        seen.extend(page.orders.into_iter().map(|o| o.order_id));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    let mut distinct = seen.clone();
    distinct.sort();
    distinct.dedup();
    assert_eq!((seen.len(), distinct.len()), (7, 7));
}
