//! The message side: a compensation that came as a command. Its answer goes out through the outbox, in the commit that
//! knows it; here only the verdict on the message is given, once the wish is recorded.

use std::sync::Arc;

use async_trait::async_trait;
use chassis::bus::{Handler, Message, Verdict};
use prost::{Message as _, Name as _};
use proto::{payment::v1::RefundItem, step::Header};

use crate::calls::Calls;

/// Handles `payment.commands`.
pub(crate) struct Commands {
    pub(crate) calls: Arc<Calls>,
}

#[async_trait]
impl Handler for Commands {
    async fn handle(&self, message: &Message) -> Verdict {
        if message.kind != RefundItem::full_name() {
            return Verdict::Dead(format!("payment takes no {}", message.kind));
        }
        let item = match RefundItem::decode(&*message.body) {
            Ok(item) => item,
            Err(error) => return Verdict::Dead(format!("not a RefundItem: {error}")),
        };
        let header = match Header::parse(item.header.as_ref()) {
            Ok(header) => header,
            Err(why) => return Verdict::Dead(why),
        };
        // However late a compensation is, it is done.
        match self.calls.take_back(header.key, Some(message.id), None).await {
            Ok(_) => Verdict::Done,
            Err(none) => none.into(),
        }
    }
}
