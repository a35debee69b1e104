//! What scenarios say: orders, as a shop would place them.

use proto::order::v1::{Card, CreateOrderRequest, OrderLine, PaymentInput, payment_input::Method};

/// A line of an order.
#[derive(Debug, Clone)]
pub struct Line {
    pub sku: String,
    pub quantity: i64,
}

/// An order to be placed.
#[derive(Debug, Clone)]
pub struct Spec {
    pub key: String,
    pub customer: String,
    pub merchant: String,
    pub currency: String,
    pub lines: Vec<Line>,
    pub token: String,
    pub wait_seconds: i64,
}

impl Spec {
    /// `quantity` of `P1001`, paid by a card that is approved.
    #[must_use]
    pub fn of(quantity: i64) -> Self {
        Self {
            key: chassis::clock::new_uuid().to_string(),
            customer: "c_1".into(),
            merchant: "m_1".into(),
            currency: "EUR".into(),
            lines: vec![Line { sku: "P1001".into(), quantity }],
            token: "tok_approve".into(),
            wait_seconds: 0,
        }
    }

    #[must_use]
    pub fn line(mut self, sku: &str, quantity: i64) -> Self {
        self.lines.push(Line { sku: sku.into(), quantity });
        self
    }

    #[must_use]
    pub fn token(mut self, token: &str) -> Self {
        self.token = token.into();
        self
    }

    #[must_use]
    pub fn customer(mut self, customer: &str) -> Self {
        self.customer = customer.into();
        self
    }

    #[must_use]
    pub fn merchant(mut self, merchant: &str) -> Self {
        self.merchant = merchant.into();
        self
    }

    #[must_use]
    pub fn key(mut self, key: &str) -> Self {
        self.key = key.into();
        self
    }

    #[must_use]
    pub const fn wait(mut self, seconds: i64) -> Self {
        self.wait_seconds = seconds;
        self
    }

    #[must_use]
    pub fn request(&self) -> CreateOrderRequest {
        CreateOrderRequest {
            request_id: self.key.clone(),
            customer_id: self.customer.clone(),
            merchant_id: self.merchant.clone(),
            currency_code: self.currency.clone(),
            lines: self
                .lines
                .iter()
                .map(|l| OrderLine { sku: l.sku.clone(), quantity: l.quantity, unit_price: None })
                .collect(),
            payment: Some(PaymentInput { method: Some(Method::Card(Card { token: self.token.clone() })) }),
            wait: (self.wait_seconds > 0)
                .then_some(prost_types::Duration { seconds: self.wait_seconds, nanos: 0 }),
            metadata: Default::default(),
        }
    }
}
