//! A circuit breaker, one per callee: it stops asking somebody who does not answer, and comes back carefully.
//!
//! The states are failsafe's; the number of calls is ours, because failsafe lets everybody through as soon as it is
//! half-open. Half-open admits a few probes, and a slice no larger than those that are free; after closing, the window
//! grows by one with every answer (it doubles with every round) until nothing is held back. A refusal is an answer:
//! tell it as [`Outcome::Ok`]. It never waits and never calls; whoever is told [`Open`] spends no attempt.
//!
//! `machine` is what failsafe's machine is given.

mod machine;

use std::{
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use failsafe::StateMachine;

use self::machine::{Policy, Watch};

/// Above this many calls in flight the ramp is over and nothing is counted any more.
const RAMP_END: usize = 1024;

/// When every probe is out, its answer is near: look again after this.
const PROBE_WAIT: Duration = Duration::from_millis(100);

/// How a breaker behaves.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Failures in a row that open it.
    pub failures: u32,
    /// How long it stays open the first time (less up to a half, by jitter).
    pub cool_down_min: Duration,
    /// And at most, after doubling.
    pub cool_down_max: Duration,
    /// Calls at once while half-open.
    pub probes: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            failures: 5,
            cool_down_min: Duration::from_millis(500),
            cool_down_max: Duration::from_secs(15),
            probes: 3,
        }
    }
}

/// Where it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Calls go.
    Closed,
    /// A few calls go, to see.
    HalfOpen,
    /// No call goes.
    Open,
}

impl State {
    const fn number(self) -> u8 {
        match self {
            Self::Closed => 0,
            Self::HalfOpen => 1,
            Self::Open => 2,
        }
    }

    const fn from_number(number: u8) -> Self {
        match number {
            0 => Self::Closed,
            1 => Self::HalfOpen,
            _ => Self::Open,
        }
    }

    /// As people read it: `closed`, `half-open`, `open`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::HalfOpen => "half-open",
            Self::Open => "open",
        }
    }
}

/// No call may go now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the breaker is open for another {retry_after:?}")]
pub struct Open {
    /// When to ask again.
    pub retry_after: Duration,
}

/// What became of one item of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It was answered, be it with a refusal.
    Ok,
    /// The callee failed on it.
    Failed,
}

/// A breaker. Cheap to clone; clones are the same breaker.
#[derive(Clone)]
pub struct Breaker {
    inner: Arc<Inner>,
}

struct Inner {
    callee: &'static str,
    probes: usize,
    machine: StateMachine<Policy, Watch>,
    watch: Watch,
    cool_down: Arc<AtomicU64>,
    gate: Mutex<Gate>,
}

/// How many calls are out, and how many may be.
struct Gate {
    state: State,
    /// Rises with every opening: what was let through before is old news and neither opens nor closes.
    generation: u64,
    /// None: as many as want to.
    window: Option<usize>,
    in_flight: usize,
    /// The most that were out at once while it was half-open.
    most_probes: usize,
    open_until: Instant,
}

impl Breaker {
    /// A closed breaker in front of `callee`, as in `inventory`.
    #[must_use]
    pub fn new(callee: &'static str, options: Options) -> Self {
        let cool_down = Arc::new(AtomicU64::new(0));
        let policy = Policy::new(options, Arc::clone(&cool_down));
        let watch = Watch::closed();
        let gate = Gate {
            state: State::Closed,
            generation: 0,
            window: None,
            in_flight: 0,
            most_probes: 0,
            open_until: Instant::now(),
        };
        metrics::gauge!("amends_breaker_state", "callee" => callee).set(State::Closed.number());
        Self {
            inner: Arc::new(Inner {
                callee,
                probes: options.probes.max(1),
                machine: StateMachine::new(policy, watch.clone()),
                watch,
                cool_down,
                gate: Mutex::new(gate),
            }),
        }
    }

