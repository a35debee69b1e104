//! The broker: queues, at least once, no order; the retry ladder; dead queues (DESIGN section 6).
//!
//! Mirrors `chassis/src/bus/amqp/consumer.rs`: *done* is acknowledged; *retry* is published to the next rung, then
//! acknowledged; *dead* likewise with a notice to the saga of a command; *unavailable* stays in hand.

use std::collections::{BTreeMap, BTreeSet};

use chassis::bus::{Exchange, LADDER, Message, Published, Verdict};
use uuid::Uuid;

use crate::{
    bug::Bug,
    mark::Mark,
    process::{ProcessId, Room},
    services,
    world::World,
};

/// Deliveries without an answer after which a message is given up.
const POISON: u32 = 30;

/// A queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum QueueName {
    /// `<service>.commands`, and `orchestrator.replies`.
    Of(Room),
    /// `ledger.events`.
    LedgerEvents,
}

impl QueueName {
    const fn room(self) -> Room {
        match self {
            Self::Of(room) => room,
            Self::LedgerEvents => Room::Ledger,
        }
    }
}

/// Whom a handler tells its verdict.
pub type Settle = Box<dyn FnOnce(&mut World, Verdict)>;

#[derive(Debug, Clone)]
struct Held {
    message: Message,
    deliveries: u32,
    /// Who has it in hand, in which life.
    by: Option<(ProcessId, u32)>,
}

#[derive(Debug, Default)]
struct Queue {
    ready: Vec<Held>,
    in_hand: BTreeMap<u64, Held>,
    dead: Vec<(Message, String)>,
}

/// The broker.
#[derive(Debug, Default)]
pub struct Broker {
    down_until: i64,
    queues: BTreeMap<QueueName, Queue>,
    tag: u64,
    poison: BTreeSet<Uuid>,
    /// Everything that was confirmed, or would have been.
    pub accepted: BTreeSet<Uuid>,
}

impl Broker {
    /// What is in a queue, in hand or dead.
    pub fn left(&self) -> impl Iterator<Item = String> + '_ {
        self.queues.iter().flat_map(|(name, queue)| {
            let open = queue.ready.iter().chain(queue.in_hand.values());
            open.map(move |held| format!("{} is still in {name:?}", held.message.kind))
        })
    }

    /// Ids of dead messages.
    #[must_use]
    pub fn dead(&self) -> usize {
        self.queues.values().map(|queue| queue.dead.len()).sum()
    }
}

fn queue_of(message: &Message) -> Option<QueueName> {
    match message.exchange {
        Exchange::Replies => Some(QueueName::Of(Room::Orchestrator)),
        Exchange::Commands => Room::ALL
            .iter()
            .find(|room| room.as_str() == message.routing_key)
            .map(|room| QueueName::Of(*room)),
        Exchange::Events => {
            (message.routing_key == payment_svc::answers::PAYMENT_REFUNDED).then_some(QueueName::LedgerEvents)
        }
    }
}

impl World {
    /// Publishes for a process; what became of it.
    pub fn publish(
        &mut self,
        process: ProcessId,
        message: Message,
        then: impl FnOnce(&mut Self, Published) + 'static,
    ) {
        let life = self.processes[process].life;
        let delay = self.luck.between(0, 3);
        self.after(delay, move |w| {
            let (outcome, delay) = w.take_in(message);
            if w.processes[process].life == life {
                w.of(process, delay, move |w| then(w, outcome));
            }
        });
    }

    fn take_in(&mut self, message: Message) -> (Published, i64) {
        if self.broker.down_until > self.now {
            return (Published::NotYet("the broker is away".into()), 100);
        }
        if self.luck.chance(self.weather.returned) {
            self.mark(Mark::PublishReturned);
            return (Published::Later("there is no such queue".into()), 2);
        }
        self.accept(message);
        if self.luck.chance(self.weather.confirm_lost) {
            self.mark(Mark::ConfirmLost);
            return (Published::NotYet("no confirm in time".into()), 2_000);
        }
        (Published::Safe, 1)
    }

    /// The broker has it for good.
    fn accept(&mut self, message: Message) {
        self.broker.accepted.insert(message.id);
        let Some(queue) = queue_of(&message) else { return };
        if self.luck.chance(self.weather.poison) {
            self.broker.poison.insert(message.id);
        }
        if self.luck.chance(self.weather.message_twice) {
            self.mark(Mark::MessageTwice);
            let delay = self.luck.between(0, 3_000);
            self.enqueue(queue, message.clone(), 0, delay);
        }
        let mut delay = self.luck.between(0, 3);
        if self.luck.chance(self.weather.message_held) {
            self.mark(Mark::MessageHeld);
            delay = self.luck.pick(&[300, 4_000, 30_000, 60_000]);
        }
        self.enqueue(queue, message, 0, delay);
    }

    fn enqueue(&mut self, queue: QueueName, message: Message, deliveries: u32, delay: i64) {
        self.after(delay, move |w| {
            let held = Held { message, deliveries, by: None };
            w.broker.queues.entry(queue).or_default().ready.push(held);
            w.deliver(queue);
        });
    }

    fn deliver(&mut self, name: QueueName) {
        if self.broker.down_until > self.now {
            return;
        }
        let consumers = self.running(name.room());
        if consumers.is_empty() {
            return;
        }
        let Some(queue) = self.broker.queues.get_mut(&name) else { return };
        for mut held in std::mem::take(&mut queue.ready) {
            let process = self.luck.pick(&consumers);
            held.by = Some((process, self.processes[process].life));
            self.broker.tag += 1;
            let tag = self.broker.tag;
            self.broker.queues.entry(name).or_default().in_hand.insert(tag, held);
            self.of(process, 0, move |w| w.consume(process, name, tag));
        }
    }

