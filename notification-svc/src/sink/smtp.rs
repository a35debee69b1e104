//! Letters over SMTP.
//!
//! 4yz is *not now*, 5yz is *never*; no connection, no answer, 421 and 53z (a wrong password) are *away*.

use std::time::Duration;

use async_trait::async_trait;
use chassis::config::Secret;
use lettre::{
    AsyncSmtpTransport, AsyncTransport as _, Tokio1Executor,
    message::Mailbox,
    transport::smtp::{self, PoolConfig},
};

use super::{Sink, Unsent, mail};
use crate::store::Due;

/// For each command of the conversation.
const PATIENCE: Duration = Duration::from_secs(10);

/// A mail server.
pub(crate) struct Smtp {
    transport: AsyncSmtpTransport<Tokio1Executor>,
    from: Mailbox,
}

impl Smtp {
    /// None when the URL is not one; the settings have checked that it is.
    pub(crate) fn new(url: &Secret, from: Mailbox) -> Option<Self> {
        let transport = AsyncSmtpTransport::<Tokio1Executor>::from_url(url.expose())
            .map_err(|error| tracing::error!(%error, "the mail server cannot be used"))
            .ok()?
            .timeout(Some(PATIENCE))
            .pool_config(PoolConfig::new().max_size(4).idle_timeout(Duration::from_secs(30)))
            .build();
        Some(Self { transport, from })
    }
}

#[async_trait]
impl Sink for Smtp {
    fn name(&self) -> &'static str {
        "smtp"
    }

    async fn send(&self, due: &Due) -> Result<(), Unsent> {
        let mail = mail(due, &self.from)?;
        match self.transport.send(mail).await {
            Ok(_) => Ok(()),
            Err(error) => Err(unsent(&error)),
        }
    }
}

fn unsent(error: &smtp::Error) -> Unsent {
    let text = error.to_string();
    let code = error.status().map(|code| code.to_string()).unwrap_or_default();
    // The server closes, or will not have us: no letter could help that.
    if code == "421" || code.starts_with("53") {
        Unsent::Away(text)
    } else if error.is_permanent() {
        Unsent::Never(text)
    } else if error.is_transient() || error.is_client() {
        Unsent::NotNow(text)
    } else {
        Unsent::Away(text)
    }
}
