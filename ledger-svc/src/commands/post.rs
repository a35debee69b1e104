//! Post: books a captured payment, once.

use std::collections::{BTreeSet, HashMap};

use chassis::{
    barrier::{self, Forward, Outcome},
    batcher::Command,
    database::{self, Trouble},
    quick::Hunch,
};
use prost::Message as _;
use proto::{
    ledger::v1::PostDone,
    step::{Answer, Refused, TurnedAway},
};
use sqlx::PgConnection;
use types::{StepKey, TransactionId};

use super::{Books, count, impossible, stored};
use crate::{
    domain::{self, AccountId, Refusal, Sale},
    store::{self, Closed, History, Kind, NewRow},
};

/// What is asked.
#[derive(Debug, Clone)]
pub struct PostItem {
    pub key: StepKey,
    pub sale: Sale,
}

/// The command.
pub(crate) struct Post {
    pub(crate) books: Books,
    /// That all of a slice is new, and its accounts are there and open.
    pub(crate) hunch: Hunch,
}

impl Command for Post {
    type Item = PostItem;
    type Reply = Answer<PostDone>;
    type Key = StepKey;
    const NAME: &'static str = "ledger.post";

    fn key(item: &PostItem) -> StepKey {
        item.key.clone()
    }

    async fn run(&self, items: &[PostItem]) -> Result<Vec<Answer<PostDone>>, Trouble> {
        let mut connection = self.books.pool.connection().await?;
        if let Some(answers) = self.hunch.try_it(at_once(&mut connection, items)).await? {
            return Ok(answers);
        }
        let history = store::load_history(&mut connection, items.iter().map(|item| item.key.saga)).await?;
        let mut known = Vec::with_capacity(items.len());
        for item in items {
            known.push(standing(&history, item)?);
        }
        let fresh = items.iter().zip(&known).filter(|(_, known)| known.is_none());
        let accounts: BTreeSet<_> = fresh.flat_map(|(item, _)| item.sale.accounts()).collect();
        let closed = if accounts.is_empty() {
            BTreeSet::new()
        } else {
            store::ready_accounts(&mut connection, &accounts).await?
        };
        let mut rows = Vec::new();
        let answers = items
            .iter()
            .zip(known)
            .map(|(item, known)| {
                known.unwrap_or_else(|| {
                    let (row, answer) = decide(item, &closed);
                    rows.push(row);
                    answer
                })
            })
            .collect();
        if !rows.is_empty() {
            let outcomes: Vec<_> = rows.iter().map(|row| row.outcome.as_str()).collect();
            let mut transaction = database::begin(&mut connection).await?;
            store::book(&mut transaction, rows, Closed::Stops).await?;
            database::commit(transaction).await?;
            outcomes.into_iter().for_each(|outcome| count(Kind::Post, outcome));
        }
        Ok(answers)
    }
}

/// Everything is new and may be booked; none when it is not so.
async fn at_once(
    connection: &mut PgConnection,
    items: &[PostItem],
) -> Result<Option<Vec<Answer<PostDone>>>, Trouble> {
    let nothing_closed = BTreeSet::new();
    let (rows, answers): (Vec<_>, Vec<_>) = items.iter().map(|item| decide(item, &nothing_closed)).unzip();
    let outcomes: Vec<_> = rows.iter().map(|row| row.outcome.as_str()).collect();
    let booked = store::book_at_once(connection, rows).await?;
    Ok(booked.map(|()| {
        outcomes.into_iter().for_each(|outcome| count(Kind::Post, outcome));
        answers
    }))
}

/// The answer that already follows from what is there; none when the step is fresh.
fn standing(history: &History, item: &PostItem) -> Result<Option<Answer<PostDone>>, Trouble> {
    let reply = || history.row(&item.key, Kind::Post).map_or(&[][..], |row| &row.reply);
    Ok(Some(match barrier::forward(history.record(&item.key).as_ref(), &item.sale.hash()) {
        Forward::Fresh => return Ok(None),
        Forward::Done => Answer::Done(stored(reply())?),
        Forward::Refused => Answer::Refused(stored(reply())?),
        Forward::Fenced => Answer::Fenced,
        Forward::Mismatch => Answer::TurnedAway(TurnedAway::mismatch(&item.key)),
        Forward::InProgress => return Err(impossible("a posting")),
    }))
}

/// A fresh step: its row and its answer.
fn decide(item: &PostItem, closed: &BTreeSet<AccountId>) -> (NewRow, Answer<PostDone>) {
    let sale = &item.sale;
    let row = |outcome, reply| NewRow {
        hash: Some(sale.hash()),
        reply: Some(reply),
        order: sale.order().map(|order| order.uuid()),
        payment: Some(sale.payment().uuid()),
        ..NewRow::bare(item.key.clone(), Kind::Post, outcome)
    };
    match domain::admit(sale, |account| closed.contains(account)) {
        Ok(()) => {
            let transaction = TransactionId::from_uuid(Kind::Post.transaction(&item.key));
            let done = PostDone { transaction_id: transaction.to_string() };
            let row = NewRow { entries: sale.entries(), ..row(Outcome::Done, done.encode_to_vec()) };
            (row, Answer::Done(done))
        }
        Err(Refusal::AccountClosed(account)) => {
            let metadata = HashMap::from([("account".to_owned(), account.into_string())]);
            let refused = Refused { reason: "ACCOUNT_CLOSED".into(), metadata };
            (row(Outcome::Refused, refused.encode_to_vec()), Answer::Refused(refused))
        }
    }
}
