//! What orchestrators ask of participants: the items of steps and compensations.

use proto::{
    inventory::v1::{CommitItem, ReleaseItem, ReserveItem},
    ledger::v1::{PostItem, ReverseItem},
    order::v1::{CancelItem, CompleteItem, OpenItem},
    payment::v1::{ChargeItem, charge_item::Method},
    risk::v1::ScreenItem,
    step::{Item, StepHeader},
};
use types::{Money, SagaId};

use crate::verdict::{agree, message, text_says_why};

/// The item, if it is one; and another that differs in what no hash may cover: how and when it is asked.
fn twins<I: Item + PartialEq + Clone + std::fmt::Debug>(
    data: &[u8],
    header: impl Fn(&mut I) -> &mut Option<StepHeader>,
) -> Option<(I, I)> {
    let item = message::<I>(data)?;
    let mut twin = item.clone();
    if let Some(header) = header(&mut twin) {
        header.attempt = header.attempt.wrapping_add(1);
        header.epoch = header.epoch.wrapping_add(1);
        header.remaining_ms = header.remaining_ms.wrapping_add(1);
        header.trace.push('0');
    }
    Some((item, twin))
}

fn judged<T>(outcome: Result<T, String>) -> Option<T> {
    outcome.inspect_err(|why| text_says_why(why)).ok()
}

fn saga(header: Option<&StepHeader>) -> SagaId {
    header.unwrap().saga_id.parse().unwrap()
}

pub(crate) fn open(data: &[u8]) {
    let Some((item, twin)) = twins::<OpenItem>(data, |item| &mut item.header) else { return };
    let hash = order_svc::doors::open(item.clone());
    agree(&hash, &order_svc::doors::open(twin.clone()));
    let Some(hash) = judged(hash) else { return };
    assert_eq!(item.order_id.parse::<types::OrderId>().unwrap().saga(), saga(item.header.as_ref()));
    let sum: i64 = item.lines.iter().map(|line| line.line_total_minor).sum();
    assert_eq!((item.subtotal_minor, item.subtotal_minor + item.tax_minor), (sum, item.total_minor));
    assert!(item.lines.iter().all(|line| line.quantity > 0 && line.unit_price_minor > 0));
    let other = OpenItem { customer_id: "another".into(), ..twin };
    assert!(item.customer_id == "another" || order_svc::doors::open(other) != Ok(hash));
}

pub(crate) fn complete(data: &[u8]) {
    let Some((item, mut twin)) = twins::<CompleteItem>(data, |item| &mut item.header) else { return };
    // A take-over may tell the times again.
    twin.history.clear();
    let hash = order_svc::doors::complete(item.clone());
    if let Some(hash) = judged(hash) {
        assert_eq!(order_svc::doors::complete(twin), Ok(hash));
        assert!(item.history.len() <= 100);
    }
}

pub(crate) fn cancel(data: &[u8]) {
    let Some((item, twin)) = twins::<CancelItem>(data, |item| &mut item.header) else { return };
    let reason = order_svc::doors::cancel(item);
    agree(&reason, &order_svc::doors::cancel(twin));
    if let Some(reason) = judged(reason) {
        assert!(reason.chars().count() <= 256 && !reason.contains('\0'), "{reason:?}");
    }
}

pub(crate) fn reserve(data: &[u8]) {
    let Some((item, mut twin)) = twins::<ReserveItem>(data, |item| &mut item.header) else { return };
    // In whatever order the lines come.
    twin.lines.reverse();
    let reserved = inventory_svc::doors::reserve(item.clone());
    agree(&reserved, &inventory_svc::doors::reserve(twin));
    let Some((lines, _)) = judged(reserved) else { return };
    assert!(!lines.is_empty() && lines.is_sorted_by(|a, b| a.0 < b.0));
    assert!(lines.iter().all(|(_, quantity)| *quantity > 0));
    let asked: i128 = item.lines.iter().map(|line| i128::from(line.quantity)).sum();
    assert_eq!(lines.iter().map(|(_, quantity)| i128::from(*quantity)).sum::<i128>(), asked);
}

