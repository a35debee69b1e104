//! The record of a charge: where it stands, what was asked of it, what may happen to it.
//!
//! States: STARTED (committed; a send may be under way), PENDING (the provider will know later), IN_DOUBT (a send has
//! no known outcome), then SUCCEEDED or DECLINED; REFUNDING and REFUNDED on the way back; BLOCKED when it was taken back
//! before anything was charged. The barrier stands beside: `forward` and `back` say what the saga was or will be told.

use std::time::Duration;

use chassis::{
    barrier::{self, Outcome, Record, RequestHash},
    seeded::{self, Bug},
};
use chrono::{DateTime, Utc};
use types::{Money, OrderId, PartyId, PaymentId, StepKey};

use super::{Decline, Fault, Policy, Said, Token};

/// The refusal of a charge of which it is proven that nothing was taken.
pub const PROVIDER_UNAVAILABLE: &str = "PROVIDER_UNAVAILABLE";

/// Where an attempt stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    Started,
    Pending,
    InDoubt,
    Succeeded,
    Declined,
    Refunding,
    Refunded,
    Blocked,
}

impl State {
    pub const ALL: [Self; 8] = [
        Self::Started,
        Self::Pending,
        Self::InDoubt,
        Self::Succeeded,
        Self::Declined,
        Self::Refunding,
        Self::Refunded,
        Self::Blocked,
    ];

    /// As the column says it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Started => "STARTED",
            Self::Pending => "PENDING",
            Self::InDoubt => "IN_DOUBT",
            Self::Succeeded => "SUCCEEDED",
            Self::Declined => "DECLINED",
            Self::Refunding => "REFUNDING",
            Self::Refunded => "REFUNDED",
            Self::Blocked => "BLOCKED",
        }
    }

    /// Reads the column.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == text)
    }

    /// Whether it is not known yet whether money was taken.
    pub const fn is_open(self) -> bool {
        matches!(self, Self::Started | Self::Pending | Self::InDoubt)
    }
}

/// What is charged: everything that the provider is told, and whom it is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Business {
    pub order: OrderId,
    pub customer: PartyId,
    pub merchant: PartyId,
    pub amount: Money,
    /// Gone once the charge has ended.
    pub token: Option<Token>,
}

impl Business {
    /// What was asked, for the barrier: with the token as it was sent, which is not always how it is stored.
    #[must_use]
    pub fn hash(&self, token: &str) -> Vec<u8> {
        RequestHash::new(1)
            .field("order", self.order.uuid().as_bytes())
            .field("customer", self.customer.as_str().as_bytes())
            .field("merchant", self.merchant.as_str().as_bytes())
            .field("amount", &self.amount.minor.to_be_bytes())
            .field("currency", self.amount.currency.as_str().as_bytes())
            .field("card", token.as_bytes())
            .finish()
    }
}

/// The id of a message, as bytes.
pub type CommandId = [u8; 16];

/// The record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    pub key: StepKey,
    pub state: State,
    /// PENDING: somebody was told to wait for the charge, and is owed a message.
    pub forward: Outcome,
    pub forward_hash: Vec<u8>,
    /// Encoded; none until `forward` is DONE or REFUSED.
    pub forward_reply: Option<Vec<u8>>,
    /// PENDING: somebody without a command id was told to wait for the taking back.
    pub back: Option<Outcome>,
    pub back_reply: Option<Vec<u8>>,
    /// Ids of the commands that wait for the taking back.
    pub commands: Vec<CommandId>,
    /// None in a tombstone.
    pub business: Option<Business>,
    pub provider_reference: Option<String>,
    pub refund_reference: Option<String>,
    /// Why it was refused: the charge or, while REFUNDING, the refund.
    pub decline: Option<Decline>,
    pub sends: i32,
    pub refund_sends: i32,
    /// How many keys the refund has had: a key that is too old is never sent again.
    pub refund_keys: i32,
    /// The last stamp; none when it is known that nothing is under way.
    pub sent: Option<DateTime<Utc>>,
    /// When the refund's present key came into use.
    pub refund_begun: Option<DateTime<Utc>>,
    pub created: DateTime<Utc>,
    pub next_look: Option<DateTime<Utc>>,
    /// Look-ups in a row without an end.
    pub looks: i32,
    /// W3C traceparent of the charge; may be empty.
    pub trace: String,
}

/// What happened.
#[derive(Debug, Clone)]
pub enum Event {
    /// The charge's send number `send` came back with this.
    Charged { send: i32, result: Result<Said, Fault> },
    /// The charge was looked up, beginning at `at`.
    ChargeFound { at: DateTime<Utc>, result: Result<Option<Said>, Fault> },
    /// The refund's send number `send` came back with this.
    Refunded { send: i32, result: Result<Said, Fault> },
    /// The refund was looked up, beginning at `at`.
    RefundFound { at: DateTime<Utc>, result: Result<Option<Said>, Fault> },
    /// Its time has come and nothing is under way.
    Due,
    /// The caller's patience has ended: from now on it is owed a message.
    Tell,
}

