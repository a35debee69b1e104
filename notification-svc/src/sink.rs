//! Where letters go: a folder, or a mail server.
//!
//! A sink tries once and says what came of it; it never retries and never decides when to try again. The same letter
//! may be given to it twice, with the same id, by which a mail program can tell that it has it already.

mod mailbox;
mod smtp;

use std::{sync::Arc, time::SystemTime};

use async_trait::async_trait;
use lettre::{
    address::Envelope,
    message::{Mailbox, Message, header::ContentType},
};

use crate::{Settings, store::Due};

/// One of the two kinds.
#[async_trait]
pub(crate) trait Sink: Send + Sync + 'static {
    /// For logs and metrics.
    fn name(&self) -> &'static str;

    /// Letters on their way at once, at most.
    fn window(&self) -> usize;

    /// Tries to send it, in bounded time.
    async fn send(&self, due: &Due) -> Result<(), Unsent>;
}

/// Why a letter did not go, or did not surely.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Unsent {
    /// The sink does not work: it is not the letter's fault. Names nobody, so it may be logged.
    Away(String),
    /// It was refused for now. The sink's own words, which may name the recipient.
    NotNow(String),
    /// It will never be taken. The sink's own words, which may name the recipient.
    Never(String),
}

/// The sink that the settings name.
pub(crate) fn open(settings: &Settings) -> Arc<dyn Sink> {
    let from = settings.smtp_from.clone();
    match settings.smtp_url.clone() {
        Some(server) => Arc::new(smtp::Smtp::new(server, from, settings.smtp_timeout)),
        None => Arc::new(mailbox::Folder::new(settings.notification_outbox_dir.clone(), from)),
    }
}

/// The letter as mail. Its Message-ID is the delivery's, so that a mail program that gets it twice shows it once.
fn mail(due: &Due, from: &Mailbox) -> Result<Message, Unsent> {
    let never = |what: &str, why: &dyn std::fmt::Display| Unsent::Never(format!("{what}: {why}"));
    let to: Mailbox = due.recipient.parse().map_err(|why| never("the recipient is no address", &why))?;
    // Else it is made by reading the headers back.
    let envelope = Envelope::new(Some(from.email.clone()), vec![to.email.clone()]);
    let envelope = envelope.map_err(|why| never("the recipient is no address", &why))?;
    Message::builder()
        .envelope(envelope)
        .from(from.clone())
        .to(to)
        .subject(&due.subject)
        .date(SystemTime::from(due.create_time))
        .message_id(Some(format!("<{}@{}>", due.delivery_id, from.email.domain())))
        .header(ContentType::TEXT_PLAIN)
        .body(due.body.clone())
        .map_err(|why| never("it cannot be written", &why))
}
