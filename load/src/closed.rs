//! So many in flight, the next one when one is answered.

use std::{sync::Arc, time::Duration};

use futures_util::future::join_all;
use tokio::time::Instant;

use crate::put::{Load, Measured, Outcome, Subject, Watch, draw, spawn, warm_up};

/// When whoever was turned away comes again.
const LATER: Duration = Duration::from_millis(20);

pub(crate) async fn put<S: Subject>(
    subject: Arc<S>,
    load: Load,
    places: usize,
    watch: &mut impl Watch,
) -> Measured {
    let begin = Instant::now() + load.warm_up;
    let end = begin + load.time;
    let customers = (0..places).map(|n| {
        let subject = Arc::clone(&subject);
        // A task each, so that all cores send.
        spawn(async move {
            let mut draw = draw(&load, n);
            let mut measured = Measured::new();
            while Instant::now() < end {
                let sent = Instant::now();
                let outcome = subject.order(draw.order()).await;
                let now = Instant::now();
                let is_shed = outcome == Outcome::Shed;
                // What began in the warm-up or ended past the time belongs to neither; a wrong end counts whenever it comes.
                let is_wrong = matches!(outcome, Outcome::Wrong(_));
                if is_wrong || (sent >= begin && now <= end) {
                    measured.note(outcome, now - sent);
                }
                if is_shed {
                    tokio::time::sleep(LATER).await;
                }
            }
            measured
        })
    });
    let customers: Vec<_> = customers.collect();
    warm_up(watch, load.warm_up, begin).await;
    let mut all = Measured::new();
    for customer in join_all(customers).await {
        match customer {
            Ok(measured) => all.add(measured),
            Err(error) => all.note(Outcome::Wrong(format!("a customer broke down: {error}")), Duration::ZERO),
        }
    }
    all.seconds = load.time.as_secs_f64();
    all
}
