//! Publishing with confirms: what is called safe here, the broker has on disk and will deliver.
//!
//! A batch has a channel to itself while it is in flight, because lapin hands a returned message to whichever confirm
//! completes next: on a channel of its own, no return is seen by anybody but the batch it belongs to. If a batch saw
//! any return, nothing of it is safe. A channel that still owes a confirm is thrown away.

use std::{
    collections::HashSet,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use futures_util::{StreamExt as _, future::try_join_all, stream::FuturesUnordered};
use lapin::{
    Channel, Confirmation,
    options::{BasicPublishOptions, ConfirmSelectOptions},
};

use super::{
    envelope::Publication,
    link::{Away, Link},
};
use crate::{
    breaker::{Breaker, Options, Outcome},
    crash,
    seeded::{self, Bug},
};

/// What became of one publication: safe, or why not yet.
pub(super) type Sent = Result<(), String>;

/// Publishes on a connection that nobody consumes on: a broker that is short of memory blocks publishers, and their
/// connection with it.
pub(super) struct Publisher {
    pub(super) link: Link,
    idle: Mutex<Vec<Channel>>,
    breaker: Breaker,
    confirm_within: Duration,
}

/// What a batch saw.
#[derive(Default)]
struct Seen {
    /// Message ids that came back.
    returned: HashSet<String>,
    anything_returned: bool,
    /// By place: none when no confirm came.
    confirmed: Vec<Option<bool>>,
    failed: Option<String>,
}

impl Publisher {
    pub(super) fn new(link: Link, confirm_within: Duration) -> Self {
        let breaker = Breaker::new(
            "broker",
            Options { failures: 3, cool_down_max: Duration::from_secs(5), ..Options::default() },
        );
        Self { link, idle: Mutex::default(), breaker, confirm_within }
    }

    /// Publishes a batch; an answer for each, in the same order.
    pub(super) async fn send(&self, batch: &[Publication]) -> Vec<Sent> {
        if batch.is_empty() {
            return Vec::new();
        }
        let mut permit = match self.breaker.permit(batch.len()) {
            Ok(permit) => permit,
            Err(open) => return vec![Err(open.to_string()); batch.len()],
        };
        let (now, later) = batch.split_at(permit.granted());
        let mut answers = match self.exchange(now).await {
            Ok(seen) => {
                match &seen.failed {
                    Some(_) => permit.transport_failure(),
                    None => now.iter().for_each(|_| permit.item(Outcome::Ok)),
                }
                judge(now, &seen)
            }
            Err(away) => {
                permit.transport_failure();
                vec![Err(away.why()); now.len()]
            }
        };
        answers.resize(now.len() + later.len(), Err("the broker is coming back slowly".into()));
        answers
    }

    async fn exchange(&self, batch: &[Publication]) -> Result<Seen, Away> {
        let channel = self.channel().await?;
        let seen = confirmations(&channel, batch, self.confirm_within).await;
        // Every return came before the confirm of its own message, so none is left for the next batch.
        if seen.failed.is_none() {
            self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(channel);
        }
        Ok(seen)
    }

    async fn channel(&self) -> Result<Channel, Away> {
        let connection = self.link.connection().await?;
        loop {
            let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
            match idle {
                Some(channel) if channel.status().connected() => return Ok(channel),
                Some(_) => {}
                None => break,
            }
        }
        let open = async {
            let channel = connection.create_channel().await?;
            channel.confirm_select(ConfirmSelectOptions::default()).await?;
            Ok::<_, lapin::Error>(channel)
        };
        match tokio::time::timeout(self.confirm_within, open).await {
            Ok(channel) => Ok(channel?),
            Err(_) => Err(Away::Unreachable("no channel in time".into())),
        }
    }
}

async fn confirmations(channel: &Channel, batch: &[Publication], within: Duration) -> Seen {
    let mut seen = Seen { confirmed: vec![None; batch.len()], ..Seen::default() };
    let all = async {
        // All are on their way before the first confirm is waited for.
        let publish = batch.iter().map(|p| {
            let (exchange, key) = (p.exchange.clone(), p.routing_key.clone());
            let options = BasicPublishOptions { mandatory: p.mandatory, ..Default::default() };
            channel.basic_publish(exchange, key, options, &p.body, p.properties.clone())
        });
        let mut confirms: FuturesUnordered<_> = try_join_all(publish)
            .await?
            .into_iter()
            .enumerate()
            .map(|(place, confirm)| async move { (place, confirm.await) })
            .collect();
        crash::point("after send", "broker");
        while let Some((place, confirmation)) = confirms.next().await {
            let confirmation = confirmation?;
            // `is_ack` is true for a message that came back, too.
            seen.confirmed[place] = Some(confirmation.is_ack());
            if matches!(confirmation, Confirmation::NotRequested) {
                return Err(std::io::Error::other("the channel does not confirm").into());
            }
            if let Some(message) = confirmation.take_message() {
                seen.anything_returned = true;
                seen.returned
                    .extend(message.delivery.properties.message_id().as_ref().map(ToString::to_string));
            }
        }
        Ok::<_, lapin::Error>(())
    };
    match tokio::time::timeout(within, all).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => seen.failed = Some(error.to_string()),
        Err(_) => seen.failed = Some(format!("no confirm within {within:?}")),
    }
    seen
}

/// A return always comes before the confirm of its message, and lapin attaches it to some confirm no later than that.
/// So what was confirmed in a batch that saw no return is safe even if the rest of the batch was not confirmed.
fn judge(batch: &[Publication], seen: &Seen) -> Vec<Sent> {
    let why = seen.failed.as_deref().unwrap_or("no confirm");
    batch
        .iter()
        .zip(&seen.confirmed)
        .map(|(publication, confirmed)| {
            let id = publication.properties.message_id().as_ref();
            match confirmed {
                Some(true) if seeded::is(Bug::ReturnIgnored) => Ok(()),
                _ if id.is_some_and(|id| seen.returned.contains(id.as_str())) => {
                    Err(format!("{UNROUTABLE}: {} {}", publication.exchange, publication.routing_key))
                }
                _ if seen.anything_returned => Err("another message of the batch came back".into()),
                Some(true) => Ok(()),
                Some(false) => Err("the queue is full".into()),
                None => Err(why.to_owned()),
            }
        })
        .collect()
}

/// How the reason begins when no queue took the message.
pub(super) const UNROUTABLE: &str = "no queue takes it";
