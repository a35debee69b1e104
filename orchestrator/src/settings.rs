//! What an operator may turn.

use std::time::Duration;

/// Settings of the orchestrator. Durations are written as in `30s`, `5m`.
#[derive(clap::Args, Debug, Clone)]
#[group(id = "orchestrator")]
pub struct Settings {
    /// How long an order may go forward before the pivot; time under review is not counted
    #[arg(long, env = "AMENDS_ORDER_DEADLINE", default_value = "30m", value_parser = humantime::parse_duration)]
    pub order_deadline: Duration,
    /// How long a compensation may stay unanswered before it is sent again; doubles from there up to ten times that
    #[arg(long, env = "AMENDS_ANSWER_AFTER", default_value = "60s", value_parser = humantime::parse_duration)]
    pub answer_after: Duration,
    /// How long one call of a step may take before its outcome counts as unknown
    #[arg(long, env = "AMENDS_CALL_TIMEOUT", default_value = "5s", value_parser = humantime::parse_duration)]
    pub call_timeout: Duration,
    /// How long a lease holds without being renewed; a dead orchestrator's sagas move after it (at least 2s)
    #[arg(long, env = "AMENDS_LEASE", default_value = "10s", value_parser = humantime::parse_duration)]
    pub lease: Duration,
    /// How long an idempotency key is remembered
    #[arg(long, env = "AMENDS_IDEMPOTENCY_KEY_LIFE", default_value = "7d", value_parser = humantime::parse_duration)]
    pub key_life: Duration,
    /// Sagas with work in hand at most; past it CreateOrder answers RESOURCE_EXHAUSTED
    #[arg(long, env = "AMENDS_MAX_IN_FLIGHT", default_value_t = 10_000)]
    pub max_in_flight: usize,
    /// Orders per second that one merchant may create; 0 means no limit
    #[arg(long, env = "AMENDS_MERCHANT_ORDERS_PER_SECOND", default_value_t = 0)]
    pub merchant_orders_per_second: u32,
    /// Transport failures in a row that open a participant's breaker
    #[arg(long, env = "AMENDS_BREAKER_FAILURES", default_value_t = 5)]
    pub breaker_failures: u32,
    /// How long an open breaker stays so at first; grows up to ten times that
    #[arg(long, env = "AMENDS_BREAKER_COOL_DOWN", default_value = "1s", value_parser = humantime::parse_duration)]
    pub breaker_cool_down: Duration,
    /// Drive and start these definitions only, as an older release does; for trying a roll-out. Others are left untouched
    /// [default: all that this build knows]
    #[arg(long, env = "AMENDS_DEFINITIONS", value_name = "KIND:VERSION", value_delimiter = ',')]
    pub definitions: Vec<String>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            order_deadline: Duration::from_secs(30 * 60),
            answer_after: Duration::from_secs(60),
            call_timeout: Duration::from_secs(5),
            lease: Duration::from_secs(10),
            key_life: Duration::from_secs(7 * 86_400),
            max_in_flight: 10_000,
            merchant_orders_per_second: 0,
            breaker_failures: 5,
            breaker_cool_down: Duration::from_secs(1),
            definitions: Vec::new(),
        }
    }
}
