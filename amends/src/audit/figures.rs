//! What an audit counts besides violations: how much there is that could still go wrong.

use std::collections::{BTreeMap, BTreeSet};

use chassis::{
    database::unsafe_settings as unsafe_settings_of,
    sql::{Checked, Statement},
};
use chrono::{DateTime, Utc};
use serde::Serialize;

use super::{
    Error,
    book::Book,
    rows::Bundle,
    sources::{Room, Snapshot, unreadable},
};

/// The figures.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Figures {
    /// Money that the provider took and has not given back, of orders that are parked, turn round, or ended without a
    /// sale: minor units by currency.
    pub money_at_risk_minor_units: BTreeMap<String, i128>,
    /// Units of stock that are reserved.
    pub units_held: i64,
    /// Sagas that have not ended.
    pub open_sagas: i64,
    /// How long the oldest of them is open.
    pub oldest_open_saga_seconds: i64,
    /// Settings of the databases by which a commit that was acknowledged may be lost, as in `fsync = off`.
    pub unsafe_settings: BTreeSet<String>,
}

static OPEN: Statement<(), (i64, Option<DateTime<Utc>>)> =
    Statement::new("select count(*), min(create_time) from orchestrator.saga where not ended");

static HELD: Statement<(), (i64,)> =
    Statement::new("select coalesce(sum(reserved), 0)::bigint from inventory.stock");

pub(super) fn statements() -> Vec<&'static dyn Checked> {
    vec![&OPEN, &HELD]
}

impl Figures {
    /// Those that a database knows by itself.
    pub(super) async fn read(snapshot: &mut Snapshot) -> Result<Self, Error> {
        let room = Room::Orchestrator;
        let (open_sagas, oldest) = OPEN.one(snapshot.at(room), ()).await.map_err(unreadable(room))?;
        let oldest = oldest.map_or(0, |time| (snapshot.now - time).num_seconds().max(0));
        let room = Room::Inventory;
        let (units_held,) = HELD.one(snapshot.at(room), ()).await.map_err(unreadable(room))?;
        let mut unsafe_settings = BTreeSet::new();
        for room in Room::ALL {
            unsafe_settings.extend(unsafe_settings_of(snapshot.at(room)).await.map_err(unreadable(room))?);
        }
        Ok(Self {
            open_sagas,
            oldest_open_saga_seconds: oldest,
            units_held,
            unsafe_settings,
            ..Self::default()
        })
    }

    /// One saga more.
    pub(super) fn add(&mut self, bundle: &Bundle, book: &Book) {
        let Some(saga) = &bundle.saga else { return };
        if !["PARKED", "COMPENSATING", "COMPENSATED"].contains(&saga.state.as_str()) {
            return;
        }
        for line in bundle.attempts.iter().map(|attempt| book.line(attempt.payment)) {
            if line.net() > 0 {
                *self.money_at_risk_minor_units.entry(line.currency().to_owned()).or_default() += line.net();
            }
        }
    }
}