    /// Asks to send up to `wanted` items in one exchange; fewer may be granted, at least one.
    ///
    /// # Errors
    /// When none may go now.
    pub fn permit(&self, wanted: usize) -> Result<Permit, Open> {
        let mut gate = self.inner.lock();
        let permitted = self.inner.machine.is_call_permitted();
        self.inner.follow(&mut gate);
        if !permitted {
            return Err(Open { retry_after: gate.remaining() });
        }
        let free = gate.window.map_or(usize::MAX, |window| window.saturating_sub(gate.in_flight));
        let granted = wanted.max(1).min(free);
        if granted == 0 {
            return Err(Open { retry_after: PROBE_WAIT });
        }
        gate.in_flight += granted;
        if gate.state == State::HalfOpen && gate.in_flight > gate.most_probes {
            gate.most_probes = gate.in_flight;
            let most = u32::try_from(gate.most_probes).unwrap_or(u32::MAX);
            metrics::gauge!("amends_breaker_probes_most", "callee" => self.inner.callee).set(f64::from(most));
        }
        Ok(Permit {
            inner: Arc::clone(&self.inner),
            generation: gate.generation,
            granted,
            unanswered: granted,
        })
    }

    /// Where it stands. It leaves `Open` when somebody asks after the cool-down, not by itself.
    #[must_use]
    pub fn state(&self) -> State {
        self.inner.lock().state
    }

    /// How long it stays open; zero when a call may be tried.
    #[must_use]
    pub fn retry_after(&self) -> Duration {
        let gate = self.inner.lock();
        if gate.state == State::Open { gate.remaining() } else { Duration::ZERO }
    }

    /// Who is behind it.
    #[must_use]
    pub fn callee(&self) -> &'static str {
        self.inner.callee
    }
}

impl fmt::Debug for Breaker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Breaker").field("callee", &self.inner.callee).field("state", &self.state()).finish()
    }
}

impl Gate {
    fn remaining(&self) -> Duration {
        self.open_until.saturating_duration_since(Instant::now())
    }
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, Gate> {
        self.gate.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Brings the gate to where the machine went. The machine moves only under the gate's lock, so none is missed.
    fn follow(&self, gate: &mut Gate) {
        let state = self.watch.state();
        if state == gate.state {
            return;
        }
        match state {
            State::Open => {
                gate.generation += 1;
                gate.in_flight = 0;
                let cool_down = Duration::from_nanos(self.cool_down.load(Ordering::Relaxed));
                gate.open_until = Instant::now() + cool_down;
                tracing::warn!(callee = self.callee, ?cool_down, "breaker opened");
            }
            State::HalfOpen => gate.window = Some(self.probes),
            State::Closed => tracing::info!(callee = self.callee, "breaker closed"),
        }
        gate.state = state;
        metrics::gauge!("amends_breaker_state", "callee" => self.callee).set(state.number());
    }

    fn tell(&self, gate: &mut Gate, outcome: Outcome) {
        match outcome {
            Outcome::Ok => {
                self.machine.on_success();
                gate.window = gate.window.map(|window| window + 1).filter(|window| *window <= RAMP_END);
            }
            Outcome::Failed => {
                self.machine.on_error();
                gate.window = gate.window.map(|window| (window / 2).max(self.probes));
            }
        }
        self.follow(gate);
    }
}

/// The right to send some items. What it was not told about is given back when it is dropped, and counts as nothing.
pub struct Permit {
    inner: Arc<Inner>,
    generation: u64,
    granted: usize,
    unanswered: usize,
}

impl Permit {
    /// How many items may go.
    #[must_use]
    pub const fn granted(&self) -> usize {
        self.granted
    }

    /// The exchange itself failed: one failure, however many items it had.
    pub fn transport_failure(mut self) {
        let inner = Arc::clone(&self.inner);
        let mut gate = inner.lock();
        self.release(&mut gate, self.unanswered);
        if self.generation == gate.generation {
            inner.tell(&mut gate, Outcome::Failed);
        }
    }

    /// What became of one item; at most once per granted item, what comes after that is ignored.
    pub fn item(&mut self, outcome: Outcome) {
        if self.unanswered == 0 {
            return;
        }
        let inner = Arc::clone(&self.inner);
        let mut gate = inner.lock();
        self.release(&mut gate, 1);
        if self.generation == gate.generation {
            inner.tell(&mut gate, outcome);
        }
    }

    fn release(&mut self, gate: &mut Gate, items: usize) {
        self.unanswered -= items;
        if self.generation == gate.generation {
            gate.in_flight -= items;
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if self.unanswered > 0 {
            let inner = Arc::clone(&self.inner);
            let mut gate = inner.lock();
            self.release(&mut gate, self.unanswered);
        }
    }
}

impl fmt::Debug for Permit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Permit")
            .field("granted", &self.granted)
            .field("unanswered", &self.unanswered)
            .finish()
    }
}

#[cfg(test)]
mod tests;
