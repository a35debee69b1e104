//! The door for people: reading stock, putting more in, and what it says to nonsense.

use proto::inventory::v1::{GetStockRequest, ListStockRequest, RestockRequest};
use tonic::Code;
use tonic_types::StatusExt as _;

use crate::house::*;

fn restock(request_id: &str, sku: &str, quantity: i64) -> RestockRequest {
    RestockRequest { request_id: request_id.into(), sku: sku.into(), quantity }
}

#[tokio::test]
async fn a_restock_with_a_request_id_happens_once() {
    let house = House::new().await;
    let mut people = house.people.clone();
    let first = people.restock(restock("r-1", "A", 5)).await.unwrap().into_inner();
    assert_eq!((first.available, first.total, first.version), (5, 5, 1));
    let again = people.restock(restock("r-1", "A", 5)).await.unwrap().into_inner();
    assert_eq!(again, first);
    for other in [restock("r-1", "A", 6), restock("r-1", "B", 5)] {
        let status = people.restock(other).await.unwrap_err();
        assert_eq!(status.code(), Code::AlreadyExists);
        assert_eq!(status.get_details_error_info().unwrap().reason, "IDEMPOTENCY_KEY_REUSED");
    }
    assert_eq!(house.restock("A", 2).await.available, 7);
    assert_eq!(house.restock("A", 2).await.version, 3);
    house.assert_conserved().await;
}

#[tokio::test]
async fn restocks_of_a_new_sku_by_two_processes_are_summed() {
    let one = House::new().await;
    let other = one.beside().await;
    let all = (0..20).map(|i| {
        let house = if i % 2 == 0 { &one } else { &other };
        house.restock("NEW", 1)
    });
    futures_util::future::join_all(all).await;
    assert_eq!(one.stock("NEW").await, (20, 0, 0));
    one.assert_conserved().await;
}

#[tokio::test]
async fn stock_that_would_not_fit_is_refused() {
    let house = House::new().await;
    house.restock("A", 1).await;
    let mut owner = house.database.connect().await;
    sqlx::query("update inventory.stock set available = $1")
        .bind(i64::MAX)
        .execute(&mut owner)
        .await
        .unwrap();
    let status = house.people.clone().restock(restock("", "A", 1)).await.unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition);
    assert_eq!(house.stock("A").await, (i64::MAX, 0, 0));
}

#[tokio::test]
async fn stock_is_shown_page_by_page_in_the_order_of_skus() {
    let house = House::new().await;
    for sku in ["b", "A", "a.1", "Z", "a-1"] {
        house.restock(sku, 1).await;
    }
    let mut people = house.people.clone();
    let (mut shown, mut page_token) = (Vec::new(), String::new());
    loop {
        let page =
            people.list_stock(ListStockRequest { page_size: 2, page_token }).await.unwrap().into_inner();
        shown.extend(page.stocks.into_iter().map(|stock| stock.sku));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    assert_eq!(shown, ["A", "Z", "a-1", "a.1", "b"]);
    let one = people.get_stock(GetStockRequest { sku: "a.1".into() }).await.unwrap().into_inner();
    assert_eq!((one.sku.as_str(), one.available, one.total), ("a.1", 1, 1));
    assert!(one.update_time.is_some());
}

#[tokio::test]
async fn a_shown_stock_is_as_old_as_the_settings_allow() {
    let settings = inventory_svc::Settings {
        inventory_stock_cache: std::time::Duration::from_secs(600),
        ..Default::default()
    };
    let house = House::with(settings).await;
    let shown = async || {
        let request = GetStockRequest { sku: "A".into() };
        house.people.clone().get_stock(request).await.unwrap().into_inner().available
    };
    house.restock("A", 10).await;
    assert_eq!(shown().await, 10);
    house.reserve(vec![reserve_item(new_saga(), &[("A", 1)])]).await;
    assert_eq!((shown().await, house.stock("A").await), (10, (9, 1, 0)));
    // Who puts in sees it.
    house.restock("A", 10).await;
    assert_eq!(shown().await, 19);
}

#[tokio::test]
async fn nonsense_is_named_field_by_field() {
    let house = House::new().await;
    let mut people = house.people.clone();
    for (request, fields) in [
        (restock("two words", "A", 1), vec!["request_id"]),
        (restock(&"x".repeat(256), "A", 1), vec!["request_id"]),
        (restock("", "", 1), vec!["sku"]),
        (restock("", "A\0", 1), vec!["sku"]),
        (restock("", "A", 0), vec!["quantity"]),
        (restock("", "A", i64::MAX), vec!["quantity"]),
        (restock("\n", "ä", -1), vec!["request_id", "sku", "quantity"]),
    ] {
        let status = people.restock(request).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument);
        let details = status.get_details_bad_request().unwrap();
        let found: Vec<_> = details.field_violations.iter().map(|v| v.field.as_str()).collect();
        assert_eq!(found, fields);
    }
    for sku in ["", "A\0", "no such thing"] {
        let status = people.get_stock(GetStockRequest { sku: sku.into() }).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument, "{sku:?}");
    }
    let status = people.get_stock(GetStockRequest { sku: "A".into() }).await.unwrap_err();
    assert_eq!(status.code(), Code::NotFound);
    for (page_size, token) in [(-1, ""), (1, "nonsense"), (1, "0123456789abcdef41")] {
        let request = ListStockRequest { page_size, page_token: token.into() };
        let status = people.list_stock(request).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument, "{page_size} {token}");
    }
}
