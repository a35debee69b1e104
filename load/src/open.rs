//! Orders are due at constant intervals, whatever is answered.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::{Semaphore, mpsc},
    time::Instant,
};

use crate::put::{Load, Measured, Outcome, Subject, Time, draw, spawn};

/// More than this many waiting, and the load generator itself would be what is measured.
const MOST_WAITING: usize = 20_000;

pub(crate) async fn put<S: Subject>(subject: Arc<S>, load: Load, rate: f64, time: Time) -> Measured {
    let (tell, mut told) = mpsc::unbounded_channel::<(Outcome, Instant)>();
    let sending = spawn(send(subject, load, rate, time, tell));
    let mut all = Measured::new();
    // Until the last of them is answered: who was late is not left out.
    while let Some((outcome, due)) = told.recv().await {
        all.note(outcome, due, time);
    }
    all.dropped = sending.await.unwrap_or_default();
    all
}

/// Sends each when it is due; how many were not sent.
async fn send<S: Subject>(
    subject: Arc<S>,
    load: Load,
    rate: f64,
    time: Time,
    tell: mpsc::UnboundedSender<(Outcome, Instant)>,
) -> u64 {
    let start = time.begin - load.warm_up;
    let places = Arc::new(Semaphore::new(MOST_WAITING));
    let mut draw = draw(&load, 0);
    let mut dropped = 0;
    for n in 0_u64.. {
        let due = start + Duration::from_secs_f64(n as f64 / rate);
        if due >= time.end {
            break;
        }
        tokio::time::sleep_until(due).await;
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
            dropped += u64::from(due >= time.begin);
            continue;
        };
        let (subject, order, tell) = (Arc::clone(&subject), draw.order(), tell.clone());
        spawn(async move {
            // A task of its own, so that one that breaks down is told as well.
            let outcome = spawn(async move { subject.order(order).await }).await;
            let outcome =
                outcome.unwrap_or_else(|error| Outcome::Wrong(format!("a customer broke down: {error}")));
            // Nobody listens any more only when the run was given up.
            let _ = tell.send((outcome, due));
            drop(place);
        });
    }
    dropped
}
