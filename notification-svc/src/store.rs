//! Every statement of the service, and the rows it reads and writes. Decides nothing.
//!
//! What is due is told by the database's clock alone, because any number of processes look for it. A delivery is claimed
//! when it is found due, or by the statement that stores it. A claim is named by the delivery, the number of its attempt and the time it was put off to: an outcome under a name that lapsed, or after
//! a person has asked to send it again, changes nothing.
//!
//! Read next: `migrations/notifications/0001_first.sql`.

use std::{
    collections::{BTreeSet, HashMap},
    time::Duration,
};

use chassis::sql::{Checked, Statement};
use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use types::OrderId;
use uuid::Uuid;

static LOAD: Statement<(Vec<Uuid>,), (Uuid, Uuid, i64)> = Statement::new(
    "select delivery_id, order_id, version from notifications.delivery where order_id = any ($1)",
);

/// What is there of some orders: delivery, order, version.
pub(crate) async fn load(
    connection: &mut PgConnection,
    orders: impl IntoIterator<Item = OrderId>,
) -> sqlx::Result<Vec<(Uuid, Uuid, i64)>> {
    let orders: BTreeSet<_> = orders.into_iter().map(OrderId::uuid).collect();
    LOAD.all(connection, (orders.into_iter().collect(),)).await
}

/// A delivery to store.
#[derive(Debug)]
pub(crate) struct New<'a> {
    pub(crate) id: Uuid,
    pub(crate) order: OrderId,
    pub(crate) version: i64,
    pub(crate) template: &'static str,
    pub(crate) recipient: &'a str,
    pub(crate) subject: &'a str,
    pub(crate) body: &'a str,
    /// W3C traceparent; may be empty.
    pub(crate) trace: &'a str,
    /// Claimed at once, for its first attempt, by whoever stores it.
    pub(crate) in_hand: bool,
}

#[rustfmt::skip]
type Insert = (
    Vec<Uuid>, Vec<Uuid>, Vec<i64>, Vec<String>, Vec<String>, Vec<String>, Vec<String>, Vec<Option<String>>, Vec<bool>,
    DateTime<Utc>, f64,
);

// An event that comes again finds its row: `on conflict` absorbs the repeat, and says so by leaving it out.
static INSERT: Statement<Insert, (Uuid, DateTime<Utc>)> = Statement::new(
    "insert into notifications.delivery \
       (delivery_id, order_id, version, template, recipient, subject, body, trace, state, next_time, attempts, create_time) \
     select d.delivery_id, d.order_id, d.version, d.template, d.recipient, d.subject, d.body, d.trace, 'QUEUED', \
            case when d.in_hand then now() + make_interval(secs => $11) else now() end, d.in_hand::integer, $10 \
     from unnest($1::uuid[], $2::uuid[], $3::bigint[], $4::text[], $5::text[], $6::text[], $7::text[], \
                 $8::text[], $9::boolean[]) \
       as d (delivery_id, order_id, version, template, recipient, subject, body, trace, in_hand) \
     on conflict on constraint delivery_pk do nothing \
     returning delivery_id, next_time",
);

/// Stores deliveries, due at once, or in hand for as long as `lease`; those that were not there, and when they are due.
pub(crate) async fn insert(
    connection: &mut PgConnection,
    mut rows: Vec<New<'_>>,
    now: DateTime<Utc>,
    lease: Duration,
) -> sqlx::Result<HashMap<Uuid, DateTime<Utc>>> {
    rows.sort_by_key(|row| row.id);
    let columns = (
        each(&rows, |row| row.id),
        each(&rows, |row| row.order.uuid()),
        each(&rows, |row| row.version),
        each(&rows, |row| row.template.to_owned()),
        each(&rows, |row| row.recipient.to_owned()),
        each(&rows, |row| row.subject.to_owned()),
        each(&rows, |row| row.body.to_owned()),
        each(&rows, |row| (!row.trace.is_empty()).then(|| row.trace.to_owned())),
        each(&rows, |row| row.in_hand),
        now,
        lease.as_secs_f64(),
    );
    Ok(INSERT.all(connection, columns).await?.into_iter().collect())
}

