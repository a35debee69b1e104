//! Orders are due at constant intervals, whatever is answered.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::{Semaphore, mpsc},
    time::Instant,
};

use crate::put::{Load, Measured, Outcome, Subject, Watch, draw, spawn, warm_up};

/// More than this many waiting, and the load generator itself would be what is measured.
const MOST_WAITING: usize = 20_000;

pub(crate) async fn put<S: Subject>(
    subject: Arc<S>,
    load: Load,
    rate: f64,
    watch: &mut impl Watch,
) -> Measured {
    let start = Instant::now();
    let begin = start + load.warm_up;
    let end = begin + load.time;
    let (tell, mut told) = mpsc::unbounded_channel::<(Outcome, Duration)>();
    let sending = spawn(send(subject, load, rate, (start, begin, end), tell));
    warm_up(watch, load.warm_up, begin).await;
    let mut all = Measured::new();
    // Until the last of them is answered: who was late is not left out.
    while let Some((outcome, took)) = told.recv().await {
        all.note(outcome, took);
    }
    all.dropped = sending.await.unwrap_or_default();
    all.seconds = load.time.as_secs_f64();
    all
}

/// Sends each when it is due; how many were not sent.
async fn send<S: Subject>(
    subject: Arc<S>,
    load: Load,
    rate: f64,
    (start, begin, end): (Instant, Instant, Instant),
    tell: mpsc::UnboundedSender<(Outcome, Duration)>,
) -> u64 {
    let places = Arc::new(Semaphore::new(MOST_WAITING));
    let mut draw = draw(&load, 0);
    let mut dropped = 0;
    for n in 0_u64.. {
        let due = start + Duration::from_secs_f64(n as f64 / rate);
        if due >= end {
            break;
        }
        tokio::time::sleep_until(due).await;
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
            dropped += u64::from(due >= begin);
            continue;
        };
        let (subject, order, tell) = (Arc::clone(&subject), draw.order(), tell.clone());
        spawn(async move {
            // A task of its own, so that one that breaks down is told as well.
            let outcome = spawn(async move { subject.order(order).await }).await;
            let outcome =
                outcome.unwrap_or_else(|error| Outcome::Wrong(format!("a customer broke down: {error}")));
            if due >= begin || matches!(outcome, Outcome::Wrong(_)) {
                // Nobody listens any more only when the run was given up.
                let _ = tell.send((outcome, due.elapsed()));
            }
            drop(place);
        });
    }
    dropped
}
