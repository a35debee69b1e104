//! The gRPC doors: the steps Charge and Refund for orchestrators, the attempts for people.
//!
//! Parses, hands over, shows; decides nothing. This is the only place that maps to `tonic::Status`. Tokens come in
//! through here and never go out, not even in an error.

mod attempts;

use std::{str::FromStr, sync::Arc};

use chassis::{keyring::Keyring, telemetry::step_span};
use proto::{
    payment::v1::{
        ChargeItem, ChargeReply, ChargeRequest, RefundReply, RefundRequest, charge_item::Method,
        payment_steps_server::PaymentSteps,
    },
    step::{self, Header, Replies},
};
use tonic::{Request, Response, Status};
use tracing::Instrument as _;
use types::{Money, OrderId, StepKey};

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
    pub(crate) keys: Keyring,
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
            let charge = Charge { trace: header.trace, ..charge(header.key, &item, &self.keys)? };
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

pub(crate) fn charge(key: StepKey, item: &ChargeItem, keys: &Keyring) -> Result<Charge, String> {
    let amount = item.amount.as_ref().ok_or("amount is missing")?;
    let amount = Money::try_from(amount).map_err(|error| format!("amount: {error}"))?;
    if amount.minor <= 0 {
        return Err(format!("amount: must be more than nothing, is {amount}"));
    }
    let Some(Method::Card(card)) = &item.method else { return Err("method is missing: card".into()) };
    let order: OrderId = field("order_id", &item.order_id)?;
    let business = Business {
        order,
        customer: field("customer_id", &item.customer_id)?,
        merchant: field("merchant_id", &item.merchant_id)?,
        amount,
        token: Some(token(order, &card.token, keys)?),
    };
    // Of what was sent: the orchestrator has it from the journal and sends the same for ever.
    let hash = business.hash(&card.token);
    Ok(Charge { key, hash, business, trace: String::new(), closed_for: None })
}

/// As it is stored: encrypted, whatever came. One that could not be opened when it is wanted is turned away now.
fn token(order: OrderId, text: &str, keys: &Keyring) -> Result<Token, String> {
    let about = order.uuid();
    if Keyring::is_encrypted(text) {
        let plain = keys.decrypt(about.as_bytes(), text).map_err(|error| format!("card.token: {error}"))?;
        field::<Token>("card.token", &plain)?;
        return field("card.token", text);
    }
    // In the journal of the release before it is plain.
    let plain: Token = field("card.token", text)?;
    field("card.token", &keys.encrypt(about.as_bytes(), plain.reveal()))
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

    fn keys() -> Keyring {
        chassis::testbed::keyring()
    }

    #[test]
    fn a_token_is_kept_encrypted_and_one_that_does_not_open_is_turned_away() {
        let card = |token: &str| Some(Method::Card(CardMethod { token: token.into() }));
        let order: OrderId = item().order_id.parse().unwrap();
        let kept =
            |item: &ChargeItem| charge(key(), item, &keys()).map(|charge| charge.business.token.unwrap());
        let encrypted = keys().encrypt(order.uuid().as_bytes(), "tok_approve");
        let sealed = ChargeItem { method: card(&encrypted), ..item() };
        assert_eq!(kept(&item()).unwrap().reveal(), encrypted);
        assert_eq!(kept(&sealed).unwrap().reveal(), encrypted);
        let longest = keys().encrypt(order.uuid().as_bytes(), &"t".repeat(64));
        assert_eq!(kept(&ChargeItem { method: card(&longest), ..item() }).unwrap().reveal(), longest);

        // For another order, a card number within, under a key that is not here.
        let elsewhere = ChargeItem { order_id: "ord_01h2xcejqtf2nbrexx3vqjhp42".into(), ..sealed.clone() };
        assert!(kept(&elsewhere).unwrap_err().contains("does not open"));
        let number = keys().encrypt(order.uuid().as_bytes(), "4242424242424242");
        let why = kept(&ChargeItem { method: card(&number), ..item() }).unwrap_err();
        assert!(why.contains("card number") && !why.contains("4242"), "{why}");
        let other: Keyring = format!("other:{}", "0a".repeat(32)).parse().unwrap();
        let why = charge(key(), &sealed, &other).unwrap_err();
        assert!(why.contains("not among the keys given"), "{why}");
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
            let why = charge(key(), &bad, &keys()).unwrap_err();
            assert!(why.contains(names), "{why}");
            assert!(!why.contains("4242"), "{why}");
        }
        assert!(charge(key(), &item(), &keys()).is_ok());
    }

    #[test]
    fn every_business_field_is_in_the_hash() {
        let base = charge(key(), &item(), &keys()).unwrap().hash;
        let card = |token: &str| Some(Method::Card(CardMethod { token: token.into() }));
        for other in [
            ChargeItem { order_id: "ord_01h2xcejqtf2nbrexx3vqjhp42".into(), ..item() },
            ChargeItem { customer_id: "c_2".into(), ..item() },
            ChargeItem { merchant_id: "m_2".into(), ..item() },
            ChargeItem { amount: money(101, "EUR"), ..item() },
            ChargeItem { amount: money(100, "USD"), ..item() },
            ChargeItem { method: card("tok_slow"), ..item() },
        ] {
            assert_ne!(charge(key(), &other, &keys()).unwrap().hash, base);
        }
    }
}
