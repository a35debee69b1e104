//! Every SQL statement of payment-svc. Times that decide anything are the database's: `clock_timestamp()`, never ours.
//!
//! Read [`crate::commands`] for when they run.

mod row;

use std::collections::{BTreeMap, HashSet};

use chassis::sql::{Checked, Statement};
use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use types::StepKey;
use uuid::Uuid;

use crate::domain::{Attempt, Business, State, payment_of};
use row::{AttemptRow, key, pack, unreadable};

type Time = DateTime<Utc>;

/// Every statement, for the SQL check.
pub(crate) fn statements() -> Vec<&'static dyn Checked> {
    vec![
        &LOAD,
        &START,
        &BURY,
        &SAVE,
        &CONCLUDE,
        &CLAIM,
        &BY_PAYMENT,
        &BY_SAGA,
        &LIST,
        &LIST_STATE,
        &LIST_STARTED,
    ]
}

/// The keys' records, locked in key order.
static LOAD: Statement<(Vec<Uuid>, Vec<String>), AttemptRow> = Statement::new(
    "select a.saga_id, a.step, a.state, a.forward_outcome, a.forward_hash, a.forward_reply, a.back_outcome, a.back_reply, \
       a.back_commands, a.order_id, a.customer_id, a.merchant_id, a.amount_minor, a.currency::text, \
       a.token, a.provider_reference, a.refund_reference, a.decline_code, a.decline_category, a.sends, a.refund_sends, \
       a.refund_keys, a.sent_time, a.refund_time, a.create_time, a.next_look_time, a.looks, a.trace, clock_timestamp() \
     from payments.attempt a \
     join unnest($1::uuid[], $2::text[]) as k (saga_id, step) on a.saga_id = k.saga_id and a.step = k.step \
     order by a.saga_id, a.step for update of a",
);

type StartColumns = (
    Vec<Uuid>,
    Vec<String>,
    Vec<Uuid>,
    Vec<Vec<u8>>,
    Vec<Uuid>,
    Vec<String>,
    Vec<String>,
    Vec<i64>,
    Vec<String>,
    Vec<Option<String>>,
    String,
    f64,
    Vec<Option<String>>,
);

/// A charge and the stamp of its first send, in one row: when, and when to look. A key that another process took meanwhile
/// is a unique violation: the batch runs again from load.
static START: Statement<StartColumns, (Time, Time)> = Statement::new(
    "with t as (select clock_timestamp() as now), \
     begun as (insert into payments.attempt (saga_id, step, payment_id, state, forward_outcome, forward_hash, order_id, \
       customer_id, merchant_id, amount_minor, currency, token, provider, sends, sent_time, next_look_time, create_time, \
       update_time, trace) \
     select v.saga_id, v.step, v.payment_id, 'STARTED', 'STARTED', v.hash, v.order_id, v.customer_id, v.merchant_id, \
       v.amount_minor, v.currency::text::char(3), v.token, $11, 1, t.now, t.now + make_interval(secs => $12), t.now, t.now, v.trace \
     from unnest($1::uuid[], $2::text[], $3::uuid[], $4::bytea[], $5::uuid[], $6::text[], $7::text[], $8::bigint[], \
       $9::text[], $10::text[], $13::text[]) as v (saga_id, step, payment_id, hash, order_id, customer_id, merchant_id, \
       amount_minor, currency, token, trace), t) \
     select t.now, t.now + make_interval(secs => $12) from t",
);

/// Tombstones: charges that never were and never will be.
static BURY: Statement<(Vec<Uuid>, Vec<String>, Vec<Uuid>)> = Statement::new(
    "insert into payments.attempt (saga_id, step, payment_id, state, forward_outcome, back_outcome, sends, create_time, \
       update_time) \
     select v.saga_id, v.step, v.payment_id, 'BLOCKED', 'BLOCKED', 'BLOCKED', 0, now(), now() \
     from unnest($1::uuid[], $2::text[], $3::uuid[]) as v (saga_id, step, payment_id)",
);

