//! So many in flight, the next one when one is answered.

use std::{sync::Arc, time::Duration};

use futures_util::future::join_all;
use tokio::time::Instant;

use crate::put::{Load, Measured, Outcome, Subject, Time, draw, spawn};

/// When whoever was turned away comes again.
const LATER: Duration = Duration::from_millis(20);

pub(crate) async fn put<S: Subject>(subject: Arc<S>, load: Load, places: usize, time: Time) -> Measured {
    let customers = (0..places).map(|n| {
        let subject = Arc::clone(&subject);
        // A task each, so that all cores send.
        spawn(async move {
            let mut draw = draw(&load, n);
            let mut measured = Measured::new();
            while Instant::now() < time.end {
                let sent = Instant::now();
                let outcome = subject.order(draw.order()).await;
                let is_shed = outcome == Outcome::Shed;
                measured.note(outcome, sent, time);
                if is_shed {
                    tokio::time::sleep(LATER).await;
                }
            }
            measured
        })
    });
    let customers: Vec<_> = customers.collect();
    let mut all = Measured::new();
    for customer in join_all(customers).await {
        match customer {
            Ok(measured) => all.add(measured),
            Err(error) => {
                let broken = Outcome::Wrong(format!("a customer broke down: {error}"));
                all.note(broken, time.begin, time);
            }
        }
    }
    all
}
