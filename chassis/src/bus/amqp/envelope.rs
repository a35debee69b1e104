//! A [`Message`] as AMQP carries it, and back.
//!
//! The id, the kind and the source are properties; the message's own headers are headers. Events are CloudEvents 1.0
//! in binary mode besides. What climbed the ladder has lost the exchange and key it was sent with, so they travel in
//! headers of their own. Names that the broker, CloudEvents or this file use are reserved.

use std::collections::BTreeMap;

use chrono::{DateTime, SecondsFormat, Utc};
use lapin::{
    BasicProperties,
    message::Delivery,
    types::{AMQPValue, FieldArray, FieldTable, ShortString},
};
use uuid::Uuid;

use super::topology::{Names, rung};
use crate::bus::{Exchange, Message, Queue, header};

const ATTEMPT: &str = "x-attempt";
const TIME: &str = "amends-time";
const CLOUD_TIME: &str = "cloudEvents_time";
const CAME_BY: &str = "amends-exchange";
const CAME_AS: &str = "amends-routing-key";
/// Counted by the broker: deliveries that ended without an answer.
const DELIVERIES: &str = "x-delivery-count";

/// A frame holds 128 KiB, and headers must fit in one; a message may have 16 MiB (RabbitMQ 4). A broker that is sent
/// more closes the connection, so it is never sent more.
const HEADERS_LIMIT: usize = 64 * 1024;
const BODY_LIMIT: usize = 15 * 1024 * 1024;

/// One thing to publish.
#[derive(Debug, Clone)]
pub(super) struct Publication {
    pub(super) exchange: ShortString,
    pub(super) routing_key: ShortString,
    pub(super) properties: BasicProperties,
    pub(super) body: Vec<u8>,
    /// Some queue must take it, or it is not safe.
    pub(super) mandatory: bool,
}

fn short(what: &str, text: &str) -> Result<ShortString, String> {
    ShortString::try_new(text).map_err(|_| format!("its {what} is longer than 255 bytes"))
}

fn long(text: impl Into<String>) -> AMQPValue {
    AMQPValue::LongString(text.into().into())
}

fn reserved(name: &str) -> bool {
    name.starts_with("x-")
        || name.starts_with("cloudEvents_")
        || ["CC", "BCC", TIME, CAME_BY, CAME_AS].contains(&name)
}

impl Publication {
    /// The message on its way to its exchange. The error says why it can never go.
    pub(super) fn of(message: &Message, names: &Names) -> Result<Self, String> {
        Ok(Self {
            exchange: short("exchange", &names.exchange(message.exchange))?,
            routing_key: short("routing key", &message.routing_key)?,
            properties: properties(message)?,
            body: message.body.clone(),
            mandatory: true,
        })
    }

    /// The message on its way up the ladder and back to the queue it was taken from, one attempt on.
    pub(super) fn retry(
        message: &Message,
        queue: &Queue,
        delay: std::time::Duration,
        names: &Names,
    ) -> Result<Self, String> {
        let again = Message { attempt: message.attempt.saturating_add(1), ..message.clone() };
        let mut publication = Self::back(&again, queue, names)?;
        publication.exchange = short("exchange", &names.retry())?;
        publication.routing_key = short("rung", &rung(delay))?;
        let cc = FieldArray::from(vec![long(&queue.name)]);
        publication.header("CC", AMQPValue::FieldArray(cc));
        Ok(publication)
    }

    /// The message on its way back to the end of the queue it was taken from, as it is.
    pub(super) fn back(message: &Message, queue: &Queue, names: &Names) -> Result<Self, String> {
        let mut publication = Self::of(message, names)?;
        publication.exchange = short("exchange", &names.exchange(Exchange::Commands))?;
        publication.routing_key = short("queue", &queue.name)?;
        publication.remember(message.exchange.as_str(), &message.routing_key);
        Ok(publication)
    }

    /// The message on its way to the dead queue of the queue it was taken from.
    pub(super) fn dead(
        message: &Message,
        queue: &Queue,
        reason: &str,
        names: &Names,
    ) -> Result<Self, String> {
        let mut publication = Self::back(message, queue, names)?;
        publication.exchange = short("exchange", &names.dead())?;
        publication.header(header::REASON, long(cut(reason)));
        Ok(publication)
    }

    /// What could not even be read, on its way to the dead queue, as it came.
    pub(super) fn dead_raw(delivery: &Delivery, queue: &Queue, reason: &str, names: &Names) -> Self {
        let mut publication = Self {
            exchange: names.dead().into(),
            routing_key: queue.name.as_str().into(),
            properties: delivery.properties.clone().with_delivery_mode(2),
            body: delivery.data.clone(),
            mandatory: true,
        };
        publication.header(header::REASON, long(cut(reason)));
        publication.remember(delivery.exchange.as_str(), delivery.routing_key.as_str());
        publication
    }

