//! A connection to the broker that comes back.
//!
//! lapin can recover connections by itself, but then it replays consumers and confirms behind our back and gives up
//! after some tries. Here nobody is told that a connection broke: whoever needs one next gets a new one, with the
//! topology declared again, or is told that the broker is away. Between two tries passes a growing delay.

use std::{sync::Arc, time::Duration};

use lapin::{
    Connection, ConnectionProperties, ErrorKind,
    protocol::{AMQPErrorKind, AMQPHardError, AMQPSoftError},
    uri::AMQPUri,
};
use tokio::{
    sync::{Mutex, RwLock},
    time::Instant,
};

use super::topology::Topology;

/// For the handshake, and again for the declarations.
const PATIENCE: Duration = Duration::from_secs(5);
const FIRST_DELAY: Duration = Duration::from_millis(100);
const LONGEST_DELAY: Duration = Duration::from_secs(5);
/// Between two lines in the log.
const REMINDER: Duration = Duration::from_secs(5);

/// Why there is no connection.
#[derive(Debug, Clone)]
pub(super) enum Away {
    /// Not there, or not answering: it may be next time.
    Unreachable(String),
    /// It is there and will not have us (credentials, virtual host, other queue arguments): a person must act.
    Refused(String),
}

impl Away {
    pub(super) fn why(self) -> String {
        match self {
            Self::Unreachable(why) | Self::Refused(why) => why,
        }
    }
}

impl From<lapin::Error> for Away {
    fn from(error: lapin::Error) -> Self {
        let text = error.to_string();
        match error.kind() {
            ErrorKind::ProtocolError(e) => match e.kind() {
                AMQPErrorKind::Soft(AMQPSoftError::ACCESSREFUSED | AMQPSoftError::PRECONDITIONFAILED)
                | AMQPErrorKind::Hard(AMQPHardError::NOTALLOWED) => Self::Refused(text),
                _ => Self::Unreachable(text),
            },
            ErrorKind::AuthProviderError(_) | ErrorKind::InvalidProtocolVersion(_) => Self::Refused(text),
            _ => Self::Unreachable(text),
        }
    }
}

async fn in_time<T>(answer: impl Future<Output = lapin::Result<T>>) -> Result<T, Away> {
    let late = |_| Away::Unreachable(format!("no answer within {PATIENCE:?}"));
    Ok(tokio::time::timeout(PATIENCE, answer).await.map_err(late)??)
}

/// One connection, for one purpose.
pub(super) struct Link {
    uri: AMQPUri,
    purpose: &'static str,
    topology: Arc<RwLock<Topology>>,
    state: Mutex<State>,
}

struct State {
    connection: Option<Arc<Connection>>,
    delay: Duration,
    next_try: Instant,
    /// When the log was last told that it is waited for.
    said: Option<Instant>,
}

impl Link {
    pub(super) fn new(mut uri: AMQPUri, purpose: &'static str, topology: Arc<RwLock<Topology>>) -> Self {
        // A broker that is gone without a word is noticed after two of these.
        uri.query.heartbeat.get_or_insert(10);
        let state = State { connection: None, delay: FIRST_DELAY, next_try: Instant::now(), said: None };
        Self { uri, purpose, topology, state: Mutex::new(state) }
    }

    /// The connection; a new one if the last one broke. Waits for a handshake, but not for the broker.
    pub(super) async fn connection(&self) -> Result<Arc<Connection>, Away> {
        let mut state = self.state.lock().await;
        if let Some(connection) = &state.connection {
            if connection.status().connected() {
                return Ok(Arc::clone(connection));
            }
            tracing::warn!(purpose = self.purpose, "the connection to the broker is lost");
            state.connection = None;
            state.said = Some(Instant::now());
            self.show(false);
        }
        if Instant::now() < state.next_try {
            return Err(Away::Unreachable("the broker is away".into()));
        }
        match self.connect().await {
            Ok(connection) => {
                tracing::info!(purpose = self.purpose, "connected to the broker");
                let connection = Arc::new(connection);
                state.connection = Some(Arc::clone(&connection));
                state.delay = FIRST_DELAY;
                state.said = None;
                self.show(true);
                Ok(connection)
            }
            Err(away) => {
                if state.said.is_none_or(|said| said.elapsed() >= REMINDER) {
                    let address = format!("{}:{}", self.uri.authority.host, self.uri.authority.port);
                    tracing::warn!(purpose = self.purpose, address, error = ?away, "waiting for the broker");
                    state.said = Some(Instant::now());
                }
                state.next_try = Instant::now() + state.delay;
                state.delay = (state.delay * 2).min(LONGEST_DELAY);
                Err(away)
            }
        }
    }

    async fn connect(&self) -> Result<Connection, Away> {
        let name = format!("amends {}", self.purpose);
        let properties = ConnectionProperties::default().with_connection_name(name.into());
        let connection = in_time(Connection::connect_uri(self.uri.clone(), properties)).await?;
        // The broker may have lost everything since the last time.
        in_time(self.declare_on(&connection)).await?;
        Ok(connection)
    }

    /// Declares the topology again, after it has grown.
    pub(super) async fn declare(&self) -> Result<(), Away> {
        let connection = self.connection().await?;
        in_time(self.declare_on(&connection)).await
    }

    async fn declare_on(&self, connection: &Connection) -> lapin::Result<()> {
        let channel = connection.create_channel().await?;
        self.topology.read().await.declare(&channel).await?;
        channel.close(200, "declared".into()).await
    }

    fn show(&self, connected: bool) {
        metrics::gauge!("amends_bus_connected", "purpose" => self.purpose).set(u8::from(connected));
    }
}
