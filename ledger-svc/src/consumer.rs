//! The message side: the same commands as by gRPC, and the event that money went back.
//!
//! A message is done when its effect is committed. Read next: [`crate::commands`].

use async_trait::async_trait;
use chassis::{
    batcher::Batcher,
    bus::{Handler, Message, Verdict},
};
use prost::{Message as _, Name as _};
use proto::{
    ledger::v1::ReverseItem as WireReverse,
    payment::v1::PaymentRefunded,
    step::{BackAnswer, Header},
};

use crate::{
    commands::{
        reverse::{Reverse, ReverseItem},
        suspend::{Suspend, SuspendItem, Suspended},
    },
    wire,
};

/// The event's type on the bus.
pub(crate) const REFUNDED_EVENT: &str = "payment.refunded";

/// Takes `ledger.commands`.
pub(crate) struct Commands(pub(crate) Batcher<Reverse>);

#[async_trait]
impl Handler for Commands {
    async fn handle(&self, message: &Message) -> Verdict {
        let item = match reverse(message) {
            Ok(item) => item,
            Err(why) => return Verdict::Dead(why),
        };
        match self.0.submit(item, None).await {
            Ok(BackAnswer::TurnedAway(away)) => Verdict::Retry(away.message),
            Ok(BackAnswer::Done(_) | BackAnswer::NotApplied | BackAnswer::Pending(_)) => Verdict::Done,
            Err(none) => none.into(),
        }
    }
}

pub(crate) fn reverse(message: &Message) -> Result<ReverseItem, String> {
    if message.kind != WireReverse::full_name() {
        return Err(format!("the ledger takes no {}", message.kind));
    }
    let item = WireReverse::decode(message.body.as_slice()).map_err(|error| error.to_string())?;
    let header = Header::parse(item.header.as_ref())?;
    wire::reverse(item, header, Some(message.id))
}

/// Takes `ledger.events`.
pub(crate) struct Events(pub(crate) Batcher<Suspend>);

#[async_trait]
impl Handler for Events {
    async fn handle(&self, message: &Message) -> Verdict {
        let item = match refunded(message) {
            Ok(item) => item,
            Err(why) => return Verdict::Dead(why),
        };
        match self.0.submit(item, None).await {
            Ok(Suspended::Booked | Suspended::Sold) => Verdict::Done,
            Ok(Suspended::Mismatch) => {
                Verdict::Dead("another refund of this charge is in the books, with other numbers".into())
            }
            Err(none) => none.into(),
        }
    }
}

pub(crate) fn refunded(message: &Message) -> Result<SuspendItem, String> {
    if message.kind != PaymentRefunded::full_name() {
        return Err(format!("the ledger takes no {}", message.kind));
    }
    let event = PaymentRefunded::decode(message.body.as_slice()).map_err(|error| error.to_string())?;
    wire::refunded(&event)
}
