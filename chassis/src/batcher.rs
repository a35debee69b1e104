//! How a command gets its slice: everything that waited while its last batch was in flight.
//!
//! One batch of a command is in flight at a time, and few of all commands together ([`crate::slots`]); when idle nothing
//! waits. No two items of a batch have the same key; those who ask the same question while it waits share its answer.
//! A batch that fails for any reason but the connection is halved until the item that fails alone stands alone; its
//! neighbours are not harmed. A command that was begun runs to its end whoever hangs up.

use std::{
    collections::{HashMap, VecDeque, hash_map::Entry},
    future::Future,
    hash::Hash,
    panic::AssertUnwindSafe,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use futures_util::FutureExt as _;
use tokio::{
    sync::{mpsc, oneshot},
    time::Instant,
};
use types::NoAnswer;

use crate::{
    database::Trouble,
    slots::{Turns, slot},
    stop::Stop,
};

/// One function, one batch, one transaction.
pub trait Command: Send + Sync + 'static {
    /// What it works on.
    type Item: Send + Sync + 'static;
    /// What it says to each.
    type Reply: Send + 'static;
    /// What must not stand twice in a batch.
    type Key: Eq + Hash + Send;

    /// For logs and metrics.
    const NAME: &'static str;

    /// Whether its batches count among those that the database has in hand. One that calls somebody over the network must
    /// keep no place meanwhile.
    const USES_DATABASE: bool = true;

    /// For a question: how its answer is copied. Those who wait with one key are then answered by one item, where a command
    /// that changes something takes them one batch after the other. The key must be all that the answer depends on.
    const COPY: Option<fn(&Self::Reply) -> Self::Reply> = None;

    /// With whom its batches take turns, since they write the same rows.
    fn turns(&self) -> Option<&Turns> {
        None
    }

    /// The item's key.
    fn key(item: &Self::Item) -> Self::Key;

    /// Does it: a reply for each item in the same order, or nothing happened.
    fn run(&self, items: &[Self::Item]) -> impl Future<Output = Result<Vec<Self::Reply>, Trouble>> + Send;
}

/// Limits of a batcher.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Items in a batch at most.
    pub batch: usize,
    /// Items waiting at most; more are turned away. Of questions twice as many may wait.
    pub queue: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { batch: 256, queue: 8192 }
    }
}

/// The handle to a command: cheap to clone.
pub struct Batcher<C: Command> {
    queue: mpsc::Sender<Ask<C>>,
}

impl<C: Command> Clone for Batcher<C> {
    fn clone(&self) -> Self {
        Self { queue: self.queue.clone() }
    }
}

struct Ask<C: Command> {
    item: C::Item,
    late: Option<Instant>,
    askers: Askers<C>,
}

type Reply<C> = oneshot::Sender<Result<<C as Command>::Reply, NoAnswer>>;

/// Who waits for one item's answer.
struct Askers<C: Command> {
    first: Reply<C>,
    /// With the same question.
    others: Vec<Reply<C>>,
}

impl<C: Command> Askers<C> {
    /// Whoever hung up is not told.
    fn tell(self, answer: Result<C::Reply, NoAnswer>) {
        for other in self.others.into_iter().filter(|other| !other.is_closed()) {
            let copied = match (&answer, C::COPY) {
                (Ok(reply), Some(copy)) => Ok(copy(reply)),
                (Ok(_), None) => continue,
                (Err(none), _) => Err(none.clone()),
            };
            let _ = other.send(copied);
        }
        let _ = self.first.send(answer);
    }
}

/// The answer to come.
pub struct Ticket<R>(Result<oneshot::Receiver<Result<R, NoAnswer>>, Option<NoAnswer>>);

impl<R> Future for Ticket<R> {
    type Output = Result<R, NoAnswer>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut self.0 {
            Ok(receiver) => receiver.poll_unpin(context).map(|answer| {
                answer.unwrap_or_else(|_| Err(NoAnswer::Unavailable("the service is stopping".into())))
            }),
            Err(none) => Poll::Ready(Err(none.take().unwrap_or(NoAnswer::TooLate))),
        }
    }
}

impl<C: Command> Batcher<C> {
    /// Starts the command's loop. It ends when it was told to stop and nothing waits.
    pub fn new(command: Arc<C>, limits: Limits, stop: &Stop) -> Self {
        let (queue, asks) = mpsc::channel(limits.queue);
        let ending = stop.clone();
        stop.spawn(async move { serve(command, limits, asks, ending).await });
        Self { queue }
    }

