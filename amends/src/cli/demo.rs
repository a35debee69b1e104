//! `amends demo`: four orders against a running server, and what becomes of each, as it happens.
//!
//! It places them by the public door and reads the saga's journal after every committed change. Read next: `order.rs`.

mod timeline;

use clap::Args;
use proto::{
    order::v1::{
        Card, CreateOrderRequest, GetOrderRequest, Order, OrderLine, OrderStatus, PaymentInput,
        orders_client::OrdersClient, payment_input::Method,
    },
    saga::v1::{ListJournalRequest, Saga, WatchSagaRequest, sagas_client::SagasClient},
};
use serde_json::{Value, json};
use tonic::transport::Channel;

use super::{
    failure::Failure,
    output::Screen,
    server::{Server, ask},
    value::money,
};

/// The command.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  amends demo                          completed, declined, out of stock, in doubt
  amends demo --only doubtful --json

It sells goods of the demo catalogue, which `amends up` and `cargo xtask stack` put there. The doubtful order takes some \
seconds: the provider's answer is lost, and the charge is looked up once the call has timed out.")]
pub(crate) struct Demo {
    /// Play one of the four only
    #[arg(long, value_enum)]
    only: Option<Play>,
}

/// An order and what it shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Play {
    /// Everything goes well
    Completed,
    /// The card is declined: stock is released and the order cancelled
    Declined,
    /// There is too little of it
    OutOfStock,
    /// The provider charges and its answer is lost
    Doubtful,
}

impl Play {
    const ALL: [Self; 4] = [Self::Completed, Self::Declined, Self::OutOfStock, Self::Doubtful];

    const fn about(self) -> &'static str {
        match self {
            Self::Completed => "an order that completes",
            Self::Declined => "a declined card: amends are made",
            Self::OutOfStock => "more than there is",
            Self::Doubtful => "the provider charges, and its answer is lost",
        }
    }

    fn request(self) -> CreateOrderRequest {
        let (sku, quantity, token) = match self {
            Self::Completed => ("P1001", 2, "tok_approve"),
            Self::Declined => ("P1001", 1, "tok_decline"),
            // More than there is, and too cheap for a review.
            Self::OutOfStock => ("P1005", 1_500, "tok_approve"),
            Self::Doubtful => ("P1001", 1, "tok_timeout_after"),
        };
        CreateOrderRequest {
            request_id: chassis::clock::new_uuid().to_string(),
            customer_id: "c_demo".into(),
            merchant_id: "m_demo".into(),
            currency_code: "EUR".into(),
            lines: vec![OrderLine { sku: sku.into(), quantity, unit_price: None }],
            payment: Some(PaymentInput { method: Some(Method::Card(Card { token: token.into() })) }),
            ..Default::default()
        }
    }

    const fn expected(self) -> OrderStatus {
        match self {
            Self::Completed | Self::Doubtful => OrderStatus::Completed,
            Self::Declined | Self::OutOfStock => OrderStatus::Cancelled,
        }
    }
}

impl Demo {
    pub(crate) async fn run(self, server: &Server) -> Result<(), Failure> {
        let screen = server.screen();
        let channel = server.connect().await?;
        for play in Play::ALL.into_iter().filter(|play| self.only.is_none_or(|only| only == *play)) {
            let order = self::play(play, &channel, screen).await?;
            if order.status() != play.expected() {
                screen.remark("(not as this order usually ends: its journal says why)");
            }
        }
        Ok(())
    }
}

/// Places one order and shows its timeline to the end.
async fn play(play: Play, channel: &Channel, screen: Screen) -> Result<Order, Failure> {
    let mut orders = OrdersClient::new(channel.clone());
    let mut sagas = SagasClient::new(channel.clone());
    let order = orders.create_order(ask(play.request())).await?.into_inner();
    let begun = || json!({ "order_id": order.order_id, "about": play.about() });
    screen.next(begun, format_args!("{}: {}", order.order_id, play.about()))?;
    let watch = WatchSagaRequest { saga_id: order.saga_id.clone() };
    let mut changes = sagas.watch_saga(watch).await?.into_inner();
    let mut timeline = timeline::Timeline::default();
    while let Some(saga) = changes.message().await? {
        show(&mut sagas, &saga, &mut timeline, screen).await?;
    }
    let request = ask(GetOrderRequest { order_id: order.order_id });
    let order = orders.get_order(request).await?.into_inner();
    let status = order.status().as_str_name();
    let reason = match order.status_reason.as_str() {
        "" => String::new(),
        reason => format!(" ({reason})"),
    };
    let total = money(order.total.as_ref());
    let ended =
        || json!({ "order_id": order.order_id, "status": status, "status_reason": order.status_reason });
    screen.next(ended, format_args!("  {status}{reason}, total {total}\n"))?;
    Ok(order)
}

/// Shows what the journal says beyond what was shown.
async fn show(
    sagas: &mut SagasClient<Channel>,
    saga: &Saga,
    timeline: &mut timeline::Timeline,
    screen: Screen,
) -> Result<(), Failure> {
    let request = ListJournalRequest { saga_id: saga.saga_id.clone(), page_size: 500, ..Default::default() };
    let journal = sagas.list_journal(ask(request)).await?.into_inner();
    for entry in journal.entries {
        for line in timeline.lines(&entry) {
            screen.next(|| Value::clone(&line.event), format_args!("  {line}"))?;
        }
    }
    Ok(())
}
