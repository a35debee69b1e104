//! The message side: a saga that turned round withdraws its review, so that nobody decides for nothing.
//!
//! Nobody waits for an answer: what has ended before needs nothing, and what is not there can never be. Read next:
//! [`crate::commands::review`].

use async_trait::async_trait;
use chassis::{
    batcher::Batcher,
    bus::{Handler, Message, Verdict},
};
use proto::{risk::v1::WithdrawItem, step};

use crate::{
    commands::review::{Item, Knocking},
    domain::Knock,
};

/// Handles the queue `risk.commands`.
pub(crate) struct Consumer {
    pub(crate) knocking: Batcher<Knocking>,
}

#[async_trait]
impl Handler for Consumer {
    async fn handle(&self, message: &Message) -> Verdict {
        let item = match read(message) {
            Ok(item) => item,
            Err(why) => return Verdict::Dead(why),
        };
        match self.knocking.submit(item, None).await {
            Ok(_) => Verdict::Done,
            Err(none) => none.into(),
        }
    }
}

pub(crate) fn read(message: &Message) -> Result<Item, String> {
    let (item, header) = step::read_command::<WithdrawItem>(&message.kind, &message.body)?;
    Ok(Item {
        saga: header.key.saga,
        step: Some(header.key.step),
        knock: Knock::Withdrawal,
        reviewer: String::new(),
        reason: item.reason,
    })
}