type SaveColumns = (
    Vec<Uuid>,
    Vec<String>,
    Vec<String>,
    Vec<String>,
    Vec<Option<Vec<u8>>>,
    Vec<Option<String>>,
    Vec<Option<Vec<u8>>>,
    Vec<Option<Vec<u8>>>,
    Vec<Option<String>>,
    Vec<Option<String>>,
    Vec<Option<String>>,
    Vec<Option<String>>,
    Vec<i32>,
    Vec<i32>,
    Vec<i32>,
    Vec<Option<Time>>,
    Vec<Option<Time>>,
    Vec<Option<Time>>,
    Vec<i32>,
);

macro_rules! save {
    ($rest:literal) => {
        concat!(
            "update payments.attempt a set state = v.state, forward_outcome = v.forward_outcome, \
       forward_reply = v.forward_reply, back_outcome = v.back_outcome, back_reply = v.back_reply, \
       back_commands = v.back_commands, provider_reference = v.provider_reference, \
       refund_reference = v.refund_reference, decline_code = v.decline_code, decline_category = v.decline_category, \
       sends = v.sends, refund_sends = v.refund_sends, refund_keys = v.refund_keys, sent_time = v.sent_time, \
       refund_time = v.refund_time, next_look_time = v.next_look_time, looks = v.looks, update_time = now(), \
       token = case when v.state in ('STARTED', 'PENDING', 'IN_DOUBT') then a.token end \
     from unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::bytea[], $6::text[], $7::bytea[], $8::bytea[], \
       $9::text[], $10::text[], $11::text[], $12::text[], $13::integer[], $14::integer[], $15::integer[], \
       $16::timestamptz[], $17::timestamptz[], $18::timestamptz[], $19::integer[]) \
       as v (saga_id, step, state, forward_outcome, forward_reply, back_outcome, back_reply, back_commands, \
       provider_reference, refund_reference, decline_code, decline_category, sends, refund_sends, refund_keys, sent_time, \
       refund_time, next_look_time, looks) \
     where a.saga_id = v.saga_id and a.step = v.step",
            $rest
        )
    };
}

/// Everything that moves. The token goes with the end of the charge.
static SAVE: Statement<SaveColumns> = Statement::new(save!(""));

/// The same, of charges whose first send came back, where nothing else has happened since it was stamped; which. The state
/// is compared in a way that no index serves: by one, all that were ever in it since the last vacuum would be looked at.
static CONCLUDE: Statement<SaveColumns, (Uuid, String)> = Statement::new(save!(
    " and a.state || '' = 'STARTED' and a.forward_outcome = 'STARTED' and a.sends = 1 and a.sent_time is not null \
     and a.looks = 0 and a.back_outcome is null and a.back_commands is null returning a.saga_id, a.step"
));

type DueRow = (Uuid, String, String, bool, i32, Time, Option<String>);

/// What is due, put off for as long as a look may take: a resolver that dies leaves it to the next.
static CLAIM: Statement<(f64, i64), DueRow> = Statement::new(
    "update payments.attempt a set next_look_time = now() + make_interval(secs => $1) \
     where a.payment_id = any (array( \
           select payment_id from payments.attempt where next_look_time <= now() \
           order by next_look_time limit $2 for update skip locked)) \
     returning a.saga_id, a.step, a.state, a.sent_time is not null, a.refund_keys, now(), a.trace",
)
.as_claim();

/// What people see of an attempt, as columns.
pub(crate) type ViewRow = (
    Uuid,
    Uuid,
    String,
    Option<Uuid>,
    Option<i64>,
    Option<String>,
    String,
    Option<String>,
    Option<String>,
    Option<String>,
    i32,
    bool,
    Time,
    Time,
    Option<Time>,
);

