//! `amends review …`: what waits for a person's decision.
//!
//! The first decision counts. Read next: `server.rs`.

use clap::{ArgGroup, Args, Subcommand};
use proto::risk::v1::{
    DecideReviewRequest, ListReviewsRequest, Review, ReviewState, reviews_client::ReviewsClient,
};
use serde_json::{Value, json};
use tonic::transport::Channel;

use super::{
    failure::Failure,
    output::{Fields, Table},
    server::{Rows, Server, Whose, ask},
    value::{money, money_json, state_parser, time, time_json},
};

state_parser!(state, ReviewState);

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// List reviews; open ones unless another state is asked for
    #[command(after_help = "Examples:\n  amends review list\n  amends review list --state declined")]
    List(List),
    /// Approve or decline
    #[command(after_help = "Examples:
  amends review decide ord_01h2xcejqtf2nbrexx3vqjhp41 --approve --reason 'known customer'
  amends review decide ord_01h2xcejqtf2nbrexx3vqjhp41 --decline --reason 'address does not exist'")]
    Decide(Decide),
}

#[derive(Debug, Args)]
pub(crate) struct List {
    /// In this state, as in `approved`
    #[arg(long, value_parser = state)]
    state: Option<ReviewState>,
    #[command(flatten)]
    rows: Rows,
}

#[derive(Debug, Args)]
#[command(group = ArgGroup::new("decision").required(true).args(["approve", "decline"]))]
pub(crate) struct Decide {
    /// saga_… or ord_…
    saga: String,
    /// Let it go on
    #[arg(long)]
    approve: bool,
    /// Turn it round
    #[arg(long)]
    decline: bool,
    /// Why
    #[arg(long)]
    reason: String,
    /// Who decides
    #[arg(long, env = "USER", hide_env_values = true, default_value = "unknown")]
    reviewer: String,
}

impl Command {
    pub(crate) async fn run(self, server: &Server) -> Result<(), Failure> {
        let screen = server.screen();
        let mut client = ReviewsClient::<Channel>::new(server.connect_to(Whose::Risk).await?);
        match self {
            Self::List(List { state, rows }) => {
                let fetch = |page_size, page_token| {
                    let state = state.unwrap_or_default().into();
                    let mut client = client.clone();
                    async move {
                        let request = ask(ListReviewsRequest { page_size, page_token, state });
                        let page = client.list_reviews(request).await?.into_inner();
                        Ok((page.reviews, page.next_page_token))
                    }
                };
                let reviews = rows.collect(screen, fetch).await?;
                let document = || json!({ "reviews": reviews.iter().map(document).collect::<Vec<_>>() });
                screen.one(document, table(&reviews))
            }
            Self::Decide(Decide { saga, approve, decline: _, reason, reviewer }) => {
                let request = DecideReviewRequest { saga_id: saga, approve, reviewer, reason };
                let review = client.decide_review(ask(request)).await?.into_inner();
                screen.one(|| document(&review), fields(&review))
            }
        }
    }
}

fn document(review: &Review) -> Value {
    json!({
        "saga_id": review.saga_id,
        "order_id": review.order_id,
        "customer_id": review.customer_id,
        "merchant_id": review.merchant_id,
        "amount": money_json(review.amount.as_ref()),
        "state": review.state().as_str_name(),
        "rule": review.rule,
        "create_time": time_json(review.create_time.as_ref()),
        "expire_time": time_json(review.expire_time.as_ref()),
        "reviewer": review.reviewer,
        "reason": review.reason,
        "decide_time": time_json(review.decide_time.as_ref()),
    })
}

fn table(reviews: &[Review]) -> Table<7> {
    let rows = reviews.iter().map(|review| {
        [
            review.order_id.clone(),
            review.state().as_str_name().to_owned(),
            money(review.amount.as_ref()),
            review.customer_id.clone(),
            review.rule.clone(),
            time(review.create_time.as_ref()),
            time(review.expire_time.as_ref()),
        ]
    });
    Table::new(["ORDER", "STATE", ">AMOUNT", "CUSTOMER", "RULE", "CREATED", "EXPIRES"], rows)
}

fn fields(review: &Review) -> Fields {
    Fields::default()
        .with("order", &review.order_id)
        .with("state", review.state().as_str_name())
        .with("amount", money(review.amount.as_ref()))
        .with("customer", &review.customer_id)
        .with("merchant", &review.merchant_id)
        .with("rule", &review.rule)
        .with("created", time(review.create_time.as_ref()))
        .with("expires", time(review.expire_time.as_ref()))
        .with("reviewer", &review.reviewer)
        .with("reason", &review.reason)
        .with("decided", time(review.decide_time.as_ref()))
}
