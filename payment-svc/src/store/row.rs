//! A record as the database keeps it: what each column becomes. Read [`super`] for the statements.

use chassis::{barrier::Outcome, sql::Columns};
use chrono::{DateTime, Utc};
use sqlx::{FromRow, Row as _, postgres::PgRow, postgres::PgTypeInfo};
use types::{Money, OrderId, SagaId, StepKey};
use uuid::Uuid;

use crate::domain::{Attempt, Business, Category, CommandId, Decline, State};

type Time = DateTime<Utc>;

/// A record as it was loaded, and the time by the database's clock.
pub(super) struct AttemptRow {
    pub(super) attempt: Attempt,
    pub(super) now: Time,
}

type Head = (
    Uuid,
    String,
    String,
    String,
    Option<Vec<u8>>,
    Option<Vec<u8>>,
    Option<String>,
    Option<Vec<u8>>,
    Option<Vec<u8>>,
    Option<Uuid>,
    Option<String>,
    Option<String>,
    Option<i64>,
    Option<String>,
);
type Tail = (
    Option<String>,
    Option<String>,
    Option<String>,
    Option<String>,
    Option<String>,
    i32,
    i32,
    i32,
    Option<Time>,
    Option<Time>,
    Time,
    Option<Time>,
    i32,
    Option<String>,
    Time,
);
const HEAD: usize = 14;

impl Columns for AttemptRow {
    fn matches(given: &[PgTypeInfo]) -> Result<(), String> {
        let (head, tail) = given.split_at_checked(HEAD).ok_or("too few columns")?;
        <Head as Columns>::matches(head)?;
        <Tail as Columns>::matches(tail)
    }
}

pub(super) fn unreadable(column: &str) -> sqlx::Error {
    sqlx::Error::Decode(format!("{column} does not say what this build knows").into())
}

impl<'r> FromRow<'r, PgRow> for AttemptRow {
    fn from_row(row: &'r PgRow) -> sqlx::Result<Self> {
        let (state, forward, back): (String, String, Option<String>) =
            (row.try_get(2)?, row.try_get(3)?, row.try_get(6)?);
        let outcome = |text: &str| Outcome::parse(text).ok_or_else(|| unreadable("an outcome"));
        let attempt = Attempt {
            key: key(row.try_get(0)?, row.try_get(1)?)?,
            state: State::parse(&state).ok_or_else(|| unreadable("state"))?,
            forward: outcome(&forward)?,
            forward_hash: row.try_get::<Option<_>, _>(4)?.unwrap_or_default(),
            forward_reply: row.try_get(5)?,
            back: back.as_deref().map(outcome).transpose()?,
            back_reply: row.try_get(7)?,
            commands: unpack(row.try_get(8)?),
            business: business(row)?,
            provider_reference: row.try_get(15)?,
            refund_reference: row.try_get(16)?,
            decline: decline(row)?,
            sends: row.try_get(19)?,
            refund_sends: row.try_get(20)?,
            refund_keys: row.try_get(21)?,
            sent: row.try_get(22)?,
            refund_begun: row.try_get(23)?,
            created: row.try_get(24)?,
            next_look: row.try_get(25)?,
            looks: row.try_get(26)?,
            trace: row.try_get::<Option<_>, _>(27)?.unwrap_or_default(),
        };
        Ok(Self { attempt, now: row.try_get(28)? })
    }
}

fn business(row: &PgRow) -> sqlx::Result<Option<Business>> {
    let Some(order) = row.try_get::<Option<Uuid>, _>(9)? else { return Ok(None) };
    let (customer, merchant, currency): (String, String, String) =
        (row.try_get(10)?, row.try_get(11)?, row.try_get(13)?);
    let token: Option<String> = row.try_get(14)?;
    Ok(Some(Business {
        order: OrderId::from_uuid(order),
        customer: customer.parse().map_err(|_| unreadable("customer_id"))?,
        merchant: merchant.parse().map_err(|_| unreadable("merchant_id"))?,
        amount: Money::new(row.try_get(12)?, currency.parse().map_err(|_| unreadable("currency"))?),
        token: token.map(|token| token.parse().map_err(|_| unreadable("token"))).transpose()?,
    }))
}

fn decline(row: &PgRow) -> sqlx::Result<Option<Decline>> {
    let Some(code) = row.try_get::<Option<String>, _>(17)? else { return Ok(None) };
    let category: Option<String> = row.try_get(18)?;
    let category =
        category.as_deref().and_then(Category::parse).ok_or_else(|| unreadable("decline_category"))?;
    Ok(Some(Decline { code, category }))
}

pub(super) fn key(saga: Uuid, step: String) -> sqlx::Result<StepKey> {
    Ok(StepKey { saga: SagaId::from_uuid(saga), step: step.parse().map_err(|_| unreadable("step"))? })
}

pub(super) fn pack(commands: &[CommandId]) -> Option<Vec<u8>> {
    (!commands.is_empty()).then(|| commands.concat())
}

fn unpack(bytes: Option<Vec<u8>>) -> Vec<CommandId> {
    bytes.unwrap_or_default().chunks_exact(16).filter_map(|id| id.try_into().ok()).collect()
}
