//! `amends balance …`: the books.
//!
//! Balances are on the account's normal side; entries are debits where positive. Read next: `server.rs`.

use clap::{Args, Subcommand};
use proto::ledger::v1::{
    Account, Entry, GetAccountRequest, ListAccountsRequest, ListEntriesRequest, ledger_client::LedgerClient,
};
use serde_json::{Value, json};
use tonic::transport::Channel;

use super::{
    failure::Failure,
    output::Table,
    server::{Rows, Server, Whose, ask},
    value::{minor, money, money_json, time, time_json, yes},
};

/// `amends balance <account>`, or one of its subcommands.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub(crate) struct Balance {
    /// Whose, as in `merchant:m_1:EUR`
    #[arg(required = true)]
    account: Option<String>,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List accounts with their balances
    #[command(after_help = "Examples:\n  amends balance list\n  amends balance list --prefix merchant:m_1:")]
    List(List),
    /// List entries, oldest first
    #[command(after_help = "Examples:
  amends balance entries --account merchant:m_1:EUR
  amends balance entries --saga ord_01h2xcejqtf2nbrexx3vqjhp41 --json")]
    Entries(Entries),
}

#[derive(Debug, Args)]
struct List {
    /// Only accounts whose id begins so
    #[arg(long, default_value = "")]
    prefix: String,
    #[command(flatten)]
    rows: Rows,
}

#[derive(Debug, Args)]
struct Entries {
    /// Only of this account
    #[arg(long, default_value = "")]
    account: String,
    /// Only of this saga: saga_… or ord_…
    #[arg(long, default_value = "")]
    saga: String,
    #[command(flatten)]
    rows: Rows,
}

impl Balance {
    pub(crate) async fn run(self, server: &Server) -> Result<(), Failure> {
        let screen = server.screen();
        match self.command {
            Some(Command::List(list)) => list.run(server).await,
            Some(Command::Entries(entries)) => entries.run(server).await,
            None => {
                let request = ask(GetAccountRequest { account_id: self.account.unwrap_or_default() });
                let account = client(server).await?.get_account(request).await?.into_inner();
                screen.one(|| account_json(&account), accounts(std::slice::from_ref(&account)))
            }
        }
    }
}

impl List {
    async fn run(self, server: &Server) -> Result<(), Failure> {
        let screen = server.screen();
        let client = client(server).await?;
        let fetch = |page_size, page_token| {
            let request = ListAccountsRequest { page_size, page_token, prefix: self.prefix.clone() };
            let mut client = client.clone();
            async move {
                let page = client.list_accounts(ask(request)).await?.into_inner();
                Ok((page.accounts, page.next_page_token))
            }
        };
        let found = self.rows.collect(screen, fetch).await?;
        let document = || json!({ "accounts": found.iter().map(account_json).collect::<Vec<_>>() });
        screen.one(document, accounts(&found))
    }
}

impl Entries {
    async fn run(self, server: &Server) -> Result<(), Failure> {
        let screen = server.screen();
        let client = client(server).await?;
        let fetch = |page_size, page_token| {
            let request = ListEntriesRequest {
                page_size,
                page_token,
                account_id: self.account.clone(),
                saga_id: self.saga.clone(),
            };
            let mut client = client.clone();
            async move {
                let page = client.list_entries(ask(request)).await?.into_inner();
                Ok((page.entries, page.next_page_token))
            }
        };
        let found = self.rows.collect(screen, fetch).await?;
        let document = || json!({ "entries": found.iter().map(entry_json).collect::<Vec<_>>() });
        screen.one(document, entries(&found))
    }
}

async fn client(server: &Server) -> Result<LedgerClient<Channel>, Failure> {
    Ok(LedgerClient::new(server.connect_to(Whose::Ledger).await?))
}

fn account_json(account: &Account) -> Value {
    json!({
        "account_id": account.account_id,
        "type": account.r#type().as_str_name(),
        "currency_code": account.currency_code,
        "debits_minor": account.debits_minor,
        "credits_minor": account.credits_minor,
        "balance": money_json(account.balance.as_ref()),
        "closed": account.closed,
        "update_time": time_json(account.update_time.as_ref()),
    })
}

fn entry_json(entry: &Entry) -> Value {
    json!({
        "entry_id": entry.entry_id,
        "transaction_id": entry.transaction_id,
        "account_id": entry.account_id,
        "amount_minor": entry.amount_minor,
        "currency_code": entry.currency_code,
        "kind": entry.kind,
        "saga_id": entry.saga_id,
        "create_time": time_json(entry.create_time.as_ref()),
    })
}

fn accounts(accounts: &[Account]) -> Table<7> {
    let rows = accounts.iter().map(|account| {
        [
            account.account_id.clone(),
            account.r#type().as_str_name().to_owned(),
            money(account.balance.as_ref()),
            minor(account.debits_minor, &account.currency_code),
            minor(account.credits_minor, &account.currency_code),
            yes(account.closed).to_owned(),
            time(account.update_time.as_ref()),
        ]
    });
    Table::new(["ACCOUNT", "TYPE", ">BALANCE", ">DEBITS", ">CREDITS", "CLOSED", "UPDATED"], rows)
}

fn entries(entries: &[Entry]) -> Table<6> {
    let rows = entries.iter().map(|entry| {
        let amount = minor(entry.amount_minor.saturating_abs(), &entry.currency_code);
        let (debit, credit) =
            if entry.amount_minor < 0 { (String::new(), amount) } else { (amount, String::new()) };
        [
            time(entry.create_time.as_ref()),
            entry.account_id.clone(),
            debit,
            credit,
            entry.kind.clone(),
            entry.transaction_id.clone(),
        ]
    });
    Table::new(["TIME", "ACCOUNT", ">DEBIT", ">CREDIT", "KIND", "TRANSACTION"], rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debits_and_credits_stand_in_columns_of_their_own() {
        let entry = |amount_minor| Entry { amount_minor, currency_code: "EUR".into(), ..Entry::default() };
        let text = entries(&[entry(1999), entry(-1999)]).to_string();
        let lines: Vec<_> = text.lines().map(str::trim).collect();
        assert_eq!(lines[0], "TIME  ACCOUNT      DEBIT     CREDIT  KIND  TRANSACTION");
        assert_eq!(lines[1], "19.99 EUR");
        assert_eq!(lines[2], "19.99 EUR");
        assert!(text.lines().nth(1).unwrap().len() < text.lines().nth(2).unwrap().len());
    }
}
