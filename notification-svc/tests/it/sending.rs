//! Deliveries go out, into a folder or to a mail server, until somebody takes them.

use std::time::Duration;

use proto::{notification::v1::DeliveryState, order::v1::OrderStatus};

use crate::{
    bed::{Bed, about, new_order},
    mail_server::{Answer, MailServer},
};

#[tokio::test]
async fn without_a_mail_server_letters_lie_in_mailboxes() {
    let bed = Bed::new().await;
    let order = new_order();
    bed.one.say(&about(order, OrderStatus::Cancelled)).await;
    let sent = bed.one.until(&order.to_string(), DeliveryState::Sent).await;
    assert!(sent.send_time.is_some() && sent.last_error.is_empty());
    let letters = bed.letters();
    let [letter] = letters.as_slice() else { panic!("{letters:?}") };
    for part in [
        "From: Amends <orders@amends.invalid>".to_owned(),
        "To: c_1@customers.invalid".to_owned(),
        format!("Message-ID: <{}@amends.invalid>", sent.delivery_id),
        "Content-Type: text/plain; charset=utf-8".to_owned(),
        "not enough is in stock".to_owned(),
    ] {
        assert!(letter.contains(&part), "{part} is not in {letter}");
    }
    let names = || {
        let files = std::fs::read_dir(bed.outbox()).unwrap();
        files.map(|file| file.unwrap().file_name().into_string().unwrap()).collect::<Vec<_>>()
    };
    assert!(names().iter().all(|name| name.ends_with(".mbox")), "{:?}", names());

    bed.one.resend(&sent.delivery_id).await.unwrap();
    bed.one
        .until_it(&order.to_string(), |again| {
            again.state() == DeliveryState::Sent && again.send_time != sent.send_time
        })
        .await;
    let letters = bed.letters();
    assert_eq!(letters.len(), 2, "a repeat is a letter of its own, with the same id");
    assert!(letters.iter().all(|letter| letter.contains(&format!("<{}@", sent.delivery_id))), "{letters:?}");
}

#[tokio::test]
async fn a_folder_that_cannot_be_written_is_tried_until_it_can() {
    let bed = Bed::with(|settings| settings.notification_backoff = Duration::from_millis(50)).await;
    std::fs::write(bed.outbox(), "a file where the folder should be").unwrap();
    let order = new_order();
    bed.one.say(&about(order, OrderStatus::Completed)).await;
    let order = order.to_string();
    let waiting = bed.one.until_it(&order, |delivery| delivery.attempts >= 2).await;
    assert_eq!(waiting.state(), DeliveryState::Queued);
    assert!(waiting.last_error.contains("outbox"), "{}", waiting.last_error);
    std::fs::remove_file(bed.outbox()).unwrap();
    let sent = bed.one.until(&order, DeliveryState::Sent).await;
    // The second may have been under way when the file went.
    assert!(sent.attempts >= 2 && sent.last_error.is_empty(), "{sent:?}");
    assert_eq!(bed.letters().len(), 1);
}

#[tokio::test]
async fn a_mail_server_gets_the_letter() {
    let server = MailServer::start().await;
    let bed = Bed::with_smtp(&server.url()).await;
    let orders: Vec<_> = (0..20).map(|_| new_order()).collect();
    for order in &orders {
        bed.one.say(&about(*order, OrderStatus::Completed)).await;
    }
    for order in &orders {
        bed.one.until(&order.to_string(), DeliveryState::Sent).await;
    }
    let mails = server.mails();
    assert_eq!(mails.len(), 20);
    for order in &orders {
        let mail = mails.iter().find(|mail| mail.data.contains(&order.to_string())).unwrap();
        assert_eq!(
            (mail.from.as_str(), mail.to.as_str()),
            ("<orders@amends.invalid>", "<c_1@customers.invalid>")
        );
        assert!(mail.data.contains("Subject: Your receipt for order"), "{}", mail.data);
    }
    assert!(bed.letters().is_empty(), "and nobody else");
}

