//! The bus of a process that runs everything: subscribers are called, nothing leaves the house.
//!
//! A message is safe when every subscriber has committed; if one has not, it may reach all of them again for its sake.
//! The ladder is climbed by the outbox row (see [`crate::outbox`]). An event that nobody takes is safe, so nothing may be
//! published before everybody who wants to has subscribed: relays start with their services, one before the other.

use std::sync::{Arc, RwLock};

use async_trait::async_trait;
use futures_util::future::join_all;

use tokio_util::sync::CancellationToken;

use super::{Bus, Error, Exchange, Handler, Message, Published, Queue, Verdict};

/// The in-process bus.
pub struct LocalBus {
    subscribers: RwLock<Vec<(Queue, Arc<dyn Handler>)>>,
    open: CancellationToken,
    of_one_process: bool,
}

impl Default for LocalBus {
    fn default() -> Self {
        let bus = Self { of_one_process: false, ..Self::closed() };
        bus.open();
        bus
    }
}

impl LocalBus {
    /// Without subscribers, and open: what is published now, nobody takes.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The bus of a process that has everything to itself: what is published waits until it is opened.
    #[must_use]
    pub fn closed() -> Self {
        Self { subscribers: RwLock::default(), open: CancellationToken::new(), of_one_process: true }
    }

    /// Everybody has subscribed.
    pub fn open(&self) {
        self.open.cancel();
    }

    fn handlers(&self, message: &Message) -> Vec<Arc<dyn Handler>> {
        let subscribers = self.subscribers.read().unwrap_or_else(std::sync::PoisonError::into_inner);
        subscribers
            .iter()
            .filter(|(queue, _)| queue.takes(message))
            .map(|(_, handler)| Arc::clone(handler))
            .collect()
    }

    async fn deliver(&self, message: &Message) -> Published {
        let handlers = self.handlers(message);
        if handlers.is_empty() && message.exchange != Exchange::Events {
            return Published::NotYet(format!("nobody takes {} for {}", message.kind, message.routing_key));
        }
        let verdicts = join_all(handlers.iter().map(|handler| super::ask(&**handler, message))).await;
        // The worst counts: a message that one subscriber cannot take yet is kept for it.
        verdicts.into_iter().fold(Published::Safe, |worst, verdict| {
            let this = match verdict {
                Verdict::Done => Published::Safe,
                Verdict::Unavailable(why) => Published::NotYet(why),
                Verdict::Retry(why) => Published::Later(why),
                Verdict::Dead(why) => Published::Dead(why),
            };
            if rank(&this) > rank(&worst) { this } else { worst }
        })
    }
}

const fn rank(published: &Published) -> u8 {
    match published {
        Published::Safe => 0,
        Published::Dead(_) => 1,
        Published::Later(_) => 2,
        Published::NotYet(_) => 3,
    }
}

#[async_trait]
impl Bus for LocalBus {
    async fn publish(&self, messages: &[Message]) -> Vec<Published> {
        self.open.cancelled().await;
        join_all(messages.iter().map(|message| self.deliver(message))).await
    }

    async fn subscribe(&self, queue: Queue, handler: Arc<dyn Handler>) -> Result<(), Error> {
        let mut subscribers = self.subscribers.write().unwrap_or_else(std::sync::PoisonError::into_inner);
        // A queue has one consumer here: a service that starts again takes its queue over.
        subscribers.retain(|(taken, _)| taken.name != queue.name);
        subscribers.push((queue, handler));
        Ok(())
    }

    /// An event that nobody wants; before all have subscribed nobody can tell.
    fn is_wanted(&self, message: &Message) -> bool {
        message.exchange != Exchange::Events
            || !self.open.is_cancelled()
            || !self.handlers(message).is_empty()
    }

    fn is_of_one_process(&self) -> bool {
        self.of_one_process
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Does nothing.
    struct Idle;

    #[async_trait]
    impl Handler for Idle {
        async fn handle(&self, _: &Message) -> Verdict {
            Verdict::Done
        }
    }

    #[tokio::test]
    async fn what_nobody_wants_is_known_once_all_have_subscribed() {
        let bus = LocalBus::closed();
        let event = |key| Message::new(Exchange::Events, key, "k", "s", Vec::new());
        assert!(bus.is_wanted(&event("order.created")), "somebody may still come");
        bus.subscribe(Queue::events("notification", &["order.completed"]), Arc::new(Idle)).await.unwrap();
        bus.open();
        assert!(bus.is_wanted(&event("order.completed")));
        assert!(!bus.is_wanted(&event("order.created")) && !bus.is_wanted(&event("payment.refunded")));
        let command = Message::new(Exchange::Commands, "nobody", "k", "s", Vec::new());
        assert!(bus.is_wanted(&command), "a command that nobody takes is kept until somebody does");
    }
}