    /// Whatever waits is given to who can take it.
    pub fn deliver_all(&mut self) {
        let names: Vec<_> = self.broker.queues.keys().copied().collect();
        names.into_iter().for_each(|name| self.deliver(name));
    }

    fn consume(&mut self, process: ProcessId, name: QueueName, tag: u64) {
        let held = self.broker.queues.get(&name).and_then(|queue| queue.in_hand.get(&tag)).cloned();
        // The broker has taken it back.
        let Some(Held { message, deliveries, .. }) = held else { return };
        self.tell(Some(process), || format!("takes {} (attempt {})", message.kind, message.attempt + 1));
        if self.has(Bug::AckBeforeCommit) {
            self.acknowledge(name, tag, &message);
        }
        let settled = message.clone();
        let settle: Settle = Box::new(move |w, verdict| w.settle(process, name, tag, settled, verdict));
        if deliveries >= POISON {
            settle(self, Verdict::Dead("it was delivered too often and never answered".into()));
        } else if self.luck.chance(self.weather.handler_fails) || self.broker.poison.contains(&message.id) {
            // Before it did anything, or after its commit: for one message always the same.
            if message.id.as_u128().is_multiple_of(2) {
                return settle(self, Verdict::Retry("the handler fails".into()));
            }
            self.mark(Mark::MessageDoneAndFailed);
            let failing: Settle = Box::new(move |w, verdict| {
                let fails = matches!(verdict, Verdict::Done);
                settle(
                    w,
                    if fails { Verdict::Retry("the handler fails after its commit".into()) } else { verdict },
                );
            });
            services::message(self, process, name, &message, failing);
        } else {
            services::message(self, process, name, &message, settle);
        }
    }

    fn settle(&mut self, process: ProcessId, name: QueueName, tag: u64, message: Message, verdict: Verdict) {
        let why = match verdict {
            Verdict::Done => {
                return self.of(process, 1, move |w| w.acknowledge(name, tag, &message));
            }
            Verdict::Unavailable(_) => {
                return self.of(process, 1_000, move |w| w.consume(process, name, tag));
            }
            Verdict::Retry(why) | Verdict::Dead(why) if self.broker.down_until > self.now => {
                // What settles a message must be safe before it may be acknowledged.
                return self
                    .of(process, 500, move |w| w.settle(process, name, tag, message, Verdict::Retry(why)));
            }
            Verdict::Retry(why) => {
                if let Some(delay) = LADDER.get(message.attempt as usize) {
                    self.mark(Mark::MessageRetry);
                    let delay = i64::try_from(delay.as_millis()).unwrap_or(i64::MAX) / self.weather.ladder;
                    let again = Message { attempt: message.attempt + 1, ..message.clone() };
                    self.enqueue(name, again, 0, delay);
                    return self.of(process, 2, move |w| {
                        w.put_away(name, tag);
                    });
                }
                why
            }
            Verdict::Dead(why) => why,
        };
        self.mark(Mark::MessageDead);
        self.tell(Some(process), || format!("{} is dead: {why}", message.kind));
        if message.has_saga() {
            let notice = message.dead_notice(&why);
            self.accept(notice);
        }
        self.broker.queues.entry(name).or_default().dead.push((message, why));
        self.of(process, 2, move |w| {
            w.put_away(name, tag);
        });
    }

    fn acknowledge(&mut self, name: QueueName, tag: u64, message: &Message) {
        if self.put_away(name, tag) {
            self.judge_an_acknowledgement(message);
        }
    }

    fn put_away(&mut self, name: QueueName, tag: u64) -> bool {
        self.broker.queues.get_mut(&name).is_some_and(|queue| queue.in_hand.remove(&tag).is_some())
    }

    /// What a process had in hand when it died is delivered again.
    pub fn take_back_deliveries(&mut self, process: ProcessId, life: u32) {
        self.take_back(|held| held.by == Some((process, life)));
    }

    fn take_back(&mut self, whose: impl Fn(&Held) -> bool) {
        let mut count = 0;
        for queue in self.broker.queues.values_mut() {
            let tags: Vec<u64> =
                queue.in_hand.iter().filter(|(_, held)| whose(held)).map(|(tag, _)| *tag).collect();
            for mut held in tags.into_iter().filter_map(|tag| queue.in_hand.remove(&tag)) {
                held.deliveries += 1;
                held.by = None;
                queue.ready.push(held);
                count += 1;
            }
        }
        if count > 0 {
            self.mark(Mark::MessageAgain);
            self.after(0, Self::deliver_all);
        }
    }

    /// The broker is away: sessions break, and what was in hand is delivered again when it is back.
    pub fn break_broker(&mut self, outage: i64) {
        self.broker.down_until = self.broker.down_until.max(self.now + outage);
        self.take_back(|_| true);
        self.after(outage, Self::deliver_all);
    }

    /// It is back, and no message kills its consumers any more.
    pub fn mend_broker(&mut self) {
        self.broker.down_until = self.now;
        self.broker.poison.clear();
        self.deliver_all();
    }

    /// An operator looks at the dead queues and has what lies there delivered again.
    pub fn replay_dead(&mut self) {
        let names: Vec<_> = self.broker.queues.keys().copied().collect();
        for name in names {
            let Some(queue) = self.broker.queues.get_mut(&name) else { continue };
            for (message, _) in std::mem::take(&mut queue.dead) {
                self.mark(Mark::DeadReplayed);
                self.enqueue(name, Message { attempt: 0, ..message }, 0, 0);
            }
        }
    }
}
