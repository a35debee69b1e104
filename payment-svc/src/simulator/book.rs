//! The simulator's commands over its book: take charges, take refunds, look up. Each batch is one transaction of its own.

use std::time::Duration;

use chassis::{
    barrier::RequestHash,
    batcher::Command,
    clock,
    database::{self, Trouble, Warm},
    quick::{self, Hunch},
    seeded::{self, Bug},
};
use chrono::{DateTime, Utc};
use sqlx::PgPool;
use types::Money;

use super::{
    rules::{self, Manner, Reply, Standing},
    store::{self, Entry, Moved, NewEntry},
};
use crate::{
    domain::{Category, Decline, Said},
    provider::{ChargeOrder, RefundOrder},
};

const OTHER_BODY: Reply = Reply::Wrong("this idempotency key was used with another body");

type Time = DateTime<Utc>;

/// Takes charges.
pub(super) struct TakeCharge {
    pub(super) pool: Warm,
    pub(super) slow: Duration,
    /// That every key of a slice is new.
    pub(super) hunch: Hunch,
}

/// Takes refunds.
pub(super) struct TakeRefund {
    pub(super) pool: PgPool,
}

/// Looks keys up.
pub(super) struct LookUp {
    pub(super) pool: PgPool,
}

/// A reference of the provider's own.
fn reference(prefix: &str) -> String {
    format!("{prefix}_{}", clock::new_uuid().simple())
}

fn body_hash(amount: Money) -> RequestHash {
    RequestHash::new(1)
        .field("amount", &amount.minor.to_be_bytes())
        .field("currency", amount.currency.as_str().as_bytes())
}

fn charge_hash(order: &ChargeOrder) -> Vec<u8> {
    body_hash(order.amount)
        .field("token", order.token.reveal().as_bytes())
        .field("merchant", order.merchant.as_str().as_bytes())
        .field("order", order.order.uuid().as_bytes())
        .finish()
}

fn refund_hash(order: &RefundOrder) -> Vec<u8> {
    body_hash(order.amount).field("charge", order.charge_reference.as_bytes()).finish()
}

impl Command for TakeCharge {
    type Item = ChargeOrder;
    type Reply = Reply;
    type Key = String;
    const NAME: &'static str = "simulator.charge";

    fn key(item: &ChargeOrder) -> String {
        item.key.clone()
    }

    async fn run(&self, items: &[ChargeOrder]) -> Result<Vec<Reply>, Trouble> {
        if let Some(replies) = self.hunch.try_it(self.at_once(items)).await? {
            return Ok(replies);
        }
        let mut transaction = database::begin_on(&self.pool).await?;
        let keys = items.iter().map(|item| item.key.clone()).collect();
        let found = store::charges(&mut transaction, keys).await?;
        let now = clock::elsewhere();
        let (mut new, mut moved, mut replies) = (Vec::new(), Vec::new(), Vec::with_capacity(items.len()));
        for item in items {
            let hash = charge_hash(item);
            replies.push(match found.get(&item.key) {
                Some((entry, _)) if entry.hash != hash => OTHER_BODY,
                Some((entry, manner)) => {
                    let sends = entry.sends + 1;
                    let (standing, reply) =
                        rules::charge(*manner, sends, entry.standing, &entry.reference, self.slow, now);
                    moved.push(Moved { key: item.key.clone(), standing, sends });
                    reply
                }
                None => {
                    let (entry, reply) = self.first(item, now);
                    new.push(entry);
                    reply
                }
            });
        }
        store::add_charges(&mut transaction, new).await?;
        store::move_charges(&mut transaction, moved).await?;
        database::commit(transaction).await?;
        Ok(replies)
    }
}

impl TakeCharge {
    /// A charge under a new key.
    fn first(&self, item: &ChargeOrder, now: Time) -> (NewEntry, Reply) {
        let (manner, reference) = (Manner::of_token(item.token.reveal()), reference("ch"));
        let (standing, reply) = rules::charge(manner, 1, Standing::Received, &reference, self.slow, now);
        let (key, charge_reference) = (item.key.clone(), reference.clone());
        let (amount, hash) = (item.amount, charge_hash(item));
        (NewEntry { key, reference, charge_reference, amount, manner, hash, standing }, reply)
    }

