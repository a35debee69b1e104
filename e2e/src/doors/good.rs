//! A good request for every method, with everything in it filled in, about things that are there.

use std::collections::HashMap;

use prost::Message;
use prost_reflect::DynamicMessage;
use prost_types::{Duration, Timestamp};
use proto::{
    inventory::v1 as inventory, ledger::v1 as ledger, money::Money, notification::v1 as notification,
    order::v1 as order, payment::v1 as payment, risk::v1 as risk, saga::v1 as saga, step::StepHeader,
};
use tonic::Code;
use types::{PaymentId, SagaId};

use super::{Method, call::Call};
use crate::{Spec, World, eventually};

/// What good requests name.
pub struct Shop {
    /// Completed, of merchant `m_1`.
    pub order_id: String,
    pub saga_id: String,
    pub payment_id: String,
    /// A letter about it.
    pub delivery_id: String,
    /// An order that is not at its end: it waits for a person.
    pub waiting_id: String,
}

const TRACE: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

impl Shop {
    /// Opens it: stock for everybody, one order that is complete.
    pub async fn open(world: &World) -> Self {
        world.restock("P1001", 1_000_000).await;
        let completed = world.create(&Spec::of(1).wait(30)).await;
        world.completes(&completed.order_id).await;
        let closing = world.create(&Spec::of(1).merchant("m_closing").wait(30)).await;
        world.completes(&closing.order_id).await;
        let delivery_id = eventually("its letter is there", || async {
            world.deliveries(&completed.order_id).await.pop().map(|delivery| delivery.delivery_id)
        })
        .await;
        let payment_id = world.attempt(&completed.saga_id).await.payment_id;
        let waiting: SagaId = under_review(world).await.parse().unwrap();
        Self {
            order_id: completed.order_id,
            saga_id: completed.saga_id,
            payment_id,
            delivery_id,
            waiting_id: waiting.order().to_string(),
        }
    }

    /// A good request for this method. What it needs is brought about first.
    pub async fn request(&self, world: &World, method: &Method) -> DynamicMessage {
        let name = method.name();
        let bytes = match name.split('/').next().unwrap() {
            "Orders" => self.orders(&name),
            "Sagas" => self.sagas(&name),
            "Catalog" | "Inventory" => self.goods(&name),
            "Ledger" => self.ledger(&name),
            "Reviews" => reviews(&name, under_review(world).await),
            "Rules" => rules(&name),
            "Attempts" | "Notifications" => self.records(&name),
            _ => {
                let saga = SagaId::from_uuid(chassis::clock::new_uuid());
                if let Some((first, body)) = before(&name, saga) {
                    let first = Method::all().into_iter().find(|m| m.name() == first).unwrap();
                    let answer = Call::of(&first, &body).send(first.callee(world)).await;
                    assert_eq!(answer.code(), Code::Ok, "{answer:?}");
                    assert_eq!(answer.turned_away(&first), None);
                }
                step(&name, saga)
            }
        };
        DynamicMessage::decode(method.input(), bytes.as_slice()).unwrap()
    }

    /// Closes it: whoever still waits for a person is told no.
    pub async fn close(&self, world: &World) {
        loop {
            let request = risk::ListReviewsRequest { page_size: 500, ..Default::default() };
            let open = world.reviews().list_reviews(request).await.unwrap().into_inner().reviews;
            for review in &open {
                let decline = reviews("Reviews/DecideReview", review.saga_id.clone());
                let decline = risk::DecideReviewRequest::decode(decline.as_slice()).unwrap();
                world.reviews().decide_review(decline).await.unwrap();
            }
            for review in &open {
                world.is_cancelled(&review.order_id).await;
            }
            if open.is_empty() {
                return;
            }
        }
    }

