//! Whatever happens to the books, in whatever order: every currency stays at zero, every account equals its entries.

use chassis::bus::{Bus as _, Published};
use futures_util::future::join_all;
use proptest::{
    prelude::*,
    test_runner::{Config, TestRunner},
};
use types::SagaId;

use crate::{
    bed::{Bed, Running, reversal, saga, sale},
    suspense::{event, refunded},
};

#[derive(Debug, Clone, Copy)]
enum Act {
    Post,
    Reverse,
    Refunded,
    Close(bool),
}

/// Who acts (of eight sagas), what, at which of two processes.
type Script = Vec<(usize, Act, bool)>;

fn scripts() -> impl Strategy<Value = Script> {
    let act = prop_oneof![
        4 => Just(Act::Post),
        3 => Just(Act::Reverse),
        3 => Just(Act::Refunded),
        1 => any::<bool>().prop_map(Act::Close)
    ];
    prop::collection::vec((0..8_usize, act, any::<bool>()), 1..60)
}

async fn act(bed: &Bed, ledger: &Running, saga: SagaId, number: usize, act: Act) {
    let total = 100 + i64::try_from(number).unwrap();
    let currency = ["EUR", "USD", "JPY"][number % 3];
    match act {
        Act::Post => {
            let mut item = sale(saga, total, total / 5);
            item.total.as_mut().unwrap().currency_code = currency.into();
            ledger.post(vec![item]).await;
        }
        Act::Reverse => drop(ledger.reverse(vec![reversal(saga)]).await),
        Act::Refunded => {
            let mut body = refunded(saga, total);
            body.amount.as_mut().unwrap().currency_code = currency.into();
            assert_eq!(ledger.bus.publish(&[event(&body)]).await, [Published::Safe]);
        }
        Act::Close(closed) => bed.closed(&format!("merchant:m_1:{currency}"), closed).await,
    }
}

#[test]
fn any_sequence_keeps_the_books_at_zero() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (bed, other) = runtime.block_on(async {
        let bed = Bed::new().await;
        let other = Running::on(&bed.database).await;
        (bed, other)
    });
    let mut runner = TestRunner::new(Config { cases: 24, failure_persistence: None, ..Config::default() });
    runner
        .run(&scripts(), |script| {
            let sagas: Vec<_> = (0..8).map(|_| saga()).collect();
            runtime.block_on(async {
                // Six at a time, so that they meet in batches and between processes.
                for together in script.chunks(6) {
                    join_all(together.iter().map(|(number, what, here)| {
                        let ledger = if *here { &bed.ledger } else { &other };
                        act(&bed, ledger, sagas[*number], *number, *what)
                    }))
                    .await;
                }
                bed.audit().await;
            });
            Ok(())
        })
        .unwrap();
}
