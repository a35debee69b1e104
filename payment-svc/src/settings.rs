//! What an operator may turn. A test holds the defaults of the command line and of the code together.

use std::time::Duration;

use crate::{domain::Policy, simulator};

/// Settings of payment-svc.
#[derive(clap::Args, Debug, Clone)]
#[group(skip)]
pub struct Settings {
    /// How long a request to the provider may be under way at most, wherever it is held up: only past this does a
    /// look-up that finds nothing prove that nothing was charged. At least twice the call time-out.
    #[arg(id = "payment_horizon", long = "payment-horizon", env = "AMENDS_PAYMENT_HORIZON",
        default_value = "45s", value_parser = humantime::parse_duration)]
    pub horizon: Duration,
    /// How long a caller of Charge or Refund waits before it is told to wait for a message.
    #[arg(id = "payment_patience", long = "payment-patience", env = "AMENDS_PAYMENT_PATIENCE",
        default_value = "2s", value_parser = humantime::parse_duration)]
    pub patience: Duration,
    /// How long one call to the provider may take before its outcome counts as unknown.
    #[arg(id = "payment_call_timeout", long = "payment-call-timeout", env = "AMENDS_PAYMENT_CALL_TIMEOUT",
        default_value = "10s", value_parser = humantime::parse_duration)]
    pub call_timeout: Duration,
    /// How long the provider remembers an idempotency key; an older one is never sent again.
    #[arg(id = "payment_key_life", long = "payment-key-life", env = "AMENDS_PAYMENT_KEY_LIFE",
        default_value = "24h", value_parser = humantime::parse_duration)]
    pub key_life: Duration,
    /// How often a charge is sent at most, the first time included. Refunds are sent until they are known.
    #[arg(id = "payment_sends", long = "payment-sends", env = "AMENDS_PAYMENT_SENDS", default_value_t = 3)]
    pub sends: u32,
    /// How soon a charge in doubt is looked up; each further look in a row takes twice as long, up to a minute.
    #[arg(id = "payment_look", long = "payment-look", env = "AMENDS_PAYMENT_LOOK",
        default_value = "1s", value_parser = humantime::parse_duration)]
    pub look: Duration,
    /// How often the resolver looks for attempts that are due.
    #[arg(id = "payment_poll", long = "payment-poll", env = "AMENDS_PAYMENT_POLL",
        default_value = "250ms", value_parser = humantime::parse_duration)]
    pub poll: Duration,
    /// How long a payment method that confirms later may be expected to take: what callers are told to wait.
    #[arg(id = "payment_settlement", long = "payment-settlement", env = "AMENDS_PAYMENT_SETTLEMENT",
        default_value = "15m", value_parser = humantime::parse_duration)]
    pub settlement: Duration,
    /// Charges under way at the provider at most; refunds and look-ups have half as many on top.
    #[arg(id = "payment_calls", long = "payment-calls", env = "AMENDS_PAYMENT_CALLS", default_value_t = 256)]
    pub calls: usize,
    /// The provider simulator.
    #[command(flatten)]
    pub simulator: simulator::Settings,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            horizon: Duration::from_secs(45),
            patience: Duration::from_secs(2),
            call_timeout: Duration::from_secs(10),
            key_life: Duration::from_secs(24 * 60 * 60),
            sends: 3,
            look: Duration::from_secs(1),
            poll: Duration::from_millis(250),
            settlement: Duration::from_secs(15 * 60),
            calls: 256,
            simulator: simulator::Settings::default(),
        }
    }
}

impl Settings {
    pub(crate) fn policy(&self) -> Policy {
        Policy {
            // A horizon that a call could outlive would prove nothing.
            horizon: self.horizon.max(self.call_timeout * 2),
            key_life: self.key_life,
            sends: i32::try_from(self.sends).unwrap_or(i32::MAX).max(1),
            call_timeout: self.call_timeout,
            look: self.look,
            settlement: self.settlement,
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::{Args as _, FromArgMatches as _};

    use super::*;

    #[test]
    fn what_stands_in_the_help_is_the_default() {
        let command = Settings::augment_args(clap::Command::new("payment"));
        let parsed = Settings::from_arg_matches(&command.get_matches_from(["payment"])).unwrap();
        assert_eq!(format!("{parsed:?}"), format!("{:?}", Settings::default()));
    }

    #[test]
    fn the_horizon_outlives_a_call() {
        let settings = Settings { horizon: Duration::from_secs(1), ..Settings::default() };
        assert_eq!(settings.policy().horizon, settings.call_timeout * 2);
    }
}
