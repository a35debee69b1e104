//! The groups of settings that every binary shares, each a clap `Args` to be flattened: one flag and one variable each.
//!
//! A URL may hold a password, so it is a [`Secret`]: it is never printed, neither by `Debug` nor by `--help`.

use std::{convert::Infallible, fmt, path::PathBuf, str::FromStr, time::Duration};

use clap::Args;

use crate::{
    bus::amqp::Events,
    crash, database,
    telemetry::{self, Format},
};

/// A text that is not printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// The text itself. Not for logs.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl FromStr for Secret {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// How databases are used; each service's URL is its own.
#[derive(Debug, Clone, Args)]
pub struct Database {
    /// Connections to its database that a service holds at most; its busy commands and its relay may hold half as many besides
    #[arg(long, env = "AMENDS_DATABASE_CONNECTIONS", value_name = "N", default_value_t = 8,
        value_parser = clap::value_parser!(u32).range(2..=200))]
    pub database_connections: u32,
    /// Take a database that may lose what it acknowledged (fsync or synchronous_commit off)
    #[arg(long, env = "AMENDS_ALLOW_UNSAFE_DATABASE")]
    pub allow_unsafe_database: bool,
}

impl Database {
    /// How the pool of `application` at `url` is opened.
    #[must_use]
    pub fn options(&self, url: &Secret, application: &str) -> database::Options {
        database::Options {
            url: url.expose().to_owned(),
            application: application.to_owned(),
            connections: self.database_connections,
            allow_unsafe: self.allow_unsafe_database,
        }
    }
}

/// The broker.
#[derive(Debug, Clone, Args)]
pub struct Bus {
    /// RabbitMQ, as in amqp://user:password@host:5672/vhost
    #[arg(long, env = "AMENDS_AMQP_URL", value_name = "URL", hide_env_values = true)]
    pub amqp_url: Option<Secret>,
    /// Put before every name on the broker, so that several Amends can share one
    #[arg(long, env = "AMENDS_AMQP_PREFIX", value_name = "TEXT", default_value = "")]
    pub amqp_prefix: String,
    /// Which events are published: all of them, for whoever binds a queue; or only those that Amends itself takes, which
    /// costs less
    #[arg(long, env = "AMENDS_AMQP_EVENTS", value_enum, default_value_t)]
    pub amqp_events: Events,
}

/// Cache and limiter.
#[derive(Debug, Clone, Args)]
pub struct Redis {
    /// Redis, as in redis://user:password@host:6379/0; without it cache and limits are this process's own
    #[arg(long, env = "AMENDS_REDIS_URL", value_name = "URL", hide_env_values = true)]
    pub redis_url: Option<Secret>,
    /// Put before every key in Redis
    #[arg(long, env = "AMENDS_REDIS_PREFIX", value_name = "TEXT", default_value = "amends:")]
    pub redis_prefix: String,
}

/// Logs and traces.
#[derive(Debug, Clone, Args)]
pub struct Log {
    /// What is logged, as in `info` or `info,chassis=debug`
    #[arg(long, env = "AMENDS_LOG", value_name = "FILTER", default_value = "info")]
    pub log: String,
    /// How it looks
    #[arg(long, env = "AMENDS_LOG_FORMAT", value_name = "FORMAT", value_enum, default_value_t)]
    pub log_format: Format,
    /// An OpenTelemetry collector for traces, as in http://localhost:4317; without it there are none
    #[arg(long, env = "OTEL_EXPORTER_OTLP_ENDPOINT", value_name = "URL")]
    pub otlp_endpoint: Option<String>,
    /// Which part of the traces that begin here is kept, 0 to 1; a caller's own is kept if the caller keeps it
    #[arg(long, env = "OTEL_TRACES_SAMPLER_ARG", value_name = "RATIO", default_value_t = 1.0)]
    pub trace_ratio: f64,
}

impl Log {
    /// What `service` sets up.
    #[must_use]
    pub fn options(&self, service: &str) -> telemetry::Options {
        telemetry::Options {
            service: service.to_owned(),
            filter: self.log.clone(),
            format: self.log_format,
            otlp_endpoint: self.otlp_endpoint.clone(),
            trace_ratio: self.trace_ratio,
        }
    }
}

/// How a process ends.
#[derive(Debug, Clone, Args)]
pub struct Ending {
    /// How long calls and moves under way may take when the process is asked to stop
    #[arg(long, env = "AMENDS_GRACE", value_name = "TIME", default_value = "20s",
        value_parser = humantime::parse_duration)]
    pub grace: Duration,
    /// Die at this pass of a crash point; standard input gives the next ones: for `cargo xtask crash`
    #[arg(long, value_name = "N", hide = true, value_parser = crash::parse)]
    pub crash_at: Option<(crash::Among, u64)>,
    /// At SIGUSR2, be as many milliseconds ahead of the machine's clock as this file says: for `cargo xtask soak`
    #[arg(long, value_name = "FILE", hide = true)]
    pub clock_file: Option<PathBuf>,
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory as _, Parser};

    use super::*;

    #[derive(Debug, Parser)]
    struct Everything {
        #[command(flatten)]
        database: Database,
        #[command(flatten)]
        bus: Bus,
        #[command(flatten)]
        redis: Redis,
        #[command(flatten)]
        log: Log,
        #[command(flatten)]
        ending: Ending,
    }

    #[test]
    fn the_groups_stand_side_by_side_and_passwords_are_not_printed() {
        Everything::command().debug_assert();
        let line =
            ["x", "--amqp-url", "amqp://a:hunter2@b", "--redis-url", "redis://a:hunter2@b", "--grace", "3s"];
        let all = Everything::try_parse_from(line).unwrap();
        assert!(!format!("{all:?}").contains("hunter2"), "{all:?}");
        assert_eq!(all.bus.amqp_url.as_ref().unwrap().expose(), "amqp://a:hunter2@b");
        assert_eq!((all.ending.grace, all.log.log_format), (Duration::from_secs(3), Format::Human));
        let secret: Secret = "postgres://a:hunter2@b/c".parse().unwrap();
        let options = all.database.options(&secret, "amends-inventory");
        assert!(!format!("{options:?}").contains("hunter2"), "{options:?}");
    }

    #[test]
    fn a_bad_value_names_its_flag() {
        for bad in ["--database-connections=1", "--grace=soon", "--log-format=xml"] {
            let error = Everything::try_parse_from(["x", bad]).unwrap_err().to_string();
            assert!(error.contains(bad.split('=').next().unwrap()), "{error}");
        }
    }
}