macro_rules! view {
    ($rest:literal) => {
        concat!(
            "select a.payment_id, a.saga_id, a.step, a.order_id, a.amount_minor, a.currency::text, a.state, a.provider, \
             a.provider_reference, a.decline_code, a.sends, a.back_outcome is not null, a.create_time, a.update_time, \
             a.next_look_time from payments.attempt a ",
            $rest
        )
    };
}

/// One, by pay_….
pub(crate) static BY_PAYMENT: Statement<(Uuid,), ViewRow> = Statement::new(view!("where a.payment_id = $1"));

/// The latest of a saga.
pub(crate) static BY_SAGA: Statement<(Uuid,), ViewRow> =
    Statement::new(view!("where a.saga_id = $1 order by a.create_time desc, a.step desc limit 1"));

/// Cursor, state, size.
type ListColumns = (Option<Uuid>, Option<String>, Option<String>, i64);

/// Newest saga first, after a cursor.
pub(crate) static LIST: Statement<ListColumns, ViewRow> = Statement::new(view!(
    "where ($1::uuid is null or (a.saga_id, a.step) < ($1, $2)) and ($3::text is null or a.state = $3) \
         order by a.saga_id desc, a.step desc limit $4"
));

/// The same for a state that is neither STARTED nor SUCCEEDED: few rows, which an index of their own finds.
pub(crate) static LIST_STATE: Statement<(Option<Uuid>, Option<String>, String, i64), ViewRow> =
    Statement::new(view!(
        "where a.state = $3 and a.state not in ('STARTED', 'SUCCEEDED') and ($1::uuid is null or (a.saga_id, a.step) < ($1, $2)) \
         order by a.saga_id desc, a.step desc limit $4"
    ));

/// The same for STARTED: somebody is to look after each of those.
pub(crate) static LIST_STARTED: Statement<(Option<Uuid>, Option<String>, String, i64), ViewRow> =
    Statement::new(view!(
        "where a.state = $3 and a.next_look_time is not null and ($1::uuid is null or (a.saga_id, a.step) < ($1, $2)) \
         order by a.saga_id desc, a.step desc limit $4"
    ));

/// The records of `keys`, locked, with the time by the database's clock.
pub(crate) async fn load(
    connection: &mut PgConnection,
    keys: &[&StepKey],
) -> sqlx::Result<BTreeMap<StepKey, (Attempt, Time)>> {
    let mut keys = keys.to_vec();
    keys.sort();
    let columns = keys.iter().map(|key| (key.saga.uuid(), key.step.to_string())).unzip();
    let rows = LOAD.all(connection, columns).await?;
    Ok(rows.into_iter().map(|row| (row.attempt.key.clone(), (row.attempt, row.now))).collect())
}

/// A charge to begin.
pub(crate) struct Start<'a> {
    pub(crate) key: &'a StepKey,
    pub(crate) hash: &'a [u8],
    pub(crate) business: &'a Business,
    /// W3C traceparent; may be empty.
    pub(crate) trace: &'a str,
}

/// One column of many rows.
fn each<R, T>(rows: &[R], column: impl Fn(&R) -> T) -> Vec<T> {
    rows.iter().map(column).collect()
}

/// Begins charges: each row is also the stamp of its first send. `first_look` is in seconds. When that was, and when somebody
/// looks.
pub(crate) async fn start(
    connection: &mut PgConnection,
    mut starts: Vec<Start<'_>>,
    provider: &str,
    first_look: f64,
) -> sqlx::Result<(Time, Time)> {
    starts.sort_by(|a, b| a.key.cmp(b.key));
    let columns = (
        each(&starts, |s| s.key.saga.uuid()),
        each(&starts, |s| s.key.step.to_string()),
        each(&starts, |s| payment_of(s.key).uuid()),
        each(&starts, |s| s.hash.to_vec()),
        each(&starts, |s| s.business.order.uuid()),
        each(&starts, |s| s.business.customer.to_string()),
        each(&starts, |s| s.business.merchant.to_string()),
        each(&starts, |s| s.business.amount.minor),
        each(&starts, |s| s.business.amount.currency.to_string()),
        each(&starts, |s| s.business.token.as_ref().map(|token| token.reveal().to_owned())),
        provider.to_owned(),
        first_look,
        each(&starts, |s| (!s.trace.is_empty()).then(|| s.trace.to_owned())),
    );
    START.one(connection, columns).await
}

