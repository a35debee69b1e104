//! I7 and I8: what was acknowledged is there, and one key is one order.
//!
//! What the orchestrator stores of keys is judged within its snapshot. The client's own record is read as a stream: of
//! a line only hashes are kept.

use std::{
    collections::{HashMap, hash_map::Entry},
    fs::File,
    io::{BufRead as _, BufReader},
    path::Path,
};

use chassis::sql::{Checked, Statement};
use serde::Deserialize;
use types::OrderId;
use uuid::Uuid;

use super::{
    Error,
    report::Invariant,
    sources::{Room, Snapshot, unreadable},
    tally::{Tally, hash},
};

/// Lines looked up at once.
const PAGE: usize = 5_000;

static COUNT: Statement<(), (i64,)> = Statement::new("select count(*) from orchestrator.idempotency_key");

static STRAYS: Statement<(), (String, String, Uuid, bool)> = Statement::new(
    "select k.merchant_id, k.request_key, k.order_id, o.order_id is not null from orchestrator.idempotency_key k \
     left join orchestrator.\"order\" o on o.order_id = k.order_id \
     where o.order_id is null or o.merchant_id <> k.merchant_id order by k.merchant_id, k.request_key",
);

static SHARED: Statement<(), (Uuid, i64)> = Statement::new(
    "select order_id, count(*) from orchestrator.idempotency_key group by order_id having count(*) > 1 order by order_id",
);

/// Line, order, key; whether the order is there, and the order that the key stands for.
type Found = (i64, Uuid, String, bool, Option<Uuid>);

/// Lines, orders, keys.
type Batch = (Vec<i64>, Vec<Uuid>, Vec<String>);

static FIND: Statement<Batch, Found> = Statement::new(
    "select a.line, a.order_id, a.request_key, o.order_id is not null, k.order_id \
     from unnest($1::bigint[], $2::uuid[], $3::text[]) as a (line, order_id, request_key) \
     left join orchestrator.\"order\" o on o.order_id = a.order_id \
     left join orchestrator.idempotency_key k on k.merchant_id = o.merchant_id and k.request_key = a.request_key",
);

pub(super) fn statements() -> Vec<&'static dyn Checked> {
    vec![&COUNT, &STRAYS, &SHARED, &FIND]
}

/// I8, as the orchestrator stores it.
pub(super) async fn judge_stored(snapshot: &mut Snapshot, tally: &mut Tally) -> Result<(), Error> {
    let room = || unreadable(Room::Orchestrator);
    let connection = snapshot.at(Room::Orchestrator);
    let (count,) = COUNT.one(connection, ()).await.map_err(room())?;
    tally.checked(Invariant::I8, u64::try_from(count).unwrap_or_default());
    for (merchant, key, order, is_there) in STRAYS.all(connection, ()).await.map_err(room())? {
        let order = OrderId::from_uuid(order);
        let what = if is_there { "which is another merchant's" } else { "which is not there" };
        tally.certain(Invariant::I8, format!("key {key} of {merchant} stands for {order}, {what}"));
    }
    for (order, keys) in SHARED.all(connection, ()).await.map_err(room())? {
        tally.certain(Invariant::I8, format!("{keys} keys stand for {}", OrderId::from_uuid(order)));
    }
    Ok(())
}

/// One line of the client's record.
#[derive(Debug, Deserialize)]
struct Line {
    /// Without one, nothing is said about keys.
    #[serde(default)]
    key: Option<String>,
    #[serde(default)]
    fingerprint: Option<String>,
    order_id: String,
}

/// What was acknowledged so far, as hashes.
#[derive(Default)]
struct Record {
    keys: HashMap<u64, (u64, Uuid)>,
    orders: HashMap<Uuid, u64>,
}

impl Record {
    /// What this line says against earlier ones.
    fn add(&mut self, key: &str, fingerprint: &str, order: Uuid) -> Option<String> {
        let (key_hash, fingerprint) = (hash(&key), hash(&fingerprint));
        let id = OrderId::from_uuid(order);
        match self.keys.entry(key_hash) {
            Entry::Occupied(first) if first.get().1 != order => {
                let other = OrderId::from_uuid(first.get().1);
                return Some(format!("key {key} was acknowledged as {other} and as {id}"));
            }
            Entry::Occupied(first) if first.get().0 != fingerprint => {
                return Some(format!("key {key} was acknowledged as {id} with different fingerprints"));
            }
            Entry::Occupied(_) => {}
            Entry::Vacant(place) => {
                place.insert((fingerprint, order));
            }
        }
        let other = *self.orders.entry(order).or_insert(key_hash) != key_hash;
        other.then(|| format!("{id} was acknowledged under {key} and under another key"))
    }
}

