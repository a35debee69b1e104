//! Servers that are slow, full or unfriendly, and outcomes that come late: no letter is lost, and none counts as sent
//! that nobody has.

use std::time::Duration;

use proto::{notification::v1::DeliveryState, order::v1::OrderStatus};

use crate::{
    bed::{Bed, about, new_order},
    mail_server::{Answer, MailServer},
};

async fn quick(server: &MailServer, timeout: Duration) -> Bed {
    Bed::with(|settings| {
        settings.smtp_url = Some(server.url().parse().unwrap());
        settings.smtp_timeout = timeout;
        settings.notification_backoff = Duration::from_millis(50);
    })
    .await
}

#[tokio::test]
async fn a_text_that_is_not_taken_at_first_is_given_again() {
    let server = MailServer::start().await;
    let bed = quick(&server, Duration::from_secs(10)).await;
    server.answer([Answer::TextNotNow]);
    let order = new_order().to_string();
    let message = about(order.parse().unwrap(), OrderStatus::Completed);
    bed.one.say(&message).await;
    let sent = bed.one.until(&order, DeliveryState::Sent).await;
    assert_eq!((sent.attempts, server.knocks()), (2, 2));
    let mails = server.mails();
    let [mail] = mails.as_slice() else { panic!("{mails:?}") };
    for part in [
        format!("Subject: Your receipt for order {order}\n"),
        format!("Message-ID: <{}@amends.invalid>\n", message.id),
        "2 x P1001 at 12.50 EUR\n".to_owned(),
        "Total, with tax: 29.75 EUR\n".to_owned(),
    ] {
        assert!(mail.data.contains(&part), "{part} is not in {}", mail.data);
    }
}

#[tokio::test]
async fn a_silent_server_holds_up_one_letter_and_answers_for_no_other() {
    let server = MailServer::start().await;
    // Nine letters have to be sent meanwhile.
    let bed = quick(&server, Duration::from_secs(8)).await;
    server.answer([Answer::Silence]);
    let orders: Vec<_> = (0..10).map(|_| new_order().to_string()).collect();
    bed.one.say(&about(orders[0].parse().unwrap(), OrderStatus::Completed)).await;
    while server.knocks() == 0 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    for order in &orders[1..] {
        bed.one.say(&about(order.parse().unwrap(), OrderStatus::Completed)).await;
    }
    for order in &orders[1..] {
        bed.one.until(order, DeliveryState::Sent).await;
    }
    assert_eq!(bed.one.list(&orders[0]).await[0].state(), DeliveryState::Queued, "nobody waited for it");
    assert_eq!(bed.one.until(&orders[0], DeliveryState::Sent).await.attempts, 2);
    let mails = server.mails();
    assert_eq!(mails.len(), 10);
    for order in &orders {
        assert_eq!(mails.iter().filter(|mail| mail.data.contains(order)).count(), 1, "{order}");
    }
}

#[tokio::test]
async fn a_server_that_wants_nothing_from_us_fails_no_letter() {
    let server = MailServer::start().await;
    let bed = quick(&server, Duration::from_secs(10)).await;
    server.answer([Answer::Blocked; 2]);
    let order = new_order().to_string();
    bed.one.say(&about(order.parse().unwrap(), OrderStatus::Cancelled)).await;
    let waiting = bed.one.until_it(&order, |delivery| !delivery.last_error.is_empty()).await;
    assert_eq!(waiting.last_error, "the mail server answered 554");
    assert_eq!(bed.one.until(&order, DeliveryState::Sent).await.attempts, 3);
}

#[tokio::test]
async fn what_a_person_sends_again_is_not_undone_by_an_outcome_that_comes_late() {
    let server = MailServer::start().await;
    let bed = quick(&server, Duration::from_secs(2)).await;
    server.answer([Answer::Silence]);
    let order = new_order().to_string();
    bed.one.say(&about(order.parse().unwrap(), OrderStatus::Completed)).await;
    let hanging = bed.one.until_it(&order, |delivery| delivery.attempts == 1).await;
    while server.knocks() == 0 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    bed.one.resend(&hanging.delivery_id).await.unwrap();
    bed.one.until(&order, DeliveryState::Sent).await;
    tokio::time::sleep(Duration::from_millis(2500)).await;
    let sent = &bed.one.list(&order).await[0];
    assert_eq!((sent.state(), sent.attempts, sent.last_error.as_str()), (DeliveryState::Sent, 1, ""));
    assert_eq!(server.mails().len(), 1);
}

#[tokio::test]
async fn an_outcome_that_cannot_be_stored_is_kept_and_the_letter_is_not_sent_again() {
    let server = MailServer::start().await;
    let bed = quick(&server, Duration::from_secs(10)).await;
    bed.run(
        "create function notifications.refuse() returns trigger language plpgsql as $$ begin \
           raise exception 'not now'; end $$; \
         create trigger refuse before update on notifications.delivery for each row when (new.state = 'SENT') \
           execute function notifications.refuse();",
    )
    .await;
    let orders = [new_order().to_string(), new_order().to_string()];
    for order in &orders {
        bed.one.say(&about(order.parse().unwrap(), OrderStatus::Completed)).await;
    }
    while server.mails().len() < 2 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    bed.run("drop trigger refuse on notifications.delivery").await;
    for order in &orders {
        assert_eq!(bed.one.until(order, DeliveryState::Sent).await.attempts, 1);
    }
    assert_eq!(server.mails().len(), 2);
}

#[tokio::test]
async fn a_process_that_stops_ends_what_is_on_its_way() {
    let server = MailServer::start().await;
    let bed = quick(&server, Duration::from_secs(1)).await;
    server.answer([Answer::Silence]);
    let order = new_order().to_string();
    bed.one.say(&about(order.parse().unwrap(), OrderStatus::Completed)).await;
    while server.knocks() == 0 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    bed.one.stop.request();
    assert!(bed.one.stop.finish(Duration::from_secs(5)).await);
    // The claim was given back: the next process does not wait for it to lapse.
    let next = bed.another().await;
    assert_eq!(next.until(&order, DeliveryState::Sent).await.attempts, 2);
}
