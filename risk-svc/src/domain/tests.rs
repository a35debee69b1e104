//! Tables of the rules. Read next: `tests/it`, where the database takes part.

use super::*;

fn money(minor: i64, code: &str) -> Money {
    Money::new(minor, code.parse().unwrap())
}

fn subject(amount: Money) -> Subject {
    Subject { order: None, customer: "c_1".parse().unwrap(), merchant: "m_1".parse().unwrap(), amount }
}

fn amount(code: &str, threshold: i64, enabled: bool) -> Rule {
    let currency = if code.is_empty() { None } else { Some(code.parse().unwrap()) };
    Rule { kind: Kind::Amount, currency, threshold, window_seconds: 0, enabled }
}

fn velocity(threshold: i64, enabled: bool) -> Rule {
    Rule { kind: Kind::Velocity, currency: None, threshold, window_seconds: 60, enabled }
}

#[test]
fn the_general_rule_is_scaled_to_the_decimals_of_each_currency() {
    let rules: Rules = [amount("", 1_000_000, true)].into_iter().collect();
    for (code, last_approved) in [("EUR", 999_999), ("JPY", 9_999), ("KWD", 9_999_999)] {
        let judged = |minor| judge(&rules, &subject(money(minor, code)), false, 0);
        assert_eq!(judged(last_approved), Judgement::Approve, "{code}");
        assert_eq!(judged(last_approved + 1), Judgement::Review(Kind::Amount), "{code}");
        assert_eq!(judged(i64::MAX), Judgement::Review(Kind::Amount), "{code}");
        assert_eq!(judged(0), Judgement::Approve, "{code}");
    }
    let odd: Rules = [amount("", 150, true)].into_iter().collect();
    assert_eq!(judge(&odd, &subject(money(1, "JPY")), false, 0), Judgement::Approve);
    assert_eq!(judge(&odd, &subject(money(2, "JPY")), false, 0), Judgement::Review(Kind::Amount));
    let huge: Rules = [amount("", i64::MAX, true)].into_iter().collect();
    assert_eq!(judge(&huge, &subject(money(i64::MAX, "KWD")), false, 0), Judgement::Approve);
}

#[test]
fn a_currency_with_a_rule_of_its_own_heeds_that_alone() {
    let rules: Rules =
        [amount("", 100, true), amount("JPY", 5_000, true), amount("KWD", 0, false)].into_iter().collect();
    for (minor, code, expected) in [
        (99, "EUR", Judgement::Approve),
        (100, "EUR", Judgement::Review(Kind::Amount)),
        (4_999, "JPY", Judgement::Approve),
        (5_000, "JPY", Judgement::Review(Kind::Amount)),
        (i64::MAX, "KWD", Judgement::Approve),
    ] {
        assert_eq!(judge(&rules, &subject(money(minor, code)), false, 0), expected, "{minor} {code}");
    }
}

#[test]
fn denial_comes_before_amount_and_amount_before_velocity() {
    let rules: Rules = [amount("", 100, true), velocity(3, true)].into_iter().collect();
    let (small, large) = (subject(money(1, "EUR")), subject(money(100, "EUR")));
    for (subject, is_denied, earlier, expected) in [
        (&small, false, 0, Judgement::Approve),
        (&small, false, 2, Judgement::Approve),
        (&small, false, 3, Judgement::Review(Kind::Velocity)),
        (&large, false, 3, Judgement::Review(Kind::Amount)),
        (&large, true, 3, Judgement::Deny),
        (&small, true, 0, Judgement::Deny),
    ] {
        assert_eq!(judge(&rules, subject, is_denied, earlier), expected, "{subject:?} {is_denied} {earlier}");
    }
}

