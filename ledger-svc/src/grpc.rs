//! The gRPC doors: the saga's steps, and the books as people see them. The only place that builds a `Status`.
//!
//! Read next: [`crate::wire`] for what is asked, [`crate::commands`] for what is done.

use std::time::Duration;

use chassis::{batcher::Batcher, database::Trouble, telemetry::step_span};
use proto::{
    error::{self, Violation},
    ledger::v1::{
        Account, AccountType, CloseAccountRequest, Entry, GetAccountRequest, ListAccountsRequest,
        ListAccountsResponse, ListEntriesRequest, ListEntriesResponse, PostReply, PostRequest,
        ReopenAccountRequest, ReverseReply, ReverseRequest, ledger_server::Ledger,
        ledger_steps_server::LedgerSteps,
    },
    money::Money,
    page,
    step::{self, Replies},
    time,
};
use sqlx::{PgPool, Postgres, pool::PoolConnection};
use tonic::{Request, Response, Status};
use tracing::Instrument as _;
use types::{SagaId, TransactionId};
use uuid::Uuid;

use crate::{
    commands::{post::Post, reverse::Reverse},
    domain::AccountId,
    store::reading::{self, AccountRow, EntryRow},
    wire,
};

/// Items of a slice at most.
const MAX_SLICE: usize = 512;

/// The ledger's part of a saga.
#[derive(Clone)]
pub(crate) struct Steps {
    pub(crate) post: Batcher<Post>,
    pub(crate) reverse: Batcher<Reverse>,
}

#[tonic::async_trait]
impl LedgerSteps for Steps {
    type PostStream = Replies<PostReply>;
    type ReverseStream = Replies<ReverseReply>;

    async fn post(&self, request: Request<PostRequest>) -> Result<Response<Self::PostStream>, Status> {
        step::serve(request.into_inner().items, MAX_SLICE, |item, header| {
            let span =
                step_span("amends.ledger.v1.LedgerSteps/Post", &header.key, header.attempt, &header.trace);
            let remaining = header.remaining;
            Ok(self.post.submit(wire::post(item, header)?, remaining).instrument(span))
        })
    }

    async fn reverse(
        &self,
        request: Request<ReverseRequest>,
    ) -> Result<Response<Self::ReverseStream>, Status> {
        step::serve(request.into_inner().items, MAX_SLICE, |item, header| {
            let span =
                step_span("amends.ledger.v1.LedgerSteps/Reverse", &header.key, header.attempt, &header.trace);
            let remaining = header.remaining;
            Ok(self.reverse.submit(wire::reverse(item, header, None)?, remaining).instrument(span))
        })
    }
}

/// The books, for people.
#[derive(Clone)]
pub(crate) struct Doors {
    pub(crate) pool: PgPool,
}

#[tonic::async_trait]
impl Ledger for Doors {
    async fn get_account(&self, request: Request<GetAccountRequest>) -> Result<Response<Account>, Status> {
        let id = account_id(&request.into_inner().account_id)?;
        self.account(id).await.map(Response::new)
    }

    async fn list_accounts(
        &self,
        request: Request<ListAccountsRequest>,
    ) -> Result<Response<ListAccountsResponse>, Status> {
        let ListAccountsRequest { page_size, page_token, prefix } = request.into_inner();
        let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | ':');
        if prefix.len() > 128 || !prefix.chars().all(fits) {
            let description = "must have at most 128 letters, digits, '.', '_', '-', ':'";
            return Err(error::invalid("prefix", "BAD_PREFIX", description));
        }
        let size = page::size(page_size)?;
        let after = page::cursor(&["accounts", &prefix], &page_token)?.unwrap_or_default();
        let mut connection = self.connection().await?;
        let rows = reading::accounts(&mut connection, prefix.clone(), after, size + 1).await;
        let mut rows = rows.map_err(status)?;
        let next_page_token = page::next(&mut rows, size, &["accounts", &prefix], |row| row.0.clone());
        let accounts = rows.into_iter().map(show_account).collect::<Result<_, _>>()?;
        Ok(Response::new(ListAccountsResponse { accounts, next_page_token }))
    }

    async fn list_entries(
        &self,
        request: Request<ListEntriesRequest>,
    ) -> Result<Response<ListEntriesResponse>, Status> {
        let ListEntriesRequest { page_size, page_token, account_id: account, saga_id: saga } =
            request.into_inner();
        let wanted_account = filter(&account, account_id)?.map(AccountId::into_string);
        let wanted_saga = filter(&saga, saga_id)?;
        let size = page::size(page_size)?;
        let arguments = ["entries", account.as_str(), saga.as_str()];
        let after = match page::cursor(&arguments, &page_token)? {
            None => Uuid::nil(),
            Some(cursor) => cursor
                .parse()
                .map_err(|_| error::invalid("page_token", "BAD_PAGE_TOKEN", "names no entry"))?,
        };
        let mut connection = self.connection().await?;
        let rows =
            reading::entries(&mut connection, wanted_saga.map(SagaId::uuid), wanted_account, after, size + 1);
        let mut rows = rows.await.map_err(status)?;
        let next_page_token = page::next(&mut rows, size, &arguments, |row| row.0.to_string());
        let entries = rows.into_iter().map(show_entry).collect();
        Ok(Response::new(ListEntriesResponse { entries, next_page_token }))
    }

    async fn close_account(
        &self,
        request: Request<CloseAccountRequest>,
    ) -> Result<Response<Account>, Status> {
        let CloseAccountRequest { account_id, reason } = request.into_inner();
        self.set_closed(&account_id, true, reason).await.map(Response::new)
    }

    async fn reopen_account(
        &self,
        request: Request<ReopenAccountRequest>,
    ) -> Result<Response<Account>, Status> {
        let ReopenAccountRequest { account_id, reason } = request.into_inner();
        self.set_closed(&account_id, false, reason).await.map(Response::new)
    }
}

