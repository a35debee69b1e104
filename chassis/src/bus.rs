//! Reliable messages between processes: one contract, two kinds.
//!
//! A message is born in an [`outbox`](crate::outbox), in the commit that caused it, and stays there until the bus says
//! that it is safe. [`local`] hands it to subscribers in the same process; [`amqp`] gives it to RabbitMQ. Either may
//! deliver it again: whoever handles a message absorbs repeats. Neither promises an order.

pub mod amqp;
pub mod local;

use std::{collections::BTreeMap, panic::AssertUnwindSafe, sync::Arc, time::Duration};

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use futures_util::FutureExt as _;
use serde::{Deserialize, Serialize};
use tracing::{Instrument as _, Span, field::Empty};
use uuid::Uuid;

use crate::seeded::{self, Bug};

/// The rungs of the retry ladder: how long a message that failed waits before it is tried again.
pub const LADDER: [Duration; 5] = [
    Duration::from_secs(1),
    Duration::from_secs(5),
    Duration::from_secs(30),
    Duration::from_secs(120),
    Duration::from_secs(600),
];

/// `kind` of the notice that a command went to the dead queue. It has no body; its headers are those of the command
/// and [`header::COMMAND_ID`], [`header::REASON`], [`header::ATTEMPTS`].
pub const DEAD_NOTICE: &str = "amends.dead";

/// Names of headers.
pub mod header {
    /// saga_… that a command or answer belongs to.
    pub const SAGA: &str = "amends-saga";
    /// The step that it is about.
    pub const STEP: &str = "amends-step";
    /// In a dead notice: the message id of the dead command.
    pub const COMMAND_ID: &str = "amends-command-id";
    /// In a dead notice: why.
    pub const REASON: &str = "amends-reason";
    /// In a dead notice: how often it was tried.
    pub const ATTEMPTS: &str = "amends-attempts";
    /// What an event is about (CloudEvents `subject`), e.g. ord_….
    pub const SUBJECT: &str = "amends-subject";
    /// W3C traceparent.
    pub const TRACE: &str = "traceparent";
}

/// Where a message goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Exchange {
    /// Reliable commands; the routing key is the service, as in `inventory`.
    Commands,
    /// Answers for the orchestrators; the routing key is `orchestrator`.
    Replies,
    /// Domain events; the routing key is the event's type, as in `order.completed`.
    Events,
}

impl Exchange {
    /// As the outbox stores it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Commands => "commands",
            Self::Replies => "replies",
            Self::Events => "events",
        }
    }

    /// Reads what the outbox stored.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Commands, Self::Replies, Self::Events].into_iter().find(|e| e.as_str() == text)
    }
}

/// One message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Its own id, for life.
    pub id: Uuid,
    /// Where it goes.
    pub exchange: Exchange,
    /// And for whom.
    pub routing_key: String,
    /// What the body is, as in `amends.inventory.v1.ReleaseItem`.
    pub kind: String,
    /// The service that says it, as in `inventory`.
    pub source: String,
    /// Encoded by its kind.
    pub body: Vec<u8>,
    /// See [`header`].
    pub headers: BTreeMap<String, String>,
    /// When it was said.
    pub time: DateTime<Utc>,
    /// Deliveries that failed so far.
    pub attempt: u32,
}

impl Message {
    /// A new message with a new id.
    #[must_use]
    pub fn new(exchange: Exchange, routing_key: &str, kind: &str, source: &str, body: Vec<u8>) -> Self {
        Self {
            id: crate::clock::new_uuid(),
            exchange,
            routing_key: routing_key.to_owned(),
            kind: kind.to_owned(),
            source: source.to_owned(),
            body,
            headers: BTreeMap::new(),
            time: crate::clock::now(),
            attempt: 0,
        }
    }

