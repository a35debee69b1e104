//! An event becomes one delivery.

use std::time::Duration;

use chassis::bus::{Exchange, Message, Published};
use proto::{
    notification::v1::DeliveryState,
    order::v1::{OrderChanged, OrderStatus},
};

use crate::bed::{Bed, about, changed, event, new_order};

#[tokio::test]
async fn what_became_of_an_order_is_told_once_and_only_what_is_worth_telling() {
    let bed = Bed::new().await;
    for (status, template) in [
        (OrderStatus::Created, None),
        (OrderStatus::InventoryReserved, None),
        (OrderStatus::PaymentSuccess, None),
        (OrderStatus::Unspecified, None),
        (OrderStatus::Completed, Some("order.completed")),
        (OrderStatus::Cancelled, Some("order.cancelled")),
        (OrderStatus::UnderReview, Some("order.under_review")),
        (OrderStatus::AwaitingPayment, Some("order.awaiting_payment")),
    ] {
        let order = new_order();
        let message = about(order, status);
        assert_eq!(bed.one.say(&message).await, Published::Safe);
        let found = bed.one.list(&order.to_string()).await;
        let templates: Vec<_> = found.iter().map(|delivery| delivery.template.as_str()).collect();
        assert_eq!(templates, template.into_iter().collect::<Vec<_>>());
        if let [delivery] = found.as_slice() {
            assert_eq!(delivery.delivery_id, message.id.to_string());
            assert_eq!(delivery.order_id, order.to_string());
            assert_eq!(delivery.recipient, "c_1@customers.invalid");
        }
    }
}

#[tokio::test]
async fn an_event_that_comes_again_changes_nothing() {
    let bed = Bed::new().await;
    let (order, another) = (new_order(), bed.another().await);
    let message = about(order, OrderStatus::Completed);
    let says = (0..20).map(|i| if i % 2 == 0 { bed.one.say(&message) } else { another.say(&message) });
    // Twenty times at once, by two processes.
    let said = futures_util::future::join_all(says).await;
    assert!(said.iter().all(|said| *said == Published::Safe), "{said:?}");
    let order = order.to_string();
    bed.one.until(&order, DeliveryState::Sent).await;
    assert_eq!(bed.one.say(&message).await, Published::Safe);
    tokio::time::sleep(Duration::from_millis(200)).await;
    let found = bed.one.list(&order).await;
    assert_eq!(found.len(), 1);
    assert_eq!((found[0].state(), found[0].attempts), (DeliveryState::Sent, 1), "{found:?}");
    assert_eq!(bed.letters().len(), 1);
}

#[tokio::test]
async fn what_is_no_longer_true_is_not_told_in_whatever_order_events_come() {
    let bed = Bed::new().await;
    let versions =
        [(OrderStatus::UnderReview, 3), (OrderStatus::AwaitingPayment, 6), (OrderStatus::Completed, 9)];
    for turn in 0..6 {
        let mut events = versions;
        events.rotate_left(turn % 3);
        if turn >= 3 {
            events.reverse();
        }
        let order = new_order();
        let mut newest = 0;
        let mut told = Vec::new();
        for (status, version) in events {
            assert_eq!(bed.one.say(&event(&changed(order, status, version))).await, Published::Safe);
            if status == OrderStatus::Completed || version > newest {
                told.push(format!("order.{}", status.as_str_name().to_lowercase()));
            }
            newest = newest.max(version);
        }
        let found = bed.one.list(&order.to_string()).await;
        let templates: Vec<_> = found.into_iter().rev().map(|delivery| delivery.template).collect();
        assert_eq!(templates, told, "{events:?}");
    }
}

#[tokio::test]
async fn what_cannot_be_read_and_what_is_not_known_is_dead() {
    let bed = Bed::new().await;
    let good = changed(new_order(), OrderStatus::Completed, 1);
    let amount = |code: &str| Some(proto::money::Money { minor_units: 1, currency_code: code.into() });
    for bad in [
        OrderChanged { order_id: "ord_1".into(), ..good.clone() },
        OrderChanged { order_id: String::new(), ..good.clone() },
        OrderChanged { customer_id: String::new(), ..good.clone() },
        OrderChanged { customer_id: "a\r\nBcc: b@c.example".into(), ..good.clone() },
        OrderChanged { total: None, ..good.clone() },
        OrderChanged { total: amount("€"), ..good.clone() },
    ] {
        let said = bed.one.say(&event(&bad)).await;
        assert!(matches!(said, Published::Dead(_)), "{bad:?}: {said:?}");
    }
    let mut garbage = event(&good);
    garbage.body = vec![0xff; 40];
    assert!(matches!(bed.one.say(&garbage).await, Published::Dead(_)));
    let kind = "amends.order.v2.OrderChanged";
    let new = Message::new(Exchange::Events, "order.completed", kind, "orchestrator", vec![0xff]);
    assert!(matches!(bed.one.say(&new).await, Published::Dead(_)), "a newer build may know it");
    assert_eq!(bed.count("select count(*) from notifications.delivery").await, 0);
}

#[tokio::test]
async fn one_poisonous_event_does_not_harm_its_neighbours() {
    let bed = Bed::new().await;
    bed.run(
        "create function notifications.refuse() returns trigger language plpgsql as $$ begin \
           if new.version = 13 then raise exception 'poison'; end if; return new; end $$; \
         create trigger poison before insert on notifications.delivery for each row \
           execute function notifications.refuse();",
    )
    .await;
    let orders: Vec<_> = (0..50).map(|_| new_order()).collect();
    let messages: Vec<_> = orders
        .iter()
        .enumerate()
        .map(|(i, order)| event(&changed(*order, OrderStatus::Completed, i64::try_from(i).unwrap())))
        .collect();
    let said = futures_util::future::join_all(messages.iter().map(|message| bed.one.say(message))).await;
    for (i, said) in said.iter().enumerate() {
        assert_eq!(matches!(said, Published::Later(_)), i == 13, "{i} {said:?}");
    }
    assert_eq!(bed.count("select count(*) from notifications.delivery").await, 49);
}

#[tokio::test]
async fn while_the_database_is_away_an_event_stays_where_it_is() {
    let bed = Bed::new().await;
    let message = about(new_order(), OrderStatus::Completed);
    // Two commits: whoever is thrown out would come back before the limit counts.
    bed.run("do $$ begin execute format('alter database %I connection limit 0', current_database()); end $$")
        .await;
    bed.run(
        "select pg_terminate_backend(pid) from pg_stat_activity \
         where datname = current_database() and usename = 'amends_notifications'",
    )
    .await;
    let said = bed.one.say(&message).await;
    assert!(matches!(said, Published::NotYet(_)), "{said:?}");
    bed.run(
        "do $$ begin execute format('alter database %I connection limit -1', current_database()); end $$",
    )
    .await;
    let deadline = std::time::Instant::now() + Duration::from_secs(30);
    while bed.one.say(&message).await != Published::Safe {
        assert!(std::time::Instant::now() < deadline);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(bed.count("select count(*) from notifications.delivery").await, 1);
}
