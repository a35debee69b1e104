//! The books as people see them.

use proto::ledger::v1::{
    AccountType, CloseAccountRequest, GetAccountRequest, ListAccountsRequest, ListEntriesRequest,
    ReopenAccountRequest,
};
use tonic::Code;
use tonic_types::StatusExt as _;

use crate::bed::{Bed, done, reversal, saga, sale};

fn close(account: &str, reason: &str) -> CloseAccountRequest {
    CloseAccountRequest { account_id: account.into(), reason: reason.into() }
}

#[tokio::test]
async fn an_account_shows_its_balance_by_its_normal_side() {
    let bed = Bed::new().await;
    let mut doors = bed.ledger.doors.clone();
    let reversed = saga();
    bed.ledger.post(vec![sale(saga(), 119, 19), sale(reversed, 1_000, 0)]).await;
    bed.ledger.reverse(vec![reversal(reversed)]).await;
    for (id, kind, debits, credits, balance) in [
        ("provider_clearing:EUR", AccountType::Asset, 1_119, 1_000, 119),
        ("merchant:m_1:EUR", AccountType::Liability, 1_000, 1_100, 100),
        ("tax_payable:EUR", AccountType::Liability, 0, 19, 19),
    ] {
        let request = GetAccountRequest { account_id: id.into() };
        let account = doors.get_account(request).await.unwrap().into_inner();
        assert_eq!((account.account_id.as_str(), account.r#type()), (id, kind));
        assert_eq!((account.debits_minor, account.credits_minor), (debits, credits), "{id}");
        let money = account.balance.unwrap();
        assert_eq!((money.minor_units, money.currency_code.as_str()), (balance, "EUR"), "{id}");
        assert!(!account.closed && account.update_time.is_some());
    }
    let absent =
        doors.get_account(GetAccountRequest { account_id: "suspense:EUR".into() }).await.unwrap_err();
    assert_eq!(absent.code(), Code::NotFound);
    assert_eq!(absent.get_details_error_info().unwrap().reason, "ACCOUNT_NOT_FOUND");
}

#[tokio::test]
async fn closing_and_reopening_can_be_repeated() {
    let bed = Bed::new().await;
    let mut doors = bed.ledger.doors.clone();
    done(bed.ledger.post(vec![sale(saga(), 1, 0)]).await.remove(0));
    for reason in ["fraud", "said again"] {
        let account = doors.close_account(close("merchant:m_1:EUR", reason)).await.unwrap().into_inner();
        assert!(account.closed);
    }
    let mut owner = bed.database.connect().await;
    let stored: (String, i64) =
        sqlx::query_as("select state_reason, version from ledger.account where closed")
            .fetch_one(&mut owner)
            .await
            .unwrap();
    assert_eq!(stored, ("fraud".into(), 3));
    for _ in 0..2 {
        let request =
            ReopenAccountRequest { account_id: "merchant:m_1:EUR".into(), reason: "cleared".into() };
        assert!(!doors.reopen_account(request).await.unwrap().into_inner().closed);
    }
    done(bed.ledger.post(vec![sale(saga(), 1, 0)]).await.remove(0));
}

#[tokio::test]
async fn doors_refuse_what_cannot_be() {
    let bed = Bed::new().await;
    let mut doors = bed.ledger.doors.clone();
    let long = "x".repeat(501);
    for (account, reason, code) in [
        ("", "r", Code::InvalidArgument),
        ("merchant:m_1:eur", "r", Code::InvalidArgument),
        ("merchant:m\0:EUR", "r", Code::InvalidArgument),
        ("merchant:m_1:EUR", "", Code::InvalidArgument),
        ("merchant:m_1:EUR", "a\0b", Code::InvalidArgument),
        ("merchant:m_1:EUR", long.as_str(), Code::InvalidArgument),
        ("merchant:m_1:EUR", "r", Code::NotFound),
        ("provider_clearing:EUR", "r", Code::FailedPrecondition),
    ] {
        let status = doors.close_account(close(account, reason)).await.unwrap_err();
        assert_eq!(status.code(), code, "{account:?} {reason:?}");
    }
    for request in [
        ListAccountsRequest { prefix: "m\0".into(), ..Default::default() },
        ListAccountsRequest { prefix: "é".into(), ..Default::default() },
        ListAccountsRequest { prefix: "x".repeat(129), ..Default::default() },
        ListAccountsRequest { page_size: -1, ..Default::default() },
        ListAccountsRequest { page_token: "zz".into(), ..Default::default() },
    ] {
        assert_eq!(doors.list_accounts(request).await.unwrap_err().code(), Code::InvalidArgument);
    }
    for request in [
        ListEntriesRequest { account_id: "cash".into(), ..Default::default() },
        ListEntriesRequest { saga_id: "pay_01h2xcejqtf2nbrexx3vqjhp41".into(), ..Default::default() },
        ListEntriesRequest { page_token: "0123456789abcdef00".into(), ..Default::default() },
    ] {
        assert_eq!(doors.list_entries(request).await.unwrap_err().code(), Code::InvalidArgument);
    }
}

#[tokio::test]
async fn accounts_are_listed_by_prefix_in_pages() {
    let bed = Bed::new().await;
    let mut doors = bed.ledger.doors.clone();
    let merchants = ["a", "m_1", "m_10", "m_2", "z"];
    let items = merchants.map(|merchant| {
        let mut item = sale(saga(), 100, 10);
        item.merchant_id = merchant.into();
        item
    });
    bed.ledger.post(items.to_vec()).await;
    for (prefix, expected) in
        [("", 7), ("merchant:", 5), ("merchant:m_1", 2), ("merchant:m_1:", 1), ("provider", 1), ("x", 0)]
    {
        let mut seen = Vec::new();
        let mut request = ListAccountsRequest { page_size: 2, prefix: prefix.into(), ..Default::default() };
        loop {
            let page = doors.list_accounts(request.clone()).await.unwrap().into_inner();
            assert!(page.accounts.len() <= 2);
            seen.extend(page.accounts.into_iter().map(|account| account.account_id));
            if page.next_page_token.is_empty() {
                break;
            }
            request.page_token = page.next_page_token;
        }
        assert_eq!(seen.len(), expected, "{prefix}: {seen:?}");
        assert!(seen.is_sorted() && seen.iter().all(|id| id.starts_with(prefix)));
    }
}

#[tokio::test]
async fn entries_are_listed_by_account_and_by_saga() {
    let bed = Bed::new().await;
    let mut doors = bed.ledger.doors.clone();
    let wanted = saga();
    bed.ledger.post(vec![sale(saga(), 300, 0)]).await;
    bed.ledger.post(vec![sale(wanted, 119, 19)]).await;
    bed.ledger.reverse(vec![reversal(wanted)]).await;
    for (account, saga, expected) in [
        ("", String::new(), 8),
        ("merchant:m_1:EUR", String::new(), 3),
        ("", wanted.to_string(), 6),
        ("", wanted.order().to_string(), 6),
        ("tax_payable:EUR", wanted.to_string(), 2),
        ("suspense:EUR", String::new(), 0),
    ] {
        let mut request = ListEntriesRequest {
            page_size: 5,
            account_id: account.into(),
            saga_id: saga.clone(),
            ..Default::default()
        };
        let mut seen = Vec::new();
        loop {
            let page = doors.list_entries(request.clone()).await.unwrap().into_inner();
            seen.extend(page.entries);
            if page.next_page_token.is_empty() {
                break;
            }
            request.page_token = page.next_page_token;
        }
        assert_eq!(seen.len(), expected, "{account} {saga}");
        let sum: i64 = seen.iter().map(|entry| entry.amount_minor).sum();
        assert!(!account.is_empty() || sum == 0);
    }
    let request = ListEntriesRequest { saga_id: wanted.to_string(), ..Default::default() };
    let entries = doors.list_entries(request).await.unwrap().into_inner().entries;
    assert_eq!(entries.iter().filter(|entry| entry.kind == "REVERSE").count(), 3);
    let first = &entries[0];
    assert_eq!((first.amount_minor, first.currency_code.as_str()), (119, "EUR"));
    assert!(first.transaction_id.starts_with("txn_") && first.create_time.is_some());
    assert_eq!(first.saga_id, wanted.to_string());
}
