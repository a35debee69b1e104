//! Puts a load on a subject and measures what it answers.
//!
//! Read next: `closed.rs` and `open.rs`, the two paces.

use std::{sync::Arc, time::Duration};

use hdrhistogram::Histogram;
use tokio::time::Instant;

use crate::mix::{Draw, Drawn, Mix, Spread};

/// What is loaded: one order, from its sending to its end.
pub trait Subject: Send + Sync + 'static {
    /// Sends it; whether it came to the end that was due.
    fn order(&self, order: Drawn) -> impl Future<Output = Outcome> + Send;
}

/// What came of an order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It came to the end that was due.
    Met,
    /// Turned away with RESOURCE_EXHAUSTED: the subject is full.
    Shed,
    /// Anything else, in words.
    Wrong(String),
}

/// How orders are sent.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Pace {
    /// This many in flight.
    Closed(usize),
    /// This many due per second.
    Open(f64),
}

/// A load.
#[derive(Debug, Clone, Copy)]
pub struct Load {
    pub pace: Pace,
    pub mix: Mix,
    pub spread: Spread,
    pub warm_up: Duration,
    pub time: Duration,
    pub seed: u64,
}

/// What was measured between the end of the warm-up and the end of the time.
#[derive(Debug)]
pub struct Measured {
    /// Microseconds, of orders that were sent (closed) or due (open) within the time and came to their end, however late.
    pub latency: Histogram<u64>,
    /// Came to their end within the time, whenever they were sent: what the rate is made of.
    pub answered: u64,
    pub shed: u64,
    pub wrong: u64,
    /// Due and never sent, because too many were waiting already (open loop).
    pub dropped: u64,
    pub first_wrong: Option<String>,
    pub seconds: f64,
}

impl Default for Measured {
    fn default() -> Self {
        Self::new()
    }
}

impl Measured {
    /// Nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self {
            latency: histogram(),
            answered: 0,
            shed: 0,
            wrong: 0,
            dropped: 0,
            first_wrong: None,
            seconds: 0.0,
        }
    }

    /// An order that was sent or due at `from` and is at its end.
    pub(crate) fn note(&mut self, outcome: Outcome, from: Instant, time: Time) {
        let now = Instant::now();
        match outcome {
            Outcome::Met => {
                self.answered += u64::from(time.has(now));
                if time.has(from) {
                    let micros = u64::try_from((now - from).as_micros()).unwrap_or(u64::MAX);
                    // It grows by itself (which `saturating_record` prevents); only a time beyond any clock is refused.
                    let _ = self.latency.record(micros);
                }
            }
            Outcome::Shed => self.shed += u64::from(time.has(from)),
            // A wrong end counts whenever it comes.
            Outcome::Wrong(what) => {
                self.wrong += 1;
                self.first_wrong.get_or_insert(what);
            }
        }
    }

    pub(crate) fn add(&mut self, other: Self) {
        // Both are of the same precision and grow: it cannot fail.
        let _ = self.latency.add(&other.latency);
        self.answered += other.answered;
        self.shed += other.shed;
        self.wrong += other.wrong;
        self.dropped += other.dropped;
        self.first_wrong = self.first_wrong.take().or(other.first_wrong);
    }

    /// Orders per second.
    #[must_use]
    pub fn rate(&self) -> f64 {
        self.answered as f64 / self.seconds.max(f64::EPSILON)
    }
}

/// From the end of the warm-up on, as long as is measured.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Time {
    pub(crate) begin: Instant,
    pub(crate) end: Instant,
}

impl Time {
    pub(crate) fn of(load: &Load) -> Self {
        let begin = Instant::now() + load.warm_up;
        Self { begin, end: begin + load.time }
    }

    fn has(self, at: Instant) -> bool {
        (self.begin..self.end).contains(&at)
    }
}

/// Three significant digits, no upper cut.
#[expect(clippy::expect_used, reason = "3 is between 1 and 5")]
fn histogram() -> Histogram<u64> {
    let mut histogram = Histogram::new(3).expect("three digits");
    histogram.auto(true);
    histogram
}

/// What whoever measures does meanwhile. The load goes on.
pub trait Watch: Send {
    /// Half of the warm-up is over: what disturbs belongs here.
    fn warm(&mut self) -> impl Future<Output = ()> + Send {
        async {}
    }

    /// The warm-up is over, the measurement begins.
    fn begun(&mut self) -> impl Future<Output = ()> + Send {
        async {}
    }

    /// The time is up; orders that are still under way are waited for afterwards.
    fn ended(&mut self) -> impl Future<Output = ()> + Send {
        async {}
    }
}

/// Nobody watches.
impl Watch for () {}

impl<W: Watch> Watch for &mut W {
    fn warm(&mut self) -> impl Future<Output = ()> + Send {
        W::warm(self)
    }

    fn begun(&mut self) -> impl Future<Output = ()> + Send {
        W::begun(self)
    }

    fn ended(&mut self) -> impl Future<Output = ()> + Send {
        W::ended(self)
    }
}

