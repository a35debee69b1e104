//! A CreateOrder request, taken apart: every field checked, a fingerprint made.

use std::{collections::BTreeMap, time::Duration};

use chassis::config::Secret;
use proto::{
    error::{self, Violation},
    order::v1::{CreateOrderRequest, OrderLine, PaymentInput, QuoteItem, QuoteLine, payment_input::Method},
};
use sha2::{Digest as _, Sha256};
use tonic::{Status, metadata::MetadataMap};
use types::{Currency, IdempotencyKey, PartyId, Sku, card::holds_card_number};

/// Lines in an order at most.
pub(super) const MAX_LINES: usize = 100;
/// Of one line.
const MAX_QUANTITY: i64 = 1_000_000;
/// A caller waits at most this long.
const MAX_WAIT: Duration = Duration::from_secs(30);
const MAX_METADATA: usize = 20;

/// A request that is valid by itself.
#[derive(Debug, Clone)]
pub(crate) struct Checked {
    pub customer: PartyId,
    pub merchant: PartyId,
    pub currency: Currency,
    pub lines: Vec<OrderLine>,
    pub card_token: Secret,
    pub metadata: BTreeMap<String, String>,
    pub key: Option<String>,
    pub wait: Option<Duration>,
    pub fingerprint: Vec<u8>,
}

/// Checks everything that can be checked without asking anybody.
pub(crate) fn check(headers: &MetadataMap, request: CreateOrderRequest) -> Result<Checked, Status> {
    let mut wrong = Vec::new();
    let key = key(headers, &request.request_id, &mut wrong);
    refuse_cards(&request, key.as_deref(), &mut wrong);
    let customer = parse::<PartyId>("customer_id", &request.customer_id, &mut wrong);
    let merchant = parse::<PartyId>("merchant_id", &request.merchant_id, &mut wrong);
    let currency: Option<Currency> = match request.currency_code.parse() {
        Ok(currency) => Some(currency),
        Err(e) => {
            wrong.push(Violation::new("currency_code", "UNKNOWN_CURRENCY", format!("{e}")));
            None
        }
    };
    check_lines(&request.lines, currency, &mut wrong);
    let card_token = token(request.payment.as_ref(), &mut wrong);
    check_metadata(&request.metadata, &mut wrong);
    let wait = wait(request.wait.as_ref(), &mut wrong);
    let (Some(customer), Some(merchant), Some(currency), []) =
        (customer, merchant, currency, wrong.as_slice())
    else {
        return Err(error::invalid_fields(wrong));
    };
    let metadata: BTreeMap<String, String> = request.metadata.into_iter().collect();
    let fingerprint =
        fingerprint(&customer, &merchant, currency, &request.lines, card_token.expose(), &metadata);
    Ok(Checked {
        customer,
        merchant,
        currency,
        lines: request.lines,
        card_token,
        metadata,
        key,
        wait,
        fingerprint,
    })
}

fn parse<T: std::str::FromStr<Err = types::KeyError>>(
    field: &str,
    text: &str,
    wrong: &mut Vec<Violation>,
) -> Option<T> {
    text.parse().map_err(|e| wrong.push(Violation::new(field, "MALFORMED", format!("{e}")))).ok()
}

/// `request_id`, or metadata `idempotency-key`, in which one pair of quotes is taken off.
fn key(headers: &MetadataMap, request_id: &str, wrong: &mut Vec<Violation>) -> Option<String> {
    let header = match headers.get("idempotency-key").map(|v| v.to_str()) {
        None => "",
        Some(Ok(text)) => text.strip_prefix('"').and_then(|t| t.strip_suffix('"')).unwrap_or(text),
        Some(Err(_)) => {
            wrong.push(Violation::new("idempotency-key", "MALFORMED", "must be visible ASCII"));
            return None;
        }
    };
    let text = match (request_id, header) {
        ("", "") => return None,
        (id, "") => id,
        ("", header) => header,
        (id, header) if id == header => id,
        _ => {
            let says = "differs from metadata idempotency-key: send one of them, or both alike";
            wrong.push(Violation::new("request_id", "TWO_KEYS", says));
            return None;
        }
    };
    parse::<IdempotencyKey>("request_id", text, wrong).map(IdempotencyKey::into_string)
}

fn check_lines(lines: &[OrderLine], currency: Option<Currency>, wrong: &mut Vec<Violation>) {
    if lines.is_empty() {
        wrong.push(Violation::new("lines", "EMPTY", "must not be empty"));
    }
    if lines.len() > MAX_LINES {
        let says = format!("must be at most {MAX_LINES}, there are {}", lines.len());
        wrong.push(Violation::new("lines", "TOO_MANY", says));
        return;
    }
    for (i, line) in lines.iter().enumerate() {
        parse::<Sku>(&format!("lines[{i}].sku"), &line.sku, wrong);
        if line.quantity < 1 {
            wrong.push(Violation::new(format!("lines[{i}].quantity"), "NOT_POSITIVE", "must be at least 1"));
        } else if line.quantity > MAX_QUANTITY {
            let says = format!("must be at most {MAX_QUANTITY}");
            wrong.push(Violation::new(format!("lines[{i}].quantity"), "TOO_LARGE", says));
        }
        let Some(price) = &line.unit_price else { continue };
        if price.minor_units < 1 {
            wrong.push(Violation::new(format!("lines[{i}].unit_price"), "NOT_POSITIVE", "must be positive"));
        }
        if currency.is_some_and(|c| c.as_str() != price.currency_code) {
            let says = "must be in the order's currency";
            wrong.push(Violation::new(format!("lines[{i}].unit_price.currency_code"), "CURRENCY_MIX", says));
        }
    }
}

