//! Every metric name of the orchestrator, once. Labels come from closed sets, never from ids.

use std::time::Duration;

fn seconds(ms: i64) -> f64 {
    Duration::from_millis(u64::try_from(ms).unwrap_or(0)).as_secs_f64()
}

/// An exchange with a participant had this many items.
pub(crate) fn slice(items: usize) {
    metrics::histogram!("amends_step_slice_size").record(u32::try_from(items).unwrap_or(u32::MAX));
}

/// A group commit had this many sagas.
pub(crate) fn group(sagas: usize) {
    metrics::histogram!("amends_journal_group_size").record(u32::try_from(sagas).unwrap_or(u32::MAX));
}

/// A saga was evicted because its commit was not taken: another owner, or another version.
pub(crate) fn evicted(sagas: usize) {
    metrics::counter!("amends_sagas_evicted_total").increment(u64::try_from(sagas).unwrap_or(0));
}

/// A group commit took this long.
pub(crate) fn commit(took: Duration) {
    metrics::histogram!("amends_journal_commit_seconds").record(took);
}

/// A saga reached its end, this many milliseconds after it was accepted.
pub(crate) fn ended(outcome: &'static str, after_ms: i64) {
    metrics::counter!("amends_sagas_ended_total", "outcome" => outcome).increment(1);
    metrics::histogram!("amends_saga_seconds", "outcome" => outcome).record(seconds(after_ms));
}

/// Sagas in memory by their state.
pub(crate) fn state(state: &'static str, sagas: u32) {
    metrics::gauge!("amends_sagas", "state" => state).set(f64::from(sagas));
}

/// Sagas in memory, and how many of them only wait.
pub(crate) fn in_flight(live: usize, waiting: usize) {
    metrics::gauge!("amends_sagas_in_flight").set(f64::from(u32::try_from(live).unwrap_or(u32::MAX)));
    metrics::gauge!("amends_sagas_waiting").set(f64::from(u32::try_from(waiting).unwrap_or(u32::MAX)));
}

/// A saga was parked.
pub(crate) fn parked() {
    metrics::counter!("amends_sagas_parked_total").increment(1);
}

/// A command was sent.
pub(crate) fn compensation() {
    metrics::counter!("amends_compensations_sent_total").increment(1);
}

/// A command was answered, this many milliseconds after it was sent last.
pub(crate) fn answered(after_ms: i64) {
    metrics::histogram!("amends_compensation_seconds").record(seconds(after_ms));
}

/// How long the command that has been unanswered for longest has been on its way; 0 where there is none.
pub(crate) fn compensation_lag(lag_ms: i64) {
    metrics::gauge!("amends_compensation_lag_seconds").set(seconds(lag_ms));
}

/// Shards that this instance owns.
pub(crate) fn shards(owned: usize) {
    metrics::gauge!("amends_shards_owned").set(f64::from(u32::try_from(owned).unwrap_or(u32::MAX)));
}

/// An idempotency key was new, replayed, or came with another body.
pub(crate) fn idempotency(result: &'static str) {
    metrics::counter!("amends_idempotency_requests_total", "result" => result).increment(1);
}

/// A saga was taken from its journal.
pub(crate) fn loaded(sagas: usize) {
    metrics::counter!("amends_sagas_loaded_total").increment(u64::try_from(sagas).unwrap_or(0));
}

/// The calls of one step. What is counted with each is looked up once: that takes as long as a message.
#[derive(Clone)]
pub(crate) struct Calls {
    step: &'static str,
    done: metrics::Counter,
    seconds: metrics::Histogram,
}

impl Calls {
    const TOTAL: &'static str = "amends_step_calls_total";

    pub(crate) fn of(step: &'static str) -> Self {
        Self {
            step,
            done: metrics::counter!(Self::TOTAL, "step" => step, "outcome" => "done"),
            seconds: metrics::histogram!("amends_step_call_seconds", "step" => step),
        }
    }

    /// A call came to this, after that long, the wait for a slice with it.
    pub(crate) fn count(&self, outcome: &'static str, took: Duration) {
        match outcome {
            "done" => self.done.increment(1),
            other => metrics::counter!(Self::TOTAL, "step" => self.step, "outcome" => other).increment(1),
        }
        self.seconds.record(took);
    }
}

/// What the orders of parked sagas come to, in minor units.
pub(crate) fn at_risk(currency: String, minor: i64) {
    // A gauge is a float: exact to 2^53 minor units, which is more than a gauge is read to.
    metrics::gauge!("amends_money_at_risk_minor_units", "currency" => currency).set(minor as f64);
}
