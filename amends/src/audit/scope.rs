//! What an audit reads: everything, or what an earlier one has not settled.
//!
//! Ids of sagas are of the time when they began, so what is new is one range of ids; what was open before is known by
//! name. What only the whole shows (the sums of accounts and stock, stray charges, keys, the chain before the last block
//! that was judged) is left to a whole audit.

use chassis::sql::{Checked, Statement};
use chrono::{DateTime, TimeDelta, Utc};
use uuid::Uuid;

use super::{
    Error,
    anchor::Anchor,
    sagas::Page,
    sources::{Room, Snapshot, unreadable},
};

/// Clocks of instances differ, and a start commits after its id was made.
const OVERLAP: TimeDelta = TimeDelta::minutes(10);

/// More old sagas than this are not looked up one by one.
const ONE_BY_ONE: usize = 1_000;

/// Every saga there is.
pub(super) const EVERYTHING: Page = (Uuid::nil(), Uuid::max());

/// Where an audit left off.
#[derive(Debug, Clone)]
pub struct Since {
    begun: DateTime<Utc>,
    /// Sagas that could not be judged for good.
    pub(super) unsettled: Vec<Uuid>,
    pub(super) verified: Option<Anchor>,
}

impl Since {
    pub(super) const fn new(now: DateTime<Utc>, unsettled: Vec<Uuid>, verified: Option<Anchor>) -> Self {
        Self { begun: now, unsettled, verified }
    }

    /// Which sagas are to be read.
    pub(super) fn ranges(&self) -> Vec<Page> {
        let first = earliest(self.begun - OVERLAP);
        let mut old: Vec<_> = self.unsettled.iter().copied().filter(|id| *id <= first).collect();
        old.sort_unstable();
        old.dedup();
        match old.first() {
            Some(oldest) if old.len() > ONE_BY_ONE => vec![(before(*oldest), Uuid::max())],
            _ => old.into_iter().map(|id| (before(id), id)).chain([(first, Uuid::max())]).collect(),
        }
    }
}

/// Before every id that is made from this time on.
fn earliest(time: DateTime<Utc>) -> Uuid {
    let milliseconds = u128::try_from(time.timestamp_millis()).unwrap_or_default();
    Uuid::from_u128(milliseconds << 80)
}

fn before(id: Uuid) -> Uuid {
    Uuid::from_u128(id.as_u128().saturating_sub(1))
}

static PAYMENTS: Statement<(Uuid, Uuid), (Uuid,)> = Statement::new(
    "select payment_id from payments.attempt where saga_id > $1 and saga_id <= $2 order by payment_id",
);

pub(super) fn statements() -> Vec<&'static dyn Checked> {
    vec![&PAYMENTS]
}

/// The payments of the sagas in these ranges.
pub(super) async fn payments(snapshot: &mut Snapshot, ranges: &[Page]) -> Result<Vec<Uuid>, Error> {
    let mut payments = Vec::new();
    let room = Room::Payments;
    for range in ranges {
        let found = PAYMENTS.all(snapshot.at(room), *range).await.map_err(unreadable(room))?;
        payments.extend(found.into_iter().map(|(id,)| id));
    }
    Ok(payments)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_new_is_a_range_and_what_was_open_is_known_by_name() {
        let now = DateTime::from_timestamp_millis(1_800_000_000_000).unwrap();
        let old = earliest(now - TimeDelta::days(3));
        let recent = earliest(now - TimeDelta::minutes(1));
        let since = Since::new(now, vec![recent, old, old], None);
        let first = earliest(now - OVERLAP);
        assert_eq!(since.ranges(), [(before(old), old), (first, Uuid::max())]);
        assert!(first < recent);

        let many: Vec<_> = (0..=1_000).map(|at| earliest(now - TimeDelta::days(3 + at))).collect();
        let oldest = *many.last().unwrap();
        assert_eq!(Since::new(now, many, None).ranges(), [(before(oldest), Uuid::max())]);
    }

    #[test]
    fn an_id_made_later_lies_behind() {
        let time = chassis::clock::now();
        let id = chassis::clock::new_uuid();
        assert!(earliest(time - TimeDelta::milliseconds(1)) < id);
        assert!(earliest(time + TimeDelta::minutes(1)) > id);
    }
}