impl Doors {
    async fn connection(&self) -> Result<PoolConnection<Postgres>, Status> {
        self.pool.acquire().await.map_err(status)
    }

    async fn account(&self, id: AccountId) -> Result<Account, Status> {
        let found = reading::account(&mut *self.connection().await?, id.as_str().to_owned()).await;
        show_account(found.map_err(status)?.ok_or_else(|| error::not_found("account", id.as_str()))?)
    }

    async fn set_closed(&self, id: &str, closed: bool, reason: String) -> Result<Account, Status> {
        let id = account_id(id)?;
        let length = reason.chars().count();
        if !(1..=500).contains(&length) || reason.chars().any(char::is_control) {
            let description = "must have 1 to 500 characters, none of them a control character";
            return Err(error::invalid("reason", "BAD_REASON", description));
        }
        if !id.is_merchants() {
            return Err(error::precondition(
                "HOUSE_ACCOUNT",
                format!("{id} is the house's own: without it nothing can be booked"),
                [("account", id.to_string())],
            ));
        }
        let changed = {
            let mut connection = self.connection().await?;
            reading::set_closed(&mut connection, id.as_str().to_owned(), closed, reason.clone())
                .await
                .map_err(status)?
        };
        if changed {
            tracing::info!(account.id = %id, account.closed = closed, reason, "an account changed its state");
        }
        self.account(id).await
    }
}

fn account_id(text: &str) -> Result<AccountId, Status> {
    text.parse().map_err(|why: String| error::invalid("account_id", "BAD_ACCOUNT_ID", &why))
}

fn saga_id(text: &str) -> Result<SagaId, Status> {
    text.parse().map_err(|why: types::IdError| {
        error::invalid_fields(vec![Violation::new("saga_id", "BAD_SAGA_ID", why.to_string())])
    })
}

/// An empty filter lets everything through.
fn filter<T>(text: &str, parse: impl FnOnce(&str) -> Result<T, Status>) -> Result<Option<T>, Status> {
    if text.is_empty() { Ok(None) } else { parse(text).map(Some) }
}

fn show_account(row: AccountRow) -> Result<Account, Status> {
    let (account_id, kind, currency_code, debits_minor, credits_minor, closed, update_time) = row;
    let kind = AccountType::from_str_name(&kind)
        .ok_or_else(|| error::internal(format!("{account_id} has an unknown type")))?;
    let minor_units = match kind {
        AccountType::Asset | AccountType::Expense => debits_minor - credits_minor,
        AccountType::Unspecified | AccountType::Liability | AccountType::Equity | AccountType::Revenue => {
            credits_minor - debits_minor
        }
    };
    Ok(Account {
        account_id,
        r#type: kind.into(),
        balance: Some(Money { minor_units, currency_code: currency_code.clone() }),
        currency_code,
        debits_minor,
        credits_minor,
        closed,
        update_time: Some(time::stamp(update_time)),
    })
}

fn show_entry(row: EntryRow) -> Entry {
    let (entry_id, transaction_id, account_id, amount_minor, currency_code, kind, saga, create_time) = row;
    Entry {
        entry_id: entry_id.to_string(),
        transaction_id: TransactionId::from_uuid(transaction_id).to_string(),
        account_id,
        amount_minor,
        currency_code,
        kind,
        saga_id: SagaId::from_uuid(saga).to_string(),
        create_time: Some(time::stamp(create_time)),
    }
}

/// What a database error is to a caller. Logged here, because nobody else sees it.
fn status(error: sqlx::Error) -> Status {
    match Trouble::from(error) {
        Trouble::Away(why) | Trouble::Unavailable(why) | Trouble::Again(why) => {
            tracing::warn!(why, "the books cannot be read now");
            error::unavailable(
                "DATABASE_UNAVAILABLE",
                "the ledger's database is away",
                Duration::from_secs(1),
            )
        }
        Trouble::Failed(why) => {
            tracing::error!(why, "the books cannot be read");
            error::internal("the ledger cannot read its books")
        }
    }
}