    fn orders(&self, name: &str) -> Vec<u8> {
        let order_id = self.order_id.clone();
        match name {
            "Orders/CreateOrder" => order::CreateOrderRequest {
                wait: Some(Duration { seconds: 20, nanos: 0 }),
                metadata: HashMap::from([("channel".into(), "web".into())]),
                lines: vec![order::OrderLine {
                    sku: "P1001".into(),
                    quantity: 1,
                    unit_price: Some(money(1000)),
                }],
                ..Spec::of(1).request()
            }
            .encode_to_vec(),
            // An end may come from a cache.
            "Orders/GetOrder" => order::GetOrderRequest { order_id: self.waiting_id.clone() }.encode_to_vec(),
            "Orders/ListOrders" => order::ListOrdersRequest {
                page_size: 10,
                page_token: String::new(),
                merchant_id: "m_1".into(),
                customer_id: "c_1".into(),
                status: order::OrderStatus::Completed.into(),
            }
            .encode_to_vec(),
            "Orders/CancelOrder" => {
                order::CancelOrderRequest { order_id, reason: "no more".into() }.encode_to_vec()
            }
            "Orders/WatchOrder" => order::WatchOrderRequest { order_id }.encode_to_vec(),
            other => nobody_knows(other),
        }
    }

    fn sagas(&self, name: &str) -> Vec<u8> {
        let saga_id = self.saga_id.clone();
        let (actor, reason) = ("ada".to_owned(), "to see".to_owned());
        match name {
            "Sagas/GetSaga" => saga::GetSagaRequest { saga_id }.encode_to_vec(),
            "Sagas/ListSagas" => saga::ListSagasRequest {
                page_size: 10,
                page_token: String::new(),
                state: saga::SagaState::Completed.into(),
                kind: "order".into(),
            }
            .encode_to_vec(),
            "Sagas/WatchSaga" => saga::WatchSagaRequest { saga_id }.encode_to_vec(),
            "Sagas/ListJournal" => {
                saga::ListJournalRequest { saga_id, page_size: 10, page_token: String::new() }.encode_to_vec()
            }
            "Sagas/Retry" => saga::RetryRequest { saga_id, actor, reason }.encode_to_vec(),
            "Sagas/ForceCompensate" => {
                saga::ForceCompensateRequest { saga_id, actor, reason }.encode_to_vec()
            }
            "Sagas/Resolve" => saga::ResolveRequest {
                saga_id,
                actor,
                reason,
                step: "reserve".into(),
                compensation: false,
                outcome: "DONE".into(),
                reply_json: "{\"reservation_id\":\"rsv_01h2xcejqtf2nbrexx3vqjhp41\"}".into(),
                evidence: "a letter".into(),
            }
            .encode_to_vec(),
            other => nobody_knows(other),
        }
    }

    fn goods(&self, name: &str) -> Vec<u8> {
        let (page_size, page_token) = (10, String::new());
        let sku = "P1001".to_owned();
        match name {
            "Catalog/Quote" => order::QuoteRequest {
                items: vec![order::QuoteItem {
                    key: "k".into(),
                    merchant_id: "m_1".into(),
                    currency_code: "EUR".into(),
                    lines: vec![order::QuoteLine {
                        sku,
                        quantity: 1,
                        expected_unit_price: Some(money(1000)),
                    }],
                }],
            }
            .encode_to_vec(),
            "Catalog/ListPrices" => {
                order::ListPricesRequest { page_size, page_token, currency_code: "EUR".into() }
                    .encode_to_vec()
            }
            "Catalog/SetPrice" => order::SetPriceRequest {
                sku: "P2001".into(),
                title: "Lamp".into(),
                unit_price: Some(money(500)),
            }
            .encode_to_vec(),
            "Catalog/GetDocument" => {
                order::GetDocumentRequest { order_id: self.order_id.clone() }.encode_to_vec()
            }
            "Inventory/GetStock" => inventory::GetStockRequest { sku }.encode_to_vec(),
            "Inventory/ListStock" => inventory::ListStockRequest { page_size, page_token }.encode_to_vec(),
            "Inventory/Restock" => inventory::RestockRequest {
                request_id: chassis::clock::new_uuid().to_string(),
                sku: "P2001".into(),
                quantity: 5,
            }
            .encode_to_vec(),
            other => nobody_knows(other),
        }
    }

    fn ledger(&self, name: &str) -> Vec<u8> {
        let (page_size, page_token) = (10, String::new());
        let account_id = "merchant:m_closing:EUR".to_owned();
        let reason = "it moved".to_owned();
        match name {
            "Ledger/GetAccount" => ledger::GetAccountRequest { account_id }.encode_to_vec(),
            "Ledger/ListAccounts" => {
                ledger::ListAccountsRequest { page_size, page_token, prefix: "merchant:".into() }
                    .encode_to_vec()
            }
            "Ledger/ListEntries" => ledger::ListEntriesRequest {
                page_size,
                page_token,
                account_id: "merchant:m_1:EUR".into(),
                saga_id: self.saga_id.clone(),
            }
            .encode_to_vec(),
            "Ledger/CloseAccount" => ledger::CloseAccountRequest { account_id, reason }.encode_to_vec(),
            "Ledger/ReopenAccount" => ledger::ReopenAccountRequest { account_id, reason }.encode_to_vec(),
            other => nobody_knows(other),
        }
    }

