//! What is asked, read from the wire once for both doors: gRPC and messages. Decides nothing.
//!
//! An error is a text for people that names the field; the doors turn it into *turned away* or a dead message.

use chassis::seeded::{self, Bug};
use proto::{
    ledger::v1::{PostItem as WirePost, ReverseItem as WireReverse},
    money::Money as WireMoney,
    payment::v1::PaymentRefunded,
    step::Header,
};
use types::{Money, OrderId, StepKey};
use uuid::Uuid;

use crate::{
    commands::{post::PostItem, reverse::ReverseItem, suspend::SuspendItem},
    domain::{Refunded, Sale},
};

pub fn post(item: WirePost, header: Header) -> Result<PostItem, String> {
    let sale = Sale::new(
        item.merchant_id.parse().map_err(|e| format!("merchant_id: {e}"))?,
        money("total", item.total.as_ref())?,
        item.tax_minor,
        order(&item.order_id)?,
        item.payment_id.parse().map_err(|e| format!("payment_id: {e}"))?,
    )?;
    let key = match header {
        header if seeded::is(Bug::LedgerPostedTwice) => seeded::key_of_attempt(&header.key, header.attempt),
        header => header.key,
    };
    Ok(PostItem { key, sale })
}

pub fn reverse(item: WireReverse, header: Header, command_id: Option<Uuid>) -> Result<ReverseItem, String> {
    order(&item.order_id)?;
    // A compensation must not fail for the sake of its remark: what cannot be stored is left out.
    let reason = item.reason.chars().filter(|c| !c.is_control()).take(500).collect();
    Ok(ReverseItem { key: header.key, reason, trace: header.trace, command_id })
}

pub fn refunded(event: &PaymentRefunded) -> Result<SuspendItem, String> {
    let key = StepKey {
        saga: event.saga_id.parse().map_err(|e| format!("saga_id: {e}"))?,
        step: event.step.parse().map_err(|e| format!("step: {e}"))?,
    };
    let payment = event.payment_id.parse().map_err(|e| format!("payment_id: {e}"))?;
    Ok(SuspendItem { key, refunded: Refunded::new(money("amount", event.amount.as_ref())?, payment)? })
}

fn money(field: &str, money: Option<&WireMoney>) -> Result<Money, String> {
    let money = money.ok_or_else(|| format!("{field}: is missing"))?;
    money.try_into().map_err(|e| format!("{field}: {e}"))
}

/// Sagas that are not of an order have none.
fn order(text: &str) -> Result<Option<OrderId>, String> {
    match text {
        "" => Ok(None),
        text => text.parse().map(Some).map_err(|e| format!("order_id: {e}")),
    }
}
