//! The HTTP side door of every process: `/metrics` for Prometheus, `/healthz` (the process is alive) and `/readyz`
//! (it can do its work: it has started, every check passes and nobody wants it to stop).
//!
//! It opens first and closes last, so that a process that waits for its database, or lets calls end, can be told from
//! one that is gone.
//!
//! It has no identity and no secrets and is not meant for the outside. Checks look; they never mend or wait for long.

use std::{
    fmt::{self, Write as _},
    sync::{Arc, OnceLock},
    time::Duration,
};

use axum::{
    Router,
    extract::State,
    http::{StatusCode, header::CONTENT_TYPE},
    response::{IntoResponse, Response},
    routing::get,
};
use futures_util::future::{BoxFuture, join_all};
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::net::TcpListener;

use crate::{stop::Stop, telemetry};

/// A check that takes longer has failed.
const PATIENCE: Duration = Duration::from_secs(2);

/// Histograms are folded this often, whether or not somebody asks for them.
const UPKEEP: Duration = Duration::from_secs(5);

type Look = Arc<dyn Fn() -> BoxFuture<'static, Result<(), String>> + Send + Sync>;

/// What must hold for a process to be ready.
#[derive(Clone, Default)]
pub struct Checks {
    named: Vec<(&'static str, Look)>,
    rest: Option<Arc<OnceLock<Self>>>,
}

/// Says when the process has started, and what must hold from then on.
#[derive(Clone)]
pub struct Started(Arc<OnceLock<Checks>>);

impl Started {
    /// It has; what is said first counts.
    pub fn with(&self, checks: Checks) {
        let _ = self.0.set(checks);
    }
}

impl Checks {
    /// None: ready until it stops.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Of a process that is still starting: not ready until [`Started::with`].
    #[must_use]
    pub fn starting() -> (Self, Started) {
        let rest = Arc::new(OnceLock::new());
        (Self { named: Vec::new(), rest: Some(Arc::clone(&rest)) }, Started(rest))
    }

    /// With one more; the error says what is wrong.
    #[must_use]
    pub fn with<F>(mut self, name: &'static str, check: impl Fn() -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Result<(), String>> + Send + 'static,
    {
        self.named.push((name, Arc::new(move || Box::pin(check()))));
        self
    }

    async fn failures(&self) -> Vec<(&'static str, String)> {
        let rest: &[_] = match self.rest.as_ref().map(|rest| rest.get()) {
            None => &[],
            Some(Some(rest)) => &rest.named,
            Some(None) => return vec![("start", "not done; the log says what is waited for".to_owned())],
        };
        let looks = self.named.iter().chain(rest).map(|(name, look)| async move {
            match tokio::time::timeout(PATIENCE, look()).await {
                Ok(Ok(())) => None,
                Ok(Err(why)) => Some((*name, why)),
                Err(_) => Some((*name, "no answer in time".to_owned())),
            }
        });
        join_all(looks).await.into_iter().flatten().collect()
    }
}

impl fmt::Debug for Checks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.named.iter().map(|(name, _)| name)).finish()
    }
}

#[derive(Clone)]
struct Door {
    checks: Checks,
    metrics: PrometheusHandle,
    stop: Stop,
}

/// The three routes, for a process that has more to serve by HTTP. Not ready any more from `stop` on. Keeps metrics from
/// now on.
pub fn router(checks: Checks, stop: &Stop) -> Router {
    let door = Door { checks, metrics: telemetry::metrics(), stop: stop.clone() };
    let handle = door.metrics.clone();
    let stopping = stop.clone();
    stop.spawn(async move {
        while stopping.sleep(UPKEEP).await {
            handle.run_upkeep();
        }
    });
    Router::new()
        .route("/metrics", get(metrics))
        .route("/healthz", get(|| async { "alive\n" }))
        .route("/readyz", get(ready))
        .with_state(door)
}

/// Serves on a bound listener until `stop`; then lets running requests end.
///
/// # Errors
/// When the listener fails.
pub async fn serve(listener: TcpListener, router: Router, stop: &Stop) -> std::io::Result<()> {
    let stopping = stop.clone();
    axum::serve(listener, router).with_graceful_shutdown(async move { stopping.wanted().await }).await
}

async fn metrics(State(door): State<Door>) -> Response {
    ([(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], door.metrics.render()).into_response()
}

async fn ready(State(door): State<Door>) -> Response {
    if door.stop.is_wanted() {
        return (StatusCode::SERVICE_UNAVAILABLE, "stopping\n").into_response();
    }
    let failures = door.checks.failures().await;
    if failures.is_empty() {
        return "ready\n".into_response();
    }
    let text = failures.into_iter().fold(String::new(), |mut text, (name, why)| {
        let _ = writeln!(text, "{name}: {why}");
        text
    });
    (StatusCode::SERVICE_UNAVAILABLE, text).into_response()
}