    fn records(&self, name: &str) -> Vec<u8> {
        let (page_size, page_token) = (10, String::new());
        match name {
            "Attempts/GetAttempt" => {
                payment::GetAttemptRequest { payment_id: self.payment_id.clone() }.encode_to_vec()
            }
            "Attempts/ListAttempts" => payment::ListAttemptsRequest {
                page_size,
                page_token,
                state: payment::AttemptState::Succeeded.into(),
            }
            .encode_to_vec(),
            "Notifications/ListDeliveries" => {
                notification::ListDeliveriesRequest { page_size, page_token, order_id: self.order_id.clone() }
                    .encode_to_vec()
            }
            "Notifications/Resend" => {
                notification::ResendRequest { delivery_id: self.delivery_id.clone() }.encode_to_vec()
            }
            other => nobody_knows(other),
        }
    }
}

/// An order that waits for a person and for nothing else.
async fn under_review(world: &World) -> String {
    let order = world.create(&Spec::of(900).wait(30)).await;
    assert_eq!(order.status(), order::OrderStatus::UnderReview, "{order:?}");
    // What its other steps brought is written down a moment later.
    eventually("the rest of its stage is done", || async {
        let steps = world.saga(&order.saga_id).await.steps;
        (steps[0].state == "DONE" && steps[1].state == "DONE").then_some(())
    })
    .await;
    order.saga_id
}

fn nobody_knows(name: &str) -> Vec<u8> {
    panic!("{name} is new: say here what a good request is")
}

fn money(minor_units: i64) -> Money {
    Money { minor_units, currency_code: "EUR".into() }
}

fn reviews(name: &str, saga_id: String) -> Vec<u8> {
    match name {
        "Reviews/ListReviews" => risk::ListReviewsRequest {
            page_size: 10,
            page_token: String::new(),
            state: risk::ReviewState::Open.into(),
        }
        .encode_to_vec(),
        "Reviews/GetReview" => risk::GetReviewRequest { saga_id }.encode_to_vec(),
        "Reviews/DecideReview" => risk::DecideReviewRequest {
            saga_id,
            approve: false,
            reviewer: "ada".into(),
            reason: "called them".into(),
        }
        .encode_to_vec(),
        other => nobody_knows(other),
    }
}

fn rules(name: &str) -> Vec<u8> {
    let customer_id = "c_denied".to_owned();
    match name {
        "Rules/ListRules" => risk::ListRulesRequest {}.encode_to_vec(),
        // Of a currency that no order of the shop is in.
        "Rules/SetRule" => risk::SetRuleRequest {
            rule: Some(risk::Rule {
                kind: "AMOUNT_REVIEW".into(),
                currency_code: "CHF".into(),
                threshold: 1_000_000,
                window_seconds: 0,
                enabled: true,
            }),
        }
        .encode_to_vec(),
        "Rules/Deny" => risk::DenyRequest { customer_id, reason: "never paid".into() }.encode_to_vec(),
        "Rules/Allow" => risk::AllowRequest { customer_id }.encode_to_vec(),
        other => nobody_knows(other),
    }
}

fn header(saga: SagaId, step: &str) -> Option<StepHeader> {
    Some(StepHeader {
        saga_id: saga.to_string(),
        step: step.into(),
        attempt: 1,
        remaining_ms: 60_000,
        trace: TRACE.into(),
        epoch: 1,
    })
}

/// What has to be there before the step can be.
fn before(name: &str, saga: SagaId) -> Option<(&'static str, Vec<u8>)> {
    match name {
        "OrderSteps/Complete" => Some(("OrderSteps/Open", step("OrderSteps/Open", saga))),
        "InventorySteps/Commit" => Some(("InventorySteps/Reserve", step("InventorySteps/Reserve", saga))),
        _ => None,
    }
}

fn history() -> Vec<order::StatusChange> {
    let time = Some(Timestamp { seconds: 1_800_000_000, nanos: 5 });
    vec![order::StatusChange { status: "INVENTORY_RESERVED".into(), time }]
}

