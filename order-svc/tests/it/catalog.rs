//! Prices, quotes and documents, and what the door says to nonsense.

use proto::{
    money::Money,
    order::v1::{
        GetDocumentRequest, ListPricesRequest, QuoteItem, QuoteLine, QuoteReply, QuoteRequest,
        SetPriceRequest, quote_reply::Outcome,
    },
};
use tonic::Code;
use tonic_types::StatusExt as _;

use crate::house::*;

fn line(sku: &str, quantity: i64) -> QuoteLine {
    QuoteLine { sku: sku.into(), quantity, expected_unit_price: None }
}

fn item(key: &str, merchant: &str, code: &str, lines: Vec<QuoteLine>) -> QuoteItem {
    QuoteItem { key: key.into(), merchant_id: merchant.into(), currency_code: code.into(), lines }
}

async fn quote(house: &House, items: Vec<QuoteItem>) -> Vec<QuoteReply> {
    house.catalog.clone().quote(QuoteRequest { items }).await.unwrap().into_inner().replies
}

/// Subtotal, tax, total; or field and reason of what is wrong.
fn outcome(reply: &QuoteReply) -> Result<(i64, i64, i64), Vec<(String, String)>> {
    match reply.outcome.as_ref().unwrap() {
        Outcome::Quoted(quoted) => Ok((quoted.subtotal_minor, quoted.tax_minor, quoted.total_minor)),
        Outcome::Invalid(invalid) => {
            Err(invalid.violations.iter().map(|v| (v.field.clone(), v.reason.clone())).collect())
        }
    }
}

#[tokio::test]
async fn one_bad_cart_never_fails_the_others() {
    let house = House::new().await;
    house.set_price("A", 1000, "EUR").await;
    house.set_price("A", 1100, "USD").await;
    house.set_price("B", 5, "EUR").await;
    let expecting = QuoteLine {
        expected_unit_price: Some(Money { minor_units: 999, currency_code: "EUR".into() }),
        ..line("A", 1)
    };
    let replies = quote(
        &house,
        vec![
            item("1", "m_1", "EUR", vec![line("A", 2), line("B", 1), line("A", 1)]),
            item("2", "", "USD", vec![line("A", 1)]),
            item("3", "m\0", "EUR", vec![line("A", 1), line("Z\0", 0)]),
            item("4", "m_1", "USD", vec![line("B", 1)]),
            item("5", "m_1", "EUR", vec![expecting]),
            item("1", "m_1", "XXX", vec![]),
        ],
    )
    .await;
    let keys: Vec<_> = replies.iter().map(|reply| reply.key.as_str()).collect();
    assert_eq!(keys, ["1", "2", "3", "4", "5", "1"]);
    let wrong = |list: &[(&str, &str)]| {
        Err(list.iter().map(|(field, reason)| ((*field).to_owned(), (*reason).to_owned())).collect())
    };
    let expected = [
        Ok((3005, 601, 3606)),
        Ok((1100, 220, 1320)),
        wrong(&[
            ("merchant_id", "BAD_ID"),
            ("lines[1].quantity", "NOT_POSITIVE"),
            ("lines[1].sku", "UNKNOWN_SKU"),
        ]),
        wrong(&[("lines[0].sku", "UNKNOWN_SKU")]),
        wrong(&[("lines[0].expected_unit_price", "PRICE_CHANGED")]),
        wrong(&[("lines", "EMPTY"), ("currency_code", "UNKNOWN_CURRENCY")]),
    ];
    assert_eq!(replies.iter().map(outcome).collect::<Vec<_>>(), expected);
}

#[tokio::test]
async fn what_is_quoted_can_be_opened_and_the_merchants_own_tax_counts() {
    let house = House::new().await;
    house.set_price("A", 333, "JPY").await;
    let mut owner = house.database.connect().await;
    sqlx::query("insert into orders.tax_rate (merchant_id, currency, rate) values ('m_1', 'JPY', 0.1), ('m_1', '', 0.5)")
        .execute(&mut owner)
        .await
        .unwrap();
    let replies = quote(&house, vec![item("", "m_1", "JPY", vec![line("A", 5)])]).await;
    // A tenth of 1665 is 166.5, to even 166.
    assert_eq!(outcome(&replies[0]), Ok((1665, 166, 1831)));
    let Some(Outcome::Quoted(quoted)) = replies[0].outcome.clone() else { panic!("{replies:?}") };
    let saga = new_saga();
    let opened = proto::order::v1::OpenItem {
        currency_code: quoted.currency_code,
        lines: quoted.lines,
        subtotal_minor: quoted.subtotal_minor,
        tax_minor: quoted.tax_minor,
        total_minor: quoted.total_minor,
        ..open_item(saga)
    };
    house.open(vec![opened]).await;
    // A new price changes nothing that was agreed.
    house.set_price("A", 1, "JPY").await;
    assert_eq!(house.document(saga).await.unwrap().total_minor, 1831);
}

