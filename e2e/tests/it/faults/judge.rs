//! How a cell's order ended, by what is stored everywhere: as if nothing had been, or as completed.

use std::collections::{BTreeMap, HashMap};

use e2e::faults::{Direction, Fault};
use sqlx::PgConnection;
use types::{PaymentId, SagaId};
use uuid::Uuid;

use super::{
    cells::{Cell, Turn},
    expect::{End, Review},
    scene::Scene,
    table::Played,
};

/// What is stored of one saga.
#[derive(Debug, Default)]
struct Stored {
    state: String,
    status: (String, String),
    metadata: BTreeMap<String, String>,
    total: i64,
    document: Option<String>,
    reservation: Option<String>,
    review: Option<String>,
    charged: i64,
    refunded: i64,
    accounts: BTreeMap<String, i64>,
    letters: Vec<(String, String)>,
    events: Vec<serde_json::Value>,
    /// Of each commit: another one means that it was loaded by another owner, or by this one again.
    epochs: Vec<i64>,
}

/// Judges every cell that was played to its end, then everything.
pub(super) async fn all(scene: &Scene, played: Vec<(Cell, Result<SagaId, String>)>) -> Vec<Played> {
    let settled = scene.settles().await;
    let stored = load(scene).await;
    let mut judged: Vec<_> = played
        .into_iter()
        .map(|(cell, outcome)| {
            let outcome = outcome.and_then(|saga| match stored.get(&saga.uuid()) {
                Some(stored) => judge(&cell, stored).map_err(|why| {
                    let count = scene.injector.count(&cell.spot(&saga.to_string()));
                    format!("{why}: {stored:#?}, {count:?}")
                }),
                None => Err(format!("{saga} is not there")),
            });
            (cell, outcome)
        })
        .collect();
    // What is wrong with all of them is said at the first.
    if let (Some((_, first)), Err(why)) = (judged.first_mut(), settled.and(scene.audit().await)) {
        *first = Err(why);
    }
    judged
}

fn judge(cell: &Cell, stored: &Stored) -> Result<(), String> {
    let end = match &cell.end {
        End::Parked(_, _, then) | End::GoesOn(then) => then,
        end => end,
    };
    match end {
        End::Completed => completed(stored)?,
        End::Cancelled(reason) => cancelled(cell, stored, reason)?,
        End::Parked(..) | End::GoesOn(_) => return Err("the table is wrong".into()),
    }
    happened_there(cell, stored)?;
    let review = stored.review.as_deref();
    let is_right = match cell.review {
        None => true,
        Some(Review::Withdrawn) => review == Some("WITHDRAWN"),
        Some(Review::LeftOpen) => review == Some("OPEN"),
        Some(Review::Never) => review.is_none(),
        Some(Review::WithdrawnOrNever) => matches!(review, Some("WITHDRAWN") | None),
    };
    if is_right { Ok(()) } else { Err(format!("its review is {review:?}")) }
}

fn same<T: PartialEq + std::fmt::Debug>(what: &str, is: T, wanted: T) -> Result<(), String> {
    if is == wanted { Ok(()) } else { Err(format!("{what}: {is:?}, not {wanted:?}")) }
}

fn completed(stored: &Stored) -> Result<(), String> {
    same("saga", stored.state.as_str(), "COMPLETED")?;
    same("order", (stored.status.0.as_str(), stored.status.1.as_str()), ("COMPLETED", ""))?;
    same("document", stored.document.as_deref(), Some("COMPLETED"))?;
    same("stock", stored.reservation.as_deref(), Some("SOLD"))?;
    same("provider's book", (stored.charged, stored.refunded), (stored.total, 0))?;
    let tax = stored.total - stored.total * 5 / 6;
    let accounts = [
        ("merchant:m_1:EUR".to_owned(), tax - stored.total),
        ("provider_clearing:EUR".to_owned(), stored.total),
        ("tax_payable:EUR".to_owned(), -tax),
    ];
    same("books", stored.accounts.clone(), accounts.into())?;
    letter(stored, "order.completed")
}

fn cancelled(cell: &Cell, stored: &Stored, reason: &str) -> Result<(), String> {
    same("saga", stored.state.as_str(), "COMPENSATED")?;
    same("order", (stored.status.0.as_str(), stored.status.1.as_str()), ("CANCELLED", reason))?;
    // Refused or never opened: there is no document to cancel.
    if !matches!(stored.document.as_deref(), None | Some("CANCELLED")) {
        return Err(format!("document: {:?}", stored.document));
    }
    if !matches!(stored.reservation.as_deref(), None | Some("RELEASED")) {
        return Err(format!("stock: {:?}", stored.reservation));
    }
    same("provider's book", stored.charged - stored.refunded, 0)?;
    if let Some(left) = stored.accounts.iter().find(|(_, sum)| **sum != 0) {
        return Err(format!("books: {left:?}"));
    }
    // It turned round where the fault was.
    if cell.direction == Direction::Forward && cell.turn.is_none() && reason != "DEADLINE_EXCEEDED" {
        same("refused or failed step", stored.metadata.get("step"), Some(&cell.step))?;
    }
    letter(stored, "order.cancelled")
}

/// One letter about the end, sent, and none about another.
fn letter(stored: &Stored, template: &str) -> Result<(), String> {
    let ends: Vec<_> = stored
        .letters
        .iter()
        .filter(|(template, _)| template == "order.completed" || template == "order.cancelled")
        .map(|(template, state)| (template.as_str(), state.as_str()))
        .collect();
    same("letters", ends, vec![(template, "SENT")])
}

