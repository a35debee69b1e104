//! Laws, not cases: every step repeated, every answer lost, every compensation twice and first.

use e2e::{Builder, BusKind, Kind, Meddling, Record, Spec, World};
use proto::{
    inventory::v1 as inventory,
    ledger::v1 as ledger,
    money::Money,
    order::v1 as order,
    payment::v1 as payment,
    step::{Answer, BackAnswer, Reply, StepHeader},
};
use types::SagaId;

const STEPS: [&str; 7] = [
    "/amends.inventory.v1.InventorySteps/Commit",
    "/amends.inventory.v1.InventorySteps/Reserve",
    "/amends.ledger.v1.LedgerSteps/Post",
    "/amends.order.v1.OrderSteps/Complete",
    "/amends.order.v1.OrderSteps/Open",
    "/amends.payment.v1.PaymentSteps/Charge",
    "/amends.risk.v1.RiskSteps/Screen",
];

/// Completed, declined and out of stock, with every step call meddled with: the same ends, and nothing left.
async fn every_step_holds(meddling: Meddling) {
    let record = Record::default();
    let world = Builder::new(BusKind::Local).meddling(meddling, &record).start().await;
    let mut happy = Vec::new();
    for _ in 0..5 {
        happy.push(world.create(&Spec::of(1)).await);
    }
    let declined = world.create(&Spec::of(1).token("tok_decline")).await;
    let short = world.create(&Spec::of(1).line("P1002", 5000)).await;
    for order in &happy {
        world.completes(&order.order_id).await;
        assert_eq!(world.book(order).await, (1200, 0));
    }
    world.is_cancelled(&declined.order_id).await;
    world.is_cancelled(&short.order_id).await;
    assert_eq!(record.methods(), STEPS, "every step was meddled with");
    let stock = world.stock("P1001").await;
    assert_eq!((stock.available, stock.reserved, stock.sold), (995, 0, 5));
    world.audit().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_step_repeated_makes_one_effect() {
    every_step_holds(Meddling::Repeat).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_step_whose_answer_is_lost_is_found_out() {
    every_step_holds(Meddling::LoseFirstAnswer).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_step_whose_call_is_lost_is_made_again() {
    every_step_holds(Meddling::LoseFirstCall).await;
}

async fn every_message_twice(bus: BusKind) {
    let world = Builder::new(bus).doubled().start().await;
    let close = ledger::CloseAccountRequest { account_id: "merchant:m_2:EUR".into(), reason: "x".into() };
    let happy = world.create(&Spec::of(1).merchant("m_2")).await;
    world.completes(&happy.order_id).await;
    world.ledger().close_account(close).await.unwrap();
    // Everything that can be taken back is: order, stock, charge.
    let refused = world.create(&Spec::of(2).merchant("m_2")).await;
    let refused = world.is_cancelled(&refused.order_id).await;
    assert_eq!(world.book(&refused).await, (2400, 2400));
    assert_eq!(world.stock("P1001").await.available, 999);
    world.audit().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_message_said_twice_takes_back_once_in_process() {
    every_message_twice(BusKind::Local).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_message_said_twice_takes_back_once_over_rabbitmq() {
    every_message_twice(BusKind::Amqp).await;
}

fn header(saga: SagaId, step: &str) -> Option<StepHeader> {
    Some(StepHeader { saga_id: saga.to_string(), step: step.into(), attempt: 1, ..StepHeader::default() })
}

fn euros(minor_units: i64) -> Option<Money> {
    Some(Money { minor_units, currency_code: "EUR".into() })
}

async fn first<R: Reply>(mut stream: tonic::Streaming<R>) -> R::Says {
    stream.message().await.unwrap().unwrap().open().2.unwrap()
}

/// Compensation, compensation again, then the late step, then the compensation once more.
macro_rules! compensation_first {
    ($world:ident, $kind:ident, $client:path, $back:ident($back_request:expr), $forward:ident($forward_request:expr)) => {{
        let mut client = <$client>::new($world.callee(Kind::$kind));
        for _ in 0..2 {
            let says = first(client.$back($back_request).await.unwrap().into_inner()).await;
            assert!(matches!(says, BackAnswer::NotApplied), "{says:?}");
        }
        for _ in 0..2 {
            let says = first(client.$forward($forward_request).await.unwrap().into_inner()).await;
            assert!(matches!(says, Answer::Fenced), "{says:?}");
        }
        let says = first(client.$back($back_request).await.unwrap().into_inner()).await;
        assert!(matches!(says, BackAnswer::NotApplied), "{says:?}");
    }};
}

#[tokio::test(flavor = "multi_thread")]
async fn a_compensation_that_comes_first_fences_a_late_open() {
    let world = World::local().await;
    let saga = SagaId::from_uuid(chassis::clock::new_uuid());
    let order_id = saga.order().to_string();
    let line = order::PricedLine {
        sku: "P1001".into(),
        quantity: 1,
        unit_price_minor: 1000,
        line_total_minor: 1000,
    };
    compensation_first!(
        world,
        Order,
        order::order_steps_client::OrderStepsClient<_>,
        cancel(order::CancelRequest {
            items: vec![order::CancelItem {
                header: header(saga, "open"),
                order_id: order_id.clone(),
                ..Default::default()
            }]
        }),
        open(order::OpenRequest {
            items: vec![order::OpenItem {
                header: header(saga, "open"),
                order_id: order_id.clone(),
                customer_id: "c_1".into(),
                merchant_id: "m_1".into(),
                currency_code: "EUR".into(),
                lines: vec![line.clone()],
                subtotal_minor: 1000,
                tax_minor: 200,
                total_minor: 1200,
            }]
        })
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_compensation_that_comes_first_fences_a_late_reserve() {
    let world = World::local().await;
    let saga = SagaId::from_uuid(chassis::clock::new_uuid());
    let order_id = saga.order().to_string();
    compensation_first!(
        world,
        Inventory,
        inventory::inventory_steps_client::InventoryStepsClient<_>,
        release(inventory::ReleaseRequest {
            items: vec![inventory::ReleaseItem {
                header: header(saga, "reserve"),
                order_id: order_id.clone(),
                reason: "x".into()
            }]
        }),
        reserve(inventory::ReserveRequest {
            items: vec![inventory::ReserveItem {
                header: header(saga, "reserve"),
                order_id: order_id.clone(),
                lines: vec![inventory::ReserveLine { sku: "P1001".into(), quantity: 1 }],
                hold_until: Some(prost_types::Timestamp { seconds: 4_000_000_000, nanos: 0 }),
            }]
        })
    );
    assert_eq!(world.stock("P1001").await.reserved, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_compensation_that_comes_first_fences_a_late_charge() {
    let world = World::local().await;
    let saga = SagaId::from_uuid(chassis::clock::new_uuid());
    let order_id = saga.order().to_string();
    compensation_first!(
        world,
        Payment,
        payment::payment_steps_client::PaymentStepsClient<_>,
        refund(payment::RefundRequest {
            items: vec![payment::RefundItem {
                header: header(saga, "charge"),
                order_id: order_id.clone(),
                reason: "x".into()
            }]
        }),
        charge(payment::ChargeRequest {
            items: vec![payment::ChargeItem {
                header: header(saga, "charge"),
                order_id: order_id.clone(),
                customer_id: "c_1".into(),
                merchant_id: "m_1".into(),
                amount: euros(1200),
                method: Some(payment::charge_item::Method::Card(payment::CardMethod {
                    token: "tok_approve".into()
                })),
            }]
        })
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_compensation_that_comes_first_fences_a_late_post() {
    let world = World::local().await;
    let saga = SagaId::from_uuid(chassis::clock::new_uuid());
    let order_id = saga.order().to_string();
    compensation_first!(
        world,
        Ledger,
        ledger::ledger_steps_client::LedgerStepsClient<_>,
        reverse(ledger::ReverseRequest {
            items: vec![ledger::ReverseItem {
                header: header(saga, "post"),
                order_id: order_id.clone(),
                reason: "x".into()
            }]
        }),
        post(ledger::PostRequest {
            items: vec![ledger::PostItem {
                header: header(saga, "post"),
                order_id: order_id.clone(),
                merchant_id: "m_1".into(),
                total: euros(1200),
                tax_minor: 200,
                payment_id: types::PaymentId::from_uuid(saga.uuid()).to_string(),
            }]
        })
    );
}