pub(crate) fn commit(data: &[u8]) {
    let Some((item, twin)) = twins::<CommitItem>(data, |item| &mut item.header) else { return };
    let commit = inventory_svc::doors::commit(&item);
    agree(&commit, &inventory_svc::doors::commit(&twin));
    let Some((reservation, _)) = judged(commit) else { return };
    assert_eq!(reservation.saga, saga(item.header.as_ref()));
    assert_eq!(reservation.step.as_str(), item.reserve_step);
}

pub(crate) fn release(data: &[u8]) {
    let Some((item, twin)) = twins::<ReleaseItem>(data, |item| &mut item.header) else { return };
    let key = inventory_svc::doors::release(&item);
    agree(&key, &inventory_svc::doors::release(&twin));
    judged(key);
}

pub(crate) fn screen(data: &[u8]) {
    let Some((item, twin)) = twins::<ScreenItem>(data, |item| &mut item.header) else { return };
    let hash = risk_svc::doors::screen(item.clone());
    agree(&hash, &risk_svc::doors::screen(twin));
    if judged(hash).is_some() {
        assert!(Money::try_from(item.amount.as_ref().unwrap()).unwrap().minor >= 0);
    }
}

pub(crate) fn charge(data: &[u8]) {
    let Some((item, twin)) = twins::<ChargeItem>(data, |item| &mut item.header) else { return };
    let token = match &item.method {
        Some(Method::Card(card)) => card.token.clone(),
        None => String::new(),
    };
    let keys = chassis::testbed::keyring();
    let hash = payment_svc::doors::charge(&item, &keys);
    agree(&hash, &payment_svc::doors::charge(&twin, &keys));
    if let Err(why) = &hash {
        // Twelve characters could be a card; fewer may stand in any text.
        let is_shown = token.len() >= 12 && why.contains(&token);
        let stands_elsewhere =
            [&item.order_id, &item.customer_id, &item.merchant_id].map(|t| t.contains(&token));
        let in_header =
            item.header.as_ref().is_some_and(|h| h.saga_id.contains(&token) || h.step.contains(&token));
        assert!(!is_shown || in_header || stands_elsewhere.contains(&true), "a token is shown: {why}");
    }
    if judged(hash).is_some() {
        assert!(Money::try_from(item.amount.as_ref().unwrap()).unwrap().minor > 0);
        assert!(token.parse::<payment_svc::Token>().is_ok());
    }
}

pub(crate) fn post(data: &[u8]) {
    let Some((item, twin)) = twins::<PostItem>(data, |item| &mut item.header) else { return };
    let entries = ledger_svc::doors::post(item);
    agree(&entries, &ledger_svc::doors::post(twin));
    if let Some(entries) = judged(entries) {
        balanced(&entries);
    }
}

/// Every transaction sums to zero, and no entry is nothing.
pub(crate) fn balanced(entries: &[ledger_svc::domain::Entry]) {
    assert_eq!(entries.iter().map(|entry| i128::from(entry.amount)).sum::<i128>(), 0, "{entries:?}");
    assert!(entries.iter().all(|entry| entry.amount != 0), "{entries:?}");
    assert!(
        entries.iter().all(|entry| entry.account.as_str().parse::<ledger_svc::domain::AccountId>().is_ok())
    );
}

pub(crate) fn reverse(data: &[u8]) {
    let Some((item, twin)) = twins::<ReverseItem>(data, |item| &mut item.header) else { return };
    let reason = ledger_svc::doors::reverse(item);
    agree(&reason, &ledger_svc::doors::reverse(twin));
    if let Some(reason) = judged(reason) {
        assert!(reason.chars().count() <= 500 && !reason.chars().any(char::is_control), "{reason:?}");
    }
}

pub(crate) mod seeds {
    use prost::Message as _;
    use proto::{
        inventory::v1::ReserveLine,
        money::Money,
        order::v1::{PricedLine, StatusChange},
        payment::v1::CardMethod,
    };

    use super::*;

    const ORDER: &str = "ord_01h2xcejqtf2nbrexx3vqjhp41";

    pub(crate) fn header(step: &str) -> Option<StepHeader> {
        Some(StepHeader {
            saga_id: "saga_01h2xcejqtf2nbrexx3vqjhp41".into(),
            step: step.into(),
            attempt: 1,
            remaining_ms: 5000,
            trace: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".into(),
            epoch: 7,
        })
    }

