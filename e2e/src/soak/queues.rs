//! What is done to queues: one is deleted, and every one gets messages that nobody can read; and what became of them.

use std::{collections::BTreeMap, time::Duration};

use chassis::bus::{Binding, Queue};
use lapin::{
    BasicProperties, Channel, Connection, ConnectionProperties,
    options::{
        BasicAckOptions, BasicGetOptions, BasicPublishOptions, ConfirmSelectOptions, QueueDeclareOptions,
        QueueDeleteOptions,
    },
    types::{AMQPValue, FieldTable, ShortString},
};

/// A poison message names itself in this header, which outlives its way to the dead queue.
const NAME: &str = "soak-poison";

/// The broker, past all proxies.
pub(super) struct Broker {
    connection: Connection,
    prefix: String,
}

/// What lies in the dead queues.
#[derive(Debug, Default)]
pub(super) struct Dead {
    /// How often each poison message is there.
    pub(super) poison: BTreeMap<String, usize>,
    /// What else is there: queue and reason.
    pub(super) others: Vec<String>,
}

/// What makes a message unreadable.
#[derive(Debug, Clone, Copy)]
enum Ill {
    /// A body that is no message of its kind.
    Body,
    /// No id and no kind.
    Headers,
    /// An attempt that is no number.
    Attempt,
}

impl Broker {
    /// # Errors
    /// What the broker said.
    pub(super) async fn reach(url: &str, prefix: &str) -> lapin::Result<Self> {
        let connection = Connection::connect(url, ConnectionProperties::default()).await?;
        Ok(Self { connection, prefix: format!("{prefix}.") })
    }

    fn name(&self, queue: &str) -> ShortString {
        format!("{}{queue}", self.prefix).into()
    }

    /// How many messages wait in a queue, and how many take from it; an error when it is not there.
    ///
    /// # Errors
    /// What the broker said.
    pub(super) async fn look(&self, queue: &str) -> lapin::Result<(u32, u32)> {
        // The broker closes the channel when there is no such queue.
        let channel = self.connection.create_channel().await?;
        let passive = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
        let found = channel.queue_declare(self.name(queue), passive, FieldTable::default()).await?;
        let counts = (found.message_count(), found.consumer_count());
        channel.close(200, "seen".into()).await?;
        Ok(counts)
    }

    /// Whether every queue has somebody who takes from it.
    async fn all_served(&self) -> bool {
        for queue in amends::stack::queues() {
            if !self.look(&queue.name).await.is_ok_and(|(_, takers)| takers > 0) {
                return false;
            }
        }
        true
    }

    /// Deletes a queue once everybody is connected, `takers` take from it and nothing waits in it.
    ///
    /// # Errors
    /// What the broker said, or what kept it from being so.
    pub(super) async fn delete(&self, queue: &str, takers: usize) -> Result<(), String> {
        let until = tokio::time::Instant::now() + Duration::from_secs(20);
        let takers = u32::try_from(takers).unwrap_or(u32::MAX);
        let said = |error: lapin::Error| error.to_string();
        loop {
            let (served, found) = (self.all_served().await, self.look(queue).await.map_err(said)?);
            if served && found == (0, takers) {
                break;
            }
            if tokio::time::Instant::now() > until {
                let (waiting, taking) = found;
                let all = if served { "all" } else { "not all" };
                return Err(format!(
                    "it was never idle: {waiting} messages waited, {taking} of {takers} took from it, {all} queues were served"
                ));
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let channel = self.connection.create_channel().await.map_err(said)?;
        channel.queue_delete(self.name(queue), QueueDeleteOptions::default()).await.map_err(said)?;
        Ok(())
    }

    /// Sends each queue a message of every ill; the names of those that the broker has.
    ///
    /// # Errors
    /// What the broker said.
    pub(super) async fn poison(&self, round: usize) -> lapin::Result<Vec<String>> {
        let channel = self.connection.create_channel().await?;
        channel.confirm_select(ConfirmSelectOptions::default()).await?;
        let mut sent = Vec::new();
        for queue in amends::stack::queues() {
            for ill in [Ill::Body, Ill::Headers, Ill::Attempt] {
                let name = format!("{round}-{}-{ill:?}", queue.name);
                if self.send(&channel, &queue, ill, &name).await? {
                    sent.push(name);
                }
            }
        }
        channel.close(200, "poisoned".into()).await?;
        Ok(sent)
    }

    async fn send(&self, channel: &Channel, queue: &Queue, ill: Ill, name: &str) -> lapin::Result<bool> {
        let (exchange, key, kind) = match &queue.binding {
            Binding::Commands(service) => ("commands", service.as_str(), "amends.garbage.v1.ReleaseItem"),
            Binding::Replies => ("replies", "orchestrator", "amends.step.v1.StepAnswer"),
            // Its own name, so that no neighbour gets it: every queue takes what is named so on the command exchange.
            Binding::Events(_) => ("commands", queue.name.as_str(), "amends.order.v1.OrderChanged"),
        };
        let mut headers = FieldTable::default();
        headers.insert(NAME.into(), AMQPValue::LongString(name.to_owned().into()));
        let id = chassis::clock::new_uuid().to_string();
        let mut properties = BasicProperties::default().with_delivery_mode(2);
        match ill {
            Ill::Body => properties = properties.with_message_id(id.into()).with_type(kind.into()),
            Ill::Headers => {}
            Ill::Attempt => {
                headers.insert("x-attempt".into(), AMQPValue::LongString("many".to_owned().into()));
                properties = properties.with_message_id(id.into()).with_type(kind.into());
            }
        }
        let exchange = format!("{}amends.{exchange}", self.prefix);
        let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
        let body: &[u8] = &[0xff, 0x00, 0xfe, 0x7f, 0x80];
        let properties = properties.with_headers(headers);
        let confirm = channel.basic_publish(exchange.into(), key.into(), options, body, properties).await?;
        let confirmation = confirm.await?;
        Ok(confirmation.is_ack() && confirmation.take_message().is_none())
    }

    /// Takes everything out of the dead queues.
    ///
    /// # Errors
    /// What the broker said.
    pub(super) async fn dead(&self) -> lapin::Result<Dead> {
        let mut dead = Dead::default();
        let channel = self.connection.create_channel().await?;
        for queue in amends::stack::queues() {
            let name = self.name(&format!("{}.dead", queue.name));
            while let Some(found) = channel.basic_get(name.clone(), BasicGetOptions::default()).await? {
                let headers = found.properties.headers().clone().unwrap_or_default();
                let text = |name: &str| match headers.inner().get(name) {
                    Some(AMQPValue::LongString(text)) => {
                        String::from_utf8_lossy(text.as_bytes()).into_owned()
                    }
                    _ => String::new(),
                };
                match text(NAME) {
                    poison if poison.is_empty() => {
                        let kind = found.properties.kind().as_ref().map(ToString::to_string);
                        let why = text(chassis::bus::header::REASON);
                        dead.others.push(format!("{}: {}: {why}", queue.name, kind.unwrap_or_default()));
                    }
                    poison => *dead.poison.entry(poison).or_default() += 1,
                }
                found.delivery.acker.ack(BasicAckOptions::default()).await?;
            }
        }
        Ok(dead)
    }
}