/// One column of rows.
fn each<R, T>(rows: &[R], column: impl Fn(&R) -> T) -> Vec<T> {
    rows.iter().map(column).collect()
}

/// A delivery in hand, to be sent.
#[derive(Debug, Clone)]
pub(crate) struct Due {
    pub(crate) delivery_id: Uuid,
    pub(crate) template: String,
    pub(crate) recipient: String,
    pub(crate) subject: String,
    pub(crate) body: String,
    /// Which this is; the first is 1.
    pub(crate) attempt: i32,
    pub(crate) create_time: DateTime<Utc>,
    /// When the claim lapses.
    pub(crate) until: DateTime<Utc>,
    /// W3C traceparent; may be empty.
    pub(crate) trace: String,
}

type DueRow = (Uuid, String, String, String, String, i32, DateTime<Utc>, DateTime<Utc>, Option<String>);

// Claimed by time: a sender that dies with deliveries in hand leaves them to others when that time has come. The attempt
// counts from here, so that a letter that kills its sender is not tried for ever.
static CLAIM: Statement<(f64, i64), DueRow> = Statement::new(
    "update notifications.delivery d set next_time = now() + make_interval(secs => $1), attempts = d.attempts + 1 \
     where d.delivery_id = any (array( \
           select delivery_id from notifications.delivery where state = 'QUEUED' and next_time <= now() \
           order by next_time limit $2 for update skip locked)) \
     returning d.delivery_id, d.template, d.recipient, d.subject, d.body, d.attempts, d.create_time, d.next_time, \
               d.trace",
)
.as_claim();

/// Takes up to `limit` deliveries that are due; nobody else takes them for as long as `lease`.
pub(crate) async fn claim(
    connection: &mut PgConnection,
    lease: Duration,
    limit: i64,
) -> sqlx::Result<Vec<Due>> {
    let rows = CLAIM.all(connection, (lease.as_secs_f64(), limit)).await?;
    let due =
        |(delivery_id, template, recipient, subject, body, attempt, create_time, until, trace): DueRow| Due {
            delivery_id,
            template,
            recipient,
            subject,
            body,
            attempt,
            create_time,
            until,
            trace: trace.unwrap_or_default(),
        };
    Ok(rows.into_iter().map(due).collect())
}

/// What became of a delivery in hand.
#[derive(Debug)]
pub(crate) struct Settled {
    pub(crate) id: Uuid,
    /// As it was claimed.
    pub(crate) attempt: i32,
    /// As it was claimed.
    pub(crate) until: DateTime<Utc>,
    /// `SENT`, `FAILED`, or `QUEUED` for another attempt.
    pub(crate) state: &'static str,
    /// Before that attempt.
    pub(crate) wait: Duration,
    pub(crate) error: Option<String>,
}

type Settle = (Vec<Uuid>, Vec<i32>, Vec<DateTime<Utc>>, Vec<String>, Vec<f64>, Vec<Option<String>>);

/// Found by its key. The rest is compared so that no index serves it: planned while hardly anything is queued, the index of what
/// is due looks cheaper than the key, and then each row reads every entry that its own claim made.
static SETTLE: Statement<Settle> = Statement::new(
    "update notifications.delivery d set state = s.state, last_error = s.last_error, \
       next_time = case when s.state = 'QUEUED' then now() + make_interval(secs => s.wait) end, \
       send_time = case when s.state = 'SENT' then now() else d.send_time end \
     from unnest($1::uuid[], $2::integer[], $3::timestamptz[], $4::text[], $5::float8[], $6::text[]) \
       as s (delivery_id, attempt, until, state, wait, last_error) \
     where d.delivery_id = s.delivery_id \
       and (d.state, d.attempts, d.next_time) is not distinct from ('QUEUED', s.attempt, s.until)",
);

