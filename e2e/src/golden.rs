//! Golden journals: what real orders of every kind stored under each released definition, and what followed from it.
//!
//! `orchestrator/golden/order-1/plain.jsonl` has the rows of a journal as they were stored, a version a line;
//! `plain.txt` beside it has the saga's id and, for each version, what a build that loads the saga there does next, and a
//! day later if nothing comes. A build that cannot read one, or does something else, would do so to a saga in flight.
//! `cargo xtask golden` records. Read next: `golden/release.rs`, what the release before says to the databases.

mod release;
mod store;

use std::{fmt::Write as _, path::PathBuf, sync::Arc, time::Duration};

use chassis::barrier::RequestHash;
use orchestrator::{
    catalog::{Content, Kind as SagaKind, order::OrderSaga},
    journal::Recorded,
    participants::Call,
    saga::{Move, State, next},
};
use prost::Message as _;
use proto::step::StepHeader;
use types::OrderId;

pub use self::release::{Facts, Said, facts, read as read_release, said, write as write_release};
use crate::{
    load::{Kind, Line, Shop},
    process::folder,
    soak::QUICK,
    stack::{Options, Ports, Stack},
};

/// Neither is stored: they are in the `Started` event, or say only when a command is sent again.
const DEADLINE_MS: i64 = 30 * 60 * 1000;
const ANSWER_MS: i64 = 60_000;

/// Past every deadline, and every command is due to be sent again.
const LATER_MS: i64 = 24 * 60 * 60 * 1000;

/// Every definition that this build can drive.
#[must_use]
pub fn definitions() -> Vec<Arc<dyn SagaKind>> {
    let all = OrderSaga::all(DEADLINE_MS, ANSWER_MS);
    all.into_iter().map(|saga| Arc::new(saga) as Arc<dyn SagaKind>).collect()
}

/// The name of a definition's folder.
#[must_use]
pub fn name(saga: &dyn SagaKind) -> String {
    format!("{}-{}", saga.definition().kind, saga.definition().version)
}

/// Where the golden journals are.
#[must_use]
pub fn place() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../orchestrator/golden"))
}

/// The name of a kind's files.
#[must_use]
pub fn file(kind: Kind) -> String {
    // As on the command line: `lost-after`.
    clap::ValueEnum::to_possible_value(&kind).unwrap().get_name().to_owned()
}

/// What a build that loads this saga at each of its versions does next.
///
/// # Errors
/// A row that cannot be read, a fact that does not fit, a call that cannot be said.
pub fn follows(saga: &Arc<dyn SagaKind>, saga_id: &str, rows: &[&str]) -> Result<String, String> {
    let mut events: Vec<Recorded> = Vec::new();
    let mut text = format!("{saga_id}\n");
    for (row, version) in rows.iter().zip(1..) {
        let more: Vec<Recorded> = serde_json::from_str(row).map_err(|e| format!("version {version}: {e}"))?;
        events.extend(more);
        let at = events.last().ok_or("an empty row")?.at;
        let state = State::load(events.iter().map(|r| (&r.event, r.at))).map_err(|e| e.to_string())?;
        let input = match &events[0].event {
            orchestrator::saga::Event::Started { input, .. } => input.as_str(),
            _ => "",
        };
        let id = saga_id.parse().map_err(|e| format!("{saga_id}: {e}"))?;
        let content = Arc::clone(saga).read(id, input).map_err(|e| e.to_string())?;
        let story = Story { saga: saga.as_ref(), saga_id, content: content.as_ref(), state: &state };
        let status = saga.project(&state).status;
        let (now, later) = (story.moves(at)?, story.moves(at + LATER_MS)?);
        writeln!(text, "{version} {} {status}: {now}; later: {later}", state.label().as_str()).unwrap();
    }
    Ok(text)
}

/// A saga at one of its versions.
struct Story<'a> {
    saga: &'a dyn SagaKind,
    saga_id: &'a str,
    content: &'a dyn Content,
    state: &'a State,
}

