//! The message side: Cancel as a reliable command. The same command as by gRPC; done means that its effect and its
//! answer are committed.
//!
//! It never acts by itself. What cannot be read, and what would cancel a complete order, is dead at once.

use async_trait::async_trait;
use chassis::{
    batcher::Batcher,
    bus::{Handler, Message, Verdict},
};
use proto::{
    order::v1::CancelItem,
    step::{self, BackAnswer},
};

use crate::{commands::cancel, wire};

/// Handles the queue `order.commands`.
pub(crate) struct Consumer {
    pub(crate) cancel: Batcher<cancel::Cancel>,
}

#[async_trait]
impl Handler for Consumer {
    async fn handle(&self, message: &Message) -> Verdict {
        let item = match read(message) {
            Ok(item) => item,
            Err(why) => return Verdict::Dead(why),
        };
        match self.cancel.submit(item, None).await {
            Ok(BackAnswer::Done(_) | BackAnswer::NotApplied | BackAnswer::Pending(_)) => Verdict::Done,
            Ok(BackAnswer::TurnedAway(away)) => Verdict::Dead(away.message),
            Err(none) => none.into(),
        }
    }
}

pub(crate) fn read(message: &Message) -> Result<cancel::Item, String> {
    let (item, header) = step::read_command::<CancelItem>(&message.kind, &message.body)?;
    wire::cancel_item(item, header, Some(message.id))
}
