//! Reverse: takes a posting back by entries of its own. Goes through on closed accounts.

use chassis::{
    barrier::{self, Back, Outcome},
    batcher::Command,
    bus::{Exchange, Message, header},
    clock,
    database::{self, Trouble},
    seeded::{self, Bug},
};
use prost::Message as _;
use proto::{
    ledger::v1::ReverseDone,
    step::{BackAnswer, STEP_ANSWER, StepAnswer},
};
use types::{StepKey, TransactionId};
use uuid::Uuid;

use super::{Books, count, impossible, stored};
use crate::{
    domain,
    store::{self, Closed, Kind, NewRow},
};

/// What is asked.
#[derive(Debug, Clone)]
pub struct ReverseItem {
    /// Of the posting.
    pub key: StepKey,
    /// For people.
    pub reason: String,
    /// W3C traceparent; may be empty.
    pub trace: String,
    /// The message that asks; none by gRPC, whose answer goes back on the stream.
    pub command_id: Option<Uuid>,
}

/// The command.
pub(crate) struct Reverse(pub(crate) Books);

impl Command for Reverse {
    type Item = ReverseItem;
    type Reply = BackAnswer<ReverseDone>;
    type Key = StepKey;
    const NAME: &'static str = "ledger.reverse";

    fn key(item: &ReverseItem) -> StepKey {
        item.key.clone()
    }

    async fn run(&self, items: &[ReverseItem]) -> Result<Vec<BackAnswer<ReverseDone>>, Trouble> {
        let mut connection = database::acquire(&self.0.pool).await?;
        let history = store::load_history(&mut connection, items.iter().map(|item| item.key.saga)).await?;
        let asked: Vec<_> =
            items.iter().map(|item| (item, barrier::back(history.record(&item.key).as_ref()))).collect();
        let posted = asked.iter().filter(|(_, back)| *back == Back::TakeBack);
        let posted: Vec<_> = posted.map(|(item, _)| Kind::Post.transaction(&item.key)).collect();
        let mut entries = store::load_entries(&mut connection, posted).await?;

        let (mut rows, mut answers, mut messages) = (Vec::new(), Vec::new(), Vec::new());
        for (item, back) in asked {
            let answer = match back {
                Back::TakeBack => {
                    let entries = entries.remove(&Kind::Post.transaction(&item.key)).unwrap_or_default();
                    let (row, done) = take_back(item, entries)?;
                    rows.push(row);
                    BackAnswer::Done(done)
                }
                Back::Tombstone => {
                    rows.push(NewRow::bare(item.key.clone(), Kind::Post, Outcome::Blocked));
                    rows.push(blocked(item));
                    BackAnswer::NotApplied
                }
                Back::Block => {
                    rows.push(blocked(item));
                    BackAnswer::NotApplied
                }
                Back::Done => {
                    let row = history.row(&item.key, Kind::Reverse);
                    BackAnswer::Done(stored(row.map_or(&[], |row| &row.reply))?)
                }
                Back::NotApplied => BackAnswer::NotApplied,
                Back::WantBack | Back::InProgress => return Err(impossible("a reversal")),
            };
            messages.extend(message(item, &answer));
            answers.push(answer);
        }
        let outcomes: Vec<_> = rows.iter().map(|row: &NewRow| (row.kind, row.outcome.as_str())).collect();
        if !rows.is_empty() || !messages.is_empty() {
            let mut transaction = database::begin(&mut connection).await?;
            store::book(&mut transaction, rows, Closed::Lets).await?;
            self.0.outbox.insert(&mut transaction, &messages).await?;
            database::commit(transaction).await?;
        }
        outcomes.into_iter().for_each(|(kind, outcome)| count(kind, outcome));
        self.0.relay.hand(messages);
        Ok(answers)
    }
}

fn take_back(item: &ReverseItem, entries: Vec<domain::Entry>) -> Result<(NewRow, ReverseDone), Trouble> {
    let entries = match entries {
        entries if seeded::is(Bug::ReversalNotMirrored) => entries,
        entries => domain::mirror(entries).map_err(|overflow| Trouble::Failed(overflow.to_string()))?,
    };
    let transaction = TransactionId::from_uuid(Kind::Reverse.transaction(&item.key));
    let done = ReverseDone { transaction_id: transaction.to_string() };
    let row = NewRow {
        reply: Some(done.encode_to_vec()),
        reason: Some(item.reason.clone()),
        entries,
        ..NewRow::bare(item.key.clone(), Kind::Reverse, Outcome::Done)
    };
    Ok((row, done))
}

fn blocked(item: &ReverseItem) -> NewRow {
    NewRow {
        reason: Some(item.reason.clone()),
        ..NewRow::bare(item.key.clone(), Kind::Reverse, Outcome::Blocked)
    }
}

/// The answer as a message, when a message asked. A command that comes again is answered again.
fn message(item: &ReverseItem, answer: &BackAnswer<ReverseDone>) -> Option<Message> {
    let command_id = item.command_id?.to_string();
    let body = StepAnswer::compensation(&item.key, &command_id, answer, clock::now())?;
    Some(
        Message::new(Exchange::Replies, "orchestrator", STEP_ANSWER, crate::BUS_NAME, body.encode_to_vec())
            .with(header::SAGA, body.saga_id)
            .with(header::STEP, body.step)
            .with(header::TRACE, &item.trace),
    )
}
