//! The provider's book: what really happened to the money; and I3, which it alone proves.
//!
//! Kept whole while an audit runs, because it is ordered by payment and everything else by saga. Must never believe
//! payment-svc: only the schema `simulator` is read for it.

use std::{collections::HashMap, ops::RangeInclusive};

use chassis::sql::{Checked, Statement};
use types::PaymentId;
use uuid::Uuid;

use super::{
    Error, Options, Progress,
    report::Invariant,
    sources::{Room, Snapshot, unreadable},
    tally::Tally,
};

/// Rows of the book read at once.
const PAGE: i64 = 20_000;

/// What the book says of one payment, in minor units.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub(super) struct Line {
    /// Charges that took effect.
    pub(super) charges: u32,
    /// What they took.
    pub(super) charged: i128,
    /// Refunds that took effect.
    pub(super) refunds: u32,
    /// What they gave back.
    pub(super) refunded: i128,
    /// Of all of it.
    currency: [u8; 3],
}

impl Line {
    /// What is left with us.
    pub(super) const fn net(&self) -> i128 {
        self.charged - self.refunded
    }

    /// ISO 4217.
    pub(super) fn currency(&self) -> &str {
        std::str::from_utf8(&self.currency).unwrap_or("???")
    }
}

/// The book, by payment.
#[derive(Debug, Default)]
pub(super) struct Book {
    lines: HashMap<Uuid, Line>,
}

impl Book {
    /// What is there of a payment; nothing, if it was never heard of.
    pub(super) fn line(&self, payment: Uuid) -> Line {
        self.lines.get(&payment).copied().unwrap_or_default()
    }
}

impl Line {
    fn charge(&mut self, amount: i64) {
        self.charges += 1;
        self.charged += i128::from(amount);
    }

    fn refund(&mut self, amount: i64) {
        self.refunds += 1;
        self.refunded += i128::from(amount);
    }
}

/// Key, amount, currency, whether it took effect.
type ChargeRow = (String, i64, String, bool);

static CHARGES: Statement<(String, i64), ChargeRow> = Statement::new(
    "select idempotency_key, amount_minor, currency::text, \
       state = 'CHARGED' or (state = 'PENDING' and effect_time <= now()) \
     from simulator.charge where idempotency_key > $1 order by idempotency_key limit $2",
);

/// Key, the charge's key, amount, currency, whether it took effect.
type RefundRow = (String, Option<String>, i64, String, bool);

static REFUNDS: Statement<(String, i64), RefundRow> = Statement::new(
    "select r.idempotency_key, c.idempotency_key, r.amount_minor, r.currency::text, r.state = 'REFUNDED' \
     from simulator.refund r left join simulator.charge c on c.reference = r.charge_reference \
     where r.idempotency_key > $1 order by r.idempotency_key limit $2",
);

/// As [`CHARGES`], by key.
static CHARGES_OF: Statement<(Vec<String>,), ChargeRow> = Statement::new(
    "select idempotency_key, amount_minor, currency::text, \
       state = 'CHARGED' or (state = 'PENDING' and effect_time <= now()) \
     from simulator.charge where idempotency_key = any ($1) order by idempotency_key",
);

/// As [`REFUNDS`], by the charge's key.
static REFUNDS_OF: Statement<(Vec<String>,), RefundRow> = Statement::new(
    "select r.idempotency_key, c.idempotency_key, r.amount_minor, r.currency::text, r.state = 'REFUNDED' \
     from simulator.charge c join simulator.refund r on r.charge_reference = c.reference \
     where c.idempotency_key = any ($1) order by r.idempotency_key",
);

static KNOWN: Statement<(Vec<Uuid>,), (Uuid,)> =
    Statement::new("select payment_id from payments.attempt where payment_id = any ($1)");

pub(super) fn statements() -> Vec<&'static dyn Checked> {
    vec![&CHARGES, &REFUNDS, &CHARGES_OF, &REFUNDS_OF, &KNOWN]
}

/// Reads the book and judges I3 by it.
pub(super) async fn read(
    snapshot: &mut Snapshot,
    tally: &mut Tally,
    options: &Options,
) -> Result<Book, Error> {
    let mut book = Book::default();
    let (mut last, mut done) = (String::new(), 0);
    loop {
        let connection = snapshot.at(Room::Simulator);
        let rows =
            CHARGES.all(connection, (last.clone(), PAGE)).await.map_err(unreadable(Room::Simulator))?;
        let Some((key, ..)) = rows.last() else { break };
        last.clone_from(key);
        done += rows.len() as u64;
        (options.progress)(&Progress { what: "the provider's book", done, of: 0 });
        for row in rows {
            add_charge(&mut book, tally, &row);
        }
    }
    last.clear();
    loop {
        let connection = snapshot.at(Room::Simulator);
        let rows =
            REFUNDS.all(connection, (last.clone(), PAGE)).await.map_err(unreadable(Room::Simulator))?;
        let Some((key, ..)) = rows.last() else { break };
        last.clone_from(key);
        for row in rows {
            add_refund(&mut book, tally, &row);
        }
    }
    once(&book, tally);
    Ok(book)
}

