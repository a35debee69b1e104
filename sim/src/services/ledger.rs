//! ledger-svc: Post, Reverse, and what goes through suspense. Mirrors `ledger-svc/src/commands`.

use std::collections::BTreeMap;

use chassis::{
    barrier::{Back, Forward, Outcome, Record},
    bus::{Exchange, Message, Verdict, header as headers},
    clock,
};
use ledger_svc::{
    domain::{self, Entry},
    wire,
};
use prost::{Message as _, Name as _};
use proto::{
    ledger::v1::{PostDone, PostItem, ReverseDone, ReverseItem},
    payment::v1::PaymentRefunded,
    step::{Answer, BackAnswer, Refused, STEP_ANSWER, StepAnswer, TurnedAway, read_command},
};
use types::{SagaId, StepKey, TransactionId};

use super::{asked, asked_back, handle, header, turn_away};
use crate::{
    broker::Settle,
    bug::Bug,
    mark::Mark,
    network::{Reply, serve},
    process::ProcessId,
    world::World,
};

/// Whose account is closed.
pub const CLOSED: &str = "m_closed";

/// What a ledger transaction is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A posting.
    Post,
    /// Its reversal.
    Reverse,
    /// A charge and its refund without a sale.
    Suspense,
}

/// A transaction's row with its entries. Never changed.
#[derive(Debug, Clone)]
pub struct Row {
    pub outcome: Outcome,
    hash: Vec<u8>,
    refused: Option<Refused>,
    pub entries: Vec<Entry>,
}

impl Row {
    fn bare(outcome: Outcome) -> Self {
        Self { outcome, hash: Vec::new(), refused: None, entries: Vec::new() }
    }
}

/// The database.
#[derive(Debug, Clone, Default)]
pub struct Books {
    pub rows: BTreeMap<(StepKey, Kind), Row>,
}

impl Books {
    /// A step's two rows as one barrier record.
    fn record(&self, key: &StepKey) -> Option<Record> {
        let post = self.rows.get(&(key.clone(), Kind::Post))?;
        let back = self.rows.get(&(key.clone(), Kind::Reverse)).map(|row| row.outcome);
        Some(Record { forward: post.outcome, forward_hash: post.hash.clone(), back })
    }

    /// Whether any step of the saga was booked, be it reversed since or not.
    fn has_sale(&self, saga: SagaId) -> bool {
        self.rows
            .iter()
            .any(|((key, kind), row)| key.saga == saga && *kind == Kind::Post && row.outcome == Outcome::Done)
    }

    /// What the books say that the provider holds for a saga: what came, and what went.
    #[must_use]
    pub fn clearing(&self, saga: SagaId) -> (i64, i64) {
        let rows = self.rows.iter().filter(|((key, _), _)| key.saga == saga);
        let entries = rows.flat_map(|(_, row)| &row.entries);
        let clearing = entries.filter(|entry| entry.account.as_str().starts_with("provider_clearing"));
        clearing.fold((0, 0), |(came, went), entry| {
            if entry.amount > 0 { (came + entry.amount, went) } else { (came, went - entry.amount) }
        })
    }
}

/// Post.
pub fn post(w: &mut World, process: ProcessId, item: PostItem, reply: Reply) {
    let read = header(item.header.as_ref()).and_then(|header| wire::post(item, header));
    let item = match read {
        Ok(item) => item,
        Err(why) => return turn_away(w, reply, why),
    };
    serve(w, process, reply, move |w| {
        let (key, sale) = (item.key, item.sale);
        let done =
            PostDone { transaction_id: TransactionId::from_uuid(key.saga.derive(&key.step)).to_string() };
        let record = w.services.ledger.record(&key);
        match asked(w, record.as_ref(), &sale.hash()) {
            Forward::Done => Answer::Done(done),
            Forward::Refused => {
                let row = w.services.ledger.rows.get(&(key, Kind::Post));
                Answer::Refused(row.and_then(|row| row.refused.clone()).unwrap_or_default())
            }
            Forward::Fenced => Answer::Fenced,
            Forward::Mismatch => TurnedAway::mismatch(&key).into(),
            Forward::InProgress => TurnedAway::failed("a posting is never in progress").into(),
            Forward::Fresh => {
                let is_closed = |account: &domain::AccountId| account.as_str().contains(CLOSED);
                let row = Row { hash: sale.hash(), ..Row::bare(Outcome::Done) };
                if let Err(domain::Refusal::AccountClosed(account)) = domain::admit(&sale, is_closed) {
                    let metadata = [("account".to_owned(), account.into_string())].into();
                    let refused = Refused { reason: "ACCOUNT_CLOSED".into(), metadata };
                    let row = Row { refused: Some(refused.clone()), outcome: Outcome::Refused, ..row };
                    w.services.ledger.rows.insert((key, Kind::Post), row);
                    return Answer::Refused(refused);
                }
                let mut entries = sale.entries();
                if w.has(Bug::HalfPosting) {
                    entries.pop();
                }
                w.judge.done(&key);
                w.services.ledger.rows.insert((key, Kind::Post), Row { entries, ..row });
                Answer::Done(done)
            }
        }
    });
}

