//! Quotes as tables, and the laws of their sums.

use proptest::prelude::*;

use super::*;

fn eur() -> Currency {
    "EUR".parse().unwrap()
}

fn line(sku: &str, quantity: i64) -> CartLine {
    CartLine { sku: sku.into(), quantity, expected: None }
}

fn cart(lines: Vec<CartLine>) -> Cart {
    Cart { merchant_id: "m_1".into(), currency: "EUR".into(), lines }
}

fn prices(of: &[(&str, i64)]) -> Prices {
    of.iter().map(|(sku, minor)| ((sku.parse().unwrap(), eur()), *minor)).collect()
}

fn rates(of: &[(&str, &str, &str)]) -> Rates {
    of.iter()
        .map(|(merchant, code, rate)| (((*merchant).into(), (*code).into()), rate.parse().unwrap()))
        .collect()
}

fn fifth() -> Rates {
    rates(&[("", "", "0.20")])
}

#[test]
fn a_cart_costs_its_lines_and_tax() {
    let quoted = cart(vec![line("A", 2), line("B", 1), line("A", 3)])
        .quote(&prices(&[("A", 333), ("B", 1)]), &fifth())
        .unwrap();
    let amounts: Vec<_> = quoted.lines.iter().map(|l| (l.unit_price_minor, l.line_total_minor)).collect();
    assert_eq!(amounts, [(333, 666), (1, 1), (333, 999)]);
    // A fifth of 16.66 is 3.332.
    assert_eq!((quoted.subtotal_minor, quoted.tax_minor, quoted.total_minor), (1666, 333, 1999));
}

#[test]
fn tax_is_rounded_once_half_to_even() {
    for (price, rate, tax) in
        [(25, "0.1", 2), (35, "0.1", 4), (5, "0.1", 0), (15, "0.1", 2), (100, "0", 0), (100, "1", 100)]
    {
        let quoted =
            cart(vec![line("A", 1)]).quote(&prices(&[("A", price)]), &rates(&[("", "", rate)])).unwrap();
        assert_eq!(quoted.tax_minor, tax, "{price} at {rate}");
    }
}

#[test]
fn the_closest_rate_counts() {
    let all = [("m_1", "EUR", "0.01"), ("m_1", "", "0.02"), ("", "EUR", "0.03"), ("", "", "0.04")];
    for from in 0..=all.len() {
        let expected = all.get(from).map_or(0, |(_, _, rate)| rate[3..].parse::<i64>().unwrap());
        let others = [("m_2", "EUR", "0.5"), ("", "USD", "0.5")];
        let rates = rates(&[&all[from..], &others].concat());
        let quoted = cart(vec![line("A", 1)]).quote(&prices(&[("A", 100)]), &rates).unwrap();
        assert_eq!(quoted.tax_minor, expected, "{from}");
    }
}

#[test]
fn everything_wrong_is_named() {
    let prices = prices(&[("A", 100), ("B", 5)]);
    let expecting = |minor, code: &str| CartLine { expected: Some((minor, code.into())), ..line("A", 1) };
    let with = |change: fn(&mut Cart)| {
        let mut cart = cart(vec![line("A", 1)]);
        change(&mut cart);
        cart
    };
    for (cart, expected) in [
        (cart(vec![]), vec![("lines", "EMPTY")]),
        (cart(vec![line("A", 1); 101]), vec![("lines", "TOO_MANY")]),
        (with(|cart| cart.currency = "eur".into()), vec![("currency_code", "UNKNOWN_CURRENCY")]),
        (with(|cart| cart.currency = "XAU".into()), vec![("currency_code", "UNKNOWN_CURRENCY")]),
        (with(|cart| cart.currency = "USD".into()), vec![("lines[0].sku", "UNKNOWN_SKU")]),
        (with(|cart| cart.merchant_id = "a\0".into()), vec![("merchant_id", "BAD_ID")]),
        (
            cart(vec![line("A", 0), line("A", 1), line("Z", -1), line("A", 1_000_001), line("\0", 1)]),
            vec![
                ("lines[0].quantity", "NOT_POSITIVE"),
                ("lines[2].quantity", "NOT_POSITIVE"),
                ("lines[2].sku", "UNKNOWN_SKU"),
                ("lines[3].quantity", "TOO_LARGE"),
                ("lines[4].sku", "UNKNOWN_SKU"),
            ],
        ),
        (
            cart(vec![
                expecting(100, "EUR"),
                expecting(99, "EUR"),
                expecting(100, "USD"),
                expecting(100, ""),
            ]),
            vec![
                ("lines[1].expected_unit_price", "PRICE_CHANGED"),
                ("lines[2].expected_unit_price", "PRICE_CHANGED"),
                ("lines[3].expected_unit_price", "PRICE_CHANGED"),
            ],
        ),
    ] {
        let wrong = cart.quote(&prices, &fifth()).unwrap_err();
        let found: Vec<_> = wrong.iter().map(|v| (v.field.as_str(), v.reason)).collect();
        assert_eq!(found, expected);
        assert!(wrong.iter().all(|v| !v.description.is_empty()));
    }
    assert!(cart(vec![line("A", 1); 100]).quote(&prices, &fifth()).is_ok());
}

