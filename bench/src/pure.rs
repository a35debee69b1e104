//! What an order costs where nothing waits: the pure functions on its path, as cases whose instructions can be counted.
//!
//! `cargo xtask instructions` runs each under valgrind, which counts what is executed within [`measured`]. The count is
//! the same each time, so that a regression is seen that no clock on a shared machine would show. Golden journals and
//! fixed requests are the input.

use std::{collections::VecDeque, hint::black_box, sync::Arc};

use chassis::{
    barrier::{self, RequestHash},
    clock,
};
use chrono::DateTime;
use ledger_svc::chain::{Entry, Line, ORIGIN, Position, Seal};
use orchestrator::{
    catalog::{Kind, order::OrderSaga},
    journal::{Recorded, Transition, take_group},
    saga::{Event, Move, State, next},
};
use proto::{
    order::v1::{
        Card, CreateOrderRequest, OrderLine, PaymentInput, QuoteItem, QuoteLine, payment_input::Method,
    },
    step::StepHeader,
};
use tonic::metadata::MetadataMap;
use types::{Currency, SagaId, Sku};
use uuid::Uuid;

/// A journal as it was stored: two lines of goods, happy to its end.
const JOURNAL: &str = include_str!("../../orchestrator/golden/order-2/plain.jsonl");

/// One that was turned round: declined, and everything taken back.
const DECLINED: &str = include_str!("../../orchestrator/golden/order-2/declined.jsonl");

/// The one function within which instructions are counted.
#[inline(never)]
pub fn measured(times: u64, work: &mut dyn FnMut()) {
    for _ in 0..times {
        work();
    }
}

/// A case, made ready.
pub type Work = Box<dyn FnMut()>;

/// Every case by its name.
#[must_use]
pub fn cases() -> Vec<(&'static str, fn() -> anyhow::Result<Work>)> {
    vec![
        ("check a CreateOrder request", check_request),
        ("price a cart of three lines", price_cart),
        ("read a journal", read_journal),
        ("write a journal", write_journal),
        ("fold a journal", fold_journal),
        ("decide at every version", decide),
        ("make every call", make_calls),
        ("decide what is taken back", decide_back),
        ("make every command that takes back", make_commands),
        ("show and announce every version", show),
        ("take a group of 512 commits", group),
        ("hash a request, ask the barrier", ask_barrier),
        ("seal 100 transactions", seal),
    ]
}

fn journal() -> anyhow::Result<Vec<Vec<Recorded>>> {
    read(JOURNAL)
}

fn read(journal: &str) -> anyhow::Result<Vec<Vec<Recorded>>> {
    journal.lines().map(|row| Ok(serde_json::from_str(row)?)).collect()
}

fn saga() -> anyhow::Result<Arc<dyn Kind>> {
    let saga = OrderSaga::version(2, 1_800_000, 60_000);
    Ok(Arc::new(saga.ok_or_else(|| anyhow::anyhow!("there is no version 2"))?))
}

fn fold(events: &[Recorded]) -> anyhow::Result<State> {
    Ok(State::load(events.iter().map(|recorded| (&recorded.event, recorded.at)))?)
}

fn states() -> anyhow::Result<Vec<(State, i64)>> {
    states_of(JOURNAL)
}

/// The state at each version, with the time of its last fact.
fn states_of(journal: &str) -> anyhow::Result<Vec<(State, i64)>> {
    let mut events = Vec::new();
    let mut states = Vec::new();
    for row in read(journal)? {
        events.extend(row);
        let at = events.last().map_or(0, |recorded| recorded.at);
        states.push((fold(&events)?, at));
    }
    Ok(states)
}

fn input() -> anyhow::Result<String> {
    let journal = journal()?;
    match journal.first().and_then(|row| row.first()).map(|recorded| &recorded.event) {
        Some(Event::Started { input, .. }) => Ok(input.clone()),
        _ => anyhow::bail!("the journal does not begin with its start"),
    }
}

fn read_journal() -> anyhow::Result<Work> {
    let rows: Vec<&str> = JOURNAL.lines().collect();
    Ok(Box::new(move || {
        for row in &rows {
            let _ = black_box(serde_json::from_str::<Vec<Recorded>>(black_box(row)));
        }
    }))
}

