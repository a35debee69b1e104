//! The gRPC doors: the steps Charge and Refund for orchestrators, the attempts for people.
//!
//! Parses, hands over, shows; decides nothing. This is the only place that maps to `tonic::Status`. Tokens come in
//! through here and never go out, not even in an error.

mod attempts;

use std::{str::FromStr, sync::Arc};

use chassis::{barrier::RequestHash, telemetry::step_span};
use proto::{
    payment::v1::{
        ChargeItem, ChargeReply, ChargeRequest, RefundReply, RefundRequest, charge_item::Method,
        payment_steps_server::PaymentSteps,
    },
    step::{self, Header, Replies},
};
use tonic::{Request, Response, Status};
use tracing::Instrument as _;
use types::{Money, StepKey};

pub(crate) use attempts::AttemptDoor;

use crate::{
    calls::Calls,
    commands::{begin::Charge, take_back::Ask},
    domain::{Business, Token},
};

/// Items of a slice at most.
const SLICE: usize = 512;

/// Serves `amends.payment.v1.PaymentSteps`.
pub(crate) struct StepDoor {
    pub(crate) calls: Arc<Calls>,
}

#[tonic::async_trait]
impl PaymentSteps for StepDoor {
    type ChargeStream = Replies<ChargeReply>;
    type RefundStream = Replies<RefundReply>;

    async fn charge(&self, request: Request<ChargeRequest>) -> Result<Response<Self::ChargeStream>, Status> {
        step::serve(request.into_inner().items, SLICE, |item, header: Header| {
            let span = step_span(
                "amends.payment.v1.PaymentSteps/Charge",
                &header.key,
                header.attempt,
                &header.trace,
            );
            let charge = Charge { trace: header.trace, ..charge(header.key, &item)? };
            Ok(span.in_scope(|| self.calls.charge(charge, header.remaining)).instrument(span))
        })
    }

    async fn refund(&self, request: Request<RefundRequest>) -> Result<Response<Self::RefundStream>, Status> {
        step::serve(request.into_inner().items, SLICE, |_item, header: Header| {
            let span = step_span(
                "amends.payment.v1.PaymentSteps/Refund",
                &header.key,
                header.attempt,
                &header.trace,
            );
            let ask = Ask { key: header.key, command: None, trace: header.trace, may_send: false };
            Ok(span.in_scope(|| self.calls.take_back(ask, header.remaining)).instrument(span))
        })
    }
}

fn field<T: FromStr>(name: &str, text: &str) -> Result<T, String>
where
    T::Err: std::fmt::Display,
{
    text.parse().map_err(|error| format!("{name}: {error}"))
}

pub(crate) fn charge(key: StepKey, item: &ChargeItem) -> Result<Charge, String> {
    let amount = item.amount.as_ref().ok_or("amount is missing")?;
    let amount = Money::try_from(amount).map_err(|error| format!("amount: {error}"))?;
    if amount.minor <= 0 {
        return Err(format!("amount: must be more than nothing, is {amount}"));
    }
    let Some(Method::Card(card)) = &item.method else { return Err("method is missing: card".into()) };
    let business = Business {
        order: field("order_id", &item.order_id)?,
        customer: field("customer_id", &item.customer_id)?,
        merchant: field("merchant_id", &item.merchant_id)?,
        amount,
        token: Some(field::<Token>("card.token", &card.token)?),
    };
    let hash = hash(&business, &card.token);
    Ok(Charge { key, hash, business, trace: String::new(), closed_for: None })
}

fn hash(business: &Business, token: &str) -> Vec<u8> {
    RequestHash::new(1)
        .field("order", business.order.uuid().as_bytes())
        .field("customer", business.customer.as_str().as_bytes())
        .field("merchant", business.merchant.as_str().as_bytes())
        .field("amount", &business.amount.minor.to_be_bytes())
        .field("currency", business.amount.currency.as_str().as_bytes())
        .field("card", token.as_bytes())
        .finish()
}

#[cfg(test)]
mod tests {
    use proto::{money::Money as WireMoney, payment::v1::CardMethod};

    use super::*;

    fn item() -> ChargeItem {
        ChargeItem {
            header: None,
            order_id: "ord_01h2xcejqtf2nbrexx3vqjhp41".into(),
            customer_id: "c_1".into(),
            merchant_id: "m_1".into(),
            amount: Some(WireMoney { minor_units: 100, currency_code: "EUR".into() }),
            method: Some(Method::Card(CardMethod { token: "tok_approve".into() })),
        }
    }

    fn key() -> StepKey {
        StepKey { saga: types::SagaId::from_uuid(uuid::Uuid::from_u128(1)), step: "charge".parse().unwrap() }
    }

    fn money(minor_units: i64, currency_code: &str) -> Option<WireMoney> {
        Some(WireMoney { minor_units, currency_code: currency_code.into() })
    }

    #[test]
    fn what_cannot_be_a_charge_is_turned_away_and_says_why() {
        let card = |token: &str| Some(Method::Card(CardMethod { token: token.into() }));
        for (bad, names) in [
            (ChargeItem { order_id: "ord_x".into(), ..item() }, "order_id"),
            (ChargeItem { customer_id: String::new(), ..item() }, "customer_id"),
            (ChargeItem { merchant_id: "a\0".into(), ..item() }, "merchant_id"),
            (ChargeItem { amount: None, ..item() }, "amount"),
            (ChargeItem { amount: money(0, "EUR"), ..item() }, "amount"),
            (ChargeItem { amount: money(-1, "EUR"), ..item() }, "amount"),
            (ChargeItem { amount: money(1, "eur"), ..item() }, "amount"),
            (ChargeItem { method: None, ..item() }, "method"),
            (ChargeItem { method: card("tok\n"), ..item() }, "card.token"),
            (ChargeItem { method: card("4242424242424242"), ..item() }, "card number"),
        ] {
            let why = charge(key(), &bad).unwrap_err();
            assert!(why.contains(names), "{why}");
            assert!(!why.contains("4242"), "{why}");
        }
        assert!(charge(key(), &item()).is_ok());
    }

    #[test]
    fn every_business_field_is_in_the_hash() {
        let base = charge(key(), &item()).unwrap().hash;
        let card = |token: &str| Some(Method::Card(CardMethod { token: token.into() }));
        for other in [
            ChargeItem { order_id: "ord_01h2xcejqtf2nbrexx3vqjhp42".into(), ..item() },
            ChargeItem { customer_id: "c_2".into(), ..item() },
            ChargeItem { merchant_id: "m_2".into(), ..item() },
            ChargeItem { amount: money(101, "EUR"), ..item() },
            ChargeItem { amount: money(100, "USD"), ..item() },
            ChargeItem { method: card("tok_slow"), ..item() },
        ] {
            assert_ne!(charge(key(), &other).unwrap().hash, base);
        }
    }
}