/// The good request of a step of this saga.
#[must_use]
pub fn step(name: &str, saga: SagaId) -> Vec<u8> {
    let order_id = saga.order().to_string();
    let (customer_id, merchant_id) = ("c_1".to_owned(), "m_1".to_owned());
    let reason = "CARD_DECLINED".to_owned();
    match name {
        "OrderSteps/Open" => order::OpenRequest { items: vec![open(saga)] }.encode_to_vec(),
        "OrderSteps/Complete" => {
            let item = order::CompleteItem { header: header(saga, "complete"), order_id, history: history() };
            order::CompleteRequest { items: vec![item] }.encode_to_vec()
        }
        "OrderSteps/Cancel" => {
            let item =
                order::CancelItem { header: header(saga, "open"), order_id, reason, history: history() };
            order::CancelRequest { items: vec![item] }.encode_to_vec()
        }
        "InventorySteps/Reserve" => {
            let lines = vec![inventory::ReserveLine { sku: "P1001".into(), quantity: 1 }];
            let hold_until = Some(Timestamp { seconds: 4_000_000_000, nanos: 5 });
            let item =
                inventory::ReserveItem { header: header(saga, "reserve"), order_id, lines, hold_until };
            inventory::ReserveRequest { items: vec![item] }.encode_to_vec()
        }
        "InventorySteps/Commit" => {
            let reserve_step = "reserve".into();
            let item = inventory::CommitItem { header: header(saga, "commit"), order_id, reserve_step };
            inventory::CommitRequest { items: vec![item] }.encode_to_vec()
        }
        "InventorySteps/Release" => {
            let item = inventory::ReleaseItem { header: header(saga, "reserve"), order_id, reason };
            inventory::ReleaseRequest { items: vec![item] }.encode_to_vec()
        }
        "RiskSteps/Screen" => {
            let (header, amount) = (header(saga, "screen"), Some(money(1200)));
            let item = risk::ScreenItem { header, order_id, customer_id, merchant_id, amount };
            risk::ScreenRequest { items: vec![item] }.encode_to_vec()
        }
        "PaymentSteps/Charge" => {
            let card = payment::CardMethod { token: "tok_approve".into() };
            let item = payment::ChargeItem {
                header: header(saga, "charge"),
                order_id,
                customer_id,
                merchant_id,
                amount: Some(money(1200)),
                method: Some(payment::charge_item::Method::Card(card)),
            };
            payment::ChargeRequest { items: vec![item] }.encode_to_vec()
        }
        "PaymentSteps/Refund" => {
            let item = payment::RefundItem { header: header(saga, "charge"), order_id, reason };
            payment::RefundRequest { items: vec![item] }.encode_to_vec()
        }
        "LedgerSteps/Post" => {
            let item = ledger::PostItem {
                header: header(saga, "post"),
                order_id,
                merchant_id,
                total: Some(money(1200)),
                tax_minor: 200,
                payment_id: PaymentId::from_uuid(chassis::clock::new_uuid()).to_string(),
            };
            ledger::PostRequest { items: vec![item] }.encode_to_vec()
        }
        "LedgerSteps/Reverse" => {
            let item = ledger::ReverseItem { header: header(saga, "post"), order_id, reason };
            ledger::ReverseRequest { items: vec![item] }.encode_to_vec()
        }
        other => nobody_knows(other),
    }
}

fn open(saga: SagaId) -> order::OpenItem {
    order::OpenItem {
        header: header(saga, "open"),
        order_id: saga.order().to_string(),
        customer_id: "c_1".into(),
        merchant_id: "m_1".into(),
        currency_code: "EUR".into(),
        lines: vec![order::PricedLine {
            sku: "P1001".into(),
            quantity: 1,
            unit_price_minor: 1000,
            line_total_minor: 1000,
        }],
        subtotal_minor: 1000,
        tax_minor: 200,
        total_minor: 1200,
    }
}

/// What the method answers to its good request: the shop's saga is at its end, where no verb helps.
#[must_use]
pub fn answers(method: &Method) -> Code {
    match method.name().as_str() {
        "Sagas/Retry" | "Sagas/ForceCompensate" | "Sagas/Resolve" | "Orders/CancelOrder" => {
            Code::FailedPrecondition
        }
        _ => Code::Ok,
    }
}
