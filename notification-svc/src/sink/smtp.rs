//! Letters over SMTP, each on a connection of its own.
//!
//! A connection that was given up in the middle of a conversation must not carry another letter: the next command would
//! take the last one's answer for its own, and a letter could count as sent that nobody has. Nothing here sends enough
//! to be worth a pool.

use std::time::Duration;

use async_trait::async_trait;
use lettre::{
    address::Envelope,
    message::Mailbox,
    transport::smtp::{Error, authentication::Mechanism, client::AsyncSmtpConnection, extension::ClientId},
};
use tokio::time::timeout;

use super::{Sink, Unsent, mail};
use crate::{
    smtp_url::{Security, SmtpUrl},
    store::Due,
};

/// Connections at once: more are what mail servers take for abuse.
const WINDOW: usize = 16;

/// How long a server may take to say goodbye.
const GOODBYE: Duration = Duration::from_secs(1);

/// A mail server.
pub(crate) struct Smtp {
    server: SmtpUrl,
    from: Mailbox,
    /// For one letter, from connecting to its acceptance: lettre itself limits only the connecting.
    limit: Duration,
    hello: ClientId,
}

impl Smtp {
    pub(crate) fn new(server: SmtpUrl, from: Mailbox, limit: Duration) -> Self {
        Self { server, from, limit, hello: ClientId::default() }
    }

    /// The connection, once the letter is the server's.
    async fn hand_over(&self, envelope: &Envelope, mail: &[u8]) -> Result<AsyncSmtpConnection, Error> {
        let SmtpUrl { host, port, security, credentials } = &self.server;
        let tls = if let Security::Tls(tls) = security { Some(tls.clone()) } else { None };
        let server = (host.as_str(), *port);
        let mut connection =
            AsyncSmtpConnection::connect_tokio1(server, Some(self.limit), &self.hello, tls, None).await?;
        if let Security::StartTls(tls) = security {
            connection.starttls(tls.clone(), &self.hello).await?;
        }
        if let Some(credentials) = credentials {
            connection.auth(&[Mechanism::Plain, Mechanism::Login], credentials).await?;
        }
        connection.send(envelope, mail).await?;
        Ok(connection)
    }
}

#[async_trait]
impl Sink for Smtp {
    fn name(&self) -> &'static str {
        "smtp"
    }

    fn window(&self) -> usize {
        WINDOW
    }

    async fn send(&self, due: &Due) -> Result<(), Unsent> {
        let mail = mail(due, &self.from)?;
        let bytes = mail.formatted();
        // Past the limit nobody knows whether it was taken: it goes again, under the same Message-ID.
        let handed = timeout(self.limit, self.hand_over(mail.envelope(), &bytes)).await;
        let mut connection = match handed {
            Ok(handed) => handed.map_err(|error| unsent(&error))?,
            Err(_) => return Err(Unsent::Away(format!("the mail server took longer than {:?}", self.limit))),
        };
        // The letter is the server's: how they part changes nothing.
        let _ = timeout(GOODBYE, connection.quit()).await;
        Ok(())
    }
}

/// RFC 5321, 4.2. A 5yz about the mailbox is this letter's; any other is the server's or ours: one wrong password must
/// not fail every letter that waits.
fn unsent(error: &Error) -> Unsent {
    let Some(code) = error.status() else { return Unsent::Away(format!("the mail server: {error}")) };
    match u16::from(code) {
        550..=553 => Unsent::Never(error.to_string()),
        code @ 400..=499 if code != 421 => Unsent::NotNow(error.to_string()),
        code => Unsent::Away(format!("the mail server answered {code}")),
    }
}