fn write_journal() -> anyhow::Result<Work> {
    let journal = journal()?;
    Ok(Box::new(move || {
        for row in &journal {
            let _ = black_box(serde_json::to_string(black_box(row)));
        }
    }))
}

fn fold_journal() -> anyhow::Result<Work> {
    let events = journal()?.concat();
    Ok(Box::new(move || drop(black_box(fold(black_box(&events))))))
}

fn decide() -> anyhow::Result<Work> {
    let (saga, states) = (saga()?, states()?);
    Ok(Box::new(move || {
        for (state, at) in &states {
            black_box(next(saga.definition(), black_box(state), *at));
        }
    }))
}

/// Version and step of each move of one sort, decided so many milliseconds after the last fact.
fn wanted(
    saga: &dyn Kind,
    states: &[(State, i64)],
    later: i64,
    sort: impl Fn(Move) -> Option<usize>,
) -> Vec<(usize, usize)> {
    let of = |(version, (state, at)): (usize, &(State, i64))| {
        let moves = next(saga.definition(), state, *at + later);
        moves.into_iter().filter_map(&sort).map(|step| (version, step)).collect::<Vec<_>>()
    };
    states.iter().enumerate().flat_map(of).collect()
}

fn make_calls() -> anyhow::Result<Work> {
    let (saga, states, input) = (saga()?, states()?, input()?);
    let id = SagaId::from_uuid(Uuid::from_u128(7));
    let content = Arc::clone(&saga).read(id, &input)?;
    let id = id.to_string();
    let calls = wanted(saga.as_ref(), &states, 0, |one| match one {
        Move::Call(step) => Some(step),
        _ => None,
    });
    anyhow::ensure!(calls.len() >= 4, "the journal leads to {} calls", calls.len());
    Ok(Box::new(move || {
        for (version, step) in &calls {
            let name = saga.definition().steps[*step].name.to_string();
            let header = StepHeader { saga_id: id.clone(), step: name, attempt: 1, ..StepHeader::default() };
            let _ = black_box(content.call(*step, header, &states[*version].0));
        }
    }))
}

/// So much later, in milliseconds, a command that nobody answered is sent again.
const MUCH_LATER: i64 = 3_600_000;

fn decide_back() -> anyhow::Result<Work> {
    let (saga, states) = (saga()?, states_of(DECLINED)?);
    Ok(Box::new(move || {
        for (state, at) in &states {
            black_box(next(saga.definition(), black_box(state), *at + MUCH_LATER));
        }
    }))
}

fn make_commands() -> anyhow::Result<Work> {
    let (saga, states) = (saga()?, states_of(DECLINED)?);
    let id = SagaId::from_uuid(Uuid::from_u128(7)).to_string();
    let commands = wanted(saga.as_ref(), &states, MUCH_LATER, |one| match one {
        Move::Compensate(step) => Some(step),
        _ => None,
    });
    anyhow::ensure!(commands.len() >= 2, "the journal leads to {} commands", commands.len());
    Ok(Box::new(move || {
        for (version, step) in &commands {
            let name = saga.definition().steps[*step].name.to_string();
            let header = StepHeader { saga_id: id.clone(), step: name, attempt: 1, ..StepHeader::default() };
            let _ = black_box(saga.command(*step, header, &states[*version].0));
        }
    }))
}

fn show() -> anyhow::Result<Work> {
    let (saga, states, input) = (saga()?, states()?, input()?);
    let content = Arc::clone(&saga).read(SagaId::from_uuid(Uuid::from_u128(7)), &input)?;
    Ok(Box::new(move || {
        for ((state, at), version) in states.iter().zip(1..) {
            let projection = saga.project(black_box(state));
            black_box(content.announce(&projection, version, *at));
        }
    }))
}

fn group() -> anyhow::Result<Work> {
    let one = |saga: u128| Transition {
        saga: SagaId::from_uuid(Uuid::from_u128(saga)),
        shard: i16::try_from(saga % 16).unwrap_or_default(),
        epoch: 1,
        version: 1,
        commit_id: Uuid::from_u128(saga),
        events: Vec::new(),
        state: "RUNNING",
        reason: String::new(),
        ended: false,
        projection: None,
        messages: Vec::new(),
        signals: Vec::new(),
        is_fresh: true,
    };
    let waiting: VecDeque<_> = (0..512).map(one).collect();
    Ok(Box::new(move || drop(black_box(take_group(&mut waiting.clone())))))
}