    /// Hands an item over. It is queued when this returns; the ticket only waits.
    pub fn submit(&self, item: C::Item, remaining: Option<Duration>) -> Ticket<C::Reply> {
        let (reply, answer) = oneshot::channel();
        let late = remaining.map(|remaining| Instant::now() + remaining);
        let askers = Askers { first: reply, others: Vec::new() };
        match self.queue.try_send(Ask { item, late, askers }) {
            Ok(()) => Ticket(Ok(answer)),
            Err(mpsc::error::TrySendError::Full(_)) => {
                metrics::counter!("amends_batcher_turned_away_total", "command" => C::NAME).increment(1);
                Ticket(Err(Some(NoAnswer::Overloaded { retry_after: Duration::from_millis(200) })))
            }
            Err(mpsc::error::TrySendError::Closed(_)) => {
                Ticket(Err(Some(NoAnswer::Unavailable("the service is stopping".into()))))
            }
        }
    }
}

async fn serve<C: Command>(command: Arc<C>, limits: Limits, mut asks: mpsc::Receiver<Ask<C>>, stop: Stop) {
    let mut waiting = VecDeque::new();
    // Of questions all are looked at: those that are the same take one place in the batch.
    let most = if C::COPY.is_some() { limits.queue } else { limits.batch };
    let sizes = metrics::histogram!("amends_batch_size", "command" => C::NAME);
    loop {
        if waiting.is_empty() {
            let next = tokio::select! {
                biased;
                ask = asks.recv() => ask,
                () = stop.wanted() => {
                    asks.close();
                    asks.recv().await
                }
            };
            match next {
                Some(ask) => waiting.push_back(ask),
                None => return,
            }
        }
        // The turn and the place are taken before the queue is drained, so that what waits for them grows the batch.
        let _turn = match command.turns() {
            Some(turns) => Some(turns.turn().await),
            None => None,
        };
        let _slot = if C::USES_DATABASE { Some(slot().await) } else { None };
        while waiting.len() < most {
            match asks.try_recv() {
                Ok(ask) => waiting.push_back(ask),
                Err(_) => break,
            }
        }
        let batch = take_batch(&mut waiting, limits.batch);
        if !batch.is_empty() {
            sizes.record(u32::try_from(batch.len()).unwrap_or(u32::MAX));
            if let Err(why) = settle(&*command, batch).await {
                // The next batch would wait for the same database as long as this one did, and be late with its answer.
                let queued = std::iter::from_fn(|| asks.try_recv().ok());
                for ask in waiting.drain(..).chain(queued.take(limits.queue)) {
                    ask.askers.tell(Err(NoAnswer::Away(why.clone())));
                }
            }
        }
    }
}

/// The next batch: at most `max`, no key twice, nothing late. What does not fit keeps its place; a question that stands in
/// the batch already needs none.
fn take_batch<C: Command>(waiting: &mut VecDeque<Ask<C>>, max: usize) -> Vec<Ask<C>> {
    let now = Instant::now();
    let room = waiting.len().min(max);
    let mut keys = HashMap::with_capacity(room);
    let mut batch: Vec<Ask<C>> = Vec::with_capacity(room);
    let mut rest = VecDeque::new();
    for ask in waiting.drain(..) {
        if ask.late.is_some_and(|late| late <= now) {
            ask.askers.tell(Err(NoAnswer::TooLate));
            continue;
        }
        match keys.entry(C::key(&ask.item)) {
            Entry::Vacant(place) if batch.len() < max => {
                place.insert(batch.len());
                batch.push(ask);
            }
            Entry::Occupied(same) if C::COPY.is_some() => {
                batch[*same.get()].askers.others.push(ask.askers.first);
            }
            _ => rest.push_back(ask),
        }
    }
    *waiting = rest;
    batch
}

/// How often a batch that found somebody in the way runs again before it is halved.
const TRIES: u32 = 8;

