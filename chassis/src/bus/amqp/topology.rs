//! What the broker holds for Amends: exchanges, queues and their bindings, and how they are named.
//!
//! Everything is durable and every queue is a quorum queue with an explicit delivery limit, dead-lettering at least
//! once and a length cap that refuses new messages instead of dropping old ones. Arguments of a queue are for life:
//! changing one here makes the broker refuse the declaration until the queue is drained and deleted.
//!
//! A message that failed climbs by being published to the retry exchange with its rung's delay as the routing key and
//! its queue's name in the `CC` header. The retry queue has no routing key of its own for dead-lettering, so that the
//! message leaves it with all the keys it came with, and on the command exchange only its queue's name matches. (The
//! default exchange would do without that binding, but brokers are known to get stuck dead-lettering to it.)

use std::time::Duration;

use lapin::{
    Channel, ExchangeKind,
    options::{ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions},
    types::{AMQPValue, FieldTable, ShortString},
};

use crate::bus::{Binding, Exchange, Message, Queue};

/// Deliveries that end without an answer (the consumer died) before the broker itself gives a message up. Consumers
/// give it up earlier and tell its saga; see `consumer`.
const DELIVERY_LIMIT: i64 = 50;

/// Messages a queue holds at most. Past it publishers are refused and the outbox keeps what it has.
const WORK_LENGTH: i64 = 500_000;
const RETRY_LENGTH: i64 = 100_000;
const DEAD_LENGTH: i64 = 1_000_000;

/// Names, with the prefix that keeps several Amends on one broker apart.
#[derive(Debug, Clone)]
pub(super) struct Names {
    prefix: String,
}

impl Names {
    pub(super) fn new(prefix: &str) -> Self {
        Self { prefix: prefix.to_owned() }
    }

    pub(super) fn exchange(&self, exchange: Exchange) -> String {
        format!("{}amends.{}", self.prefix, exchange.as_str())
    }

    /// The exchange with this name, if it is one that messages are sent to.
    pub(super) fn parse_exchange(&self, name: &str) -> Option<Exchange> {
        Exchange::parse(name.strip_prefix(&self.prefix)?.strip_prefix("amends.")?)
    }

    pub(super) fn retry(&self) -> String {
        format!("{}amends.retry", self.prefix)
    }

    pub(super) fn dead(&self) -> String {
        format!("{}amends.dead", self.prefix)
    }

    pub(super) fn queue(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    fn dead_queue(&self, name: &str) -> String {
        format!("{}{name}.dead", self.prefix)
    }

    fn retry_queue(&self, delay: Duration) -> String {
        format!("{}amends.retry.{}", self.prefix, rung(delay))
    }
}

/// The routing key of a rung, as in `1s`, `2m`.
pub(super) fn rung(delay: Duration) -> String {
    humantime::format_duration(delay).to_string().replace(' ', "")
}

fn table<const N: usize>(entries: [(&str, AMQPValue); N]) -> FieldTable {
    let mut table = FieldTable::default();
    for (key, value) in entries {
        table.insert(key.into(), value);
    }
    table
}

fn text(value: impl Into<String>) -> AMQPValue {
    AMQPValue::LongString(value.into().into())
}

/// What is declared.
#[derive(Debug, Clone)]
pub(super) struct Topology {
    pub(super) names: Names,
    pub(super) queues: Vec<Queue>,
    pub(super) ladder: Vec<Duration>,
}

impl Topology {
    /// Whether a queue must take it: always, but for an event that none of ours is bound for. Others may have bound theirs.
    pub(super) fn expects(&self, message: &Message) -> bool {
        message.exchange != Exchange::Events || self.queues.iter().any(|queue| queue.takes(message))
    }

    /// Declares everything; what is there already is left as it is. The channel must be a throw-away one: the broker
    /// closes it when a declaration contradicts what is there.
    pub(super) async fn declare(&self, channel: &Channel) -> lapin::Result<()> {
        for exchange in [Exchange::Commands, Exchange::Replies] {
            declare_exchange(channel, self.names.exchange(exchange), ExchangeKind::Direct).await?;
        }
        declare_exchange(channel, self.names.exchange(Exchange::Events), ExchangeKind::Topic).await?;
        declare_exchange(channel, self.names.retry(), ExchangeKind::Direct).await?;
        declare_exchange(channel, self.names.dead(), ExchangeKind::Direct).await?;
        for delay in &self.ladder {
            self.declare_rung(channel, *delay).await?;
        }
        for queue in &self.queues {
            self.declare_queue(channel, queue).await?;
        }
        Ok(())
    }

