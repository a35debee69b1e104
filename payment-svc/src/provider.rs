//! The seam to payment providers: charge, refund, and look-up by our own key.
//!
//! An adapter turns what a provider says into [`Said`] or [`Fault`] and decides nothing else: it retries nothing and
//! keeps nothing. It must say [`Fault::NotSent`] only where the provider surely has not seen the request, and it must
//! send the key as the provider's idempotency key, so that a send again is the same charge. [`crate::simulator`] is one.

use async_trait::async_trait;
use types::{Money, OrderId, PartyId};

use crate::domain::{Fault, Said, Token};

/// A charge to send.
#[derive(Debug, Clone)]
pub struct ChargeOrder {
    /// The idempotency key.
    pub key: String,
    /// Which send of this key it is, from 1.
    pub send: i32,
    /// How much.
    pub amount: Money,
    /// From which card.
    pub token: Token,
    /// For which merchant.
    pub merchant: PartyId,
    /// For which order; shown to people at the provider.
    pub order: OrderId,
}

/// A refund to send: all of a charge.
#[derive(Debug, Clone)]
pub struct RefundOrder {
    /// The idempotency key.
    pub key: String,
    /// Which send it is, from 1.
    pub send: i32,
    /// How much.
    pub amount: Money,
    /// The provider's id of the charge.
    pub charge_reference: String,
}

/// Somebody who moves money.
#[async_trait]
pub trait Provider: Send + Sync + 'static {
    /// As in `simulator`; stored with every charge and shown.
    fn name(&self) -> &'static str;

    /// Takes money.
    async fn charge(&self, order: &ChargeOrder) -> Result<Said, Fault>;

    /// Gives money back.
    async fn refund(&self, order: &RefundOrder) -> Result<Said, Fault>;

    /// What the provider knows under a key of a charge or a refund; none when it has no effect under that key.
    async fn look_up(&self, key: &str) -> Result<Option<Said>, Fault>;
}
