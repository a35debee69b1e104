//! The message side: a compensation that came as a command. Its answer goes out through the outbox, in the commit that
//! knows it; here only the verdict on the message is given, once the wish is recorded.

use std::sync::Arc;

use async_trait::async_trait;
use chassis::bus::{Handler, Message, Verdict};
use proto::{payment::v1::RefundItem, step::read_command};

use crate::{calls::Calls, commands::take_back::Ask};

/// Handles `payment.commands`.
pub(crate) struct Commands {
    pub(crate) calls: Arc<Calls>,
}

#[async_trait]
impl Handler for Commands {
    async fn handle(&self, message: &Message) -> Verdict {
        let header = match read_command::<RefundItem>(&message.kind, &message.body) {
            Ok((_, header)) => header,
            Err(why) => return Verdict::Dead(why),
        };
        // However late a compensation is, it is done.
        let ask = Ask { key: header.key, command: Some(message.id), trace: header.trace, may_send: false };
        match self.calls.take_back(ask, None).await {
            Ok(_) => Verdict::Done,
            Err(none) => none.into(),
        }
    }
}
