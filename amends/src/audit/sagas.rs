//! Reads everything about sagas page by page, in the order of their ids, and hands each saga to the judges.
//!
//! A page is a range of ids in which no table has more than some thousand sagas, so that memory does not grow with
//! their number, not even where records have lost their sagas. Decides nothing.

use std::collections::BTreeMap;

use chassis::sql::{Checked, Statement};
use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::{
    Error, Options, Progress,
    figures::Figures,
    judge::{self, Bench},
    rows::{Attempt, Bundle, Document, Order, Posting, Reservation, Saga},
    scope,
    sources::{Room, Snapshot, unreadable},
    tally::Tally,
};

/// Sagas of a page at most.
const PAGE: i64 = 2_000;

/// From the first id, without it, to the last, with it.
pub(super) type Page = (Uuid, Uuid);

type Range = (Uuid, Uuid);
type Edge = Statement<(Uuid, i64), (Uuid,)>;
type Time = DateTime<Utc>;

static COUNT: Statement<(), (i64,)> = Statement::new("select count(*) from orchestrator.saga");

macro_rules! edges {
    ($($name:ident = $room:ident $column:literal of $table:literal;)*) => {
        $(static $name: Edge = Statement::new(concat!(
            "select ", $column, " from ", $table, " where ", $column, " > $1 order by ", $column, " offset $2 limit 1"
        ));)*

        static EDGES: &[(Room, &Edge)] = &[$((Room::$room, &$name)),*];

        fn edges() -> Vec<&'static dyn Checked> {
            vec![$(&$name),*]
        }
    };
}

edges! {
    SAGA_EDGE = Orchestrator "saga_id" of "orchestrator.saga";
    ORDER_EDGE = Orchestrator "order_id" of "orchestrator.\"order\"";
    DOCUMENT_EDGE = Orders "saga_id" of "orders.document";
    RESERVATION_EDGE = Inventory "saga_id" of "inventory.reservation";
    ATTEMPT_EDGE = Payments "saga_id" of "payments.attempt";
    POSTING_EDGE = Ledger "saga_id" of "ledger.transaction";
}

type SagaRow = (Uuid, String, i64, Uuid, i64, String, String, bool, Time, Time);

static SAGAS: Statement<Range, SagaRow> = Statement::new(
    "select saga_id, kind, version, commit_id, epoch, state, reason, ended, create_time, update_time \
     from orchestrator.saga where saga_id > $1 and saga_id <= $2",
);

static ORDERS: Statement<Range, (Uuid, String, i64, String, i64)> = Statement::new(
    "select order_id, status, total_minor, currency::text, version from orchestrator.\"order\" \
     where order_id > $1 and order_id <= $2",
);

static JOURNAL: Statement<Range, (Uuid, i64, i64, Uuid, String)> = Statement::new(
    "select saga_id, version, epoch, commit_id, events from orchestrator.journal \
     where saga_id > $1 and saga_id <= $2 order by saga_id, version",
);

type DocumentRow = (Uuid, String, String, Option<String>, Option<String>, Option<String>, Option<i64>, Time);

static DOCUMENTS: Statement<Range, DocumentRow> = Statement::new(
    "select saga_id, step, forward_outcome, back_outcome, complete_outcome, status, total_minor, update_time \
     from orders.document where saga_id > $1 and saga_id <= $2 order by saga_id, step",
);

type ReservationRow = (Uuid, String, String, Option<String>, Option<String>, Option<String>, Time);

static RESERVATIONS: Statement<Range, ReservationRow> = Statement::new(
    "select saga_id, step, forward_outcome, back_outcome, commit_outcome, state, update_time \
     from inventory.reservation where saga_id > $1 and saga_id <= $2 order by saga_id, step",
);

type AttemptRow = (Uuid, String, Uuid, String, Option<String>, Option<i64>, Option<String>, Time);

static ATTEMPTS: Statement<Range, AttemptRow> = Statement::new(
    "select saga_id, step, payment_id, state, back_outcome, amount_minor, currency::text, update_time \
     from payments.attempt where saga_id > $1 and saga_id <= $2 order by saga_id, step",
);

/// With one row per entry, or one without.
type PostingRow = (Uuid, Uuid, String, String, String, Time, Option<String>, Option<i64>);

static POSTINGS: Statement<Range, PostingRow> = Statement::new(
    "select t.saga_id, t.transaction_id, t.step, t.kind, t.outcome, t.create_time, e.account_id, e.amount_minor \
     from ledger.transaction t left join ledger.entry e on e.transaction_id = t.transaction_id \
     where t.saga_id > $1 and t.saga_id <= $2 order by t.saga_id, t.step, t.kind, e.entry_id",
);

pub(super) fn statements() -> Vec<&'static dyn Checked> {
    let mut all = edges();
    let rest: [&dyn Checked; 8] =
        [&COUNT, &SAGAS, &ORDERS, &JOURNAL, &DOCUMENTS, &RESERVATIONS, &ATTEMPTS, &POSTINGS];
    all.extend(rest);
    all
}

/// What was seen besides violations.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// Pages in which something looked wrong.
    pub(super) strange: Vec<Page>,
    /// Sagas that have not ended, or not long enough ago to be judged for good.
    pub(super) unsettled: Vec<Uuid>,
}

