//! The bus over RabbitMQ.
//!
//! `topology` says what the broker holds, `envelope` how a message looks there, `link` how a connection comes back,
//! `publisher` when a message is safe, `consumer` what becomes of one that was delivered, `acks` how the broker hears of
//! it. Every process declares the whole topology, so that nothing is said to a queue that is not there yet. Publishing
//! and consuming have a connection each.

mod acks;
mod consumer;
#[doc(hidden)]
pub mod doors;
mod envelope;
mod link;
mod pause;
mod publisher;
mod topology;

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use lapin::uri::AMQPUri;
use tokio::sync::RwLock;
use uuid::Uuid;

use self::{
    consumer::Subscription,
    envelope::Publication,
    link::{Away, Link},
    publisher::{Publisher, UNROUTABLE},
    topology::{Names, Topology},
};
use super::{Bus, Error, Handler, LADDER, Message, Published, Queue};
use crate::stop::Stop;

/// Messages that came back and are remembered, so that they go alone next time.
const REMEMBERED: usize = 10_000;

/// Which events go out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Events {
    /// All: anybody may have bound a queue.
    #[default]
    All,
    /// Only those that a queue of Amends is bound for: nobody else listens. Others are not even stored.
    Own,
}

/// How the bus behaves; the default is for production, tests are quicker.
#[derive(Debug, Clone)]
pub struct Options {
    /// The rungs. All processes on one broker and prefix must have the same.
    pub ladder: Vec<Duration>,
    /// Messages of one queue in hand at once.
    pub window: u16,
    /// How long a confirm, or an answer to a declaration, may take.
    pub confirm_within: Duration,
    /// How long a message stays in hand while its handler can do nothing, before it goes to the end of its queue
    /// without spending an attempt. Below the broker's own limit (30 min), because that one counts.
    pub hold: Duration,
    /// Which events go out.
    pub events: Events,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            ladder: LADDER.to_vec(),
            window: 48,
            confirm_within: Duration::from_secs(10),
            hold: Duration::from_secs(600),
            events: Events::All,
        }
    }
}

/// The bus over RabbitMQ. Cheap to clone; clones are the same bus.
#[derive(Clone)]
pub struct AmqpBus {
    inner: Arc<Inner>,
}

struct Inner {
    names: Names,
    options: Options,
    topology: Arc<RwLock<Topology>>,
    publisher: Publisher,
    consuming: Link,
    returned: Mutex<HashSet<Uuid>>,
    stop: Stop,
}

impl AmqpBus {
    /// Connects and declares `topology`: the queues of all services. Waits for a broker that is not there, saying so
    /// every few seconds, until `stop`. `prefix` is put before every name, so that several Amends can share a broker.
    ///
    /// # Errors
    /// A bad URL; a broker that refuses (credentials, virtual host, a queue that exists with other arguments); `stop`.
    pub async fn connect(url: &str, prefix: &str, topology: Vec<Queue>, stop: &Stop) -> Result<Self, Error> {
        Self::connect_with(url, prefix, topology, Options::default(), stop).await
    }

    /// As [`AmqpBus::connect`], with other options.
    ///
    /// # Errors
    /// As there.
    pub async fn connect_with(
        url: &str,
        prefix: &str,
        queues: Vec<Queue>,
        options: Options,
        stop: &Stop,
    ) -> Result<Self, Error> {
        // The parser's own error repeats the URL, which may hold a password.
        let uri: AMQPUri = url.parse().map_err(|_| {
            Error::Broker("the URL is not of the form amqp://[user:password@]host[:port]/[vhost]".into())
        })?;
        let names = Names::new(prefix);
        let topology = Topology { names: names.clone(), queues, ladder: options.ladder.clone() };
        let topology = Arc::new(RwLock::new(topology));
        let publishing = Link::new(uri.clone(), "publish", Arc::clone(&topology));
        let inner = Inner {
            names,
            publisher: Publisher::new(publishing, options.confirm_within),
            consuming: Link::new(uri, "consume", Arc::clone(&topology)),
            options,
            topology,
            returned: Mutex::default(),
            stop: stop.clone(),
        };
        let bus = Self { inner: Arc::new(inner) };
        bus.until_declared().await?;
        Ok(bus)
    }

    /// Whether the broker can be reached now: for readiness.
    pub async fn is_connected(&self) -> bool {
        self.inner.publisher.link.connection().await.is_ok()
    }