#[test]
fn sums_that_do_not_fit_are_said_so() {
    let one = prices(&[("A", i64::MAX)]);
    let reasons = |lines| {
        let wrong = cart(lines).quote(&one, &fifth()).unwrap_err();
        wrong.into_iter().map(|v| (v.field, v.reason)).collect::<Vec<_>>()
    };
    assert_eq!(reasons(vec![line("A", 2)]), [("lines[0].quantity".to_owned(), "OVERFLOW")]);
    assert_eq!(reasons(vec![line("A", 1), line("A", 1)]), [("lines".to_owned(), "OVERFLOW")]);
    // The lines fit, their tax does not.
    assert_eq!(reasons(vec![line("A", 1)]), [("lines".to_owned(), "OVERFLOW")]);
}

proptest! {
    /// Whatever is asked: no panic; a quote adds up in wide arithmetic, and what adds up in wide arithmetic is quoted.
    #[test]
    fn a_quote_is_the_sum_of_its_lines_and_tax(
        asked in prop::collection::vec((0..3_usize, prop_oneof![1..=10_i64, Just(MAX_QUANTITY)]), 1..=20),
        costs in prop::array::uniform3(prop_oneof![1..=100_000_i64, Just(super::super::MAX_PRICE), Just(i64::MAX / 5)]),
        rate in 0..=100_000_u32,
    ) {
        let names = ["A", "B", "C"];
        let rate = Decimal::new(rate.into(), 5);
        let of: Vec<_> = names.iter().copied().zip(costs).collect();
        let lines = asked.iter().map(|(which, quantity)| line(names[*which], *quantity)).collect();
        let rates = HashMap::from([((String::new(), String::new()), rate)]);
        let exact: i128 =
            asked.iter().map(|(which, quantity)| i128::from(costs[*which]) * i128::from(*quantity)).sum();
        match cart(lines).quote(&prices(&of), &rates) {
            Ok(quoted) => {
                prop_assert_eq!(i128::from(quoted.subtotal_minor), exact);
                prop_assert_eq!(quoted.lines.iter().map(|l| i128::from(l.line_total_minor)).sum::<i128>(), exact);
                let tax = Decimal::from(quoted.subtotal_minor) * rate - Decimal::from(quoted.tax_minor);
                prop_assert!(tax.abs() <= Decimal::new(5, 1), "{tax}");
                prop_assert_eq!(quoted.total_minor, quoted.subtotal_minor + quoted.tax_minor);
            }
            Err(wrong) => {
                prop_assert!(wrong.iter().all(|v| v.reason == "OVERFLOW"));
                prop_assert!(exact * 2 > i128::from(i64::MAX), "{exact} and its tax would have fitted");
            }
        }
    }

    /// No text, number or length makes it panic.
    #[test]
    fn nonsense_is_only_named(
        merchant_id in ".{0,70}", currency in "[A-Z]{3}|.{0,4}", sku in ".{0,70}", quantity in any::<i64>(),
        expected in any::<i64>(), count in 0..200_usize,
    ) {
        let one = CartLine { sku, quantity, expected: Some((expected, currency.clone())) };
        let cart = Cart { merchant_id, currency, lines: vec![one; count] };
        let _ = cart.wanted();
        prop_assert!(cart.quote(&prices(&[("A", 1)]), &fifth()).is_err() || count > 0);
    }
}