    fn money() -> Option<Money> {
        Some(Money { minor_units: 1200, currency_code: "EUR".into() })
    }

    fn history() -> Vec<StatusChange> {
        let time = Some(prost_types::Timestamp { seconds: 1_800_000_000, nanos: 5 });
        vec![StatusChange { status: "PAYMENT_SUCCESS".into(), time }]
    }

    pub(crate) fn open() -> Vec<Vec<u8>> {
        let line = |sku: &str, quantity, price| PricedLine {
            sku: sku.into(),
            quantity,
            unit_price_minor: price,
            line_total_minor: quantity * price,
        };
        let item = OpenItem {
            header: header("open"),
            order_id: ORDER.into(),
            customer_id: "c_1".into(),
            merchant_id: "m_1".into(),
            currency_code: "EUR".into(),
            lines: vec![line("P1001", 1, 800), line("P1002", 2, 100)],
            subtotal_minor: 1000,
            tax_minor: 200,
            total_minor: 1200,
        };
        vec![item.encode_to_vec()]
    }

    pub(crate) fn complete() -> Vec<Vec<u8>> {
        let item = CompleteItem { header: header("complete"), order_id: ORDER.into(), history: history() };
        vec![item.encode_to_vec()]
    }

    pub(crate) fn cancel() -> Vec<Vec<u8>> {
        let reason = "CARD_DECLINED".into();
        let item = CancelItem { header: header("open"), order_id: ORDER.into(), reason, history: history() };
        vec![item.encode_to_vec()]
    }

    pub(crate) fn reserve() -> Vec<Vec<u8>> {
        let line = |sku: &str, quantity| ReserveLine { sku: sku.into(), quantity };
        let item = ReserveItem {
            header: header("reserve"),
            order_id: ORDER.into(),
            lines: vec![line("P1002", 1), line("P1001", 2), line("P1002", 3)],
            hold_until: Some(prost_types::Timestamp { seconds: 4_000_000_000, nanos: 5 }),
        };
        vec![item.encode_to_vec()]
    }

    pub(crate) fn commit() -> Vec<Vec<u8>> {
        let item =
            CommitItem { header: header("commit"), order_id: ORDER.into(), reserve_step: "reserve".into() };
        vec![item.encode_to_vec()]
    }

    pub(crate) fn release() -> Vec<Vec<u8>> {
        let item = ReleaseItem { header: header("reserve"), order_id: ORDER.into(), reason: "why".into() };
        vec![item.encode_to_vec()]
    }

    pub(crate) fn screen() -> Vec<Vec<u8>> {
        let item = ScreenItem {
            header: header("screen"),
            order_id: ORDER.into(),
            customer_id: "c_1".into(),
            merchant_id: "m_1".into(),
            amount: money(),
        };
        vec![item.encode_to_vec(), ScreenItem { order_id: String::new(), ..item }.encode_to_vec()]
    }

    pub(crate) fn charge() -> Vec<Vec<u8>> {
        let item = |token: &str| ChargeItem {
            header: header("charge"),
            order_id: ORDER.into(),
            customer_id: "c_1".into(),
            merchant_id: "m_1".into(),
            amount: money(),
            method: Some(Method::Card(CardMethod { token: token.into() })),
        };
        vec![item("tok_approve").encode_to_vec(), item("4242-4242-4242-4242").encode_to_vec()]
    }

    pub(crate) fn post() -> Vec<Vec<u8>> {
        let item = |minor_units, tax_minor| PostItem {
            header: header("post"),
            order_id: ORDER.into(),
            merchant_id: "m_1".into(),
            total: Some(Money { minor_units, currency_code: "JPY".into() }),
            tax_minor,
            payment_id: "pay_01h2xcejqtf2nbrexx3vqjhp41".into(),
        };
        [item(1200, 200), item(1200, 0), item(0, 0), item(i64::MAX, i64::MAX)]
            .map(|i| i.encode_to_vec())
            .to_vec()
    }

    pub(crate) fn reverse() -> Vec<Vec<u8>> {
        let item = ReverseItem { header: header("post"), order_id: ORDER.into(), reason: "why\n".into() };
        vec![item.encode_to_vec()]
    }
}