/// An error says that the database is away and nothing was begun.
async fn settle<C: Command>(command: &C, batch: Vec<Ask<C>>) -> Result<(), String> {
    let mut open = vec![batch];
    while let Some(batch) = open.pop() {
        let (items, askers): (Vec<_>, Vec<_>) =
            batch.into_iter().map(|ask| (ask.item, (ask.late, ask.askers))).unzip();
        let outcome = run(command, &items).await;
        match outcome {
            Ok(answers) => {
                for (answer, (_, askers)) in answers.into_iter().zip(askers) {
                    askers.tell(Ok(answer));
                }
            }
            Err(Trouble::Away(why)) => {
                tracing::warn!(command = C::NAME, items = items.len(), error = why, "what it needs is away");
                let rest = open.into_iter().flatten().map(|ask| ask.askers);
                for askers in askers.into_iter().map(|(_, askers)| askers).chain(rest) {
                    askers.tell(Err(NoAnswer::Away(why.clone())));
                }
                return Err(why);
            }
            Err(Trouble::Unavailable(why)) => {
                tracing::warn!(command = C::NAME, items = items.len(), error = why, "the database was lost");
                for (_, askers) in askers {
                    askers.tell(Err(NoAnswer::Unavailable(why.clone())));
                }
            }
            Err(Trouble::Again(why) | Trouble::Failed(why)) => {
                let mut asks: Vec<_> = items
                    .into_iter()
                    .zip(askers)
                    .map(|(item, (late, askers))| Ask::<C> { item, late, askers })
                    .collect();
                if asks.len() == 1 {
                    tracing::error!(command = C::NAME, error = why, "one item cannot be processed");
                    for ask in asks {
                        ask.askers.tell(Err(NoAnswer::Failed(why.clone())));
                    }
                } else {
                    let second = asks.split_off(asks.len() / 2);
                    open.push(second);
                    open.push(asks);
                }
            }
        }
    }
    Ok(())
}

