//! Which event is worth a letter and what stands in it. When one is tried again is in [`policy`].
//!
//! Pure: text in, text out. It never says more than an event proves: a cancelled order may or may not have been charged.

mod policy;

use std::fmt::Write as _;

use types::{Money, OrderId, PartyId};

pub(crate) use policy::{Next, Policy};

/// What became of an order.
#[derive(Debug, Clone)]
pub(crate) struct Change {
    pub(crate) order: OrderId,
    pub(crate) status: Status,
    /// `UPPER_SNAKE`, or empty.
    pub(crate) reason: String,
    pub(crate) customer: PartyId,
    pub(crate) lines: Vec<Line>,
    pub(crate) total: Money,
    /// Newer changes of an order have higher ones.
    pub(crate) version: i64,
}

/// One line of an order.
#[derive(Debug, Clone)]
pub(crate) struct Line {
    pub(crate) sku: String,
    pub(crate) quantity: i64,
    /// Of one.
    pub(crate) unit_price: Money,
}

/// Where the order stands, as far as its customer is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Status {
    Completed,
    Cancelled,
    UnderReview,
    AwaitingPayment,
    /// On its way: nobody is told of every step.
    Underway,
}

/// The letters there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Template {
    Completed,
    Cancelled,
    UnderReview,
    AwaitingPayment,
}

impl Template {
    pub(crate) const ALL: [Self; 4] =
        [Self::Completed, Self::Cancelled, Self::UnderReview, Self::AwaitingPayment];

    /// As it is stored and shown, and the event that it follows from.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Completed => "order.completed",
            Self::Cancelled => "order.cancelled",
            Self::UnderReview => "order.under_review",
            Self::AwaitingPayment => "order.awaiting_payment",
        }
    }

    /// Whether it says something that a newer event makes untrue.
    pub(crate) const fn is_passing(self) -> bool {
        matches!(self, Self::UnderReview | Self::AwaitingPayment)
    }
}

/// A letter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Letter {
    pub(crate) template: Template,
    pub(crate) subject: String,
    pub(crate) body: String,
}

/// The letter about a change; none when there is nothing to say.
pub(crate) fn letter(change: &Change) -> Option<Letter> {
    let order = change.order;
    let (template, subject, body) = match change.status {
        Status::Completed => {
            (Template::Completed, format!("Your receipt for order {order}"), receipt(change))
        }
        Status::Cancelled => {
            (Template::Cancelled, format!("Your order {order} was cancelled"), apology(change))
        }
        Status::UnderReview => (
            Template::UnderReview,
            format!("We are looking at your order {order}"),
            format!(
                "A person looks at your order {order} before it goes on. Nothing is charged until then, and you need \
                 not do anything.\n"
            ),
        ),
        Status::AwaitingPayment => (
            Template::AwaitingPayment,
            format!("Your order {order} waits for your payment"),
            format!(
                "Your order {order} over {} goes on as soon as your payment is confirmed.\n",
                change.total
            ),
        ),
        Status::Underway => return None,
    };
    Some(Letter { template, subject, body: format!("Hello,\n\n{body}\nAmends\n") })
}

fn receipt(change: &Change) -> String {
    let mut text = format!("Thank you. Your order {} is complete:\n\n", change.order);
    for line in &change.lines {
        let _ = writeln!(text, "  {} x {} at {}", line.quantity, line.sku, line.unit_price);
    }
    let _ = writeln!(text, "\n  Total, with tax: {}", change.total);
    text
}

fn apology(change: &Change) -> String {
    let mut text = format!(
        "We are sorry: your order {} could not be completed{}.\n\nWhat was set aside for you is free again:\n\n",
        change.order,
        because(&change.reason)
    );
    for line in &change.lines {
        let _ = writeln!(text, "  {} x {}", line.quantity, line.sku);
    }
    let _ = writeln!(
        text,
        "\nIf any of the {} was charged, all of it has been given back; your bank may take some days to show it.",
        change.total
    );
    text
}

/// The reason in words. One that is not known yet is left out rather than shown in code; a denial says no more than
/// that there was one.
fn because(reason: &str) -> &'static str {
    match reason {
        "OUT_OF_STOCK" => ", because not enough is in stock",
        "UNKNOWN_SKU" => ", because something in it is no longer sold",
        "CARD_DECLINED" => ", because your card was declined",
        "INSUFFICIENT_FUNDS" => ", because there was not enough money on your card",
        "INVALID_TOKEN" => ", because the card's details could not be used",
        "CANCEL_REQUESTED" => ", as you asked",
        "DEADLINE_EXCEEDED" | "REVIEW_EXPIRED" => ", because it took too long",
        "RISK_DENIED" | "REVIEW_DECLINED" => ", because we could not accept it",
        "ACCOUNT_CLOSED" => ", because the shop cannot be paid at the moment",
        "STEP_FAILED" => ", because something went wrong on our side",
        "FORCED" => ", because our staff took it back",
        _ => "",
    }
}