    /// With a header. Empty values are left out.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        let value = value.into();
        if !value.is_empty() {
            self.headers.insert(name.to_owned(), value);
        }
        self
    }

    /// Whether somebody has to be told when it is dead: it is a command, and says whose step it takes back.
    #[must_use]
    pub fn has_saga(&self) -> bool {
        let named = |name: &str| self.headers.contains_key(name);
        self.exchange == Exchange::Commands && named(header::SAGA) && named(header::STEP)
    }

    /// The trace in which it is handled now, for what is written down because of it; may be empty.
    #[must_use]
    pub fn trace(&self) -> String {
        let came_with = self.headers.get(header::TRACE).map(String::as_str).unwrap_or_default();
        crate::telemetry::below(&Span::current(), came_with)
    }

    /// The notice that tells the saga that this command is dead. Its id follows from the command's, so that saying it
    /// twice says it once.
    #[must_use]
    pub fn dead_notice(&self, reason: &str) -> Self {
        let mut headers = self.headers.clone();
        headers.insert(header::COMMAND_ID.into(), self.id.to_string());
        headers.insert(header::REASON.into(), reason.chars().take(500).collect());
        // A stranger may say that it was tried as often as can be counted.
        headers.insert(header::ATTEMPTS.into(), self.attempt.saturating_add(1).to_string());
        Self {
            id: Uuid::new_v5(&self.id, b"dead"),
            exchange: Exchange::Replies,
            routing_key: "orchestrator".into(),
            kind: DEAD_NOTICE.into(),
            source: self.source.clone(),
            body: Vec::new(),
            headers,
            time: crate::clock::now(),
            attempt: 0,
        }
    }
}

/// What a handler says about a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Its effect is committed (or was before): it may go.
    Done,
    /// It failed by itself: up the ladder.
    Retry(String),
    /// It can never be handled: to the dead queue at once.
    Dead(String),
    /// The handler's own database or provider is away: it stays where it is, and the consumer pauses.
    Unavailable(String),
}

impl Verdict {
    /// For traces.
    const fn as_str(&self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Retry(_) => "retry",
            Self::Dead(_) => "dead",
            Self::Unavailable(_) => "unavailable",
        }
    }
}

impl From<types::NoAnswer> for Verdict {
    fn from(none: types::NoAnswer) -> Self {
        match none {
            types::NoAnswer::Failed(why) => Self::Retry(why),
            types::NoAnswer::TooLate => Self::Retry("it was too late".into()),
            types::NoAnswer::Overloaded { .. } => Self::Unavailable("too much to do".into()),
            types::NoAnswer::Away(why) | types::NoAnswer::Unavailable(why) => Self::Unavailable(why),
        }
    }
}

/// Handles messages of one queue.
#[async_trait]
pub trait Handler: Send + Sync + 'static {
    /// Handles one; called side by side, also for the same message again.
    async fn handle(&self, message: &Message) -> Verdict;
}

/// Asks a handler, as part of the message's trace. Its panic is a failure of this message alone.
async fn ask(handler: &dyn Handler, message: &Message) -> Verdict {
    let span = consume_span(message);
    let verdict = AssertUnwindSafe(handler.handle(message))
        .catch_unwind()
        .instrument(span.clone())
        .await
        .unwrap_or_else(|_| Verdict::Retry("the handler panicked".into()));
    span.record("outcome", verdict.as_str());
    if seeded::is(Bug::AckBeforeCommit) { Verdict::Done } else { verdict }
}

fn consume_span(message: &Message) -> Span {
    if !crate::telemetry::is_traced() {
        return tracing::info_span!("consume", message.id = %message.id, kind = message.kind);
    }
    let exchange = message.exchange.as_str();
    let span = tracing::info_span!(
        "consume",
        otel.name = format!("process {}.{}", exchange, message.routing_key),
        otel.kind = "consumer",
        messaging.operation.name = "process",
        messaging.destination.name = exchange,
        message.id = %message.id,
        kind = message.kind,
        outcome = Empty,
    );
    if let Some(trace) = message.headers.get(header::TRACE) {
        crate::telemetry::set_parent(&span, trace);
    }
    span
}

/// What a queue takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Binding {
    /// Commands for this service.
    Commands(String),
    /// Answers.
    Replies,
    /// Events whose type matches one of these topic patterns (`*` one word, `#` any number).
    Events(Vec<String>),
}

/// A queue: its name and what it takes, as in `inventory.commands`, `orchestrator.replies`, `notification.events`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Queue {
    /// Without prefix.
    pub name: String,
    /// What it takes.
    pub binding: Binding,
}