    async fn declare_rung(&self, channel: &Channel, delay: Duration) -> lapin::Result<()> {
        let name = self.names.retry_queue(delay);
        let mut arguments = at_least_once(&self.names.exchange(Exchange::Commands), RETRY_LENGTH);
        let millis = i64::try_from(delay.as_millis()).unwrap_or(i64::MAX);
        arguments.insert("x-message-ttl".into(), AMQPValue::LongLongInt(millis));
        declare_queue(channel, &name, arguments).await?;
        bind(channel, &name, &self.names.retry(), &rung(delay)).await
    }

    async fn declare_queue(&self, channel: &Channel, queue: &Queue) -> lapin::Result<()> {
        let dead = self.names.dead_queue(&queue.name);
        declare_queue(channel, &dead, quorum(DEAD_LENGTH)).await?;
        bind(channel, &dead, &self.names.dead(), &queue.name).await?;

        let name = self.names.queue(&queue.name);
        let mut arguments = at_least_once(&self.names.dead(), WORK_LENGTH);
        arguments.insert("x-dead-letter-routing-key".into(), text(&queue.name));
        declare_queue(channel, &name, arguments).await?;
        // The way back from the ladder.
        bind(channel, &name, &self.names.exchange(Exchange::Commands), &queue.name).await?;
        let (exchange, keys): (_, Vec<&str>) = match &queue.binding {
            Binding::Commands(service) => (Exchange::Commands, vec![service]),
            Binding::Replies => (Exchange::Replies, vec!["orchestrator"]),
            Binding::Events(patterns) => (Exchange::Events, patterns.iter().map(String::as_str).collect()),
        };
        for key in keys {
            bind(channel, &name, &self.names.exchange(exchange), key).await?;
        }
        Ok(())
    }
}

fn quorum(length: i64) -> FieldTable {
    table([
        ("x-queue-type", text("quorum")),
        ("x-delivery-limit", AMQPValue::LongLongInt(DELIVERY_LIMIT)),
        ("x-max-length", AMQPValue::LongLongInt(length)),
        ("x-overflow", text("reject-publish")),
    ])
}

fn at_least_once(dead_letter_exchange: &str, length: i64) -> FieldTable {
    let mut arguments = quorum(length);
    arguments.insert("x-dead-letter-exchange".into(), text(dead_letter_exchange));
    arguments.insert("x-dead-letter-strategy".into(), text("at-least-once"));
    arguments
}

fn short(name: &str) -> lapin::Result<ShortString> {
    ShortString::try_new(name).map_err(|error| std::io::Error::other(error.to_string()).into())
}

async fn declare_exchange(channel: &Channel, name: String, kind: ExchangeKind) -> lapin::Result<()> {
    let options = ExchangeDeclareOptions { durable: true, ..Default::default() };
    channel.exchange_declare(short(&name)?, kind, options, FieldTable::default()).await
}

async fn declare_queue(channel: &Channel, name: &str, arguments: FieldTable) -> lapin::Result<()> {
    channel.queue_declare(short(name)?, QueueDeclareOptions::durable(), arguments).await?;
    Ok(())
}

async fn bind(channel: &Channel, queue: &str, exchange: &str, key: &str) -> lapin::Result<()> {
    let options = QueueBindOptions::default();
    channel.queue_bind(short(queue)?, short(exchange)?, short(key)?, options, FieldTable::default()).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bus::LADDER;

    #[test]
    fn rungs_are_named_by_their_delay() {
        assert_eq!(LADDER.map(rung), ["1s", "5s", "30s", "2m", "10m"]);
        assert_eq!(rung(Duration::from_millis(90_500)), "1m30s500ms");
    }

    #[test]
    fn an_exchange_is_known_by_its_name_under_its_own_prefix_only() {
        let names = Names::new("blue.");
        for exchange in [Exchange::Commands, Exchange::Replies, Exchange::Events] {
            assert_eq!(names.parse_exchange(&names.exchange(exchange)), Some(exchange));
            assert_eq!(Names::new("").parse_exchange(&names.exchange(exchange)), None);
        }
        assert_eq!(names.parse_exchange(&names.retry()), None);
    }
}