    fn remember(&mut self, exchange: &str, routing_key: &str) {
        self.header(CAME_BY, long(exchange));
        self.header(CAME_AS, long(routing_key));
    }

    fn header(&mut self, name: &str, value: AMQPValue) {
        let mut headers = self.properties.headers().clone().unwrap_or_default();
        headers.insert(name.into(), value);
        self.properties = self.properties.clone().with_headers(headers);
    }
}

fn cut(reason: &str) -> String {
    reason.chars().take(500).collect()
}

fn properties(message: &Message) -> Result<BasicProperties, String> {
    if message.body.len() > BODY_LIMIT {
        return Err(format!("its body has more than {BODY_LIMIT} bytes"));
    }
    if message.headers.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>() > HEADERS_LIMIT {
        return Err(format!("its headers have more than {HEADERS_LIMIT} bytes"));
    }
    let mut headers = FieldTable::default();
    for (name, value) in &message.headers {
        if reserved(name) {
            return Err(format!("its header {name} has a reserved name"));
        }
        headers.insert(short("header name", name)?, long(value));
    }
    let time = message.time.to_rfc3339_opts(SecondsFormat::Micros, true);
    if message.exchange == Exchange::Events {
        headers.insert("cloudEvents_specversion".into(), long("1.0"));
        headers.insert("cloudEvents_id".into(), long(message.id.to_string()));
        headers.insert("cloudEvents_source".into(), long(format!("/services/{}", message.source)));
        headers.insert("cloudEvents_type".into(), long(format!("io.amends.{}.v1", message.routing_key)));
        headers.insert(CLOUD_TIME.into(), long(time));
        if let Some(subject) = message.headers.get(header::SUBJECT) {
            headers.insert("cloudEvents_subject".into(), long(subject));
        }
    } else {
        headers.insert(TIME.into(), long(time));
    }
    headers.insert(ATTEMPT.into(), AMQPValue::LongLongInt(message.attempt.into()));
    Ok(BasicProperties::default()
        .with_content_type("application/protobuf".into())
        .with_delivery_mode(2)
        .with_message_id(message.id.to_string().into())
        .with_type(short("kind", &message.kind)?)
        .with_app_id(short("source", &message.source)?)
        .with_timestamp(u64::try_from(message.time.timestamp()).unwrap_or(0))
        .with_headers(headers))
}

/// The message that was delivered. The error says why it can never be handled.
pub(super) fn read(delivery: &Delivery, names: &Names) -> Result<Message, String> {
    let properties = &delivery.properties;
    let id = properties.message_id().as_ref().ok_or("it has no message id")?;
    let kind = properties.kind().as_ref().filter(|kind| !kind.as_str().is_empty()).ok_or("it has no type")?;
    let headers = properties.headers().clone().unwrap_or_default();
    let exchange = match text(&headers, CAME_BY) {
        Some(name) => Exchange::parse(&name),
        None => names.parse_exchange(delivery.exchange.as_str()),
    };
    let attempt = match headers.inner().get(ATTEMPT) {
        None => 0,
        Some(value) => number(value).ok_or("its x-attempt is not a number")?,
    };
    Ok(Message {
        id: Uuid::parse_str(id.as_str()).map_err(|_| "its message id is not a UUID")?,
        exchange: exchange.ok_or("it came by an exchange that is not known")?,
        routing_key: text(&headers, CAME_AS).unwrap_or_else(|| delivery.routing_key.to_string()),
        kind: kind.to_string(),
        source: properties.app_id().as_ref().map(ToString::to_string).unwrap_or_default(),
        body: delivery.data.clone(),
        time: time(properties, &headers),
        headers: own_headers(&headers),
        attempt,
    })
}

/// How often it was delivered before without being answered.
pub(super) fn deliveries(delivery: &Delivery) -> u32 {
    let headers = delivery.properties.headers().as_ref();
    headers.and_then(|headers| headers.inner().get(DELIVERIES)).and_then(number).unwrap_or(0)
}

fn own_headers(headers: &FieldTable) -> BTreeMap<String, String> {
    headers
        .inner()
        .keys()
        .filter(|name| !reserved(name.as_str()))
        .filter_map(|name| Some((name.to_string(), text(headers, name.as_str())?)))
        .collect()
}

fn time(properties: &BasicProperties, headers: &FieldTable) -> DateTime<Utc> {
    let precise = text(headers, CLOUD_TIME)
        .or_else(|| text(headers, TIME))
        .and_then(|text| DateTime::parse_from_rfc3339(&text).ok());
    let seconds = || {
        let seconds = i64::try_from((*properties.timestamp())?).ok()?;
        DateTime::from_timestamp(seconds, 0)
    };
    precise.map(|time| time.to_utc()).or_else(seconds).unwrap_or_else(crate::clock::now)
}

