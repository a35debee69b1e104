//! What people and shops ask: the requests that are taken apart before anything is stored.

use std::collections::HashMap;

use proto::{
    inventory::v1::RestockRequest,
    order::v1::{CreateOrderRequest, QuoteItem, SetPriceRequest, quote_reply::Outcome},
    risk::v1::Rule,
};
use tonic::metadata::{MetadataMap, MetadataValue};
use types::{Currency, IdempotencyKey, Sku};

use crate::verdict::{agree, message, says_why};

/// CreateOrder: the length of an `idempotency-key`, the key, then the request.
pub(crate) fn create_order(data: &[u8]) {
    let Some((&length, rest)) = data.split_first() else { return };
    let Some((key, body)) = rest.split_at_checked(usize::from(length)) else { return };
    let Some(request) = message::<CreateOrderRequest>(body) else { return };
    let mut headers = MetadataMap::new();
    if let Ok(value) = MetadataValue::try_from(key)
        && !key.is_empty()
    {
        headers.insert("idempotency-key", value);
    }
    let read = orchestrator::doors::create_order(&headers, request.clone());
    agree(&read, &orchestrator::doors::create_order(&headers, request.clone()));
    let order = match read {
        Ok(order) => order,
        Err(status) => return says_why(&status),
    };
    assert!(order.key.as_ref().is_none_or(|key| key.parse::<IdempotencyKey>().is_ok()));
    assert!(order.wait.is_none_or(|wait| wait.as_secs() <= 30));
    assert!((1..=100).contains(&request.lines.len()));
    assert!(request.lines.iter().all(|line| (1..=1_000_000).contains(&line.quantity)));
    // How it is asked does not count; what is asked does.
    let otherwise = CreateOrderRequest { request_id: String::new(), wait: None, ..request.clone() };
    let again = orchestrator::doors::create_order(&MetadataMap::new(), otherwise).unwrap();
    assert_eq!(again.fingerprint, order.fingerprint);
    let mut more = request;
    more.lines[0].quantity = if more.lines[0].quantity == 1 { 2 } else { 1 };
    let other = orchestrator::doors::create_order(&headers, more).unwrap();
    assert_ne!(other.fingerprint, order.fingerprint);
    // The catalog finds nothing wrong with the form of what it is asked.
    let item: QuoteItem = message(&order.quote).unwrap();
    let prices = item.lines.iter().map(|line| ((line.sku.parse().unwrap(), order.currency), 1)).collect();
    if let Some(Outcome::Invalid(invalid)) = order_svc::doors::quote(item, &prices).outcome {
        let known = ["PRICE_CHANGED", "OVERFLOW"];
        assert!(invalid.violations.iter().all(|v| known.contains(&v.reason.as_str())), "{invalid:?}");
    }
}

/// Quote: one cart; every SKU has a price that follows from its name.
pub(crate) fn quote(data: &[u8]) {
    let Some(item) = message::<QuoteItem>(data) else { return };
    let mut prices: HashMap<(Sku, Currency), i64> = HashMap::new();
    if let Ok(currency) = item.currency_code.parse::<Currency>() {
        for line in &item.lines {
            if let Ok(sku) = line.sku.parse::<Sku>() {
                prices.insert((sku, currency), 1 + i64::from(line.sku.bytes().map(u32::from).sum::<u32>()));
            }
        }
    }
    let reply = order_svc::doors::quote(item.clone(), &prices);
    assert_eq!(reply, order_svc::doors::quote(item.clone(), &prices));
    assert_eq!(reply.key, item.key);
    match reply.outcome.expect("a quote has an outcome") {
        Outcome::Quoted(quoted) => {
            assert_eq!(quoted.lines.len(), item.lines.len());
            let mut sum = 0_i64;
            for line in &quoted.lines {
                assert_eq!(line.unit_price_minor.checked_mul(line.quantity), Some(line.line_total_minor));
                sum = sum.checked_add(line.line_total_minor).unwrap();
            }
            assert_eq!(quoted.subtotal_minor, sum);
            assert_eq!(quoted.subtotal_minor.checked_add(quoted.tax_minor), Some(quoted.total_minor));
            assert!(quoted.total_minor > 0);
        }
        Outcome::Invalid(invalid) => {
            assert!(!invalid.violations.is_empty());
            assert!(
                invalid
                    .violations
                    .iter()
                    .all(|v| !v.field.is_empty() && !v.reason.is_empty() && !v.description.is_empty())
            );
        }
    }
}

pub(crate) fn set_price(data: &[u8]) {
    let Some(request) = message::<SetPriceRequest>(data) else { return };
    match order_svc::doors::price(request.clone()) {
        Ok(price) => {
            let money = price.unit_price.unwrap();
            assert!(money.minor_units > 0);
            assert_eq!(Some(money), request.unit_price);
            assert_eq!(price.sku, request.sku);
            assert!(price.sku.parse::<Sku>().is_ok());
        }
        Err(status) => says_why(&status),
    }
}