/// Payments looked up at once.
const SOME: usize = 1_000;
/// payment-svc charges under the first key only; a mistake would be near it.
const KEYS: RangeInclusive<u32> = 1..=4;

/// Reads the lines of some payments, and judges I3 by them.
pub(super) async fn read_some(
    snapshot: &mut Snapshot,
    tally: &mut Tally,
    payments: &[Uuid],
) -> Result<Book, Error> {
    let mut book = Book::default();
    for some in payments.chunks(SOME) {
        let keys = some.iter().flat_map(|id| {
            let id = PaymentId::from_uuid(*id);
            KEYS.map(move |number| format!("{id}:charge:{number}"))
        });
        let keys: Vec<_> = keys.collect();
        let connection = snapshot.at(Room::Simulator);
        let charges = CHARGES_OF.all(connection, (keys.clone(),)).await;
        let refunds = REFUNDS_OF.all(connection, (keys,)).await;
        for row in charges.map_err(unreadable(Room::Simulator))? {
            add_charge(&mut book, tally, &row);
        }
        for row in refunds.map_err(unreadable(Room::Simulator))? {
            add_refund(&mut book, tally, &row);
        }
    }
    once(&book, tally);
    Ok(book)
}

/// `pay_…:charge:1`
fn payment(key: &str) -> Option<Uuid> {
    key.split(':').next()?.parse::<PaymentId>().ok().map(PaymentId::uuid)
}

fn code(currency: &str) -> [u8; 3] {
    let mut code = [b'?'; 3];
    code.iter_mut().zip(currency.bytes()).for_each(|(to, from)| *to = from);
    code
}

fn add_charge(book: &mut Book, tally: &mut Tally, (key, amount, currency, is_effective): &ChargeRow) {
    let Some(payment) = payment(key) else {
        let text = format!("the provider has a charge under {key}, a key that payment-svc never makes");
        return tally.certain(Invariant::I2, text);
    };
    let line = book.lines.entry(payment).or_default();
    if *is_effective {
        if line.charges > 0 && line.currency != code(currency) {
            tally.certain(Invariant::I3, format!("{key} was charged in two currencies"));
        }
        line.charge(*amount);
    }
    line.currency = code(currency);
}

fn add_refund(book: &mut Book, tally: &mut Tally, row: &RefundRow) {
    let (key, charge, amount, currency, is_effective) = row;
    let of_charge = charge.as_deref().and_then(payment);
    if of_charge.is_none() || of_charge != payment(key) {
        tally.certain(Invariant::I3, format!("the refund {key} is not of a charge of its own payment"));
    }
    let Some(payment) = of_charge.or_else(|| payment(key)) else { return };
    let line = book.lines.entry(payment).or_default();
    if *is_effective {
        if line.charges > 0 && line.currency != code(currency) {
            tally.certain(Invariant::I3, format!("{key} gave back another currency than was charged"));
        }
        line.refund(*amount);
    }
}

/// I3. A payment's id follows from its saga and step, so once per payment is once per step.
fn once(book: &Book, tally: &mut Tally) {
    tally.checked(Invariant::I3, book.lines.len() as u64);
    for (payment, line) in &book.lines {
        let payment = PaymentId::from_uuid(*payment);
        let (charges, refunds) = (line.charges, line.refunds);
        if charges > 1 {
            let text = format!("{payment} was charged {charges} times, {} in all", line.charged);
            tally.certain(Invariant::I3, text);
        }
        if refunds > 1 {
            let text = format!("{payment} was refunded {refunds} times, {} in all", line.refunded);
            tally.certain(Invariant::I3, text);
        }
        if line.refunded > line.charged {
            let text = format!("{payment} was refunded {} of {} charged", line.refunded, line.charged);
            tally.certain(Invariant::I3, text);
        }
    }
}

/// I2, from the provider's side: it knows no charge that payment-svc does not.
pub(super) async fn judge_strays(
    snapshot: &mut Snapshot,
    book: &Book,
    tally: &mut Tally,
) -> Result<(), Error> {
    let mut payments: Vec<Uuid> = book.lines.keys().copied().collect();
    payments.sort_unstable();
    for some in payments.chunks(PAGE as usize) {
        let connection = snapshot.at(Room::Payments);
        let known = KNOWN.all(connection, (some.to_vec(),)).await.map_err(unreadable(Room::Payments))?;
        let known: std::collections::HashSet<Uuid> = known.into_iter().map(|(id,)| id).collect();
        for payment in some.iter().filter(|id| !known.contains(id)) {
            let line = book.line(*payment);
            let id = PaymentId::from_uuid(*payment);
            let text = format!(
                "the provider has {id} ({} charged, {} refunded), payment-svc has no record of it",
                line.charged, line.refunded
            );
            tally.suspect(Invariant::I2, super::tally::hash(&line), text);
        }
    }
    Ok(())
}