#[test]
fn rules_that_are_switched_off_ask_for_nothing() {
    let rules: Rules = [amount("", 0, false), velocity(0, false)].into_iter().collect();
    assert_eq!(rules.window_seconds(), None);
    assert_eq!(judge(&rules, &subject(money(i64::MAX, "EUR")), false, i64::MAX), Judgement::Approve);
    assert_eq!(judge(&Rules::default(), &subject(money(1, "EUR")), false, 9), Judgement::Approve);
    let on: Rules = [velocity(0, true)].into_iter().collect();
    assert_eq!(on.window_seconds(), Some(60));
}

#[test]
fn a_rule_names_every_field_that_does_not_fit() {
    let fields =
        |rule: Rule| rule.check().map_err(|bad| bad.iter().map(|(field, _)| *field).collect::<Vec<_>>());
    assert_eq!(fields(amount("EUR", 0, true)), Ok(()));
    assert_eq!(fields(velocity(1, true)), Ok(()));
    assert_eq!(
        fields(Rule { window_seconds: 60, ..amount("", -1, true) }),
        Err(vec!["threshold", "window_seconds"])
    );
    for window_seconds in [-1, 0, Rule::MAX_WINDOW_SECONDS + 1] {
        assert_eq!(fields(Rule { window_seconds, ..velocity(1, true) }), Err(vec!["window_seconds"]));
    }
    let currency = Some("EUR".parse().unwrap());
    assert_eq!(fields(Rule { currency, ..velocity(1, true) }), Err(vec!["currency_code"]));
}

#[test]
fn the_first_decision_counts_and_the_deadline_is_one() {
    let at = |seconds| DateTime::from_timestamp(seconds, 0).unwrap();
    let (yes, no) = (Knock::Decision { approve: true }, Knock::Decision { approve: false });
    for (state, knock, now, expected) in [
        (ReviewState::Open, yes, 9, Some(ReviewState::Approved)),
        (ReviewState::Open, no, 9, Some(ReviewState::Declined)),
        (ReviewState::Open, Knock::Clock, 9, None),
        (ReviewState::Open, Knock::Clock, 10, Some(ReviewState::Expired)),
        (ReviewState::Open, yes, 10, Some(ReviewState::Expired)),
        (ReviewState::Approved, no, 9, None),
        (ReviewState::Declined, yes, 9, None),
        (ReviewState::Expired, yes, 11, None),
        (ReviewState::Approved, Knock::Clock, 11, None),
        (ReviewState::Open, Knock::Withdrawal, 9, Some(ReviewState::Withdrawn)),
        (ReviewState::Open, Knock::Withdrawal, 11, Some(ReviewState::Withdrawn)),
        (ReviewState::Declined, Knock::Withdrawal, 9, None),
        (ReviewState::Withdrawn, yes, 9, None),
        (ReviewState::Withdrawn, Knock::Clock, 11, None),
    ] {
        assert_eq!(end(state, at(10), knock, at(now)), expected, "{state:?} {knock:?} {now}");
    }
}

#[test]
fn names_are_written_and_read_alike() {
    for state in [
        ReviewState::Open,
        ReviewState::Approved,
        ReviewState::Declined,
        ReviewState::Expired,
        ReviewState::Withdrawn,
    ] {
        assert_eq!(ReviewState::parse(state.as_str()), Some(state));
    }
    for kind in [Kind::Amount, Kind::Velocity] {
        assert_eq!(Kind::parse(kind.as_str()), Some(kind));
    }
    assert_eq!((ReviewState::parse("withdrawn"), Kind::parse("")), (None, None));
}

#[test]
fn every_business_field_is_in_the_hash() {
    let base = subject(money(5, "EUR"));
    let order: OrderId = "ord_01h2xcejqtf2nbrexx3vqjhp41".parse().unwrap();
    for other in [
        subject(money(6, "EUR")),
        subject(money(5, "USD")),
        Subject { order: Some(order), ..base.clone() },
        Subject { customer: "c_2".parse().unwrap(), ..base.clone() },
        Subject { merchant: "m_2".parse().unwrap(), ..base.clone() },
    ] {
        assert_ne!(other.hash(), base.hash(), "{other:?}");
    }
}
