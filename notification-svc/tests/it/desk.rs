//! What people ask: what customers were told, and to tell it again.

use proto::{
    notification::v1::{Delivery, DeliveryState},
    order::v1::OrderStatus,
};
use tonic::Code;

use crate::bed::{Bed, about, changed, event, new_order};

#[tokio::test]
async fn deliveries_are_listed_newest_first_page_by_page() {
    let bed = Bed::new().await;
    let order = new_order();
    let mut ids = Vec::new();
    for version in 0..7 {
        let message = event(&changed(order, OrderStatus::Completed, version));
        bed.one.say(&message).await;
        ids.insert(0, message.id.to_string());
    }
    bed.one.say(&about(new_order(), OrderStatus::Completed)).await;
    let order = order.to_string();
    let shown =
        |deliveries: &[Delivery]| deliveries.iter().map(|d| d.delivery_id.clone()).collect::<Vec<_>>();
    let mut found = Vec::new();
    let mut token = String::new();
    loop {
        let page = bed.one.page(&order, 3, &token).await.unwrap();
        assert!(page.deliveries.len() <= 3);
        found.extend(shown(&page.deliveries));
        token = page.next_page_token;
        if token.is_empty() {
            break;
        }
    }
    assert_eq!(found, ids);
    assert_eq!(bed.one.list("").await.len(), 8, "of every order");
    assert_eq!(bed.one.list(&new_order().to_string()).await.len(), 0);
}

#[tokio::test]
async fn bad_questions_say_what_is_wrong() {
    let bed = Bed::new().await;
    let order = new_order().to_string();
    bed.one.say(&about(order.parse().unwrap(), OrderStatus::Completed)).await;
    bed.one.say(&event(&changed(order.parse().unwrap(), OrderStatus::Completed, 9))).await;
    let token = bed.one.page(&order, 1, "").await.unwrap().next_page_token;
    assert!(!token.is_empty());
    for (order, size, token) in [
        ("ord_1", 0, ""),
        ("saga_\0", 0, ""),
        (order.as_str(), -1, ""),
        (order.as_str(), 0, "x"),
        ("", 0, token.as_str()),
    ] {
        let status = bed.one.page(order, size, token).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument, "{order:?} {size} {token}: {status}");
    }
    for bad in ["", "1", "ord_01h2xcejqtf2nbrexx3vqjhp41", "\0"] {
        assert_eq!(bed.one.resend(bad).await.unwrap_err().code(), Code::InvalidArgument, "{bad:?}");
    }
    let unknown = chassis::clock::new_uuid().to_string();
    assert_eq!(bed.one.resend(&unknown).await.unwrap_err().code(), Code::NotFound);
}

#[tokio::test]
async fn what_was_told_can_be_told_again() {
    let bed = Bed::new().await;
    let order = new_order();
    bed.one.say(&about(order, OrderStatus::Completed)).await;
    let order = order.to_string();
    let sent = bed.one.until(&order, DeliveryState::Sent).await;
    for letter in std::fs::read_dir(bed.outbox()).unwrap() {
        std::fs::remove_file(letter.unwrap().path()).unwrap();
    }
    let again = bed.one.resend(&sent.delivery_id).await.unwrap();
    assert_eq!(again.state(), DeliveryState::Queued);
    bed.one.until(&order, DeliveryState::Sent).await;
    assert_eq!(bed.letters().len(), 1);
}