#[tokio::test]
async fn a_slice_of_carts_has_a_size() {
    let house = House::new().await;
    let one = item("", "", "EUR", vec![line("A", 1)]);
    for (count, fine) in [(0, false), (1, true), (512, true), (513, false)] {
        let request = QuoteRequest { items: vec![one.clone(); count] };
        let answer = house.catalog.clone().quote(request).await;
        assert_eq!(answer.is_ok(), fine, "{count}");
    }
}

#[tokio::test]
async fn prices_are_replaced_and_shown_page_by_page() {
    let house = House::new().await;
    for (sku, code) in [("b", "EUR"), ("A", "USD"), ("A", "EUR"), ("a", "JPY")] {
        house.set_price(sku, 1, code).await;
        house.set_price(sku, 70, code).await;
    }
    let mut catalog = house.catalog.clone();
    for (currency_code, expected) in
        [("", vec!["A EUR 70", "A USD 70", "a JPY 70", "b EUR 70"]), ("EUR", vec!["A EUR 70", "b EUR 70"])]
    {
        let (mut shown, mut page_token) = (Vec::new(), String::new());
        loop {
            let request = ListPricesRequest { page_size: 1, page_token, currency_code: currency_code.into() };
            let page = catalog.list_prices(request).await.unwrap().into_inner();
            shown.extend(page.prices.into_iter().map(|price| {
                let unit = price.unit_price.unwrap();
                format!("{} {} {}", price.sku, unit.currency_code, unit.minor_units)
            }));
            page_token = page.next_page_token;
            if page_token.is_empty() {
                break;
            }
        }
        assert_eq!(shown, expected);
    }
}

#[tokio::test]
async fn nonsense_is_named_field_by_field() {
    let house = House::new().await;
    let mut catalog = house.catalog.clone();
    let price = |sku: &str, title: &str, minor_units, code: &str| SetPriceRequest {
        sku: sku.into(),
        title: title.into(),
        unit_price: Some(Money { minor_units, currency_code: code.into() }),
    };
    let (sku, title) = ("sku", "title");
    let (minor, code) = ("unit_price.minor_units", "unit_price.currency_code");
    for (request, fields) in [
        (price("A\0", "t", 1, "EUR"), vec![sku]),
        (price("A", "", 1, "EUR"), vec![title]),
        (price("A", "a\0b", 1, "EUR"), vec![title]),
        (price("A", &"ä".repeat(201), 1, "EUR"), vec![title]),
        (price("A", "t", 0, "EUR"), vec![minor]),
        (price("A", "t", 1_000_000_000_001, "EUR"), vec![minor]),
        (price("A", "t", 1, "EU"), vec![code]),
        (SetPriceRequest::default(), vec![sku, title, minor, code]),
    ] {
        let status = catalog.set_price(request).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument);
        let details = status.get_details_bad_request().unwrap();
        let found: Vec<_> = details.field_violations.iter().map(|v| v.field.as_str()).collect();
        assert_eq!(found, fields);
    }
    for (order_id, expected) in [
        ("", Code::InvalidArgument),
        ("pay_01h2xcejqtf2nbrexx3vqjhp41", Code::InvalidArgument),
        ("ord_01h2xcejqtf2nbrexx3vqjhp41", Code::NotFound),
    ] {
        let status =
            catalog.get_document(GetDocumentRequest { order_id: order_id.into() }).await.unwrap_err();
        assert_eq!(status.code(), expected, "{order_id}");
    }
    for (page_size, token, code) in [(-1, "", ""), (1, "nonsense", ""), (1, "", "eur")] {
        let request = ListPricesRequest { page_size, page_token: token.into(), currency_code: code.into() };
        assert_eq!(catalog.list_prices(request).await.unwrap_err().code(), Code::InvalidArgument);
    }
}
