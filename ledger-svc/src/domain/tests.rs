//! Tables and properties of the rules. Read next: `tests/it`, where the database takes part.

use proptest::prelude::*;
use types::SagaId;

use super::*;

fn money(minor: i64, code: &str) -> Money {
    Money::new(minor, code.parse().unwrap())
}

fn payment() -> PaymentId {
    let saga: SagaId = "saga_01h2xcejqtf2nbrexx3vqjhp41".parse().unwrap();
    PaymentId::from_uuid(saga.derive(&"charge".parse().unwrap()))
}

fn sale(total: i64, tax: i64) -> Sale {
    Sale::new("m_1".parse().unwrap(), money(total, "EUR"), tax, None, payment()).unwrap()
}

fn shown(entries: &[Entry]) -> Vec<(&str, i64)> {
    entries.iter().map(|entry| (entry.account.as_str(), entry.amount)).collect()
}

#[test]
fn a_sale_debits_clearing_and_credits_merchant_and_tax() {
    assert_eq!(
        shown(&sale(11_900, 1_900).entries()),
        [("provider_clearing:EUR", 11_900), ("merchant:m_1:EUR", -10_000), ("tax_payable:EUR", -1_900)]
    );
}

#[test]
fn nothing_is_booked_as_zero() {
    assert_eq!(shown(&sale(500, 0).entries()), [("provider_clearing:EUR", 500), ("merchant:m_1:EUR", -500)]);
    assert_eq!(shown(&sale(500, 500).entries()), [("provider_clearing:EUR", 500), ("tax_payable:EUR", -500)]);
    assert_eq!(sale(0, 0).entries(), []);
}

#[test]
fn amounts_that_cannot_be_are_refused_at_the_door() {
    for (total, tax) in [(-1, 0), (100, -1), (100, 101), (0, 1), (i64::MIN, 0)] {
        assert!(
            Sale::new("m".parse().unwrap(), money(total, "EUR"), tax, None, payment()).is_err(),
            "{total} {tax}"
        );
    }
    for amount in [0, -1, i64::MIN] {
        assert!(Refunded::new(money(amount, "EUR"), payment()).is_err(), "{amount}");
    }
}

#[test]
fn a_closed_account_takes_no_sale() {
    let sale = sale(500, 0);
    assert_eq!(admit(&sale, |_| false), Ok(()));
    assert_eq!(admit(&sale, |id| *id == sale.account()), Err(Refusal::AccountClosed(sale.account())));
}

#[test]
fn a_charge_without_a_sale_goes_through_suspense_and_leaves_nothing() {
    let entries = Refunded::new(money(700, "JPY"), payment()).unwrap().entries();
    assert_eq!(
        shown(&entries),
        [
            ("provider_clearing:JPY", 700),
            ("suspense:JPY", -700),
            ("suspense:JPY", 700),
            ("provider_clearing:JPY", -700)
        ]
    );
    for rise in rises(&entries).unwrap().into_values() {
        assert_eq!(rise, Rise { debits: 700, credits: 700 });
    }
}

#[test]
fn account_ids_are_checked_and_read_back() {
    for good in ["merchant:m_1:EUR", "merchant:a.b-c:JPY", "provider_clearing:USD", "suspense:KWD"] {
        let id: AccountId = good.parse().unwrap();
        assert_eq!(id.as_str(), good);
        assert_eq!(id.is_merchants(), good.starts_with("merchant:"));
        assert_eq!(id.currency_code(), &good[good.len() - 3..]);
    }
    for bad in [
        "",
        "merchant",
        "merchant:EUR",
        "merchant::EUR",
        "merchant:m_1:eur",
        "merchant:m_1:EUR:x",
        "merchant:m\0:EUR",
        "cash:EUR",
        "suspense:XXX",
        "suspense:",
    ] {
        assert!(bad.parse::<AccountId>().is_err(), "{bad:?}");
    }
}

#[test]
fn every_business_field_is_in_the_hash() {
    let base = sale(500, 20);
    let order: OrderId = "ord_01h2xcejqtf2nbrexx3vqjhp41".parse().unwrap();
    let build = |merchant: &str, total: Money, tax, order, payment| {
        Sale::new(merchant.parse().unwrap(), total, tax, order, payment).unwrap()
    };
    let other_payment = PaymentId::from_uuid(order.saga().derive(&"other".parse().unwrap()));
    for other in [
        build("m_2", money(500, "EUR"), 20, None, payment()),
        build("m_1", money(501, "EUR"), 20, None, payment()),
        build("m_1", money(500, "USD"), 20, None, payment()),
        build("m_1", money(500, "EUR"), 21, None, payment()),
        build("m_1", money(500, "EUR"), 20, Some(order), payment()),
        build("m_1", money(500, "EUR"), 20, None, other_payment),
    ] {
        assert_ne!(other.hash(), base.hash(), "{other:?}");
    }
    assert_eq!(base.hash(), sale(500, 20).hash());
}

#[test]
fn sums_that_do_not_fit_are_noticed() {
    let big = sale(i64::MAX, 0).entries();
    assert!(rises(&big).is_ok());
    assert_eq!(rises(big.iter().chain(&sale(1, 0).entries())), Err(Overflow));
    let odd = vec![Entry { account: sale(1, 0).account(), amount: i64::MIN }];
    assert_eq!(rises(&odd), Err(Overflow));
    assert_eq!(mirror(odd), Err(Overflow));
}

proptest! {
    #[test]
    fn whatever_is_booked_sums_to_zero_and_its_mirror_ends_where_it_began(
        sales in prop::collection::vec((0..1_000_000_i64, 0.0..=1.0_f64), 1..20)
    ) {
        let mut entries = Vec::new();
        for (total, share) in sales {
            #[expect(clippy::cast_possible_truncation, clippy::cast_precision_loss, reason = "any tax up to total will do")]
            let tax = (total as f64 * share) as i64;
            entries.extend(sale(total, tax).entries());
        }
        prop_assert_eq!(entries.iter().map(|e| e.amount).sum::<i64>(), 0);
        let back = mirror(entries.clone()).unwrap();
        for (account, rise) in rises(entries.iter().chain(&back)).unwrap() {
            prop_assert_eq!(rise.debits, rise.credits, "{}", account);
        }
    }
}
