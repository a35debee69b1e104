//! What payment-svc does to its records: [`begin`] a charge, [`take_back`] one, [`record`] what happened to one.
//!
//! One batch is one function is one transaction: load and lock in key order, let `domain` decide, write, commit, then
//! hand the messages to the relay. The provider is never called here: a command answers an [`Errand`], and
//! [`crate::calls`] runs it when the commit is done.

pub(crate) mod begin;
pub(crate) mod record;
pub(crate) mod take_back;

use std::time::Duration;

use chassis::{
    bus::Message,
    database::{self, Trouble, Warm},
    outbox::{Outbox, Relay},
    seeded::{self, Bug},
};
use sqlx::{PgConnection, PgTransaction};
use types::Money;

use crate::{
    domain::{Attempt, Next, Policy},
    provider::{ChargeOrder, RefundOrder},
    store,
};

/// What all commands stand on.
pub(crate) struct Desk {
    pub(crate) pool: Warm,
    pub(crate) outbox: Outbox,
    pub(crate) relay: Relay,
    pub(crate) policy: Policy,
    /// The provider's name, stored with every charge.
    pub(crate) provider: &'static str,
}

/// What is to do after the commit.
#[derive(Debug)]
pub(crate) enum Errand {
    /// Send this charge; the commit was its stamp.
    Charge(ChargeOrder),
    /// Send this refund; the commit was its stamp.
    Refund(RefundOrder),
    /// Come back after this.
    Wait(Duration),
    /// Nothing.
    Rest,
}

impl Errand {
    fn of(next: Next, attempt: &Attempt) -> Result<Self, Trouble> {
        let missing =
            || Trouble::Failed(format!("{} cannot be sent: its record is not whole", attempt.payment()));
        Ok(match next {
            Next::Wait(pause) => Self::Wait(pause),
            Next::Rest => Self::Rest,
            Next::Charge => {
                let business = attempt.business.as_ref().ok_or_else(missing)?;
                Self::Charge(ChargeOrder {
                    key: attempt.charge_key(),
                    send: attempt.sends,
                    amount: business.amount,
                    token: business.token.clone().ok_or_else(missing)?,
                    merchant: business.merchant.clone(),
                    order: business.order,
                })
            }
            Next::Refund => Self::Refund(RefundOrder {
                key: attempt.refund_key(),
                send: attempt.refund_sends,
                amount: owed(attempt.business.as_ref().ok_or_else(missing)?.amount),
                charge_reference: attempt.provider_reference.clone().ok_or_else(missing)?,
            }),
        })
    }
}

/// All of a charge goes back.
fn owed(charged: Money) -> Money {
    let short = seeded::is(Bug::RefundFallsShort);
    Money { minor: charged.minor - i64::from(short), ..charged }
}

impl Desk {
    /// Writes changed records with the messages they owe, commits, and hands the messages over.
    async fn close(
        &self,
        mut transaction: PgTransaction<'_>,
        changed: Vec<&Attempt>,
        messages: Vec<Message>,
    ) -> Result<(), Trouble> {
        let connection: &mut PgConnection = &mut transaction;
        if !changed.is_empty() {
            store::save(connection, changed).await?;
        }
        self.outbox.insert(connection, &messages).await?;
        database::commit(transaction).await?;
        self.relay.hand(messages);
        Ok(())
    }
}