/// Reverse, by message.
pub fn message(w: &mut World, process: ProcessId, message: &Message, settle: Settle) {
    let read = read_command::<ReverseItem>(&message.kind, &message.body)
        .and_then(|(item, header)| wire::reverse(item, header, Some(message.id)));
    let item = match read {
        Ok(item) => item,
        Err(why) => return settle(w, Verdict::Dead(why)),
    };
    let command = message.id;
    handle(w, process, message, settle, move |w| {
        let says = reverse(w, &item.key)?;
        let answer = StepAnswer::compensation(&item.key, &command.to_string(), &says, clock::now());
        Ok(answer
            .map(|body| {
                Message::new(Exchange::Replies, "orchestrator", STEP_ANSWER, "ledger", body.encode_to_vec())
                    .with(headers::SAGA, body.saga_id)
                    .with(headers::STEP, body.step)
            })
            .into_iter()
            .collect())
    });
}

/// What Reverse does, inside a transaction.
pub(super) fn reverse(w: &mut World, key: &StepKey) -> Result<BackAnswer<ReverseDone>, String> {
    let at = |kind| (key.clone(), kind);
    let done = ReverseDone { transaction_id: String::new() };
    let record = w.services.ledger.record(key);
    Ok(match asked_back(w, record.as_ref()) {
        Back::TakeBack => {
            let posted = w.services.ledger.rows.get(&at(Kind::Post)).map(|row| row.entries.clone());
            let entries =
                domain::mirror(posted.unwrap_or_default()).map_err(|overflow| overflow.to_string())?;
            let row = Row { entries, ..Row::bare(Outcome::Done) };
            w.services.ledger.rows.insert(at(Kind::Reverse), row);
            w.judge.taken_back(key);
            w.judge.undone(key);
            BackAnswer::Done(done)
        }
        Back::Tombstone => {
            w.mark(Mark::NotApplied);
            if !w.has(Bug::NoTombstone) {
                w.services.ledger.rows.insert(at(Kind::Post), Row::bare(Outcome::Blocked));
                w.services.ledger.rows.insert(at(Kind::Reverse), Row::bare(Outcome::Blocked));
            }
            w.judge.taken_back(key);
            BackAnswer::NotApplied
        }
        Back::Block => {
            w.services.ledger.rows.insert(at(Kind::Reverse), Row::bare(Outcome::Blocked));
            w.judge.taken_back(key);
            BackAnswer::NotApplied
        }
        Back::Done => BackAnswer::Done(done),
        Back::NotApplied => BackAnswer::NotApplied,
        Back::WantBack | Back::InProgress => return Err("a reversal is never in progress".into()),
    })
}

/// `payment.refunded`: what was charged and given back without a sale goes through suspense, once.
pub fn event(w: &mut World, process: ProcessId, message: &Message, settle: Settle) {
    let read = if message.kind == PaymentRefunded::full_name() {
        PaymentRefunded::decode(message.body.as_slice())
            .map_err(|error| error.to_string())
            .and_then(|event| wire::refunded(&event))
    } else {
        Err(format!("the ledger takes no {}", message.kind))
    };
    let item = match read {
        Ok(item) => item,
        Err(why) => return settle(w, Verdict::Dead(why)),
    };
    handle(w, process, message, settle, move |w| {
        let at = (item.key.clone(), Kind::Suspense);
        let books = &w.services.ledger;
        if books.rows.contains_key(&at) || books.has_sale(item.key.saga) || w.has(Bug::NoSuspense) {
            return Ok(Vec::new());
        }
        w.mark(Mark::Suspense);
        let row =
            Row { hash: item.refunded.hash(), entries: item.refunded.entries(), ..Row::bare(Outcome::Done) };
        w.services.ledger.rows.insert(at, row);
        Ok(Vec::new())
    });
}