fn ask_barrier() -> anyhow::Result<Work> {
    Ok(Box::new(|| {
        let hash = RequestHash::new(1)
            .field("order_id", black_box(b"ord_01k0000000000000000000000"))
            .field("sku", black_box(b"P1001"))
            .field("quantity", &black_box(3_i64).to_be_bytes())
            .finish();
        black_box(barrier::forward(None, &hash));
    }))
}

fn check_request() -> anyhow::Result<Work> {
    let line = |sku: &str| OrderLine { sku: sku.into(), quantity: 2, unit_price: None };
    let request = CreateOrderRequest {
        request_id: "0190f5e4-7c1a-7f3e-9a55-0e8d3c2b1a00".into(),
        customer_id: "c_1".into(),
        merchant_id: "m_1".into(),
        currency_code: "EUR".into(),
        lines: ["P1001", "P1002", "P1003"].map(line).to_vec(),
        payment: Some(PaymentInput { method: Some(Method::Card(Card { token: "tok_approve".into() })) }),
        wait: Some(prost_types::Duration { seconds: 10, nanos: 0 }),
        ..CreateOrderRequest::default()
    };
    let headers = MetadataMap::new();
    Ok(Box::new(move || drop(black_box(orchestrator::doors::create_order(&headers, request.clone())))))
}

fn price_cart() -> anyhow::Result<Work> {
    let euro: Currency = "EUR".parse()?;
    let skus = ["P1001", "P1002", "P1003"];
    let prices = skus.into_iter().zip([1000, 2550, 199]);
    let prices =
        prices.map(|(sku, price)| Ok(((sku.parse::<Sku>()?, euro), price))).collect::<anyhow::Result<_>>()?;
    let line = |sku: &str| QuoteLine { sku: sku.into(), quantity: 2, expected_unit_price: None };
    let item = QuoteItem {
        key: String::new(),
        merchant_id: "m_1".into(),
        currency_code: "EUR".into(),
        lines: skus.map(line).to_vec(),
    };
    Ok(Box::new(move || drop(black_box(order_svc::doors::quote(item.clone(), &prices)))))
}

fn seal() -> anyhow::Result<Work> {
    let time = DateTime::from_timestamp_millis(1_795_771_819_000).unwrap_or_else(clock::now);
    let account = |n: usize, amount: i64| Entry {
        id: Uuid::from_u128(n as u128),
        account: format!("merchant:m_{n}:EUR"),
        amount,
        currency: "EUR".into(),
    };
    let lines: Vec<_> = (0..100_usize)
        .map(|n| {
            let line = Line {
                position: Position { era: 1, xid: n as u64, transaction: Uuid::from_u128(n as u128) },
                saga: Uuid::from_u128(n as u128),
                step: "post".into(),
                kind: "POST".into(),
                outcome: "DONE".into(),
                hash: Some(vec![1; 33]),
                reply: Some(vec![2; 24]),
                order: Some(Uuid::from_u128(n as u128)),
                payment: Some(Uuid::from_u128(n as u128)),
                reason: None,
                create_time: time,
            };
            (line, vec![account(n, 120), account(n + 1, -100), account(n + 2, -20)])
        })
        .collect();
    Ok(Box::new(move || {
        let mut seal = Seal::begin(1, &ORIGIN, Position::START);
        for (line, entries) in &lines {
            seal.add(line, entries);
        }
        black_box(seal.close(time));
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_case_can_be_made_ready_and_run() {
        let mut names = Vec::new();
        for (name, ready) in cases() {
            ready().unwrap()();
            names.push(name);
        }
        let committed: Vec<&str> = include_str!("../instructions.txt")
            .lines()
            .filter(|line| !line.starts_with('#'))
            .filter_map(|line| line.rsplit_once("  ").map(|(_, name)| name))
            .collect();
        assert_eq!(names, committed, "`cargo xtask instructions --write` writes them anew");
    }
}
