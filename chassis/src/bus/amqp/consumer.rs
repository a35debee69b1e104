//! Consuming one queue: up to a window of messages side by side, each settled by its handler's verdict.
//!
//! *Done*: acknowledged, together with others (`acks`). *Retry*: published to the next rung, confirmed, then acknowledged; so it may be there twice
//! but never not at all. *Dead*, or unreadable: the same with the dead queue, and for a command with a notice to its
//! saga. *Unavailable*: nothing is given back to the broker, because it counts what is given back; the messages in
//! hand stay in hand, which keeps the broker from sending more, and one of them tries again until the handler can.
//!
//! A message that was delivered several times without an answer may be what kills its consumers, and its neighbours
//! were in hand with it: such messages are handled one by one in a random order, so that the neighbours get away.

use std::{sync::Arc, time::Duration};

use futures_util::{StreamExt as _, future::join_all};
use lapin::{
    Channel, Consumer,
    message::Delivery,
    options::{BasicAckOptions, BasicCancelOptions, BasicConsumeOptions, BasicQosOptions},
    types::FieldTable,
};
use tokio::{sync::Mutex, time::Instant};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    Inner,
    acks::{Acks, Told},
    envelope::{self, Publication},
    pause::Pause,
};
use crate::{
    bus::{Handler, Message, Queue, Verdict},
    crash,
};

/// Deliveries without an answer after which a message is handled alone.
const SUSPECT: u32 = 3;
/// And after which it is given up. Below the broker's own limit, because the broker tells no saga.
const POISON: u32 = 30;

/// Between two tries to consume, or to publish what settles a message.
const RETRY_FIRST: Duration = Duration::from_millis(100);
const RETRY_LONGEST: Duration = Duration::from_secs(5);

/// One queue's consumer.
pub(super) struct Subscription {
    bus: Arc<Inner>,
    queue: Queue,
    label: Arc<str>,
    handler: Arc<dyn Handler>,
    pause: Pause,
    alone: Mutex<()>,
}

/// What asking the handler came to.
enum Asked {
    Verdict(Verdict),
    /// It was in hand for long while the handler could do nothing.
    HeldTooLong,
    /// The process stops, or the broker has taken the message back.
    Gone,
}

impl Subscription {
    pub(super) fn new(bus: Arc<Inner>, queue: Queue, handler: Arc<dyn Handler>) -> Self {
        let label: Arc<str> = queue.name.as_str().into();
        let pause = Pause::new(Arc::clone(&label), bus.options.hold);
        Self { bus, queue, label, handler, pause, alone: Mutex::new(()) }
    }

    /// Consumes until the process stops, on as many connections as it takes.
    pub(super) async fn run(self: Arc<Self>) {
        let mut delay = RETRY_FIRST;
        while !self.bus.stop.is_wanted() {
            match self.consumer().await {
                Ok((channel, consumer)) => {
                    delay = RETRY_FIRST;
                    self.session(channel, consumer).await;
                }
                Err(why) => {
                    tracing::debug!(queue = self.queue.name, why, "cannot consume yet");
                    // It may be the queue that is gone. Only consumers declare it again: one that was back before
                    // they were told (3.10, quorum queues) would never give them anything.
                    let _ = self.bus.consuming.declare().await;
                    delay = (delay * 2).min(RETRY_LONGEST);
                }
            }
            self.bus.stop.sleep(delay).await;
        }
    }

    async fn consumer(&self) -> Result<(Channel, Consumer), String> {
        let connection = self.bus.consuming.connection().await.map_err(super::Away::why)?;
        let open = async {
            let channel = connection.create_channel().await?;
            channel.basic_qos(self.bus.options.window, BasicQosOptions::default()).await?;
            let name = self.bus.names.queue(&self.queue.name);
            let consumer = channel
                .basic_consume(name.into(), "".into(), BasicConsumeOptions::default(), FieldTable::default())
                .await?;
            Ok::<_, lapin::Error>((channel, consumer))
        };
        self.bus.in_time(open).await
    }

