//! What is written as text: ids, names, money, page tokens, traces, times, URLs.

use std::{fmt::Display, str::FromStr};

use notification_svc::SmtpUrl;
use types::{
    Currency, IdempotencyKey, Money, OrderId, PartyId, PaymentId, ReservationId, SagaId, Sku, StepName,
    TransactionId,
};

use crate::verdict::{says_why, text_says_why};

fn text(data: &[u8]) -> Option<&str> {
    std::str::from_utf8(data).ok()
}

/// What is read is written the same way, or at least read as the same again.
fn round<T>(text: &str, is_exact: bool) -> bool
where
    T: FromStr + Display + PartialEq + std::fmt::Debug,
    T::Err: Display,
{
    match text.parse::<T>() {
        Ok(value) => {
            let shown = value.to_string();
            assert_eq!(shown.parse::<T>().ok().as_ref(), Some(&value));
            assert!(!is_exact || shown == text, "{text:?} is shown as {shown:?}");
            true
        }
        Err(why) => {
            text_says_why(&why.to_string());
            false
        }
    }
}

pub(crate) fn ids(data: &[u8]) {
    let Some(text) = text(data) else { return };
    let kinds = [
        round::<OrderId>(text, true),
        round::<PaymentId>(text, true),
        round::<ReservationId>(text, true),
        round::<TransactionId>(text, true),
    ];
    // A saga may be named by its order, and is shown as a saga.
    let saga = round::<SagaId>(text, false);
    assert!(!kinds[0] || saga);
    assert!(kinds.iter().filter(|is| **is).count() <= 1, "{text:?} is of two kinds");
}

pub(crate) fn keys(data: &[u8]) {
    let Some(text) = text(data) else { return };
    round::<IdempotencyKey>(text, true);
    round::<Sku>(text, true);
    round::<PartyId>(text, true);
    round::<StepName>(text, true);
    if round::<ledger_svc::domain::AccountId>(text, true) {
        assert!(text.rsplit(':').next().unwrap().parse::<Currency>().is_ok());
    }
}

/// A currency and an amount: `EUR 12.34`.
pub(crate) fn money(data: &[u8]) {
    let Some((code, amount)) = text(data).and_then(|text| text.split_once(' ')) else { return };
    let currency = match code.parse::<Currency>() {
        Ok(currency) => currency,
        Err(why) => return text_says_why(&why.to_string()),
    };
    assert_eq!(currency.as_str(), code);
    match Money::from_decimal_text(amount, currency) {
        Ok(money) => {
            let shown = money.to_string();
            let (number, unit) = shown.rsplit_once(' ').unwrap();
            assert_eq!(unit, code);
            assert_eq!(Money::from_decimal_text(number, currency), Ok(money), "{shown}");
        }
        Err(why) => text_says_why(&why.to_string()),
    }
}

/// A token, for no arguments; and any text as a cursor.
pub(crate) fn page_token(data: &[u8]) {
    let Some(text) = text(data) else { return };
    match proto::page::cursor(&[], text) {
        Ok(None) => assert_eq!(text, ""),
        Ok(Some(cursor)) => assert_eq!(proto::page::token(&[], &cursor), text, "one cursor has one token"),
        Err(status) => says_why(&status),
    }
    let token = proto::page::token(&["a"], text);
    if token.len() <= 1024 && !text.contains('\0') {
        assert_eq!(proto::page::cursor(&["a"], &token).unwrap().as_deref(), Some(text));
    }
    assert!(proto::page::cursor(&["b"], &token).is_err());
}

pub(crate) fn review_cursor(data: &[u8]) {
    let Some(text) = text(data) else { return };
    if let Some((micros, saga, step)) = risk_svc::doors::cursor(text) {
        let again = risk_svc::doors::cursor(&format!("{micros} {saga} {step}"));
        assert_eq!(again, Some((micros, saga, step)));
    }
}