fn token(payment: Option<&PaymentInput>, wrong: &mut Vec<Violation>) -> Secret {
    let Some(Method::Card(card)) = payment.and_then(|p| p.method.as_ref()) else {
        wrong.push(Violation::new("payment", "REQUIRED", "must name a method"));
        return Secret::from(String::new());
    };
    let is_token = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    let is_written_as_cards_are = card.token.chars().all(|c| c.is_ascii_digit() || matches!(c, '_' | '-'));
    let digits = card.token.chars().filter(char::is_ascii_digit).count();
    if card.token.is_empty() || card.token.len() > 64 || !card.token.chars().all(is_token) {
        let says = "must be a provider's token: 1 to 64 letters, digits, '_', '-'";
        wrong.push(Violation::new("payment.card.token", "MALFORMED", says));
    } else if is_written_as_cards_are && (12..=19).contains(&digits)
        || holds_card_number(card.token.as_bytes())
    {
        let says = "looks like a card number: send the provider's token of it, and never the number";
        wrong.push(Violation::new("payment.card.token", "CARD_NUMBER", says));
    }
    Secret::from(card.token.clone())
}

/// A card number is refused wherever it is written, so that it is neither stored nor passed on. It is not repeated.
fn refuse_cards(request: &CreateOrderRequest, key: Option<&str>, wrong: &mut Vec<Violation>) {
    let texts = [
        ("customer_id", request.customer_id.as_str()),
        ("merchant_id", &request.merchant_id),
        ("request_id", key.unwrap_or_default()),
    ];
    let skus = request.lines.iter().map(|line| ("lines", line.sku.as_str()));
    let metadata = request.metadata.iter().flat_map(|(name, value)| [name, value]);
    let metadata = metadata.map(|text| ("metadata", text.as_str()));
    for (field, text) in texts.into_iter().chain(skus).chain(metadata) {
        if holds_card_number(text.as_bytes()) {
            let says = "holds what looks like a card number: never send one, only the provider's token of it";
            wrong.push(Violation::new(field, "CARD_NUMBER", says));
        }
    }
}

fn check_metadata(metadata: &std::collections::HashMap<String, String>, wrong: &mut Vec<Violation>) {
    if metadata.len() > MAX_METADATA {
        let says = format!("must have at most {MAX_METADATA} entries");
        wrong.push(Violation::new("metadata", "TOO_MANY", says));
    }
    for (name, value) in metadata.iter().take(MAX_METADATA) {
        let bad = |text: &str| text.chars().any(char::is_control);
        if name.is_empty() || name.chars().count() > 64 || bad(name) {
            wrong.push(Violation::new(
                "metadata",
                "MALFORMED",
                "keys must be 1 to 64 characters without control characters",
            ));
        }
        if value.chars().count() > 256 || bad(value) {
            let says = "must be at most 256 characters without control characters";
            wrong.push(Violation::new(format!("metadata[{}]", name.escape_default()), "MALFORMED", says));
        }
    }
}

fn wait(wait: Option<&prost_types::Duration>, wrong: &mut Vec<Violation>) -> Option<Duration> {
    // By hand: prost's own conversion overflows for the least number of seconds.
    let prost_types::Duration { seconds, nanos } = *wait?;
    let given = u64::try_from(seconds).ok().zip(u32::try_from(nanos).ok().filter(|n| *n < 1_000_000_000));
    let wait = given.map(|(seconds, nanos)| Duration::new(seconds, nanos)).filter(|wait| *wait <= MAX_WAIT);
    if wait.is_none() {
        wrong.push(Violation::new("wait", "OUT_OF_RANGE", "must be 0 to 30 s"));
    }
    wait
}

/// Of what is asked, not of how: `request_id` and `wait` are left out, maps are sorted. Version 1.
fn fingerprint(
    customer: &PartyId,
    merchant: &PartyId,
    currency: Currency,
    lines: &[OrderLine],
    card_token: &str,
    metadata: &BTreeMap<String, String>,
) -> Vec<u8> {
    let mut hash = Sha256::new();
    let mut add = |part: &str| {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part.as_bytes());
    };
    [customer.as_str(), merchant.as_str(), currency.as_str(), "card", card_token]
        .into_iter()
        .for_each(&mut add);
    for line in lines {
        let price = line.unit_price.as_ref().map(|p| p.minor_units.to_string()).unwrap_or_default();
        [line.sku.as_str(), &line.quantity.to_string(), &price].into_iter().for_each(&mut add);
    }
    for (name, value) in metadata {
        [name.as_str(), value].into_iter().for_each(&mut add);
    }
    let mut bytes = vec![1];
    bytes.extend_from_slice(&hash.finalize());
    bytes
}

