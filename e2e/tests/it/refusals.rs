//! Orders that are refused, and made good.

use e2e::{BusKind, Spec, World};
use proto::{
    ledger::v1::{CloseAccountRequest, ListEntriesRequest},
    order::v1::Order,
    risk::v1::DenyRequest,
};

async fn nothing_is_reserved(world: &World, sku: &str) {
    let stock = world.stock(sku).await;
    assert_eq!((stock.reserved, stock.sold), (0, 0), "{stock:?}");
}

async fn out_of_stock_on_line_2(bus: BusKind) {
    let world = World::on(bus).await;
    let order = world.create(&Spec::of(1).line("P1002", 5000).wait(20)).await;
    let order = world.is_cancelled(&order.order_id).await;
    assert_eq!(order.status_reason, "OUT_OF_STOCK");
    assert_eq!(order.status_metadata["sku"], "P1002");
    assert_eq!(order.status_metadata["available"], "1000");
    nothing_is_reserved(&world, "P1001").await;
    nothing_is_reserved(&world, "P1002").await;
    world.audit().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn out_of_stock_on_line_2_reserves_nothing_in_process() {
    out_of_stock_on_line_2(BusKind::Local).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn out_of_stock_on_line_2_reserves_nothing_over_rabbitmq() {
    out_of_stock_on_line_2(BusKind::Amqp).await;
}

async fn entries(world: &World, order: &Order) -> Vec<(String, i64)> {
    let request = ListEntriesRequest { saga_id: order.saga_id.clone(), ..Default::default() };
    let entries = world.ledger().list_entries(request).await.unwrap().into_inner().entries;
    entries.into_iter().map(|e| (e.kind, e.amount_minor)).collect()
}

async fn card_declined(bus: BusKind) {
    let world = World::on(bus).await;
    let order = world.create(&Spec::of(2).token("tok_decline").wait(20)).await;
    let order = world.is_cancelled(&order.order_id).await;
    assert_eq!(order.status_reason, "CARD_DECLINED");
    nothing_is_reserved(&world, "P1001").await;
    assert_eq!(world.book(&order).await, (0, 0));
    assert_eq!(entries(&world, &order).await, []);
    world.audit().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_declined_card_releases_the_stock_in_process() {
    card_declined(BusKind::Local).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_declined_card_releases_the_stock_over_rabbitmq() {
    card_declined(BusKind::Amqp).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_customer_on_the_deny_list_is_refused_and_the_stock_released() {
    let world = World::local().await;
    let deny = DenyRequest { customer_id: "c_bad".into(), reason: "chargebacks".into() };
    world.rules().deny(deny).await.unwrap();
    let order = world.create(&Spec::of(2).customer("c_bad").wait(20)).await;
    let order = world.is_cancelled(&order.order_id).await;
    assert_eq!(order.status_reason, "RISK_DENIED");
    nothing_is_reserved(&world, "P1001").await;
    world.audit().await;
}

async fn a_closed_account(bus: BusKind) {
    let world = World::on(bus).await;
    let first = world.create(&Spec::of(1).merchant("m_closed").wait(20)).await;
    world.completes(&first.order_id).await;
    let account_id = "merchant:m_closed:EUR".to_owned();
    let close = CloseAccountRequest { account_id: account_id.clone(), reason: "left".into() };
    world.ledger().close_account(close).await.unwrap();
    let order = world.create(&Spec::of(2).merchant("m_closed").wait(20)).await;
    let order = world.is_cancelled(&order.order_id).await;
    assert_eq!(order.status_reason, "ACCOUNT_CLOSED");
    assert_eq!(world.book(&order).await, (2400, 2400));
    let stock = world.stock("P1001").await;
    assert_eq!((stock.reserved, stock.sold), (0, 1));
    // What was charged and given back stands in the books, though nothing was posted.
    let booked = e2e::eventually("the refund is booked through suspense", || async {
        let entries = entries(&world, &order).await;
        (entries.len() == 4).then_some(entries)
    })
    .await;
    assert!(booked.iter().all(|(kind, _)| kind == "SUSPENSE"), "{booked:?}");
    assert_eq!(booked.iter().map(|(_, amount)| amount).sum::<i64>(), 0);
    world.audit().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ledger_that_refuses_has_the_money_given_back_in_process() {
    a_closed_account(BusKind::Local).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ledger_that_refuses_has_the_money_given_back_over_rabbitmq() {
    a_closed_account(BusKind::Amqp).await;
}
