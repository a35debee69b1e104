//! What ends as what, side by side.

use std::sync::Arc;

use proto::{order::v1::OrderStatus, payment::v1::AttemptState};
use tonic::Code;

use crate::{
    Outside, named,
    stand::{PRICE, Stand},
};

named![
    an_order_completes_and_its_customer_is_told,
    a_declined_card_releases_the_stock,
    out_of_stock_holds_nothing,
    a_lost_answer_of_the_provider_is_found_out,
    a_slow_provider_completes_the_order_later,
    a_cancelled_order_whose_charge_comes_late_nets_to_zero,
    an_approved_review_completes,
    a_declined_review_cancels,
    the_same_key_at_two_orchestrators_is_one_order,
    a_refund_is_in_the_books,
];

async fn an_order_completes_and_its_customer_is_told(outside: Arc<Outside>) {
    let stand = Stand::open(&outside).await;
    let order = stand.create(&stand.spec(2).wait(20)).await;
    stand.completes(&order).await;
    stand.has_sold(2).await;
    // Clearing, merchant and tax.
    let entries = stand.is_booked(&order, "POST", 3).await;
    let merchant = entries.iter().find(|entry| entry.account_id.starts_with("merchant:"));
    assert_eq!(merchant.unwrap().amount_minor, -2 * PRICE);
    stand.was_told(&order).await;
}

async fn a_declined_card_releases_the_stock(outside: Arc<Outside>) {
    let stand = Stand::open(&outside).await;
    let order = stand.create(&stand.spec(2).token("tok_decline").wait(20)).await;
    stand.is_cancelled(&order, "CARD_DECLINED").await;
    stand.has_sold(0).await;
    stand.is_booked(&order, "", 0).await;
}

async fn out_of_stock_holds_nothing(outside: Arc<Outside>) {
    let stand = Stand::open(&outside).await;
    // Below what a review is for, and above what is there once most of it is sold.
    let first = stand.create(&stand.spec(600).wait(20)).await;
    stand.completes(&first).await;
    let order = stand.create(&stand.spec(500).wait(20)).await;
    stand.is_cancelled(&order, "OUT_OF_STOCK").await;
    stand.has_sold(600).await;
}

async fn a_lost_answer_of_the_provider_is_found_out(outside: Arc<Outside>) {
    let stand = Stand::open(&outside).await;
    let order = stand.create(&stand.spec(2).token("tok_timeout_after")).await;
    stand.completes(&order).await;
    let attempt = stand.attempt(&order).await;
    assert_eq!((attempt.state(), attempt.sends), (AttemptState::Succeeded, 1), "{attempt:?}");
    stand.has_sold(2).await;
    stand.is_booked(&order, "POST", 3).await;
}

async fn a_slow_provider_completes_the_order_later(outside: Arc<Outside>) {
    let stand = Stand::open(&outside).await;
    let order = stand.create(&stand.spec(2).token("tok_slow").wait(20)).await;
    stand.completes(&order).await;
    stand.has_sold(2).await;
}

async fn a_cancelled_order_whose_charge_comes_late_nets_to_zero(outside: Arc<Outside>) {
    let stand = Stand::open(&outside).await;
    let order = stand.create(&stand.spec(3).token("tok_slow")).await;
    stand.cancel(&order).await;
    stand.is_cancelled(&order, "CANCEL_REQUESTED").await;
    stand.has_sold(0).await;
}

async fn an_approved_review_completes(outside: Arc<Outside>) {
    let stand = Stand::open(&outside).await;
    let order = stand.create(&stand.spec(900).wait(20)).await;
    assert_eq!(order.status(), OrderStatus::UnderReview, "{order:?}");
    stand.decide(&order, true).await;
    stand.completes(&order).await;
    stand.has_sold(900).await;
}

async fn a_declined_review_cancels(outside: Arc<Outside>) {
    let stand = Stand::open(&outside).await;
    let order = stand.create(&stand.spec(900).wait(20)).await;
    assert_eq!(order.status(), OrderStatus::UnderReview, "{order:?}");
    stand.decide(&order, false).await;
    stand.is_cancelled(&order, "REVIEW_DECLINED").await;
    stand.has_sold(0).await;
}

async fn the_same_key_at_two_orchestrators_is_one_order(outside: Arc<Outside>) {
    let stand = Stand::open(&outside).await;
    let spec = stand.spec(1).wait(20);
    let (first, second) = tokio::join!(stand.send(0, &spec), stand.send(1, &spec));
    let (first, second) = (first.unwrap(), second.unwrap());
    let replayed = [&first, &second].map(|answer| answer.metadata().contains_key("idempotent-replayed"));
    assert_eq!(replayed.iter().filter(|is_replayed| **is_replayed).count(), 1, "one of the two was first");
    assert_eq!(first.get_ref().order_id, second.get_ref().order_id);
    stand.completes(first.get_ref()).await;
    let other = stand.spec(2).key(&spec.key);
    let status = stand.send(1, &other).await.unwrap_err();
    assert_eq!(status.code(), Code::AlreadyExists, "{status:?}");
    stand.has_sold(1).await;
}

async fn a_refund_is_in_the_books(outside: Arc<Outside>) {
    let stand = Stand::open(&outside).await;
    let first = stand.create(&stand.spec(1).wait(20)).await;
    stand.completes(&first).await;
    stand.close_account().await;
    let order = stand.create(&stand.spec(2).wait(20)).await;
    stand.is_cancelled(&order, "ACCOUNT_CLOSED").await;
    let attempt = stand.attempt(&order).await;
    assert_eq!(attempt.state(), AttemptState::Refunded, "{attempt:?}");
    // The charge and the refund, each through suspense.
    stand.is_booked(&order, "SUSPENSE", 4).await;
    stand.has_sold(1).await;
}
