//! The participants: their real rules over modelled databases.
//!
//! Each file is one service: what its `commands` do inside a transaction, with the product's own `domain`, `wire` and
//! `chassis::barrier`. Read next: [`inventory`], which is the plainest.

pub mod inventory;
pub mod ledger;
pub mod order;
pub mod payment;
pub mod risk;

use chassis::{
    barrier::{self, Record},
    bus::{Message, Verdict},
};
use orchestrator::participants::Call;
use proto::step::{Answer, Header, StepHeader, TurnedAway};
use types::StepKey;

use crate::{
    broker::{QueueName, Settle},
    bug::Bug,
    luck::Luck,
    network::{Reply, answered},
    orchestrator::doors,
    process::{ProcessId, Room},
    weather::Weather,
    world::World,
};

/// Their databases.
#[derive(Clone)]
pub struct Services {
    pub order: order::Documents,
    pub inventory: inventory::Stock,
    pub risk: risk::Screenings,
    pub payment: payment::Desk,
    pub ledger: ledger::Books,
}

impl Services {
    /// As they are before the first order.
    #[must_use]
    pub fn new(weather: &Weather, luck: &mut Luck) -> Self {
        Self {
            order: order::Documents::default(),
            inventory: inventory::Stock::new(luck),
            risk: risk::Screenings::new(weather),
            payment: payment::Desk::new(weather),
            ledger: ledger::Books::default(),
        }
    }
}

/// A step is called.
pub fn call(w: &mut World, process: ProcessId, call: Call, remaining: i64, reply: Reply) {
    match call {
        Call::Open(item) => order::open(w, process, item, reply),
        Call::Complete(item) => order::complete(w, process, item, reply),
        Call::Reserve(item) => inventory::reserve(w, process, item, reply),
        Call::Commit(item) => inventory::commit(w, process, &item, reply),
        Call::Screen(item) => risk::screen(w, process, item, reply),
        Call::Charge(item) => payment::charge(w, process, &item, remaining, reply),
        Call::Post(item) => ledger::post(w, process, item, reply),
    }
}

/// A message comes.
pub fn message(w: &mut World, process: ProcessId, queue: QueueName, message: &Message, settle: Settle) {
    match queue {
        QueueName::Of(Room::Orchestrator) => doors::message(w, process, message, settle),
        QueueName::Of(Room::Order) => order::message(w, process, message, settle),
        QueueName::Of(Room::Inventory) => inventory::message(w, process, message, settle),
        QueueName::Of(Room::Risk) => risk::message(w, process, message, settle),
        QueueName::Of(Room::Payment) => payment::commands::message(w, process, message, settle),
        QueueName::Of(Room::Ledger) => ledger::message(w, process, message, settle),
        QueueName::LedgerEvents => ledger::event(w, process, message, settle),
    }
}

/// A header, or the answer to one that cannot be read.
fn header(header: Option<&StepHeader>) -> Result<Header, String> {
    Header::parse(header)
}

/// Turns an item away that cannot be a valid one.
fn turn_away(w: &mut World, reply: Reply, why: String) {
    let says = Answer::<proto::order::v1::OpenDone>::TurnedAway(TurnedAway::invalid(why));
    reply(w, answered(Ok(says)));
}

/// The barrier's rule for a step, unless the bug is that nobody asks it.
fn asked(w: &World, found: Option<&Record>, hash: &[u8]) -> barrier::Forward {
    if w.has(Bug::NoBarrier) && found.is_none_or(|record| record.back.is_none()) {
        return barrier::Forward::Fresh;
    }
    barrier::forward(found, hash)
}

/// The barrier's rule for a compensation, unless the bug is that it is done again.
fn asked_back(w: &World, found: Option<&Record>) -> barrier::Back {
    match barrier::back(found) {
        barrier::Back::Done if w.has(Bug::BackTwice) => barrier::Back::TakeBack,
        back => back,
    }
}

/// A message that can be handled: its effect and its answers are one commit; what was said is handed to the relay.
fn handle(
    w: &mut World,
    process: ProcessId,
    message: &Message,
    settle: Settle,
    transaction: impl FnOnce(&mut World) -> Result<Vec<Message>, String> + 'static,
) {
    let (room, id) = (w.processes[process].room, message.id);
    w.transact(
        process,
        move |w| {
            let messages = transaction(w)?;
            w.insert_outbox(room, &messages);
            w.judge.handled(id);
            Ok::<_, String>(messages)
        },
        move |w, word| match word {
            Ok(Ok(messages)) => {
                w.hand(process, room, &messages);
                settle(w, Verdict::Done);
            }
            Ok(Err(why)) => settle(w, Verdict::Retry(why)),
            Err(trouble) => settle(w, doors::verdict(Some(trouble))),
        },
    );
}

/// A person takes a step back by hand, at the participant's own door.
pub fn take_back_by_hand(w: &mut World, process: ProcessId, key: StepKey) {
    let transaction = move |w: &mut World| match w.processes[process].room {
        Room::Order => order::cancel(w, &key).is_ok(),
        Room::Inventory => inventory::release(w, &key).is_ok(),
        Room::Ledger => ledger::reverse(w, &key).is_ok(),
        Room::Orchestrator | Room::Risk | Room::Payment => false,
    };
    w.transact(process, transaction, |_, _| {});
}

impl World {
    /// A service's process runs again: what is due by its database is looked after.
    pub fn wake_services(&mut self, room: Room) {
        match room {
            Room::Risk => risk::plan_clock(self),
            Room::Payment => payment::resolver::plan(self),
            Room::Orchestrator | Room::Order | Room::Inventory | Room::Ledger => {}
        }
    }
}
