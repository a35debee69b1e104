//! I2: what the provider has of a payment, what payment-svc says of it, what the books say, and what the end says.

use std::collections::BTreeMap;

use types::{PaymentId, SagaId, StepName};

use super::Case;
use crate::audit::{
    book::Line,
    report::Invariant::{I2, I3},
    rows::{Attempt, End, Posting},
};

/// What providers hold for us, by currency.
const CLEARING: &str = "provider_clearing:";

pub(super) fn judge(case: &mut Case<'_>) {
    let bundle = case.bundle;
    case.tally.checked(I2, bundle.attempts.len() as u64);
    for attempt in &bundle.attempts {
        own_payment(case, attempt);
        record(case, attempt);
    }
    if bundle.saga.is_none() {
        let net = provider(case);
        if !net.is_empty() {
            case.suspect(I2, &format!("the provider holds {} of a saga that is not there", show(&net)));
        }
        let net = clearing(&bundle.postings);
        if !net.is_empty() {
            case.suspect(I2, &format!("the books hold {} of a saga that is not there", show(&net)));
        }
    }
    if let Some(end) = case.settled {
        settled(case, end);
    }
}

/// That the payment follows from the step is why once per payment is once per step.
fn own_payment(case: &mut Case<'_>, attempt: &Attempt) {
    let step: Result<StepName, _> = attempt.step.parse();
    let derived = step.map(|step| SagaId::from_uuid(case.bundle.id).derive(&step));
    if derived != Ok(attempt.payment) {
        let payment = PaymentId::from_uuid(attempt.payment);
        case.certain(I3, &format!("{} has {payment}, which does not follow from it", attempt.step));
    }
}

/// payment-svc's record against the provider's book. States in which something is under way say nothing yet.
fn record(case: &mut Case<'_>, attempt: &Attempt) {
    let line = case.bench.book.line(attempt.payment);
    let amount = attempt.amount.map_or(0, i128::from);
    let expected = match attempt.state.as_str() {
        "SUCCEEDED" => Some((amount, 0)),
        "REFUNDED" => Some((amount, amount)),
        // Nothing was taken, or what was taken by mistake has come back.
        "DECLINED" | "BLOCKED" => Some((line.charged, line.charged)),
        // Only `begin_refund` leads here: there is something to give back.
        "REFUNDING" => Some((amount, line.refunded)),
        _ => None,
    };
    let has_other_currency = line.charges + line.refunds > 0
        && attempt.currency.as_deref().is_some_and(|currency| currency != line.currency());
    if expected.is_some_and(|expected| expected != (line.charged, line.refunded)) || has_other_currency {
        let text = format!(
            "payment-svc says {} {} {amount} {}, the provider {}",
            attempt.step,
            attempt.state,
            attempt.currency.as_deref().unwrap_or_default(),
            account(&line)
        );
        case.suspect(I2, &text);
    }
}

fn account(line: &Line) -> String {
    format!("{} charged, {} refunded, {}", line.charged, line.refunded, line.currency())
}

type Sums = BTreeMap<String, i128>;

/// Charged minus refunded by currency, without zeros.
fn provider(case: &Case<'_>) -> Sums {
    let lines = case.bundle.attempts.iter().map(|attempt| case.bench.book.line(attempt.payment));
    sums(lines.map(|line| (line.currency().to_owned(), line.net())))
}

/// What the books say that the provider holds, by currency, without zeros.
fn clearing(postings: &[Posting]) -> Sums {
    let entries = postings.iter().flat_map(|posting| &posting.entries);
    sums(entries.filter_map(|(account, amount)| {
        account.strip_prefix(CLEARING).map(|currency| (currency.to_owned(), i128::from(*amount)))
    }))
}

fn sums(amounts: impl Iterator<Item = (String, i128)>) -> Sums {
    let mut sums = Sums::new();
    for (currency, amount) in amounts {
        *sums.entry(currency).or_default() += amount;
    }
    sums.retain(|_, amount| *amount != 0);
    sums
}

fn show(sums: &Sums) -> String {
    if sums.is_empty() {
        return "nothing".to_owned();
    }
    sums.iter().map(|(currency, amount)| format!("{amount} {currency}")).collect::<Vec<_>>().join(" and ")
}

/// Provider, books and end.
fn settled(case: &mut Case<'_>, end: End) {
    let bundle = case.bundle;
    let net = provider(case);
    if let Some(order) = &bundle.order {
        let wanted = match end {
            End::Completed => sums([(order.currency.clone(), i128::from(order.total))].into_iter()),
            End::Compensated => Sums::new(),
        };
        if net != wanted {
            let (net, wanted) = (show(&net), show(&wanted));
            case.suspect(I2, &format!("{}: the provider holds {net}, not {wanted}", order.status));
        }
    }
    let books = clearing(&bundle.postings);
    if books != net {
        let (books, net) = (show(&books), show(&net));
        case.suspect(I2, &format!("the books say that the provider holds {books}, it holds {net}"));
    }
    for attempt in &bundle.attempts {
        if matches!(attempt.state.as_str(), "STARTED" | "PENDING" | "IN_DOUBT") {
            let text = format!("has ended, and {} is {} at payment-svc", attempt.step, attempt.state);
            case.suspect(I2, &text);
        }
        shown(case, attempt);
    }
}

/// What was charged is in the books, even if it was given back: as a sale, or through suspense. That comes by an event,
/// so it gets the time of a message.
fn shown(case: &mut Case<'_>, attempt: &Attempt) {
    let line = case.bench.book.line(attempt.payment);
    let rule = case.bench.rule;
    if line.charged == 0 || !rule.is_past(attempt.update_time, rule.outbox_grace) {
        return;
    }
    let sale = |posting: &&Posting| posting.is("POST", "DONE");
    let suspense = |posting: &&Posting| posting.is("SUSPENSE", "DONE") && posting.step == attempt.step;
    let postings = || case.bundle.postings.iter();
    let shown = postings().find(sale).or_else(|| postings().find(suspense));
    let debited = shown.map(|posting| {
        let entries =
            posting.entries.iter().filter(|(account, amount)| account.starts_with(CLEARING) && *amount > 0);
        entries.map(|(_, amount)| i128::from(*amount)).sum::<i128>()
    });
    if debited != Some(line.charged) {
        let debited = debited.map_or("nothing".to_owned(), |amount| amount.to_string());
        let text = format!("{} was charged {}, the books show {debited} of it", attempt.step, line.charged);
        case.suspect(I2, &text);
    }
}
