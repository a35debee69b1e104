//! The message side: Release as a reliable command. The same command as by gRPC; done means that its effect and its
//! answer are committed.
//!
//! It never acts by itself. What cannot be read, and what would take back a sale, is dead at once.

use async_trait::async_trait;
use chassis::{
    batcher::Batcher,
    bus::{Handler, Message, Verdict},
};
use prost::{Message as _, Name as _};
use proto::{
    inventory::v1::ReleaseItem,
    step::{BackAnswer, Header},
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

fn read(message: &Message) -> Result<release::Item, String> {
    if message.kind != ReleaseItem::full_name() {
        return Err(format!("{} is not for inventory", message.kind));
    }
    let item = ReleaseItem::decode(message.body.as_slice()).map_err(|e| e.to_string())?;
    let header = Header::parse(item.header.as_ref())?;
    wire::release_item(&item, header, Some(message.id))
}
