//! What every server process is told on its command line, and how it listens, serves, waits and stops.
//!
//! Values are checked and ports are bound before anything else is touched, so that a mistake costs nothing. Read next:
//! `up.rs` (everything) and `alone.rs` (one service).

use std::{
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use chassis::{config, crash, telemetry};
use clap::Args;
use tokio::net::{TcpListener, TcpSocket};

use crate::stack::{BusKind, CacheKind, Pools};

/// How a process of Amends runs.
#[derive(Debug, Clone, Args)]
pub(crate) struct Process {
    /// Where gRPC is served [default: 127.0.0.1 and the port of the service]
    #[arg(long, env = "AMENDS_GRPC_LISTEN", value_name = "ADDRESS:PORT")]
    grpc_listen: Option<SocketAddr>,
    /// Where health and metrics are served by HTTP [default: 127.0.0.1, 8080 for `up`, else the gRPC port + 1000]
    #[arg(long, env = "AMENDS_HTTP_LISTEN", value_name = "ADDRESS:PORT")]
    http_listen: Option<SocketAddr>,
    #[command(flatten)]
    database: config::Database,
    #[command(flatten)]
    bus: config::Bus,
    #[command(flatten)]
    redis: config::Redis,
    #[command(flatten)]
    ending: config::Ending,
    #[command(flatten)]
    log: config::Log,
}

/// A port that cannot be ours.
#[derive(Debug, thiserror::Error)]
#[error(
    "cannot listen on {address} (is another amends running?): choose another address with {flag} or {variable}"
)]
pub(crate) struct ListenError {
    address: SocketAddr,
    flag: &'static str,
    variable: &'static str,
    #[source]
    source: std::io::Error,
}

/// The two bound ports of a process.
pub(crate) struct Listeners {
    pub(crate) grpc: Reserved,
    pub(crate) http: TcpListener,
}

/// A port that is ours, and on which nobody listens yet.
pub(crate) struct Reserved {
    pub(crate) address: SocketAddr,
    socket: TcpSocket,
    flag: &'static str,
    variable: &'static str,
}

impl Reserved {
    fn bind(address: SocketAddr, flag: &'static str, variable: &'static str) -> Result<Self, ListenError> {
        let bound = || {
            let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
            socket.set_reuseaddr(true)?;
            socket.bind(address)?;
            Ok((socket.local_addr()?, socket))
        };
        let (address, socket) = bound().map_err(|source| ListenError { address, flag, variable, source })?;
        Ok(Self { address, socket, flag, variable })
    }

    /// Listens.
    pub(crate) fn listen(self) -> Result<TcpListener, ListenError> {
        let Self { address, socket, flag, variable } = self;
        socket.listen(1024).map_err(|source| ListenError { address, flag, variable, source })
    }
}

impl Process {
    /// Binds both ports; these are the ones to take when none is given.
    pub(crate) async fn listen(&self, grpc: u16, http: u16) -> Result<Listeners, ListenError> {
        if let Some(at) = self.ending.crash_at {
            crash::obey(at);
        }
        if let Some(file) = self.ending.clock_file.clone() {
            crate::signals::jump_when_told(file);
        }
        let local = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let grpc = self.grpc_listen.unwrap_or_else(|| local(grpc));
        let http = self.http_listen.unwrap_or_else(|| local(http));
        Ok(Listeners {
            grpc: Reserved::bind(grpc, "--grpc-listen", "AMENDS_GRPC_LISTEN")?,
            http: bind(http, "--http-listen", "AMENDS_HTTP_LISTEN").await?,
        })
    }

    /// How pools are opened.
    pub(crate) const fn pools(&self) -> Pools {
        Pools {
            connections: self.database.database_connections,
            allow_unsafe: self.database.allow_unsafe_database,
        }
    }

    /// Which bus: without a broker, the one of this process.
    pub(crate) fn bus(&self) -> BusKind {
        match &self.bus.amqp_url {
            Some(url) => BusKind::Amqp {
                url: url.clone(),
                prefix: self.bus.amqp_prefix.clone(),
                events: self.bus.amqp_events,
            },
            None => BusKind::Local,
        }
    }

    /// Which cache and limiter: without Redis, those of this process.
    pub(crate) fn cache(&self) -> CacheKind {
        match &self.redis.redis_url {
            Some(url) => CacheKind::Redis { url: url.clone(), prefix: self.redis.redis_prefix.clone() },
            None => CacheKind::Local,
        }
    }

    /// What is logged and traced, as `service`.
    pub(crate) fn telemetry(&self, service: &str) -> telemetry::Options {
        self.log.options(service)
    }

    /// How long it may take to end.
    pub(crate) const fn grace(&self) -> Duration {
        self.ending.grace
    }
}

async fn bind(
    address: SocketAddr,
    flag: &'static str,
    variable: &'static str,
) -> Result<TcpListener, ListenError> {
    TcpListener::bind(address).await.map_err(|source| ListenError { address, flag, variable, source })
}

#[cfg(test)]
mod tests {
    use chassis::bus::amqp::Events;
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        process: Process,
    }

    fn process(line: &str) -> Process {
        Line::try_parse_from(line.split_whitespace()).unwrap().process
    }

    #[tokio::test]
    async fn a_port_that_is_taken_names_its_flag() {
        let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let line = format!("x --grpc-listen 127.0.0.1:0 --http-listen {}", taken.local_addr().unwrap());
        let error = process(&line).listen(1, 2).await.err().unwrap();
        assert!(error.to_string().contains("--http-listen"), "{error}");
        assert!(error.to_string().contains(&taken.local_addr().unwrap().to_string()), "{error}");
    }

    #[test]
    fn what_is_given_decides_the_kinds() {
        assert!(matches!(process("x").bus(), BusKind::Local));
        assert!(matches!(process("x").cache(), CacheKind::Local));
        let given = process("x --amqp-url amqp://h --amqp-prefix t. --redis-url redis://h");
        assert!(matches!(given.bus(), BusKind::Amqp { prefix, events: Events::All, .. } if prefix == "t."));
        let own = process("x --amqp-url amqp://h --amqp-events own");
        assert!(matches!(own.bus(), BusKind::Amqp { events: Events::Own, .. }));
        assert!(matches!(given.cache(), CacheKind::Redis { prefix, .. } if prefix == "amends:"));
    }
}