    /// Until the broker ends it (the messages in hand are delivered again) or the process stops (they are settled).
    async fn session(self: &Arc<Self>, channel: Channel, mut consumer: Consumer) {
        let over = CancellationToken::new();
        let in_hand = TaskTracker::new();
        let acks = Arc::new(Acks::new(self.bus.options.window));
        let mut ripe = std::pin::pin!(acks.ripe());
        let why = loop {
            let delivery = tokio::select! {
                biased;
                () = self.bus.stop.wanted() => break None,
                () = &mut ripe => {
                    self.acknowledge(&channel, acks.take()).await;
                    ripe.set(acks.ripe());
                    continue;
                }
                delivery = consumer.next() => delivery,
            };
            match delivery {
                Some(Ok(delivery)) => {
                    let (this, acks, over) = (Arc::clone(self), Arc::clone(&acks), over.clone());
                    let taken = async move {
                        let tag = delivery.delivery_tag;
                        if this.take(delivery, &over).await {
                            acks.settled(tag);
                        }
                    };
                    self.bus.stop.spawn(in_hand.track_future(taken));
                }
                Some(Err(error)) => break Some(error.to_string()),
                None => break Some("the broker cancelled the consumer".to_owned()),
            }
        };
        match why {
            Some(why) => {
                tracing::warn!(queue = self.queue.name, why, "consuming again");
                over.cancel();
            }
            None => {
                let cancel = channel.basic_cancel(consumer.tag(), BasicCancelOptions::default());
                let _ = self.bus.in_time(cancel).await;
                in_hand.close();
                in_hand.wait().await;
                self.acknowledge(&channel, acks.take_all()).await;
                let _ = self.bus.in_time(channel.close(200, "stopping".into())).await;
            }
        }
    }

    /// Tells the broker. An acknowledgement that is lost brings the messages again, and whoever handles them absorbs that.
    /// On a connection that breaks just now it may never be answered for, so none waits for another.
    async fn acknowledge(&self, channel: &Channel, told: Told) {
        let together = told.up_to.map(|tag| (tag, BasicAckOptions { multiple: true }));
        let alone = told.alone.into_iter().map(|tag| (tag, BasicAckOptions::default()));
        let acknowledge = async |(tag, options): (u64, BasicAckOptions)| {
            crash::point("before ack", &self.queue.name);
            let acknowledged = self.bus.in_time(channel.basic_ack(tag, options)).await;
            crash::point("after ack", &self.queue.name);
            tracing::trace!(queue = self.queue.name, tag, options.multiple, ?acknowledged, "acknowledged");
        };
        join_all(together.into_iter().chain(alone).map(acknowledge)).await;
    }

    /// Whether it is settled, and may be acknowledged.
    async fn take(&self, delivery: Delivery, over: &CancellationToken) -> bool {
        let message = match envelope::read(&delivery, &self.bus.names) {
            Ok(message) => message,
            Err(why) => {
                tracing::error!(queue = self.queue.name, why, "a message cannot be read");
                let dead = Publication::dead_raw(&delivery, &self.queue, &why, &self.bus.names);
                return self.settle(&[dead], "unreadable", over).await;
            }
        };
        match self.ask(&message, envelope::deliveries(&delivery), over).await {
            Asked::Verdict(verdict) => match self.publications(&message, verdict) {
                Ok((publications, verdict)) => self.settle(&publications, verdict, over).await,
                // Only what came in by a way we do not publish on can be unpublishable: keep it as it is.
                Err(why) => {
                    let dead = Publication::dead_raw(&delivery, &self.queue, &why, &self.bus.names);
                    self.settle(&[dead], "dead", over).await
                }
            },
            Asked::HeldTooLong => match Publication::back(&message, &self.queue, &self.bus.names) {
                Ok(back) => self.settle(&[back], "held", over).await,
                Err(_) => false,
            },
            Asked::Gone => false,
        }
    }