#[tokio::test]
async fn a_refusal_for_now_is_tried_again_later_and_one_for_ever_is_not() {
    let server = MailServer::start().await;
    let bed = Bed::with_smtp(&server.url()).await;
    server.answer([Answer::NotNow]);
    let order = new_order();
    bed.one.say(&about(order, OrderStatus::Completed)).await;
    let order = order.to_string();
    let waiting = bed.one.until_it(&order, |delivery| !delivery.last_error.is_empty()).await;
    assert_eq!((waiting.state(), waiting.attempts), (DeliveryState::Queued, 1));
    assert!(waiting.last_error.contains("mailbox is busy"), "{}", waiting.last_error);
    assert!(server.mails().is_empty());
    // When the wait is over:
    bed.run("update notifications.delivery set next_time = now()").await;
    assert_eq!(bed.one.until(&order, DeliveryState::Sent).await.attempts, 2);

    server.answer([Answer::Never]);
    let order = new_order();
    bed.one.say(&about(order, OrderStatus::Completed)).await;
    let order = order.to_string();
    let failed = bed.one.until(&order, DeliveryState::Failed).await;
    assert!(failed.last_error.contains("no such mailbox"), "{}", failed.last_error);
    assert_eq!(server.mails().len(), 1);

    let again = bed.one.resend(&failed.delivery_id).await.unwrap();
    assert_eq!((again.state(), again.attempts), (DeliveryState::Queued, 0));
    bed.one.until(&order, DeliveryState::Sent).await;
}

#[tokio::test]
async fn refusals_for_now_end_in_failure_after_the_last() {
    let server = MailServer::start().await;
    let bed = Bed::with(|settings| {
        settings.smtp_url = Some(server.url().parse().unwrap());
        settings.notification_attempts = 3;
        settings.notification_backoff = Duration::from_millis(50);
    })
    .await;
    server.answer([Answer::NotNow; 3]);
    let order = new_order();
    bed.one.say(&about(order, OrderStatus::Completed)).await;
    let order = order.to_string();
    let failed = bed.one.until(&order, DeliveryState::Failed).await;
    assert_eq!(failed.attempts, 3);
    assert!(failed.last_error.contains("mailbox is busy"), "{}", failed.last_error);
    // A person's wish begins anew.
    server.answer([Answer::NotNow; 2]);
    bed.one.resend(&failed.delivery_id).await.unwrap();
    assert_eq!(bed.one.until(&order, DeliveryState::Sent).await.attempts, 3);
}

#[tokio::test]
async fn a_mail_server_that_is_away_is_not_hammered_and_gets_every_letter_when_it_is_back() {
    let server = MailServer::start().await;
    let bed = Bed::with(|settings| {
        settings.smtp_url = Some(server.url().parse().unwrap());
        settings.notification_backoff = Duration::from_millis(50);
    })
    .await;
    server.hang_up(true);
    let orders: Vec<_> = (0..30).map(|_| new_order().to_string()).collect();
    for order in &orders {
        bed.one.say(&about(order.parse().unwrap(), OrderStatus::Completed)).await;
    }
    tokio::time::sleep(Duration::from_secs(4)).await;
    let knocks = server.knocks();
    // Thirty letters with waits this short would have knocked a thousand times.
    assert!((1..60).contains(&knocks), "the breaker lets a few through: {knocks}");
    for order in &orders {
        assert_eq!(bed.one.list(order).await[0].state(), DeliveryState::Queued);
    }
    server.hang_up(false);
    for order in &orders {
        bed.one.until(order, DeliveryState::Sent).await;
    }
}

#[tokio::test]
async fn two_processes_send_each_letter_once() {
    let server = MailServer::start().await;
    let bed = Bed::with_smtp(&server.url()).await;
    let other = bed.another().await;
    let messages: Vec<_> = (0..60).map(|_| about(new_order(), OrderStatus::Completed)).collect();
    for message in &messages {
        other.say(message).await;
    }
    let deadline = std::time::Instant::now() + Duration::from_secs(20);
    while bed.count("select count(*) from notifications.delivery where state = 'SENT'").await < 60 {
        assert!(std::time::Instant::now() < deadline);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(server.mails().len(), 60);
}

#[tokio::test]
async fn what_a_dead_process_had_in_hand_is_sent_by_the_next() {
    let bed = Bed::new().await;
    bed.one.stop.request();
    assert!(bed.one.stop.finish(Duration::from_secs(5)).await);
    // A claim whose time has come, as a process leaves it that died while it was sending.
    bed.run(
        "insert into notifications.delivery (delivery_id, order_id, version, template, recipient, subject, body, state, \
           next_time, create_time) \
         select gen_random_uuid(), gen_random_uuid(), 1, 'order.completed', 'c_1@x.example', 's', 'b', 'QUEUED', \
           now() - interval '1 second', now() - interval '4 minutes'",
    )
    .await;
    let next = bed.another().await;
    let deadline = std::time::Instant::now() + Duration::from_secs(10);
    while bed.letters().is_empty() {
        assert!(std::time::Instant::now() < deadline);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    drop(next);
}