impl Story<'_> {
    fn name(&self, step: usize) -> String {
        self.saga.definition().steps[step].name.to_string()
    }

    fn moves(&self, at: i64) -> Result<String, String> {
        let moves = next(self.saga.definition(), self.state, at);
        let told: Result<Vec<String>, String> = moves.iter().map(|one| self.tell(one)).collect();
        told.map(|told| told.join(", "))
    }

    fn tell(&self, one: &Move) -> Result<String, String> {
        Ok(match one {
            Move::Call(step) => {
                let call = self.content.call(*step, self.header(*step), self.state);
                let body = encoded(&call.map_err(|e| e.to_string())?);
                format!("call {} {}", self.name(*step), fingerprint(&body))
            }
            Move::Compensate(step) => {
                let command = self.saga.command(*step, self.header(*step), self.state);
                let command = command.map_err(|e| e.to_string())?;
                format!("send {} {}", command.kind, fingerprint(&command.body))
            }
            Move::WaitUntil(_) => "wait".to_owned(),
            Move::PassPivot => "pass the pivot".to_owned(),
            Move::TurnRound { reason, take_back, .. } => {
                let names: Vec<String> = take_back.iter().map(|step| self.name(*step)).collect();
                format!("turn round {reason} ({})", names.join(" "))
            }
            Move::Finish(outcome) => format!("finish {outcome:?}"),
            Move::Park { reason, .. } => format!("park {reason}"),
        })
    }

    /// All that changes from call to call is left out: the rest of a body is the same whoever says it, or the
    /// participant finds that it was asked for something else before.
    fn header(&self, step: usize) -> StepHeader {
        StepHeader {
            saga_id: self.saga_id.to_owned(),
            step: self.name(step),
            attempt: 1,
            ..StepHeader::default()
        }
    }
}

fn encoded(call: &Call) -> Vec<u8> {
    match call {
        Call::Open(item) => item.encode_to_vec(),
        Call::Complete(item) => item.encode_to_vec(),
        Call::Reserve(item) => item.encode_to_vec(),
        Call::Commit(item) => item.encode_to_vec(),
        Call::Screen(item) => item.encode_to_vec(),
        Call::Charge(item) => item.encode_to_vec(),
        Call::Post(item) => item.encode_to_vec(),
    }
}

fn fingerprint(body: &[u8]) -> String {
    let hash = RequestHash::new(1).field("body", body).finish();
    hash[1..7].iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
}

/// Records one order of every kind under a definition, from a stack that knows no newer one. What is there is replaced.
///
/// # Panics
/// When an order ends as its kind never may, or one is not seen to end as its kind is there for.
pub async fn record(saga: Arc<dyn SagaKind>, say: impl Fn(&str)) {
    let definition = saga.definition();
    let only = format!("{}:{}", definition.kind, definition.version);
    let mut environment: Vec<_> = QUICK.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    environment.push(("AMENDS_DEFINITIONS".to_owned(), only));
    let options =
        Options { orchestrators: 1, ports: Ports::Any, tail: false, environment, folder: folder("golden") };
    let stack = Stack::start(options).await;
    let line = Line::to(stack.doors());
    crate::eventually("the load is prepared", || async { line.doors().prepare().await.ok() }).await;
    let shop = Shop::at(&line);
    for (kind, i) in Kind::ALL.into_iter().zip(0..) {
        shop.sell_one(kind, i).await;
    }
    shop.ends(Duration::from_secs(180)).await;
    let folder = place().join(name(&*saga));
    std::fs::create_dir_all(&folder).unwrap();
    let mut connection = stack.databases.connect(&orchestrator::SCHEMA).await;
    for (kind, order) in shop.orders() {
        let order: OrderId = order.parse().unwrap();
        let rows = store::journal(&mut connection, order.saga()).await;
        let rows: Vec<&str> = rows.iter().map(String::as_str).collect();
        let follows = follows(&saga, &order.saga().to_string(), &rows).unwrap();
        let place = folder.join(file(kind));
        std::fs::write(place.with_extension("jsonl"), rows.join("\n") + "\n").unwrap();
        std::fs::write(place.with_extension("txt"), follows).unwrap();
        say(&format!("{}: {} rows", place.display(), rows.len()));
    }
    stack.stop().await;
}