/// Where a customer is written to. Not every id is a valid local part: dots that may not stand where they do are
/// escaped, with a character that no id has.
pub(crate) fn recipient(customer: &PartyId, domain: &str) -> String {
    let id = customer.as_str();
    let misplaced = id.starts_with('.') || id.ends_with('.') || id.contains("..");
    let local = if misplaced { id.replace('.', "%2e") } else { id.to_owned() };
    format!("{local}@{domain}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(status: Status, reason: &str) -> Change {
        let eur = "EUR".parse().unwrap();
        let order: OrderId = "ord_01h2xcejqtf2nbrexx3vqjhp41".parse().unwrap();
        let line = Line { sku: "P1001".into(), quantity: 2, unit_price: Money::new(1250, eur) };
        Change {
            order,
            status,
            reason: reason.into(),
            customer: "c_1".parse().unwrap(),
            lines: vec![line],
            total: Money::new(2975, eur),
            version: 7,
        }
    }

    #[test]
    fn nobody_is_told_of_an_order_on_its_way() {
        assert!(letter(&change(Status::Underway, "")).is_none());
    }

    #[test]
    fn a_receipt_has_every_line_and_the_total() {
        let letter = letter(&change(Status::Completed, "")).unwrap();
        assert_eq!(letter.template, Template::Completed);
        assert_eq!(letter.subject, "Your receipt for order ord_01h2xcejqtf2nbrexx3vqjhp41");
        assert!(letter.body.contains("2 x P1001 at 12.50 EUR"), "{}", letter.body);
        assert!(letter.body.contains("Total, with tax: 29.75 EUR"), "{}", letter.body);
    }

    #[test]
    fn an_apology_says_why_and_what_was_given_back() {
        for (reason, why) in [
            ("OUT_OF_STOCK", "not enough is in stock"),
            ("UNKNOWN_SKU", "something in it is no longer sold"),
            ("CARD_DECLINED", "your card was declined"),
            ("INSUFFICIENT_FUNDS", "there was not enough money on your card"),
            ("INVALID_TOKEN", "the card's details could not be used"),
            ("DEADLINE_EXCEEDED", "it took too long"),
            ("REVIEW_EXPIRED", "it took too long"),
            ("RISK_DENIED", "we could not accept it"),
            ("REVIEW_DECLINED", "we could not accept it"),
            ("ACCOUNT_CLOSED", "the shop cannot be paid at the moment"),
            ("STEP_FAILED", "something went wrong on our side"),
            ("FORCED", "our staff took it back"),
        ] {
            let body = letter(&change(Status::Cancelled, reason)).unwrap().body;
            assert!(body.contains(&format!("could not be completed, because {why}.\n")), "{reason}: {body}");
            assert!(body.contains("free again:\n\n  2 x P1001\n"), "{body}");
            assert!(body.contains("29.75 EUR was charged, all of it has been given back"), "{body}");
        }
        let body = |reason| letter(&change(Status::Cancelled, reason)).unwrap().body;
        assert!(body("CANCEL_REQUESTED").contains("could not be completed, as you asked.\n"));
        for code in ["SOMETHING_NEW", "", "a\r\nBcc: b@c.example"] {
            assert!(body(code).contains("could not be completed.\n"), "no code is shown");
        }
    }

    #[test]
    fn amounts_have_the_decimals_of_their_currency() {
        for (code, shown) in [("EUR", "12.34 EUR"), ("JPY", "1234 JPY"), ("KWD", "1.234 KWD")] {
            let amount = Money::new(1234, code.parse().unwrap());
            let mut change = change(Status::Completed, "");
            change.lines[0].unit_price = amount;
            change.total = amount;
            let body = letter(&change).unwrap().body;
            for part in [format!("2 x P1001 at {shown}\n"), format!("Total, with tax: {shown}\n")] {
                assert!(body.contains(&part), "{part} is not in {body}");
            }
        }
    }

    #[test]
    fn only_what_passes_is_made_untrue_by_news() {
        let about = |status| letter(&change(status, "")).map(|letter| letter.template);
        for (status, template, passing) in [
            (Status::Completed, Template::Completed, false),
            (Status::Cancelled, Template::Cancelled, false),
            (Status::UnderReview, Template::UnderReview, true),
            (Status::AwaitingPayment, Template::AwaitingPayment, true),
        ] {
            assert_eq!(about(status), Some(template));
            assert_eq!(template.is_passing(), passing);
        }
        assert_eq!(about(Status::Underway), None);
    }

    #[test]
    fn every_customer_has_an_address_of_their_own() {
        for (customer, address) in [
            ("c_1", "c_1@x.example"),
            ("a.b-c", "a.b-c@x.example"),
            (".a", "%2ea@x.example"),
            ("a..b", "a%2e%2eb@x.example"),
            ("a.", "a%2e@x.example"),
        ] {
            let found = recipient(&customer.parse().unwrap(), "x.example");
            assert_eq!(found, address);
            assert!(found.parse::<lettre::Address>().is_ok(), "{found}");
        }
    }
}