/// A `traceparent`, as a caller's metadata, an item or a message has it.
pub(crate) fn trace(data: &[u8]) {
    let Some(text) = text(data) else { return };
    chassis::telemetry::set_parent(&tracing::Span::none(), text);
    let kept = types::traceparent(text);
    assert!(text.starts_with(kept) && (kept.is_empty() || kept.len() == 55), "{kept:?}");
    assert_eq!(types::traceparent(kept), kept);
    assert!(kept.bytes().all(|byte| byte == b'-' || byte.is_ascii_hexdigit()), "{kept:?}");
}

pub(crate) fn smtp_url(data: &[u8]) {
    let Some(text) = text(data) else { return };
    match text.parse::<SmtpUrl>() {
        Ok(url) => {
            let shown = format!("{url:?}");
            // user:password@ is not shown.
            let Some((before, host)) = text.rsplit_once('@') else { return };
            let secret = before.rsplit_once(':').map(|(_, secret)| secret).filter(|secret| secret.len() >= 8);
            assert!(secret.is_none_or(|secret| host.contains(secret) || !shown.contains(secret)), "{shown}");
        }
        Err(why) => text_says_why(why),
    }
}

/// Seconds and nanoseconds, sixteen bytes.
pub(crate) fn time(data: &[u8]) {
    let Some((seconds, rest)) = data.split_first_chunk::<8>() else { return };
    let Some((nanos, _)) = rest.split_first_chunk::<4>() else { return };
    let stamp =
        prost_types::Timestamp { seconds: i64::from_be_bytes(*seconds), nanos: i32::from_be_bytes(*nanos) };
    if let Some(time) = proto::time::read(&stamp) {
        let again = proto::time::stamp(time);
        // A leap second is folded into the one before.
        assert!(again == stamp || stamp.nanos > 999_999_999, "{stamp:?} {again:?}");
        assert!((0..1_000_000_000).contains(&again.nanos));
    }
}

pub(crate) mod seeds {
    fn texts(all: &[&str]) -> Vec<Vec<u8>> {
        all.iter().map(|text| text.as_bytes().to_vec()).collect()
    }

    pub(crate) fn ids() -> Vec<Vec<u8>> {
        let kinds = ["ord", "saga", "pay", "rsv", "txn"];
        kinds.map(|kind| format!("{kind}_01h2xcejqtf2nbrexx3vqjhp41").into_bytes()).to_vec()
    }

    pub(crate) fn keys() -> Vec<Vec<u8>> {
        texts(&["P1001", "c_1", "reserve", "8e03978e-40d5-43e8", "merchant:m_1:EUR", "suspense:JPY"])
    }

    pub(crate) fn money() -> Vec<Vec<u8>> {
        texts(&["EUR 12.34", "JPY 1200", "KWD -0.001", "EUR 92233720368547758.07", "EUR 1e3", "USD .5"])
    }

    pub(crate) fn page_token() -> Vec<Vec<u8>> {
        let token = proto::page::token(&[], "ord_01h2xcejqtf2nbrexx3vqjhp41");
        [vec![token.into_bytes()], texts(&["", "P1001 EUR", "0123456789abcdef+5"])].concat()
    }

    pub(crate) fn review_cursor() -> Vec<Vec<u8>> {
        texts(&[
            "1800000000000000 saga_01h2xcejqtf2nbrexx3vqjhp41 screen",
            "-1 ord_01h2xcejqtf2nbrexx3vqjhp41 x",
        ])
    }

    pub(crate) fn trace() -> Vec<Vec<u8>> {
        texts(&[
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "01-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-x",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
        ])
    }

    pub(crate) fn smtp_url() -> Vec<Vec<u8>> {
        texts(&[
            "smtp://localhost",
            "smtps://user:hunter2hunter2@mail.example:465",
            "smtp://a:b@[::1]:25?tls=required",
        ])
    }

    pub(crate) fn time() -> Vec<Vec<u8>> {
        [(1_800_000_000_i64, 5_i32), (-1, 999_999_999), (253_402_300_799, 0), (59, 1_500_000_000)]
            .map(|(seconds, nanos)| [&seconds.to_be_bytes()[..], &nanos.to_be_bytes()].concat())
            .to_vec()
    }
}