/// I7 and I8, by the client's record.
pub(super) async fn judge_acknowledged(
    snapshot: &mut Snapshot,
    path: &Path,
    tally: &mut Tally,
) -> Result<(), Error> {
    let io = |source| Error::File { path: path.to_owned(), source };
    let mut file = BufReader::new(File::open(path).map_err(io)?);
    let mut record = Record::default();
    let mut batch = Batch::default();
    let (mut text, mut number) = (String::new(), 0_u64);
    loop {
        text.clear();
        let is_over = file.read_line(&mut text).map_err(io)? == 0;
        if !is_over && !text.trim().is_empty() {
            number += 1;
            match parse(&text) {
                Ok((line, order)) => {
                    tally.checked(Invariant::I7, 1);
                    if let Some(key) = &line.key {
                        tally.checked(Invariant::I8, 1);
                        let said = record.add(key, line.fingerprint.as_deref().unwrap_or_default(), order);
                        said.into_iter().for_each(|text| tally.certain(Invariant::I8, text));
                    }
                    batch.0.push(i64::try_from(number).unwrap_or(i64::MAX));
                    batch.1.push(order);
                    batch.2.push(line.key.unwrap_or_default());
                }
                // Whoever wrote it was killed while it wrote.
                Err(_) if !text.ends_with('\n') => {
                    tally.inform(Invariant::I7, format!("line {number} is cut off and was left out"));
                }
                Err(why) => return Err(Error::Line { path: path.to_owned(), line: number, why }),
            }
        }
        if batch.0.len() >= PAGE || (is_over && !batch.0.is_empty()) {
            look_up(snapshot, std::mem::take(&mut batch), tally).await?;
        }
        if is_over {
            return Ok(());
        }
    }
}

/// What a line acknowledges: the order, and under which key.
pub(crate) fn acknowledged(text: &str) -> Result<(Uuid, Option<String>), String> {
    parse(text).map(|(line, order)| (order, line.key))
}

fn parse(text: &str) -> Result<(Line, Uuid), String> {
    let line: Line = serde_json::from_str(text).map_err(|error| error.to_string())?;
    if line.key.as_ref().is_some_and(|key| key.contains('\0')) {
        // No database holds such a key, and none can be asked for it.
        return Err("key: contains NUL".into());
    }
    let order = match line.order_id.parse::<OrderId>() {
        Ok(order) => order.uuid(),
        Err(error) => line.order_id.parse().map_err(|_| format!("order_id: {error}"))?,
    };
    Ok((line, order))
}

async fn look_up(snapshot: &mut Snapshot, batch: Batch, tally: &mut Tally) -> Result<(), Error> {
    let room = Room::Orchestrator;
    let found = FIND.all(snapshot.at(room), batch).await.map_err(unreadable(room))?;
    for (line, order, key, is_there, of_key) in found {
        let id = OrderId::from_uuid(order);
        if !is_there {
            let text = format!("{id} (line {line}) was acknowledged and is not there");
            tally.suspect(Invariant::I7, 0, text);
        }
        if let Some(other) = of_key.filter(|other| *other != order) {
            let other = OrderId::from_uuid(other);
            let text = format!("{id} (line {line}) was acknowledged under {key}, which stands for {other}");
            tally.suspect(Invariant::I8, 0, text);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_held_against_itself() {
        let (one, two) = (Uuid::from_u128(1), Uuid::from_u128(2));
        let mut record = Record::default();
        assert_eq!(record.add("k1", "f", one), None);
        assert_eq!(record.add("k1", "f", one), None);
        assert!(record.add("k1", "f", two).unwrap().contains("and as"));
        assert!(record.add("k1", "g", one).unwrap().contains("fingerprints"));
        assert!(record.add("k2", "f", one).unwrap().contains("another key"));
        assert_eq!(record.add("k3", "f", two), None);
    }

    #[test]
    fn a_line_names_its_order_either_way() {
        let id = OrderId::from_uuid(Uuid::from_u128(7));
        let typed = format!(r#"{{"key": "k", "fingerprint": "f", "order_id": "{id}"}}"#);
        let bare = format!(r#"{{"order_id": "{}", "more": 1}}"#, id.uuid());
        assert_eq!(parse(&typed).unwrap().1, id.uuid());
        assert_eq!(parse(&bare).unwrap().1, id.uuid());
        assert!(parse(r#"{"key": "k"}"#).is_err());
        assert!(parse(r#"{"order_id": "pay_x"}"#).unwrap_err().contains("order_id"));
    }
}