impl Queue {
    /// `<service>.commands`.
    #[must_use]
    pub fn commands(service: &str) -> Self {
        Self { name: format!("{service}.commands"), binding: Binding::Commands(service.to_owned()) }
    }

    /// `orchestrator.replies`.
    #[must_use]
    pub fn replies() -> Self {
        Self { name: "orchestrator.replies".into(), binding: Binding::Replies }
    }

    /// `<service>.events`.
    #[must_use]
    pub fn events(service: &str, patterns: &[&str]) -> Self {
        let patterns = patterns.iter().map(|p| (*p).to_owned()).collect();
        Self { name: format!("{service}.events"), binding: Binding::Events(patterns) }
    }

    /// Whether this queue takes the message.
    #[must_use]
    pub fn takes(&self, message: &Message) -> bool {
        match (&self.binding, message.exchange) {
            (Binding::Commands(service), Exchange::Commands) => *service == message.routing_key,
            (Binding::Replies, Exchange::Replies) => true,
            (Binding::Events(patterns), Exchange::Events) => {
                patterns.iter().any(|p| topic_matches(p, &message.routing_key))
            }
            _ => false,
        }
    }
}

/// AMQP's topic rule: words between dots, `*` stands for one, `#` for any number.
#[must_use]
pub fn topic_matches(pattern: &str, key: &str) -> bool {
    /// The first word, and what is behind it.
    fn first(words: &str) -> (&str, Option<&str>) {
        words.split_once('.').map_or((words, None), |(word, rest)| (word, Some(rest)))
    }
    // None: no word is left.
    fn matches(pattern: Option<&str>, key: Option<&str>) -> bool {
        match (pattern.map(first), key.map(first)) {
            (None, None) => true,
            (Some(("#", rest)), None) => matches(rest, None),
            (Some(("#", rest)), Some((_, behind))) => matches(rest, key) || matches(pattern, behind),
            (Some((word, pattern)), Some((here, key))) => {
                (word == "*" || word == here) && matches(pattern, key)
            }
            _ => false,
        }
    }
    matches(Some(pattern), Some(key))
}

/// What the bus says about a message that was published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Published {
    /// It is safe (confirmed by the broker, or committed by every subscriber): the outbox row may go.
    Safe,
    /// The bus or a subscriber's database is away: again soon, no rung spent.
    NotYet(String),
    /// A subscriber failed on it: again after the next rung.
    Later(String),
    /// It can never be handled: the row stays as dead, and its saga is told.
    Dead(String),
}

/// One of the two kinds.
#[async_trait]
pub trait Bus: Send + Sync + 'static {
    /// Publishes messages of one outbox; an answer for each, in the same order.
    async fn publish(&self, messages: &[Message]) -> Vec<Published>;

    /// Starts to hand the queue's messages to the handler, until the process stops. Returns when the queue exists and
    /// takes messages.
    async fn subscribe(&self, queue: Queue, handler: Arc<dyn Handler>) -> Result<(), Error>;

    /// Whether somebody could want it. Anybody may bind a queue at a broker; within a process all are known.
    fn is_wanted(&self, _message: &Message) -> bool {
        true
    }

    /// Whether nobody but this process publishes what its outboxes hold.
    fn is_of_one_process(&self) -> bool {
        false
    }
}

/// Why the bus cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The broker said no, or is not there.
    #[error("the broker cannot be used: {0}")]
    Broker(String),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_that_was_tried_as_often_as_can_be_counted_still_has_a_notice() {
        let mut message = Message::new(Exchange::Commands, "inventory", "k", "s", Vec::new());
        message.attempt = u32::MAX;
        assert_eq!(message.dead_notice("why").headers[header::ATTEMPTS], u32::MAX.to_string());
    }

    #[test]
    fn topics_match_as_in_amqp() {
        for (pattern, key, expected) in [
            ("order.#", "order.completed", true),
            ("order.#", "order", true),
            ("order.*", "order", false),
            ("order.*", "order.a.b", false),
            ("#.b", "order.a.b", true),
            ("payment.refunded", "payment.refunded", true),
            ("payment.refunded", "payment.captured", false),
        ] {
            assert_eq!(topic_matches(pattern, key), expected, "{pattern} {key}");
        }
    }
}