async fn run<C: Command>(command: &C, items: &[C::Item]) -> Result<Vec<C::Reply>, Trouble> {
    let mut tries = 1;
    loop {
        // A panic is a bug in one item's rules; it must not take the neighbours or the loop with it.
        let outcome = AssertUnwindSafe(command.run(items)).catch_unwind().await;
        match outcome {
            Ok(Ok(replies)) if replies.len() == items.len() => return Ok(replies),
            Ok(Ok(replies)) => {
                return Err(Trouble::Failed(format!("{} replies for {} items", replies.len(), items.len())));
            }
            Ok(Err(Trouble::Again(why))) if tries < TRIES => {
                tracing::debug!(command = C::NAME, tries, why, "somebody was in the way");
                tokio::time::sleep(Duration::from_millis(rand::random_range(1..=5_u64) << tries.min(4)))
                    .await;
                tries += 1;
            }
            Ok(Err(trouble)) => return Err(trouble),
            Err(_) => return Err(Trouble::Failed("a rule panicked".into())),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    #[derive(Default)]
    struct Doubling {
        batches: Mutex<Vec<Vec<i64>>>,
        gate: Option<Arc<tokio::sync::Semaphore>>,
    }

    impl Command for Doubling {
        type Item = i64;
        type Reply = i64;
        type Key = i64;
        const NAME: &'static str = "doubling";

        fn key(item: &i64) -> i64 {
            *item
        }

        async fn run(&self, items: &[i64]) -> Result<Vec<i64>, Trouble> {
            if let Some(gate) = &self.gate {
                gate.acquire().await.unwrap().forget();
            }
            self.batches.lock().unwrap().push(items.to_vec());
            if items.contains(&404) {
                return Err(Trouble::Away("nobody there".into()));
            }
            if items.contains(&13) {
                return Err(Trouble::Failed("thirteen".into()));
            }
            assert!(!items.contains(&-1), "a bug");
            Ok(items.iter().map(|i| i * 2).collect())
        }
    }

    #[tokio::test]
    async fn one_bad_item_never_fails_its_slice() {
        let stop = Stop::new();
        let batcher = Batcher::new(Arc::new(Doubling::default()), Limits::default(), &stop);
        let tickets: Vec<_> =
            (0..50).map(|i| batcher.submit(i, None)).chain([batcher.submit(-1, None)]).collect();
        for (i, ticket) in tickets.into_iter().enumerate() {
            match (i, ticket.await) {
                (13, Err(NoAnswer::Failed(why))) => assert_eq!(why, "thirteen"),
                (50, Err(NoAnswer::Failed(why))) => assert_eq!(why, "a rule panicked"),
                (i, Ok(reply)) => assert_eq!(reply, 2 * i64::try_from(i).unwrap()),
                (i, other) => panic!("{i}: {other:?}"),
            }
        }
    }

    #[tokio::test]
    async fn when_nothing_could_be_begun_everybody_who_waits_is_told_at_once() {
        let stop = Stop::new();
        let gate = Arc::new(tokio::sync::Semaphore::new(0));
        let command = Arc::new(Doubling { gate: Some(Arc::clone(&gate)), ..Doubling::default() });
        let batcher = Batcher::new(Arc::clone(&command), Limits::default(), &stop);
        let first = batcher.submit(404, None);
        tokio::task::yield_now().await;
        let rest: Vec<_> = (0..5).map(|i| batcher.submit(i, None)).collect();
        gate.add_permits(1);
        let away = NoAnswer::Away("nobody there".into());
        assert_eq!(first.await, Err(away.clone()));
        for ticket in rest {
            assert_eq!(ticket.await, Err(away.clone()), "without a batch of its own");
        }
        assert_eq!(command.batches.lock().unwrap().len(), 1);
        gate.add_permits(1);
        assert_eq!(batcher.submit(21, None).await, Ok(42));
    }

    /// As [`Doubling`], and a question.
    struct Double(Doubling);

    impl Command for Double {
        type Item = i64;
        type Reply = i64;
        type Key = i64;
        const NAME: &'static str = "double";
        const COPY: Option<fn(&i64) -> i64> = Some(Clone::clone);

        fn key(item: &i64) -> i64 {
            *item
        }

        async fn run(&self, items: &[i64]) -> Result<Vec<i64>, Trouble> {
            self.0.run(items).await
        }
    }

    #[tokio::test]
    async fn those_who_ask_the_same_while_it_waits_share_one_answer() {
        let stop = Stop::new();
        let gate = Arc::new(tokio::sync::Semaphore::new(0));
        let command = Arc::new(Double(Doubling { gate: Some(Arc::clone(&gate)), ..Doubling::default() }));
        let batcher = Batcher::new(Arc::clone(&command), Limits { batch: 3, queue: 9 }, &stop);
        let first = batcher.submit(7, None);
        tokio::task::yield_now().await;
        // What is being answered may be old already: who comes now is asked for anew, and once, however many they are.
        let rest = [7, 7, 7, 13, 9].map(|i| batcher.submit(i, None));
        let late = batcher.submit(7, Some(Duration::ZERO));
        let hung_up = batcher.submit(9, None);
        let again = batcher.submit(13, None);
        drop(hung_up);
        gate.add_permits(9);
        assert_eq!(first.await, Ok(14));
        let failed = Err(NoAnswer::Failed("thirteen".into()));
        assert_eq!(again.await, failed);
        for (ticket, answer) in rest.into_iter().zip([Ok(14), Ok(14), Ok(14), failed, Ok(18)]) {
            assert_eq!(ticket.await, answer);
        }
        assert_eq!(late.await, Err(NoAnswer::TooLate));
        let batches = command.0.batches.lock().unwrap().clone();
        assert_eq!(batches, [vec![7], vec![7, 13, 9], vec![7], vec![13, 9], vec![13], vec![9]]);
    }

    #[tokio::test]
    async fn when_nobody_is_there_all_who_ask_the_same_are_told() {
        let stop = Stop::new();
        let batcher = Batcher::new(Arc::new(Double(Doubling::default())), Limits::default(), &stop);
        let tickets = [404, 404, 404].map(|i| batcher.submit(i, None));
        for ticket in tickets {
            assert_eq!(ticket.await, Err(NoAnswer::Away("nobody there".into())));
        }
    }

    #[tokio::test]
    async fn what_waited_goes_in_the_next_batch_and_no_key_twice() {
        let stop = Stop::new();
        let gate = Arc::new(tokio::sync::Semaphore::new(0));
        let command = Arc::new(Doubling { gate: Some(Arc::clone(&gate)), ..Doubling::default() });
        let batcher = Batcher::new(Arc::clone(&command), Limits { batch: 4, queue: 6 }, &stop);
        let first = batcher.submit(1, None);
        tokio::task::yield_now().await;
        let rest: Vec<_> = [2, 2, 3, 4, 5].into_iter().map(|i| batcher.submit(i, None)).collect();
        let late = batcher.submit(6, Some(Duration::ZERO));
        assert!(matches!(batcher.submit(7, None).await, Err(NoAnswer::Overloaded { .. })));
        gate.add_permits(9);
        assert_eq!(first.await, Ok(2));
        for ticket in rest {
            ticket.await.unwrap();
        }
        assert_eq!(late.await, Err(NoAnswer::TooLate));
        let batches = command.batches.lock().unwrap().clone();
        assert_eq!(batches[0], [1]);
        assert_eq!(batches[1], [2, 3, 4]);
        assert_eq!(batches[2], [2, 5]);
        stop.request();
        assert!(stop.finish(Duration::from_secs(5)).await);
    }
}