    /// Every key is new; none when it is not so.
    async fn at_once(&self, items: &[ChargeOrder]) -> Result<Option<Vec<Reply>>, Trouble> {
        let now = clock::elsewhere();
        let (new, replies): (Vec<_>, Vec<_>) = items.iter().map(|item| self.first(item, now)).unzip();
        let mut connection = self.pool.connection().await?;
        let added = store::add_charges(&mut connection, new).await;
        Ok(quick::nothing_there(added.map_err(Trouble::from))?.map(|()| replies))
    }
}

impl Command for TakeRefund {
    type Item = RefundOrder;
    type Reply = Reply;
    // One refund of a charge at a time: their sum is judged.
    type Key = String;
    const NAME: &'static str = "simulator.refund";

    fn key(item: &RefundOrder) -> String {
        item.charge_reference.clone()
    }

    async fn run(&self, items: &[RefundOrder]) -> Result<Vec<Reply>, Trouble> {
        let mut transaction = database::begin_on(&self.pool).await?;
        let references: Vec<_> = items.iter().map(|item| item.charge_reference.clone()).collect();
        let charges = store::charges_by_reference(&mut transaction, references.clone()).await?;
        let refunds = store::refunds(&mut transaction, references).await?;
        let now = clock::elsewhere();
        let (mut new, mut moved, mut replies) = (Vec::new(), Vec::new(), Vec::with_capacity(items.len()));
        for item in items {
            let hash = refund_hash(item);
            let found = refunds.iter().find(|entry| entry.key == item.key);
            let Some((charge, manner)) = charges.get(&item.charge_reference) else {
                replies.push(refused("UNKNOWN_CHARGE"));
                continue;
            };
            replies.push(match found {
                Some(entry) if entry.hash != hash => OTHER_BODY,
                _ if left(charge, &refunds, &item.key, now) < item.amount.minor => {
                    refused("MORE_THAN_CHARGED")
                }
                Some(entry) => {
                    let sends = entry.sends + 1;
                    let (standing, reply) =
                        rules::refund(*manner, sends, entry.standing, &entry.reference, now);
                    moved.push(Moved { key: item.key.clone(), standing, sends });
                    reply
                }
                None => {
                    let reference = reference("re");
                    let (standing, reply) = rules::refund(*manner, 1, Standing::Received, &reference, now);
                    new.push(NewEntry {
                        key: item.key.clone(),
                        reference,
                        charge_reference: item.charge_reference.clone(),
                        amount: item.amount,
                        manner: *manner,
                        hash,
                        standing,
                    });
                    reply
                }
            });
        }
        store::add_refunds(&mut transaction, new).await?;
        store::move_refunds(&mut transaction, moved).await?;
        database::commit(transaction).await?;
        Ok(replies)
    }
}

impl Command for LookUp {
    type Item = String;
    type Reply = Option<Said>;
    type Key = String;
    const NAME: &'static str = "simulator.look_up";

    fn key(item: &String) -> String {
        item.clone()
    }

    async fn run(&self, items: &[String]) -> Result<Vec<Option<Said>>, Trouble> {
        let mut connection = database::acquire(&self.pool).await?;
        let mut found = store::look_up(&mut connection, items.to_vec(), clock::elsewhere()).await?;
        Ok(items.iter().map(|key| found.remove(key).flatten()).collect())
    }
}

fn refused(code: &str) -> Reply {
    Reply::Says(Said::Declined(Decline { code: code.to_owned(), category: Category::Data }))
}

/// What may be given back of a charge under `key`, in minor units.
fn left(charge: &Entry, refunds: &[Entry], key: &str, now: Time) -> i64 {
    let effective = |entry: &Entry| matches!(entry.standing.as_of(now), Standing::Effective(_));
    if !effective(charge) {
        return 0;
    }
    if seeded::is(Bug::RefundedTwice) {
        return charge.minor;
    }
    let others =
        refunds.iter().filter(|entry| entry.charge_reference == charge.reference && entry.key != key);
    charge.minor - others.filter(|entry| effective(entry)).map(|entry| entry.minor).sum::<i64>()
}