/// Writes tombstones for keys without a record.
pub(crate) async fn bury(connection: &mut PgConnection, mut keys: Vec<&StepKey>) -> sqlx::Result<()> {
    keys.sort();
    let columns = (
        each(&keys, |key| key.saga.uuid()),
        each(&keys, |key| key.step.to_string()),
        each(&keys, |key| payment_of(key).uuid()),
    );
    BURY.run(connection, columns).await.map(drop)
}

/// Writes what moved; the rows are locked since [`load`].
pub(crate) async fn save(connection: &mut PgConnection, attempts: Vec<&Attempt>) -> sqlx::Result<()> {
    SAVE.run(connection, save_columns(attempts)).await.map(drop)
}

/// Writes what the first sends of these came to, each in a commit with the others and with a guard of its own; those to
/// which nothing else had happened.
pub(crate) async fn conclude(
    connection: &mut PgConnection,
    attempts: Vec<&Attempt>,
) -> sqlx::Result<HashSet<StepKey>> {
    let rows = CONCLUDE.all(connection, save_columns(attempts)).await?;
    rows.into_iter().map(|(saga, step)| key(saga, step)).collect()
}

fn save_columns(mut attempts: Vec<&Attempt>) -> SaveColumns {
    attempts.sort_by(|a, b| a.key.cmp(&b.key));
    (
        each(&attempts, |a| a.key.saga.uuid()),
        each(&attempts, |a| a.key.step.to_string()),
        each(&attempts, |a| a.state.as_str().to_owned()),
        each(&attempts, |a| a.forward.as_str().to_owned()),
        each(&attempts, |a| a.forward_reply.clone()),
        each(&attempts, |a| a.back.map(|back| back.as_str().to_owned())),
        each(&attempts, |a| a.back_reply.clone()),
        each(&attempts, |a| pack(&a.commands)),
        each(&attempts, |a| a.provider_reference.clone()),
        each(&attempts, |a| a.refund_reference.clone()),
        each(&attempts, |a| a.decline.as_ref().map(|d| d.code.clone())),
        each(&attempts, |a| a.decline.as_ref().map(|d| d.category.as_str().to_owned())),
        each(&attempts, |a| a.sends),
        each(&attempts, |a| a.refund_sends),
        each(&attempts, |a| a.refund_keys),
        each(&attempts, |a| a.sent),
        each(&attempts, |a| a.refund_begun),
        each(&attempts, |a| a.next_look),
        each(&attempts, |a| a.looks),
    )
}

/// An attempt that somebody must look after now.
pub(crate) struct Due {
    pub(crate) key: StepKey,
    pub(crate) state: State,
    /// Whether a send may be under way.
    pub(crate) sent: bool,
    pub(crate) refund_keys: i32,
    /// When it was claimed, by the database's clock: a look-up begins after this.
    pub(crate) at: Time,
    /// W3C traceparent; may be empty.
    pub(crate) trace: String,
}

/// Claims up to `most` due attempts for `lease` seconds.
pub(crate) async fn claim(connection: &mut PgConnection, lease: f64, most: i64) -> sqlx::Result<Vec<Due>> {
    let rows = CLAIM.all(connection, (lease, most)).await?;
    rows.into_iter()
        .map(|(saga, step, state, sent, refund_keys, at, trace)| {
            let state = State::parse(&state).ok_or_else(|| unreadable("state"))?;
            let trace = trace.unwrap_or_default();
            Ok(Due { key: key(saga, step)?, state, sent, refund_keys, at, trace })
        })
        .collect()
}