/// Judges the sagas in these ranges.
pub(super) async fn judge(
    snapshot: &mut Snapshot,
    bench: &Bench<'_>,
    tally: &mut Tally,
    options: &Options,
    (ranges, figures): (&[Page], &mut Figures),
) -> Result<Seen, Error> {
    let room = Room::Orchestrator;
    let (of,) = COUNT.one(snapshot.at(room), ()).await.map_err(unreadable(room))?;
    let of = if *ranges == [scope::EVERYTHING] { u64::try_from(of).unwrap_or_default() } else { 0 };
    let (mut seen, mut done) = (Seen::default(), 0);
    // What was found before belongs to no page.
    tally.take_fresh();
    for &(mut first, end) in ranges {
        while first < end {
            let is_one = end.as_u128() - first.as_u128() == 1;
            let page = (first, if is_one { end } else { last(snapshot, first).await?.min(end) });
            first = page.1;
            for (id, mut bundle) in read(snapshot, page).await? {
                bundle.id = id;
                done += u64::from(bundle.saga.is_some());
                judge::saga(&bundle, bench, tally);
                figures.add(&bundle, bench.book);
                if bundle.saga.is_some() && bundle.settled(&bench.rule).is_none() {
                    seen.unsettled.push(id);
                }
            }
            if tally.take_fresh() {
                seen.strange.push(page);
            }
            (options.progress)(&Progress { what: "sagas", done, of });
        }
    }
    Ok(seen)
}

/// Where a page that begins after `first` ends.
async fn last(snapshot: &mut Snapshot, first: Uuid) -> Result<Uuid, Error> {
    let mut last = Uuid::max();
    for (room, edge) in EDGES {
        let found = edge.maybe(snapshot.at(*room), (first, PAGE)).await.map_err(unreadable(*room))?;
        last = last.min(found.map_or(Uuid::max(), |(id,)| id));
    }
    Ok(last)
}

async fn read(snapshot: &mut Snapshot, page: Page) -> Result<BTreeMap<Uuid, Bundle>, Error> {
    let mut bundles = BTreeMap::new();
    read_orchestrator(snapshot, page, &mut bundles).await.map_err(unreadable(Room::Orchestrator))?;
    read_orders(snapshot, page, &mut bundles).await.map_err(unreadable(Room::Orders))?;
    read_inventory(snapshot, page, &mut bundles).await.map_err(unreadable(Room::Inventory))?;
    read_payments(snapshot, page, &mut bundles).await.map_err(unreadable(Room::Payments))?;
    read_ledger(snapshot, page, &mut bundles).await.map_err(unreadable(Room::Ledger))?;
    Ok(bundles)
}

type Bundles = BTreeMap<Uuid, Bundle>;

async fn read_orchestrator(snapshot: &mut Snapshot, page: Page, bundles: &mut Bundles) -> sqlx::Result<()> {
    let connection = snapshot.at(Room::Orchestrator);
    for row in SAGAS.all(connection, page).await? {
        let (id, kind, version, commit_id, epoch, state, reason, ended, create_time, update_time) = row;
        bundles.entry(id).or_default().saga =
            Some(Saga { kind, version, commit_id, epoch, state, reason, ended, create_time, update_time });
    }
    for (id, status, total, currency, version) in ORDERS.all(connection, page).await? {
        bundles.entry(id).or_default().order = Some(Order { status, total, currency, version });
    }
    for (id, version, epoch, commit_id, events) in JOURNAL.all(connection, page).await? {
        let story = &mut bundles.entry(id).or_default().story;
        story.get_or_insert_default().add(version, epoch, commit_id, &events);
    }
    Ok(())
}

async fn read_orders(snapshot: &mut Snapshot, page: Page, bundles: &mut Bundles) -> sqlx::Result<()> {
    for row in DOCUMENTS.all(snapshot.at(Room::Orders), page).await? {
        let (id, step, forward, back, complete, status, total, update_time) = row;
        let document = Document { step, forward, back, complete, status, total, update_time };
        bundles.entry(id).or_default().documents.push(document);
    }
    Ok(())
}

async fn read_inventory(snapshot: &mut Snapshot, page: Page, bundles: &mut Bundles) -> sqlx::Result<()> {
    for row in RESERVATIONS.all(snapshot.at(Room::Inventory), page).await? {
        let (id, step, forward, back, commit, state, update_time) = row;
        let reservation = Reservation { step, forward, back, commit, state, update_time };
        bundles.entry(id).or_default().reservations.push(reservation);
    }
    Ok(())
}

async fn read_payments(snapshot: &mut Snapshot, page: Page, bundles: &mut Bundles) -> sqlx::Result<()> {
    for row in ATTEMPTS.all(snapshot.at(Room::Payments), page).await? {
        let (id, step, payment, state, back, amount, currency, update_time) = row;
        let attempt = Attempt { step, payment, state, back, amount, currency, update_time };
        bundles.entry(id).or_default().attempts.push(attempt);
    }
    Ok(())
}

async fn read_ledger(snapshot: &mut Snapshot, page: Page, bundles: &mut Bundles) -> sqlx::Result<()> {
    let mut last = None;
    for row in POSTINGS.all(snapshot.at(Room::Ledger), page).await? {
        let (id, transaction, step, kind, outcome, create_time, account, amount) = row;
        let postings = &mut bundles.entry(id).or_default().postings;
        if last.replace(transaction) != Some(transaction) {
            postings.push(Posting { step, kind, outcome, create_time, entries: Vec::new() });
        }
        if let (Some(posting), Some(account), Some(amount)) = (postings.last_mut(), account, amount) {
            posting.entries.push((account, amount));
        }
    }
    Ok(())
}