/// Puts it on.
pub async fn put<S: Subject>(subject: Arc<S>, load: Load, mut watch: impl Watch) -> Measured {
    let time = Time::of(&load);
    let (measured, ()) = match load.pace {
        Pace::Closed(places) => {
            tokio::join!(
                crate::closed::put(subject, load, places.max(1), time),
                keep(&mut watch, &load, time)
            )
        }
        Pace::Open(rate) => {
            tokio::join!(crate::open::put(subject, load, rate.max(0.1), time), keep(&mut watch, &load, time))
        }
    };
    Measured { seconds: load.time.as_secs_f64(), ..measured }
}

/// Tells the watch what time it is. What a run costs is read while its load is on, at both ends: orders that were under way
/// at the beginning stand for those that are at the end.
async fn keep(watch: &mut impl Watch, load: &Load, time: Time) {
    tokio::time::sleep_until(time.begin - load.warm_up / 2).await;
    watch.warm().await;
    tokio::time::sleep_until(time.begin).await;
    watch.begun().await;
    tokio::time::sleep_until(time.end).await;
    watch.ended().await;
}

#[expect(
    clippy::disallowed_methods,
    reason = "every task of a load is waited for before its figures are read"
)]
pub(crate) fn spawn<T: Send + 'static>(
    work: impl Future<Output = T> + Send + 'static,
) -> tokio::task::JoinHandle<T> {
    tokio::spawn(work)
}

/// Draws for the `n`-th of several customers.
pub(crate) fn draw(load: &Load, n: usize) -> Draw {
    Draw::new(load.mix, load.spread, load.seed.wrapping_mul(1_000_003).wrapping_add(n as u64))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    /// Answers after a millisecond, but stands still at first.
    struct Stalls {
        until: Instant,
        now: AtomicUsize,
        most: AtomicUsize,
    }

    impl Stalls {
        fn for_a(time: Duration) -> Arc<Self> {
            Arc::new(Self {
                until: Instant::now() + time,
                now: AtomicUsize::new(0),
                most: AtomicUsize::new(0),
            })
        }
    }

    impl Subject for Stalls {
        async fn order(&self, _: Drawn) -> Outcome {
            let now = self.now.fetch_add(1, Ordering::SeqCst) + 1;
            self.most.fetch_max(now, Ordering::SeqCst);
            tokio::time::sleep_until(self.until).await;
            tokio::time::sleep(Duration::from_millis(1)).await;
            self.now.fetch_sub(1, Ordering::SeqCst);
            Outcome::Met
        }
    }

    fn load(pace: Pace) -> Load {
        Load {
            pace,
            mix: Mix::Happy,
            spread: Spread::Uniform,
            warm_up: Duration::ZERO,
            time: Duration::from_secs(1),
            seed: 1,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_open_loop_counts_a_pause_for_all_who_came_in_it() {
        let stalls = Stalls::for_a(Duration::from_millis(400));
        let measured = put(stalls, load(Pace::Open(200.0)), ()).await;
        assert_eq!((measured.answered, measured.wrong, measured.dropped), (200, 0, 0));
        // Every 5 ms one is due: those of the first 300 ms waited for 100 ms or more.
        let late = measured.latency.len() - measured.latency.count_between(0, 99_000);
        assert!((60..=62).contains(&late), "{late}");
        assert!(measured.latency.max() >= 400_000);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_answered_after_the_time_is_late_and_no_part_of_the_rate() {
        for (pace, sent) in [(Pace::Open(200.0), 200), (Pace::Closed(8), 8)] {
            let measured = put(Stalls::for_a(Duration::from_secs(3)), load(pace), ()).await;
            assert_eq!((measured.answered, measured.latency.len()), (0, sent), "{pace:?}");
            assert!(measured.latency.min() >= 2_000_000, "{pace:?}");
        }
    }

    /// When it was told what.
    struct Diary(Vec<(&'static str, Duration)>, Instant);

    impl Watch for Diary {
        async fn warm(&mut self) {
            self.0.push(("warm", self.1.elapsed()));
        }

        async fn begun(&mut self) {
            self.0.push(("begun", self.1.elapsed()));
        }

        async fn ended(&mut self) {
            self.0.push(("ended", self.1.elapsed()));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn costs_are_read_while_the_load_is_on() {
        let mut diary = Diary(Vec::new(), Instant::now());
        let load = Load { warm_up: Duration::from_secs(2), ..load(Pace::Closed(8)) };
        put(Stalls::for_a(Duration::from_secs(9)), load, &mut diary).await;
        let seconds: Vec<_> = diary.0.iter().map(|(what, at)| (*what, at.as_secs())).collect();
        assert_eq!(seconds, [("warm", 1), ("begun", 2), ("ended", 3)]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_closed_loop_never_has_more_in_flight() {
        let subject = Stalls::for_a(Duration::ZERO);
        let measured = put(Arc::clone(&subject), load(Pace::Closed(8)), ()).await;
        assert_eq!(subject.most.load(Ordering::SeqCst), 8);
        // 8 × 1,000 of a millisecond each; tokio's timers round up to the next one.
        assert!((3_900..=8_000).contains(&measured.answered), "{}", measured.answered);
    }
}