/// What to do after the commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Send the charge: this commit was its stamp.
    Charge,
    /// Send the refund: this commit was its stamp.
    Refund,
    /// Come back with [`Event::Due`] after this.
    Wait(Duration),
    /// Nothing: it has ended, somebody else is at it, or the resolver will.
    Rest,
}

/// What a charge that is asked for meets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asked {
    /// Its stored reply.
    Answered,
    /// It is under way; the caller is owed a message now.
    InProgress,
    /// Its compensation came first.
    Fenced,
    /// It was asked before with another body.
    Mismatch,
}

/// What a compensation meets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TakeBack {
    /// It is taken back, or nothing was there to take back: answer now.
    Answered,
    /// It will be answered when it is done; and this is to do.
    Later(Next),
}

impl Attempt {
    /// As its begin leaves it: one send, stamped at `now`.
    pub fn begun(
        key: StepKey,
        forward_hash: Vec<u8>,
        business: Business,
        trace: String,
        (now, next_look): (DateTime<Utc>, DateTime<Utc>),
    ) -> Self {
        Self {
            key,
            state: State::Started,
            forward: Outcome::Started,
            forward_hash,
            forward_reply: None,
            back: None,
            back_reply: None,
            commands: Vec::new(),
            business: Some(business),
            provider_reference: None,
            refund_reference: None,
            decline: None,
            sends: 1,
            refund_sends: 0,
            refund_keys: 1,
            sent: Some(now),
            refund_begun: None,
            created: now,
            next_look: Some(next_look),
            looks: 0,
            trace,
        }
    }

    /// pay_…: follows from (saga, step).
    pub fn payment(&self) -> PaymentId {
        payment_of(&self.key)
    }

    /// The key under which the provider knows the charge.
    pub fn charge_key(&self) -> String {
        charge_key(self.payment())
    }

    /// The key under which the provider knows the refund.
    pub fn refund_key(&self) -> String {
        refund_key(self.payment(), self.refund_keys)
    }

    pub(super) fn record(&self) -> Record {
        Record { forward: self.forward, forward_hash: self.forward_hash.clone(), back: self.back }
    }

    /// A charge is asked for again.
    pub fn asked(&mut self, hash: &[u8]) -> Asked {
        match barrier::forward(Some(&self.record()), hash) {
            barrier::Forward::Done | barrier::Forward::Refused => Asked::Answered,
            barrier::Forward::Fresh | barrier::Forward::InProgress => {
                self.forward = Outcome::Pending;
                Asked::InProgress
            }
            barrier::Forward::Fenced => Asked::Fenced,
            barrier::Forward::Mismatch => Asked::Mismatch,
        }
    }

    /// One thing happened. With `may_send` false nothing is stamped: the provider cannot be called now.
    pub fn apply(&mut self, event: &Event, policy: &Policy, may_send: bool, now: DateTime<Utc>) -> Next {
        match event {
            Event::Charged { send, result } => self.charge_came_back(*send, result, policy, may_send, now),
            Event::ChargeFound { at, result } => self.charge_found(*at, result, policy, may_send, now),
            Event::Refunded { send, result } => self.refund_came_back(*send, result, policy, now),
            Event::RefundFound { at, result } => self.refund_found(*at, result, policy, may_send, now),
            Event::Due if self.sent.is_some() => Next::Rest,
            Event::Due if self.state.is_open() => self.nothing_is_charged(policy, may_send, now),
            Event::Due if self.state == State::Refunding => self.send_refund(policy, may_send, now),
            Event::Due => Next::Rest,
            Event::Tell => {
                if self.forward == Outcome::Started && self.back.is_none() {
                    self.forward = Outcome::Pending;
                }
                Next::Rest
            }
        }
    }

    /// When whoever waits for the charge may expect to know.
    pub fn until(&self, policy: &Policy, now: DateTime<Utc>) -> DateTime<Utc> {
        let span = match self.state {
            State::Pending => policy.settlement,
            _ => policy.horizon + policy.call_timeout,
        };
        super::after(self.sent.unwrap_or(now).max(self.created), span).max(now)
    }

    /// Looks again later: each time in a row twice as late, but at the horizon at once, because then it proves.
    pub(super) fn look_later(&mut self, policy: &Policy, now: DateTime<Utc>) {
        let pause = super::after(now, policy.pause(self.looks));
        let proof = self.sent.map(|sent| super::after(sent, policy.horizon)).filter(|proof| *proof > now);
        self.next_look = Some(proof.map_or(pause, |proof| pause.min(proof)));
        self.looks = self.looks.saturating_add(1);
    }
}

/// pay_…: follows from (saga, step).
pub fn payment_of(key: &StepKey) -> PaymentId {
    PaymentId::from_uuid(key.saga.derive(&key.step))
}

/// The key under which the provider knows the charge.
pub fn charge_key(payment: PaymentId) -> String {
    let number = if seeded::is(Bug::ProviderKeyPerSend) { seeded::another_number() } else { 1 };
    format!("{payment}:charge:{number}")
}

/// The key under which the provider knows the refund; `number` counts from 1.
pub fn refund_key(payment: PaymentId, number: i32) -> String {
    if seeded::is(Bug::RefundedTwice) {
        return format!("{payment}:refund:{}", seeded::another_number());
    }
    format!("{payment}:refund:{number}")
}