pub(crate) fn restock(data: &[u8]) {
    let Some(request) = message::<RestockRequest>(data) else { return };
    match inventory_svc::doors::restock(&request) {
        Ok((id, sku, quantity)) => {
            assert!(id.parse::<IdempotencyKey>().is_ok());
            assert_eq!((sku.as_str(), quantity), (request.sku.as_str(), request.quantity));
            assert!((1..=1_000_000_000).contains(&quantity));
        }
        Err(status) => says_why(&status),
    }
}

pub(crate) fn set_rule(data: &[u8]) {
    let Some(rule) = message::<Rule>(data) else { return };
    match risk_svc::doors::rule(&rule) {
        Ok(stored) => {
            assert_eq!(stored, rule, "it is stored as it was given");
            assert!(stored.threshold >= 0 && stored.window_seconds >= 0);
        }
        Err(status) => says_why(&status),
    }
}

/// Resolve: a step, then its output as JSON.
pub(crate) fn resolve(data: &[u8]) {
    let Some((&step, json)) = data.split_first() else { return };
    let Ok(json) = std::str::from_utf8(json) else { return };
    match orchestrator::doors::resolved(usize::from(step % 7), json) {
        Ok(stored) => {
            // What a step without an output stores is nothing.
            let again = orchestrator::doors::resolved(usize::from(step % 7), &stored).unwrap();
            assert_eq!(again, stored);
        }
        Err(why) => assert!(!why.is_empty()),
    }
}

pub(crate) mod seeds {
    use prost::Message as _;
    use proto::{
        money::Money,
        order::v1::{Card, OrderLine, PaymentInput, QuoteLine, payment_input::Method},
    };

    use super::*;

    fn money() -> Option<Money> {
        Some(Money { minor_units: 1000, currency_code: "EUR".into() })
    }

    pub(crate) fn create_order() -> Vec<Vec<u8>> {
        let request = CreateOrderRequest {
            request_id: "r-1".into(),
            customer_id: "c_1".into(),
            merchant_id: "m_1".into(),
            currency_code: "EUR".into(),
            lines: vec![OrderLine { sku: "P1001".into(), quantity: 2, unit_price: money() }],
            payment: Some(PaymentInput { method: Some(Method::Card(Card { token: "tok_approve".into() })) }),
            wait: Some(prost_types::Duration { seconds: 30, nanos: 0 }),
            metadata: HashMap::from([("channel".into(), "web".into())]),
        };
        let with_key = |key: &str, request: &CreateOrderRequest| {
            let length = u8::try_from(key.len()).unwrap();
            [&[length], key.as_bytes(), &request.encode_to_vec()].concat()
        };
        let bare =
            CreateOrderRequest { request_id: String::new(), metadata: HashMap::new(), ..request.clone() };
        vec![with_key("", &request), with_key("\"r-1\"", &request), with_key("8e03978e-40d5", &bare)]
    }

    pub(crate) fn quote() -> Vec<Vec<u8>> {
        let line = |sku: &str, quantity| QuoteLine { sku: sku.into(), quantity, expected_unit_price: None };
        let item = |lines| QuoteItem {
            key: "k".into(),
            merchant_id: "m_1".into(),
            currency_code: "EUR".into(),
            lines,
        };
        let expected = QuoteLine { expected_unit_price: money(), ..line("P", 1) };
        vec![
            item(vec![line("P1001", 2), line("P1002", 1_000_000)]).encode_to_vec(),
            item(vec![expected]).encode_to_vec(),
        ]
    }

    pub(crate) fn set_price() -> Vec<Vec<u8>> {
        let price = SetPriceRequest { sku: "P1001".into(), title: "Lamp".into(), unit_price: money() };
        vec![price.encode_to_vec()]
    }

    pub(crate) fn restock() -> Vec<Vec<u8>> {
        vec![RestockRequest { request_id: "r".into(), sku: "P1001".into(), quantity: 5 }.encode_to_vec()]
    }

    pub(crate) fn set_rule() -> Vec<Vec<u8>> {
        let rule = |kind: &str, currency: &str, window_seconds| {
            let (kind, currency_code) = (kind.into(), currency.into());
            Rule { kind, currency_code, threshold: 100, window_seconds, enabled: true }.encode_to_vec()
        };
        vec![rule("AMOUNT_REVIEW", "EUR", 0), rule("AMOUNT_REVIEW", "", 0), rule("VELOCITY_REVIEW", "", 3600)]
    }

    pub(crate) fn resolve() -> Vec<Vec<u8>> {
        let outputs = [
            (1, r#"{"reservation_id":"rsv_01h2xcejqtf2nbrexx3vqjhp41"}"#),
            (2, r#"{"approved_by":"RULES"}"#),
            (3, r#"{"payment_id":"pay_01h2xcejqtf2nbrexx3vqjhp41","provider_reference":"sim_1"}"#),
            (4, r#"{"transaction_id":"txn_01h2xcejqtf2nbrexx3vqjhp41"}"#),
            (0, "{}"),
        ];
        outputs.map(|(step, json)| [&[step], json.as_bytes()].concat()).to_vec()
    }
}
