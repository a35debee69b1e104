//! The message side: what became of an order.
//!
//! A message is done when its delivery is committed, or when there is nothing to tell. One of a kind that this build does
//! not know goes to the dead queue, from where a newer build can take it: nobody's letter is lost. Read next: [`crate::record`].

use async_trait::async_trait;
use chassis::{
    batcher::Batcher,
    bus::{Handler, Message, Verdict},
};
use prost::{Message as _, Name as _};
use proto::order::v1::{OrderChanged, OrderLine, OrderStatus};
use types::{Money, PartyId};

use crate::{
    domain::{self, Change, Line, Status},
    record::{Item, Record},
};

/// Takes `notification.events`.
pub(crate) struct Events {
    pub(crate) record: Batcher<Record>,
    /// Of customers' addresses.
    pub(crate) domain: String,
}

#[async_trait]
impl Handler for Events {
    async fn handle(&self, message: &Message) -> Verdict {
        let change = match read(message) {
            Ok(change) => change,
            Err(why) => return Verdict::Dead(why),
        };
        let Some(letter) = domain::letter(&change) else { return Verdict::Done };
        let recipient = domain::recipient(&change.customer, &self.domain);
        let (order, version) = (change.order, change.version);
        let item = Item { id: message.id, order, version, recipient, letter, trace: message.trace() };
        match self.record.submit(item, None).await {
            Ok(recorded) => {
                tracing::debug!(order.id = %change.order, ?recorded, "recorded");
                Verdict::Done
            }
            Err(none) => none.into(),
        }
    }
}

pub(crate) fn read(message: &Message) -> Result<Change, String> {
    if message.kind != OrderChanged::full_name() {
        return Err(format!("notifications take no {}", message.kind));
    }
    let event = OrderChanged::decode(message.body.as_slice()).map_err(|error| error.to_string())?;
    let status = match event.status() {
        OrderStatus::Completed => Status::Completed,
        OrderStatus::Cancelled => Status::Cancelled,
        OrderStatus::UnderReview => Status::UnderReview,
        OrderStatus::AwaitingPayment => Status::AwaitingPayment,
        OrderStatus::Unspecified
        | OrderStatus::Created
        | OrderStatus::InventoryReserved
        | OrderStatus::PaymentSuccess => Status::Underway,
    };
    let customer: PartyId = event.customer_id.parse().map_err(|why| format!("customer_id {why}"))?;
    Ok(Change {
        order: event.order_id.parse().map_err(|why| format!("order_id {why}"))?,
        status,
        reason: event.status_reason,
        customer,
        lines: event.lines.iter().map(line).collect::<Result<_, _>>()?,
        total: money(event.total.as_ref())?,
        version: event.version,
    })
}

fn line(line: &OrderLine) -> Result<Line, String> {
    let sku: types::Sku = line.sku.parse().map_err(|why| format!("sku {why}"))?;
    let unit_price = money(line.unit_price.as_ref())?;
    Ok(Line { sku: sku.into_string(), quantity: line.quantity, unit_price })
}

fn money(money: Option<&proto::money::Money>) -> Result<Money, String> {
    money.ok_or("an amount is missing")?.try_into().map_err(|why: types::MoneyError| why.to_string())
}

#[cfg(test)]
mod tests {
    use chassis::bus::Exchange;
    use proto::money::Money as Amount;

    use super::*;

    /// Events are named after the status that they say.
    #[test]
    fn the_queue_takes_every_event_that_a_letter_follows_from_and_no_other() {
        let mut letters = 0;
        for status in (0..).map_while(|n| OrderStatus::try_from(n).ok()) {
            let event = OrderChanged {
                order_id: "ord_01h2xcejqtf2nbrexx3vqjhp41".into(),
                customer_id: "c_1".into(),
                total: Some(Amount { minor_units: 100, currency_code: "EUR".into() }),
                status: status.into(),
                ..Default::default()
            };
            let key = format!("order.{}", status.as_str_name().to_lowercase());
            let kind = OrderChanged::full_name();
            let message = Message::new(Exchange::Events, &key, &kind, "orchestrator", event.encode_to_vec());
            let is_told = domain::letter(&read(&message).unwrap()).is_some();
            assert_eq!(crate::queue().takes(&message), is_told, "{key}");
            letters += usize::from(is_told);
        }
        assert_eq!(letters, 4);
    }
}
