//! `amends order …`: orders as customers and shops see them.
//!
//! It asks the server and shows the answer; it decides nothing. Read next: `order/shape.rs`, how an order looks.

mod cart;
mod shape;

use std::time::Duration;

use clap::{Args, Subcommand};
use proto::order::v1::{
    CancelOrderRequest, Card, CreateOrderRequest, GetOrderRequest, ListOrdersRequest, OrderStatus,
    PaymentInput, WatchOrderRequest, orders_client::OrdersClient, payment_input::Method,
};
use tonic::{Code, Response, Status, transport::Channel};
use types::Currency;

use super::{
    failure::Failure,
    server::{Rows, Server, ask},
    value::state_parser,
};
use cart::CartLine;

state_parser!(status, OrderStatus);

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Create an order; safe to repeat with the same --request-id
    #[command(after_help = "Examples:
  amends order create P1001:2 --customer c_1 --merchant m_1 --currency EUR --card tok_approve --wait 10s
  amends order create P1001 P1002:3 --customer c_1 --merchant m_1 --currency USD --card tok_decline --json
  amends order create P1001@19.99 --customer c_1 --merchant m_1 --currency EUR --card tok_approve --request-id k1")]
    Create(Create),
    /// Show an order
    #[command(after_help = "Example:\n  amends order get ord_01h2xcejqtf2nbrexx3vqjhp41")]
    Get(Named),
    /// List orders, newest first
    #[command(after_help = "Examples:
  amends order list
  amends order list --merchant m_1 --status cancelled --limit 0 --json")]
    List(List),
    /// Cancel an order; possible until it is fulfilled
    #[command(
        after_help = "Example:\n  amends order cancel ord_01h2xcejqtf2nbrexx3vqjhp41 --reason 'changed my mind'"
    )]
    Cancel(Cancel),
    /// Show an order and each of its changes, until its end
    #[command(after_help = "Example:\n  amends order watch ord_01h2xcejqtf2nbrexx3vqjhp41")]
    Watch(Named),
}

#[derive(Debug, Args)]
pub(crate) struct Create {
    /// What is bought: SKU, SKU:QUANTITY, and @PRICE where the price must be this one
    #[arg(value_name = "SKU[:QUANTITY][@PRICE]", required = true)]
    lines: Vec<CartLine>,
    /// Who buys
    #[arg(long, value_name = "ID")]
    customer: String,
    /// Who sells
    #[arg(long, value_name = "ID")]
    merchant: String,
    /// ISO 4217 code
    #[arg(long, value_name = "CODE")]
    currency: Currency,
    /// Token of the payment provider
    #[arg(long, value_name = "TOKEN")]
    card: String,
    /// Makes it safe to repeat; drawn and told if not given
    #[arg(long, value_name = "KEY")]
    request_id: Option<String>,
    /// Wait for its end, at most this long (up to 30s)
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    wait: Option<Duration>,
    /// Kept with the order; may be repeated
    #[arg(long, value_name = "KEY=VALUE", value_parser = pair)]
    metadata: Vec<(String, String)>,
}

#[derive(Debug, Args)]
pub(crate) struct Named {
    /// ord_…
    order: String,
}

#[derive(Debug, Args)]
pub(crate) struct List {
    /// Only this merchant's
    #[arg(long, value_name = "ID", default_value = "")]
    merchant: String,
    /// Only this customer's
    #[arg(long, value_name = "ID", default_value = "")]
    customer: String,
    /// Only in this status, as in `completed`
    #[arg(long, value_parser = status)]
    status: Option<OrderStatus>,
    #[command(flatten)]
    rows: Rows,
}

#[derive(Debug, Args)]
pub(crate) struct Cancel {
    /// ord_…
    order: String,
    /// Why, for people
    #[arg(long, default_value = "")]
    reason: String,
}

fn pair(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("is not KEY=VALUE")?;
    Ok((key.to_owned(), value.to_owned()))
}

