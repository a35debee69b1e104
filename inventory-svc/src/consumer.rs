//! The message side: Release as a reliable command. The same command as by gRPC; done means that its effect and its
//! answer are committed.
//!
//! It never acts by itself. What cannot be read, and what would take back a sale, is dead at once.

use async_trait::async_trait;
use chassis::{
    batcher::Batcher,
    bus::{Handler, Message, Verdict},
};
use proto::{
    inventory::v1::ReleaseItem,
    step::{self, BackAnswer},
};

use crate::{commands::release, wire};

/// Handles the queue `inventory.commands`.
pub(crate) struct Consumer {
    pub(crate) release: Batcher<release::Release>,
}

#[async_trait]
impl Handler for Consumer {
    async fn handle(&self, message: &Message) -> Verdict {
        let item = match read(message) {
            Ok(item) => item,
            Err(why) => return Verdict::Dead(why),
        };
        match self.release.submit(item, None).await {
            Ok(BackAnswer::Done(_) | BackAnswer::NotApplied | BackAnswer::Pending(_)) => Verdict::Done,
            Ok(BackAnswer::TurnedAway(away)) => Verdict::Dead(away.message),
            Err(none) => none.into(),
        }
    }
}

pub(crate) fn read(message: &Message) -> Result<release::Item, String> {
    let (item, header) = step::read_command::<ReleaseItem>(&message.kind, &message.body)?;
    wire::release_item(&item, header, Some(message.id))
}