/// The journal says the same as the injector: it was this step, and this kind of failure.
fn happened_there(cell: &Cell, stored: &Stored) -> Result<(), String> {
    let of_step = |name: &'static str| {
        let step = cell.step.as_str();
        stored.events.iter().filter(move |event| event["event"] == name && event["step"] == step)
    };
    match (cell.direction, cell.fault) {
        (Direction::Forward, Fault::Refuse) => {
            same("refusals in the journal", of_step("StepRefused").count().min(1), 1)
        }
        // What failed after it had turned round is no fact any more.
        (Direction::Forward, _) if cell.turn.is_some() => Ok(()),
        (Direction::Forward, Fault::Duplicate | Fault::BreakerOpen | Fault::Hold | Fault::Again) => Ok(()),
        (Direction::Forward, fault) => {
            let in_doubt = fault != Fault::Unable;
            let failed = of_step("AttemptFailed").filter(|event| event["doubt"] == in_doubt).count();
            let wanted = if cell.times == 1 { 1 } else { 3 };
            if failed >= wanted {
                Ok(())
            } else {
                Err(format!("{failed} failed attempts in the journal, at least {wanted} were brought about"))
            }
        }
        (Direction::Back, Fault::Refuse) if cell.review.is_none() => {
            same("deaths", of_step("CommandDead").count().min(1), 1)
        }
        // Nothing that is said to a compensation is taken for the step's own outcome.
        (Direction::Back, _) if cell.turn == Some(Turn::Doubt) => {
            same("outcomes of a step in doubt", of_step("StepDone").count(), 0)
        }
        (Direction::Back, _) => Ok(()),
    }
}

async fn load(scene: &Scene) -> HashMap<Uuid, Stored> {
    let mut connection = scene.world.ground.database.connect().await;
    let mut all = HashMap::new();
    sagas(&mut connection, &mut all).await;
    participants(&mut connection, &mut all).await;
    money(&mut connection, &mut all).await;
    all
}

type All = HashMap<Uuid, Stored>;

async fn sagas(connection: &mut PgConnection, all: &mut All) {
    type Row = (Uuid, String, String, String, String, i64);
    let query = "select s.saga_id, s.state, o.status, o.status_reason, o.status_metadata, o.total_minor \
                 from orchestrator.saga s join orchestrator.\"order\" o on o.order_id = s.saga_id";
    let rows: Vec<Row> = sqlx::query_as(query).fetch_all(&mut *connection).await.unwrap();
    for (id, state, status, reason, metadata, total) in rows {
        let metadata = serde_json::from_str(&metadata).unwrap();
        all.insert(id, Stored { state, status: (status, reason), metadata, total, ..Stored::default() });
    }
    let query = "select saga_id, epoch, events from orchestrator.journal order by saga_id, version";
    let rows: Vec<(Uuid, i64, String)> = sqlx::query_as(query).fetch_all(&mut *connection).await.unwrap();
    for (id, epoch, events) in rows {
        let events: Vec<serde_json::Value> = serde_json::from_str(&events).unwrap();
        // The first says everything that the order is about.
        let stored = all.entry(id).or_default();
        stored.epochs.push(epoch);
        stored.events.extend(events.into_iter().filter(|e| e["event"] != "Started"));
    }
    let query = "select order_id, template, state from notifications.delivery";
    let rows: Vec<(Uuid, String, String)> = sqlx::query_as(query).fetch_all(connection).await.unwrap();
    for (id, template, state) in rows {
        all.entry(id).or_default().letters.push((template, state));
    }
}

async fn participants(connection: &mut PgConnection, all: &mut All) {
    let query = "select saga_id, status from orders.document";
    let rows: Vec<(Uuid, Option<String>)> = sqlx::query_as(query).fetch_all(&mut *connection).await.unwrap();
    for (id, status) in rows {
        all.entry(id).or_default().document = status;
    }
    let query = "select saga_id, state from inventory.reservation";
    let rows: Vec<(Uuid, Option<String>)> = sqlx::query_as(query).fetch_all(&mut *connection).await.unwrap();
    for (id, state) in rows {
        all.entry(id).or_default().reservation = state;
    }
    let query = "select saga_id, review_state from risk.screening";
    let rows: Vec<(Uuid, Option<String>)> = sqlx::query_as(query).fetch_all(connection).await.unwrap();
    for (id, state) in rows {
        all.entry(id).or_default().review = state;
    }
}

async fn money(connection: &mut PgConnection, all: &mut All) {
    let query = "select payment, charged_minor, refunded_minor from simulator.book";
    let rows: Vec<(String, i64, i64)> = sqlx::query_as(query).fetch_all(&mut *connection).await.unwrap();
    let mut book: HashMap<Uuid, (i64, i64)> = HashMap::new();
    for (payment, charged, refunded) in rows {
        let line = book.entry(payment.parse::<PaymentId>().unwrap().uuid()).or_default();
        *line = (line.0 + charged, line.1 + refunded);
    }
    let query = "select saga_id, payment_id from payments.attempt";
    let rows: Vec<(Uuid, Uuid)> = sqlx::query_as(query).fetch_all(&mut *connection).await.unwrap();
    for (id, payment) in rows {
        let (charged, refunded) = book.get(&payment).copied().unwrap_or_default();
        let stored = all.entry(id).or_default();
        (stored.charged, stored.refunded) = (stored.charged + charged, stored.refunded + refunded);
    }
    let query = "select t.saga_id, e.account_id, sum(e.amount_minor)::bigint from ledger.entry e \
                 join ledger.transaction t using (transaction_id) group by 1, 2";
    let rows: Vec<(Uuid, String, i64)> = sqlx::query_as(query).fetch_all(connection).await.unwrap();
    for (id, account, sum) in rows {
        all.entry(id).or_default().accounts.insert(account, sum);
    }
}
