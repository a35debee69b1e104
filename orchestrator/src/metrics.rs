//! Every metric name of the orchestrator, once. Labels come from closed sets, never from ids.

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

/// A saga reached its end.
pub(crate) fn ended(outcome: &'static str) {
    metrics::counter!("amends_sagas_ended_total", "outcome" => outcome).increment(1);
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

/// A call came to this.
pub(crate) fn call(outcome: &'static str) {
    metrics::counter!("amends_step_calls_total", "outcome" => outcome).increment(1);
}

/// What the orders of parked sagas come to, in minor units.
pub(crate) fn at_risk(currency: String, minor: i64) {
    // A gauge is a float: exact to 2^53 minor units, which is more than a gauge is read to.
    metrics::gauge!("amends_money_at_risk_minor_units", "currency" => currency).set(minor as f64);
}