impl Command {
    pub(crate) async fn run(self, server: &Server) -> Result<(), Failure> {
        let screen = server.screen();
        match self {
            Self::Create(create) => create.run(server).await,
            Self::Get(Named { order }) => {
                let request = ask(GetOrderRequest { order_id: order });
                let order = client(server).await?.get_order(request).await?.into_inner();
                screen.one(|| shape::json(&order), shape::text(&order))
            }
            Self::List(list) => list.run(server).await,
            Self::Cancel(Cancel { order, reason }) => {
                let request = ask(CancelOrderRequest { order_id: order, reason });
                let order = client(server).await?.cancel_order(request).await?.into_inner();
                screen.one(|| shape::json(&order), shape::text(&order))
            }
            Self::Watch(Named { order }) => {
                let request = WatchOrderRequest { order_id: order };
                let mut changes = client(server).await?.watch_order(request).await?.into_inner();
                while let Some(order) = changes.message().await? {
                    screen.next(|| shape::json(&order), shape::line(&order))?;
                }
                Ok(())
            }
        }
    }
}

impl Create {
    async fn run(self, server: &Server) -> Result<(), Failure> {
        let screen = server.screen();
        let request_id = self.request_id.clone().unwrap_or_else(|| chassis::clock::new_uuid().to_string());
        let request = self.request(&request_id)?;
        let answer = client(server).await?.create_order(ask(request)).await;
        let answer = answer.map_err(|status| doubtful(status, &request_id))?;
        if is_replayed(&answer) {
            screen.remark("(a repeat: this order was there already)");
        }
        let order = answer.into_inner();
        screen.one(|| shape::json(&order), shape::text(&order))
    }

    fn request(self, request_id: &str) -> Result<CreateOrderRequest, Failure> {
        let lines = self.lines.into_iter().map(|line| line.priced(self.currency));
        let wait = self.wait.map(prost_types::Duration::try_from).transpose();
        Ok(CreateOrderRequest {
            request_id: request_id.to_owned(),
            customer_id: self.customer,
            merchant_id: self.merchant,
            currency_code: self.currency.to_string(),
            lines: lines.collect::<Result<_, _>>().map_err(Failure::Usage)?,
            payment: Some(PaymentInput { method: Some(Method::Card(Card { token: self.card })) }),
            wait: wait.map_err(|e| Failure::Usage(format!("--wait: {e}")))?,
            metadata: self.metadata.into_iter().collect(),
        })
    }
}

impl List {
    async fn run(self, server: &Server) -> Result<(), Failure> {
        let screen = server.screen();
        let client = client(server).await?;
        let fetch = |page_size, page_token| {
            let request = ListOrdersRequest {
                page_size,
                page_token,
                merchant_id: self.merchant.clone(),
                customer_id: self.customer.clone(),
                status: self.status.unwrap_or_default().into(),
            };
            let mut client = client.clone();
            async move {
                let page = client.list_orders(ask(request)).await?.into_inner();
                Ok((page.orders, page.next_page_token))
            }
        };
        let orders = self.rows.collect(screen, fetch).await?;
        screen.one(|| shape::list_json(&orders), shape::table(&orders))
    }
}

async fn client(server: &Server) -> Result<OrdersClient<Channel>, Failure> {
    Ok(OrdersClient::new(server.connect().await?))
}

fn is_replayed<T>(answer: &Response<T>) -> bool {
    answer.metadata().get("idempotent-replayed").is_some_and(|value| value == "true")
}

/// After these nobody knows whether the order exists; the key makes finding out safe.
fn doubtful(status: Status, request_id: &str) -> Failure {
    match status.code() {
        Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled | Code::Unknown | Code::Internal => {
            let advice = format!(
                "the order may exist all the same: repeat the command with --request-id {request_id}"
            );
            Failure::InDoubt { status: Box::new(status), advice }
        }
        _ => status.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::output::Screen;

    #[test]
    fn a_broken_call_tells_the_key_that_makes_a_repeat_safe() {
        let failure = doubtful(Status::unavailable("gone"), "k1");
        assert!(matches!(&failure, Failure::InDoubt { advice, .. } if advice.contains("--request-id k1")));
        assert!(matches!(doubtful(Status::not_found("no"), "k1"), Failure::Refused(_)));
        assert_eq!(failure.tell(Screen::Text), 1);
    }
}