fn text(headers: &FieldTable, name: &str) -> Option<String> {
    match headers.inner().get(name)? {
        AMQPValue::LongString(text) => String::from_utf8(text.as_bytes().to_vec()).ok(),
        AMQPValue::ShortString(text) => Some(text.to_string()),
        _ => None,
    }
}

fn number(value: &AMQPValue) -> Option<u32> {
    match *value {
        AMQPValue::ShortShortInt(n) => u32::try_from(n).ok(),
        AMQPValue::ShortShortUInt(n) => Some(n.into()),
        AMQPValue::ShortInt(n) => u32::try_from(n).ok(),
        AMQPValue::ShortUInt(n) => Some(n.into()),
        AMQPValue::LongInt(n) => u32::try_from(n).ok(),
        AMQPValue::LongUInt(n) => Some(n),
        AMQPValue::LongLongInt(n) => u32::try_from(n).ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn delivered(publication: &Publication) -> Delivery {
        let mut delivery = Delivery::mock(
            1,
            publication.exchange.clone(),
            publication.routing_key.clone(),
            false,
            publication.body.clone(),
        );
        delivery.properties = publication.properties.clone();
        delivery
    }

    fn message(exchange: Exchange) -> Message {
        let mut message =
            Message::new(exchange, "order.completed", "amends.order.v1.OrderChanged", "order", vec![0, 159])
                .with(header::SUBJECT, "ord_1")
                .with(header::TRACE, "00-ä-01");
        message.time = DateTime::from_timestamp_micros(1_700_000_000_123_456).unwrap();
        message
    }

    #[test]
    fn a_message_comes_out_as_it_went_in_by_whichever_way() {
        let names = Names::new("blue.");
        let queue = Queue::events("notification", &["order.#"]);
        for exchange in [Exchange::Commands, Exchange::Replies, Exchange::Events] {
            let message = message(exchange);
            let straight = Publication::of(&message, &names).unwrap();
            assert_eq!(read(&delivered(&straight), &names).unwrap(), message);
            let back = Publication::back(&message, &queue, &names).unwrap();
            assert_eq!(read(&delivered(&back), &names).unwrap(), message);
            let delay = std::time::Duration::from_secs(1);
            let retried = Publication::retry(&message, &queue, delay, &names).unwrap();
            let again = Message { attempt: 1, ..message.clone() };
            assert_eq!(read(&delivered(&retried), &names).unwrap(), again);
            let dead = Publication::dead(&message, &queue, "why", &names).unwrap();
            let mut found = read(&delivered(&dead), &names).unwrap();
            assert_eq!(found.headers.remove(header::REASON).as_deref(), Some("why"));
            assert_eq!(found, message);
        }
    }

    #[test]
    fn an_event_is_a_cloud_event() {
        let message = message(Exchange::Events);
        let publication = Publication::of(&message, &Names::new("")).unwrap();
        let headers = publication.properties.headers().clone().unwrap();
        for (name, value) in [
            ("cloudEvents_specversion", "1.0"),
            ("cloudEvents_id", message.id.to_string().as_str()),
            ("cloudEvents_source", "/services/order"),
            ("cloudEvents_type", "io.amends.order.completed.v1"),
            ("cloudEvents_subject", "ord_1"),
            ("cloudEvents_time", "2023-11-14T22:13:20.123456Z"),
        ] {
            assert_eq!(text(&headers, name).as_deref(), Some(value), "{name}");
        }
        assert_eq!(publication.properties.content_type().as_ref().unwrap().as_str(), "application/protobuf");
    }

    #[test]
    fn what_amqp_cannot_carry_is_said_before_it_is_tried() {
        let names = Names::new("");
        let long = "x".repeat(256);
        let fine = message(Exchange::Commands);
        for bad in [
            Message { routing_key: long.clone(), ..fine.clone() },
            Message { kind: long.clone(), ..fine.clone() },
            Message { source: long.clone(), ..fine.clone() },
            fine.clone().with(&"h".repeat(256), "v"),
            fine.clone().with("h", "v".repeat(HEADERS_LIMIT)),
            Message { body: vec![0; BODY_LIMIT + 1], ..fine.clone() },
            fine.clone().with("CC", "orchestrator"),
            fine.clone().with("x-attempt", "3"),
        ] {
            assert!(Publication::of(&bad, &names).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn what_is_not_a_message_says_why() {
        let names = Names::new("");
        let good = Publication::of(&message(Exchange::Commands), &names).unwrap();
        for (properties, why) in [
            (BasicProperties::default(), "it has no message id"),
            (BasicProperties::default().with_message_id("7".into()), "it has no type"),
            (good.properties.clone().with_message_id("7".into()), "its message id is not a UUID"),
        ] {
            let mut delivery = delivered(&good);
            delivery.properties = properties;
            assert_eq!(read(&delivery, &names), Err(why.to_owned()));
        }
        let mut delivery = delivered(&good);
        delivery.exchange = "elsewhere".into();
        assert!(read(&delivery, &names).is_err());
    }
}
