//! I9, the outboxes: what waits there too long, and what is dead.
//!
//! A dead row is no violation, it is there for a person; it is listed. Whether the commands of ended sagas had their
//! effect is judged saga by saga, in `judge/commands.rs`.

use std::collections::HashSet;

use chassis::sql::{Checked, Statement};
use chrono::{DateTime, SecondsFormat, Utc};
use uuid::Uuid;

use super::{
    Error, Rule,
    report::Invariant,
    sources::{Room, Snapshot, unreadable},
    tally::Tally,
};

/// Rows read at once.
const PAGE: i64 = 5_000;

/// Id, routing key, kind, since when; since when it is dead, and why.
type OutboxRow = (Uuid, String, String, DateTime<Utc>, Option<DateTime<Utc>>, Option<String>);

macro_rules! outboxes {
    ($($name:ident = $room:ident $schema:literal;)*) => {
        $(static $name: Statement<(Uuid, i64), OutboxRow> = Statement::new(concat!(
            "select outbox_id, routing_key, kind, create_time, dead_time, dead_reason from ",
            $schema,
            ".outbox where outbox_id > $1 order by outbox_id limit $2"
        ));)*

        static ALL: &[(Room, &Statement<(Uuid, i64), OutboxRow>)] = &[$((Room::$room, &$name)),*];

        pub(super) fn statements() -> Vec<&'static dyn Checked> {
            vec![$(&$name),*]
        }
    };
}

outboxes! {
    ORDERS = Orders "orders";
    INVENTORY = Inventory "inventory";
    RISK = Risk "risk";
    PAYMENTS = Payments "payments";
    LEDGER = Ledger "ledger";
    ORCHESTRATOR = Orchestrator "orchestrator";
}

/// Judges what waits; the ids of the orchestrator's dead messages.
pub(super) async fn judge(
    snapshot: &mut Snapshot,
    rule: &Rule,
    tally: &mut Tally,
) -> Result<HashSet<Uuid>, Error> {
    let mut dead = HashSet::new();
    for (room, statement) in ALL {
        let mut last = Uuid::nil();
        loop {
            let rows = statement.all(snapshot.at(*room), (last, PAGE)).await.map_err(unreadable(*room))?;
            let Some((id, ..)) = rows.last() else { break };
            last = *id;
            tally.checked(Invariant::I9, rows.len() as u64);
            for row in rows {
                if *room == Room::Orchestrator && row.4.is_some() {
                    dead.insert(row.0);
                }
                look(*room, row, rule, tally);
            }
        }
    }
    Ok(dead)
}

fn look(room: Room, row: OutboxRow, rule: &Rule, tally: &mut Tally) {
    let (id, routing_key, kind, since, dead, why) = row;
    let name = format!("{} {kind} {id} to {routing_key}", room.schema());
    let time = |time: DateTime<Utc>| time.to_rfc3339_opts(SecondsFormat::Secs, true);
    match dead {
        Some(dead) => {
            let why = why.unwrap_or_default();
            tally.inform(Invariant::I9, format!("dead since {}: {name}: {why}", time(dead)));
        }
        None if rule.is_past(since, rule.outbox_grace) => {
            tally.suspect(Invariant::I9, 0, format!("not delivered since {}: {name}", time(since)));
        }
        None => {}
    }
}
