//! Outboxes and their relays (DESIGN section 6): rows are committed with what caused them, handed over in memory, and
//! swept when nobody did. Mirrors `chassis/src/outbox.rs`.

use std::collections::BTreeMap;

use chassis::bus::{LADDER, Message, Published};
use uuid::Uuid;

use crate::{
    bug::Bug,
    disk::NoWord,
    mark::Mark,
    process::{ProcessId, Room},
    world::World,
};

/// The sweep takes rows older than this.
const SWEEP_AGE: i64 = 2_000;
/// A relay that dies with rows in hand leaves them to the next sweep after this.
const CLAIM: i64 = 30_000;

#[derive(Debug, Clone)]
struct Row {
    message: Message,
    since: i64,
    not_before: i64,
    is_dead: bool,
}

/// An outbox.
#[derive(Debug, Default)]
pub struct Rows {
    rows: BTreeMap<Uuid, Row>,
    sweeps: bool,
    cursor: Option<Uuid>,
}

impl Rows {
    /// Rows that were not sent yet.
    pub fn open(&self) -> impl Iterator<Item = &Message> {
        self.rows.values().filter(|row| !row.is_dead).map(|row| &row.message)
    }

    fn claim(&mut self, now: i64, follows_cursor: bool) -> Vec<Message> {
        let mut claimed = Vec::new();
        let cursor = self.cursor;
        for (id, row) in &mut self.rows {
            let is_due = !row.is_dead && row.since + SWEEP_AGE < now && row.not_before < now;
            if is_due && !(follows_cursor && cursor.is_some_and(|cursor| *id <= cursor)) {
                row.not_before = now + CLAIM;
                claimed.push(row.message.clone());
                self.cursor = self.cursor.max(Some(*id));
            }
        }
        claimed
    }
}

impl World {
    /// Stores messages, inside the transaction that caused them.
    pub fn insert_outbox(&mut self, room: Room, messages: &[Message]) {
        if messages.is_empty() {
            return;
        }
        let now = self.now;
        if let Some(outbox) = self.outboxes.get_mut(&room) {
            for message in messages {
                let row = Row { message: message.clone(), since: now, not_before: 0, is_dead: false };
                outbox.rows.insert(message.id, row);
            }
        }
        self.plan_outbox_sweep(room, SWEEP_AGE + 500);
    }

    /// Hands over what was just committed. Losing it costs the sweep's age, nothing else.
    pub fn hand(&mut self, process: ProcessId, room: Room, messages: &[Message]) {
        for message in messages {
            self.relay(process, room, message.clone());
        }
    }

    /// A process of this room runs again: its relay looks.
    pub fn relay_at_start(&mut self, room: Room) {
        if self.outboxes[&room].open().next().is_some() {
            self.plan_outbox_sweep(room, 1_000);
        }
    }

    fn plan_outbox_sweep(&mut self, room: Room, delay: i64) {
        let Some(outbox) = self.outboxes.get_mut(&room) else { return };
        if !outbox.sweeps {
            outbox.sweeps = true;
            self.after(delay, move |w| w.sweep_outbox(room));
        }
    }

    fn sweep_outbox(&mut self, room: Room) {
        let now = self.now;
        let Some(outbox) = self.outboxes.get_mut(&room) else { return };
        outbox.sweeps = false;
        if outbox.open().next().is_none() {
            return;
        }
        self.plan_outbox_sweep(room, 1_000);
        let able: Vec<_> =
            self.running(room).into_iter().filter(|one| self.processes[*one].paused_until <= now).collect();
        if able.is_empty() {
            return;
        }
        let process = self.luck.pick(&able);
        let follows_cursor = self.has(Bug::CursorOutbox);
        self.transact(
            process,
            move |w| {
                let now = w.now;
                w.outboxes.get_mut(&room).map(|outbox| outbox.claim(now, follows_cursor)).unwrap_or_default()
            },
            move |w, claimed| {
                let claimed = claimed.unwrap_or_default();
                if !claimed.is_empty() {
                    w.mark(Mark::OutboxSwept);
                }
                w.hand(process, room, &claimed);
            },
        );
    }

    fn relay(&mut self, process: ProcessId, room: Room, message: Message) {
        let (id, attempt) = (message.id, message.attempt);
        if self.has(Bug::SentWithoutConfirm) {
            self.delete_row(process, room, id);
        }
        let sent = message.clone();
        self.publish(process, message, move |w, published| match published {
            Published::Safe => w.delete_row(process, room, id),
            Published::NotYet(_) => w.put_off(process, room, id, attempt, 1_000),
            Published::Later(why) => match LADDER.get(attempt as usize) {
                Some(delay) => {
                    let delay = i64::try_from(delay.as_millis()).unwrap_or(i64::MAX) / w.weather.ladder;
                    w.put_off(process, room, id, attempt + 1, delay);
                }
                None => w.bury(process, room, sent, why),
            },
            Published::Dead(why) => w.bury(process, room, sent, why),
        });
    }

    fn delete_row(&mut self, process: ProcessId, room: Room, id: Uuid) {
        self.transact(
            process,
            move |w| {
                let gone = w.outboxes.get_mut(&room).and_then(|outbox| outbox.rows.remove(&id));
                if let Some(row) = gone {
                    w.judge_a_sent_row(&row.message);
                }
            },
            // If it fails it will be published again; whoever handles it absorbs that.
            |_, _: Result<(), NoWord>| {},
        );
    }

    fn put_off(&mut self, process: ProcessId, room: Room, id: Uuid, attempt: u32, delay: i64) {
        self.transact(
            process,
            move |w| {
                let now = w.now;
                let row = w.outboxes.get_mut(&room).and_then(|outbox| outbox.rows.get_mut(&id));
                if let Some(row) = row {
                    row.message.attempt = attempt;
                    row.not_before = now + delay;
                }
            },
            |_, _| {},
        );
    }

    /// The saga is told in the same transaction: either the row is dead and the notice is on its way, or neither.
    fn bury(&mut self, process: ProcessId, room: Room, message: Message, why: String) {
        self.transact(
            process,
            move |w| {
                let row = w.outboxes.get_mut(&room).and_then(|outbox| outbox.rows.get_mut(&message.id));
                let Some(row) = row.filter(|row| !row.is_dead) else { return };
                row.is_dead = true;
                w.mark(Mark::MessageDead);
                if message.has_saga() {
                    let notice = message.dead_notice(&why);
                    w.insert_outbox(room, &[notice]);
                }
            },
            |_, _| {},
        );
    }
}