    /// Waits until both connections stand and the topology is declared.
    async fn until_declared(&self) -> Result<(), Error> {
        let connected = async |link: &Link| {
            loop {
                let connected = tokio::select! {
                    // Nothing is lost with a handshake.
                    () = self.inner.stop.wanted() => Err(Away::Unreachable("the process stops".into())),
                    connected = link.connection() => connected.map(|_| ()),
                };
                match connected {
                    Ok(()) => return Ok(()),
                    Err(Away::Refused(why)) => return Err(Error::Broker(why)),
                    Err(Away::Unreachable(why)) => {
                        if !self.inner.stop.sleep(Duration::from_millis(50)).await {
                            return Err(Error::Broker(why));
                        }
                    }
                }
            }
        };
        tokio::try_join!(connected(&self.inner.publisher.link), connected(&self.inner.consuming))?;
        Ok(())
    }

    /// Publishes a batch and notes what became of each.
    async fn send(&self, batch: &[(usize, &Message, Publication)], answers: &mut [Published]) {
        let publications: Vec<_> = batch.iter().map(|(_, _, publication)| publication.clone()).collect();
        let sent = self.inner.publisher.send(&publications).await;
        for ((place, message, _), sent) in batch.iter().zip(sent) {
            let outcome = match sent {
                Ok(()) => {
                    self.inner.returned().remove(&message.id);
                    "safe"
                }
                Err(why) => {
                    if why.starts_with(UNROUTABLE) {
                        self.inner.remember(message, &why);
                    }
                    answers[*place] = Published::NotYet(why);
                    "not_yet"
                }
            };
            let exchange = message.exchange.as_str();
            metrics::counter!("amends_bus_published_total", "exchange" => exchange, "outcome" => outcome)
                .increment(1);
        }
    }
}

impl Inner {
    /// Waits for the broker's answer, but not for ever.
    async fn in_time<T>(&self, answer: impl Future<Output = lapin::Result<T>>) -> Result<T, String> {
        tokio::time::timeout(self.options.confirm_within, answer)
            .await
            .map_err(|_| "no answer in time".to_owned())?
            .map_err(|error| error.to_string())
    }

    fn returned(&self) -> MutexGuard<'_, HashSet<Uuid>> {
        self.returned.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that a message came back.
    fn remember(&self, message: &Message, why: &str) {
        let mut returned = self.returned();
        if returned.len() >= REMEMBERED {
            returned.clear();
        }
        if returned.insert(message.id) {
            tracing::error!(message.id = %message.id, kind = message.kind, why, "a message came back");
        }
    }
}

#[async_trait]
impl Bus for AmqpBus {
    async fn publish(&self, messages: &[Message]) -> Vec<Published> {
        let mut answers = vec![Published::Safe; messages.len()];
        let mut fresh = Vec::new();
        let mut suspects = Vec::new();
        let topology = self.inner.topology.read().await;
        for (place, message) in messages.iter().enumerate() {
            match Publication::of(message, &self.inner.names) {
                Ok(mut publication) => {
                    publication.mandatory = topology.expects(message);
                    let known = self.inner.returned().contains(&message.id);
                    let batch = if known { &mut suspects } else { &mut fresh };
                    batch.push((place, message, publication));
                }
                Err(why) => answers[place] = Published::Dead(why),
            }
        }
        drop(topology);
        // Nothing of a batch is safe in which a message comes back. One that came back before goes in a batch of its
        // own, or its neighbours in the outbox would never be called safe.
        self.send(&fresh, &mut answers).await;
        for suspect in suspects.chunks(1) {
            self.send(suspect, &mut answers).await;
        }
        answers
    }

    async fn subscribe(&self, queue: Queue, handler: Arc<dyn Handler>) -> Result<(), Error> {
        let grown = {
            let mut topology = self.inner.topology.write().await;
            let grown = !topology.queues.contains(&queue);
            if grown {
                topology.queues.push(queue.clone());
            }
            grown
        };
        if grown {
            self.until_declared().await?;
            self.inner.consuming.declare().await.map_err(|away| Error::Broker(away.why()))?;
        }
        let subscription = Subscription::new(Arc::clone(&self.inner), queue, handler);
        self.inner.stop.spawn(async move { Arc::new(subscription).run().await });
        Ok(())
    }

    fn is_wanted(&self, message: &Message) -> bool {
        // While a queue is being added everything is.
        let expected = || self.inner.topology.try_read().map_or(true, |topology| topology.expects(message));
        self.inner.options.events == Events::All || expected()
    }
}