/// Stores what became of deliveries in hand.
pub(crate) async fn settle(connection: &mut PgConnection, rows: &mut [Settled]) -> sqlx::Result<()> {
    rows.sort_by_key(|row| row.id);
    let columns = (
        each(rows, |row| row.id),
        each(rows, |row| row.attempt),
        each(rows, |row| row.until),
        each(rows, |row| row.state.to_owned()),
        each(rows, |row| row.wait.as_secs_f64()),
        each(rows, |row| row.error.clone()),
    );
    SETTLE.run(connection, columns).await?;
    Ok(())
}

/// A delivery as people see it.
#[derive(Debug, Clone)]
pub(crate) struct Delivery {
    pub(crate) id: Uuid,
    pub(crate) order: OrderId,
    pub(crate) template: String,
    pub(crate) recipient: String,
    pub(crate) subject: String,
    pub(crate) state: String,
    pub(crate) attempts: i32,
    pub(crate) last_error: Option<String>,
    pub(crate) create_time: DateTime<Utc>,
    pub(crate) send_time: Option<DateTime<Utc>>,
}

#[rustfmt::skip]
type Row = (
    Uuid, Uuid, String, String, String, String, i32, Option<String>, DateTime<Utc>, Option<DateTime<Utc>>,
);

fn read(row: Row) -> Delivery {
    Delivery {
        id: row.0,
        order: OrderId::from_uuid(row.1),
        template: row.2,
        recipient: row.3,
        subject: row.4,
        state: row.5,
        attempts: row.6,
        last_error: row.7,
        create_time: row.8,
        send_time: row.9,
    }
}

/// Where a page begins: behind this delivery.
pub(crate) type After = (DateTime<Utc>, Uuid);

static LIST: Statement<(DateTime<Utc>, Uuid, i64), Row> = Statement::new(
    "select delivery_id, order_id, template, recipient, subject, state, attempts, last_error, create_time, send_time \
     from notifications.delivery where (create_time, delivery_id) < ($1, $2) \
     order by create_time desc, delivery_id desc limit $3",
);

static LIST_OF_ORDER: Statement<(DateTime<Utc>, Uuid, i64, Uuid), Row> = Statement::new(
    "select delivery_id, order_id, template, recipient, subject, state, attempts, last_error, create_time, send_time \
     from notifications.delivery where order_id = $4 and (create_time, delivery_id) < ($1, $2) \
     order by create_time desc, delivery_id desc limit $3",
);

/// A page of deliveries, newest first; of one order, or of all.
pub(crate) async fn list(
    connection: &mut PgConnection,
    order: Option<OrderId>,
    (time, id): After,
    limit: i64,
) -> sqlx::Result<Vec<Delivery>> {
    let rows = match order {
        Some(order) => LIST_OF_ORDER.all(connection, (time, id, limit, order.uuid())).await?,
        None => LIST.all(connection, (time, id, limit)).await?,
    };
    Ok(rows.into_iter().map(read).collect())
}

static RESEND: Statement<(Uuid,), Row> = Statement::new(
    "update notifications.delivery set state = 'QUEUED', next_time = now(), attempts = 0, last_error = null \
     where delivery_id = $1 \
     returning delivery_id, order_id, template, recipient, subject, state, attempts, last_error, create_time, send_time",
);

/// Makes a delivery due again, with all its attempts before it; none when it is not there.
pub(crate) async fn resend(connection: &mut PgConnection, id: Uuid) -> sqlx::Result<Option<Delivery>> {
    Ok(RESEND.maybe(connection, (id,)).await?.map(read))
}

/// All of them, for the check.
pub(crate) fn statements() -> Vec<&'static dyn Checked> {
    vec![&LOAD, &INSERT, &CLAIM, &SETTLE, &LIST, &LIST_OF_ORDER, &RESEND]
}