impl Checked {
    /// What the catalog is asked.
    pub(crate) fn quote_item(&self) -> QuoteItem {
        QuoteItem {
            key: String::new(),
            merchant_id: self.merchant.to_string(),
            currency_code: self.currency.to_string(),
            lines: self
                .lines
                .iter()
                .map(|line| QuoteLine {
                    sku: line.sku.clone(),
                    quantity: line.quantity,
                    expected_unit_price: line.unit_price.clone(),
                })
                .collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use proto::order::v1::Card;

    use super::*;

    fn request() -> CreateOrderRequest {
        CreateOrderRequest {
            request_id: "r-1".into(),
            customer_id: "c_1".into(),
            merchant_id: "m_1".into(),
            currency_code: "EUR".into(),
            lines: vec![OrderLine { sku: "P1001".into(), quantity: 2, unit_price: None }],
            payment: Some(PaymentInput { method: Some(Method::Card(Card { token: "tok_approve".into() })) }),
            wait: None,
            metadata: [("a".to_owned(), "1".to_owned()), ("b".to_owned(), "2".to_owned())].into(),
        }
    }

    fn checked(change: impl FnOnce(&mut CreateOrderRequest)) -> Result<Checked, Status> {
        let mut request = request();
        change(&mut request);
        check(&MetadataMap::new(), request)
    }

    #[test]
    fn the_fingerprint_leaves_out_how_it_is_asked() {
        let one = checked(|_| {}).unwrap().fingerprint;
        let wait = Some(prost_types::Duration { seconds: 5, nanos: 0 });
        assert_eq!(checked(|r| (r.request_id, r.wait) = ("other".into(), wait)).unwrap().fingerprint, one);
        assert_ne!(checked(|r| r.lines[0].quantity = 3).unwrap().fingerprint, one);
        assert_ne!(checked(|r| r.metadata.clear()).unwrap().fingerprint, one);
    }

    #[test]
    fn bad_fields_are_named() {
        type Change = fn(&mut CreateOrderRequest);
        let cases: [(&str, Change); 19] = [
            ("lines must not be empty", |r| r.lines.clear()),
            ("lines[0].quantity must be at least 1", |r| r.lines[0].quantity = 0),
            ("lines[0].quantity must be at least 1", |r| r.lines[0].quantity = -5),
            ("lines[0].quantity must be at most", |r| r.lines[0].quantity = i64::MAX),
            ("lines must be at most 100", |r| r.lines = vec![r.lines[0].clone(); 10_000]),
            ("lines[0].sku must not contain", |r| r.lines[0].sku = "P\0".into()),
            ("currency_code `ZZZ` is not", |r| r.currency_code = "ZZZ".into()),
            ("customer_id must not be empty", |r| r.customer_id.clear()),
            ("merchant_id must not contain", |r| r.merchant_id = "m 1".into()),
            ("payment must name a method", |r| r.payment = None),
            ("payment.card.token looks like a card number", |r| {
                r.payment = Some(PaymentInput {
                    method: Some(Method::Card(Card { token: "4111111111111111".into() })),
                });
            }),
            ("payment.card.token looks like a card number", |r| {
                r.payment = Some(PaymentInput {
                    method: Some(Method::Card(Card { token: "4111-1111-1111-1111".into() })),
                });
            }),
            ("customer_id holds what looks like a card", |r| r.customer_id = "4111111111111111".into()),
            ("merchant_id holds what looks like a card", |r| r.merchant_id = "5555555555554444".into()),
            ("request_id holds what looks like a card", |r| r.request_id = "378282246310005".into()),
            ("metadata holds what looks like a card", |r| {
                r.metadata = [("note".to_owned(), "pay 4111 1111 1111 1111 now".to_owned())].into();
            }),
            ("metadata[x] must be at most 256", |r| r.metadata = [("x".to_owned(), "\0".to_owned())].into()),
            ("wait must be 0 to 30 s", |r| r.wait = Some(prost_types::Duration { seconds: 31, nanos: 0 })),
            ("request_id must have at most 255", |r| r.request_id = "x".repeat(256)),
        ];
        for (expected, change) in cases {
            let status = checked(change).unwrap_err();
            assert_eq!(status.code(), tonic::Code::InvalidArgument);
            assert!(status.message().starts_with(expected), "{} / {expected}", status.message());
            let shown = format!("{status:?}");
            assert!(!["1111", "4444", "10005"].iter().any(|part| shown.contains(part)), "{shown}");
        }
    }

    #[test]
    fn a_key_may_come_in_the_header_quoted_or_not_but_not_two() {
        let mut headers = MetadataMap::new();
        headers.insert("idempotency-key", "\"r-2\"".parse().unwrap());
        let mut one = request();
        one.request_id.clear();
        assert_eq!(check(&headers, one).unwrap().key.as_deref(), Some("r-2"));
        assert!(check(&headers, request()).unwrap_err().message().contains("differs"));
    }
}