    /// Asks the handler until it can answer.
    async fn ask(&self, message: &Message, deliveries: u32, over: &CancellationToken) -> Asked {
        if deliveries >= POISON {
            let why = format!("it was delivered {deliveries} times and never answered");
            return Asked::Verdict(Verdict::Dead(why));
        }
        let gone = async {
            tokio::select! {
                () = over.cancelled() => {}
                () = self.bus.stop.wanted() => {}
            }
        };
        tokio::pin!(gone);
        let give_back = Instant::now() + self.bus.options.hold;
        let _alone = if deliveries >= SUSPECT {
            tokio::select! {
                () = &mut gone => return Asked::Gone,
                alone = self.turn_alone() => Some(alone),
            }
        } else {
            None
        };
        loop {
            let probe = tokio::select! {
                () = &mut gone => return Asked::Gone,
                () = tokio::time::sleep_until(give_back) => return Asked::HeldTooLong,
                probe = self.pause.turn() => probe,
            };
            // From here to the verdict nothing is cancelled: the handler may be in a transaction.
            let verdict = crate::bus::ask(&*self.handler, message).await;
            match verdict {
                Verdict::Unavailable(why) => self.pause.begin(&why, probe),
                verdict => {
                    self.pause.end(probe);
                    return Asked::Verdict(verdict);
                }
            }
        }
    }

    async fn turn_alone(&self) -> tokio::sync::MutexGuard<'_, ()> {
        tokio::time::sleep(Duration::from_millis(rand::random_range(0..1000))).await;
        self.alone.lock().await
    }

    /// What must be safe before the message may be acknowledged, and a word for the metric.
    fn publications(
        &self,
        message: &Message,
        verdict: Verdict,
    ) -> Result<(Vec<Publication>, &'static str), String> {
        let (queue, names) = (&self.queue, &self.bus.names);
        let (why, word) = match verdict {
            Verdict::Done => return Ok((Vec::new(), "done")),
            Verdict::Retry(why) | Verdict::Unavailable(why) => {
                if let Some(delay) = self.bus.options.ladder.get(message.attempt as usize) {
                    tracing::warn!(message.id = %message.id, kind = message.kind, attempt = message.attempt, why, "again later");
                    return Ok((vec![Publication::retry(message, queue, *delay, names)?], "retry"));
                }
                (why, "exhausted")
            }
            Verdict::Dead(why) => (why, "dead"),
        };
        tracing::error!(message.id = %message.id, kind = message.kind, attempt = message.attempt, why, "a message is dead");
        let mut publications = vec![Publication::dead(message, queue, &why, names)?];
        if message.has_saga() {
            publications.push(Publication::of(&message.dead_notice(&why), names)?);
        }
        Ok((publications, word))
    }

    /// Publishes what must be safe before the message may be acknowledged. Without the broker it waits; without this session
    /// the message comes again, and is not settled.
    async fn settle(
        &self,
        publications: &[Publication],
        word: &'static str,
        over: &CancellationToken,
    ) -> bool {
        let mut open = publications.to_vec();
        let mut delay = RETRY_FIRST;
        loop {
            if !open.is_empty() {
                crash::point("before sending on", &self.queue.name);
            }
            let answers = self.bus.publisher.send(&open).await;
            if !open.is_empty() {
                crash::point("after sending on", &self.queue.name);
            }
            let mut why = None;
            let mut answers = answers.into_iter();
            open.retain(|_| match answers.next() {
                Some(Err(not_yet)) => {
                    why = Some(not_yet);
                    true
                }
                _ => false,
            });
            let Some(why) = why else { break };
            tracing::warn!(queue = self.queue.name, why, "cannot settle a message yet");
            tokio::select! {
                () = over.cancelled() => return false,
                () = self.bus.stop.wanted() => return false,
                () = tokio::time::sleep(delay) => delay = (delay * 2).min(RETRY_LONGEST),
            }
        }
        tracing::trace!(queue = self.queue.name, word, "settled");
        metrics::counter!("amends_bus_consumed_total", "queue" => self.label.to_string(), "verdict" => word)
            .increment(1);
        true
    }
}
