//! What a process shows to the outside: its HTTP server and its gRPC server, and the order in which a process stops.
//!
//! HTTP is there from the beginning to the end: a process that waits for its database is alive, and not ready. On
//! leaving, readiness and health say so while calls are still taken; then nothing new is taken in, then what is under way
//! may end, then the services stop: a call that was accepted is answered by services that still work. Read next:
//! `chassis::grpc`, `chassis::http`.

use std::{net::SocketAddr, time::Duration};

use chassis::{
    grpc,
    http::{Checks, Started},
    stop::Stop,
};
use tokio::{net::TcpListener, sync::watch, time::Instant};
use tonic::service::RoutesBuilder;

use super::ground::Error;

/// The front of a process.
pub(crate) struct Front {
    /// Where health and metrics are served.
    pub(crate) http: SocketAddr,
    started: Started,
    /// Whoever looks should go elsewhere.
    leaving: Stop,
    /// gRPC.
    calls: Stop,
    /// HTTP.
    side: Stop,
    fail: watch::Sender<Option<String>>,
}

impl Front {
    /// Serves health and metrics.
    ///
    /// # Errors
    /// A listener without an address.
    pub(crate) fn begin(http: TcpListener) -> Result<Self, Error> {
        let (checks, started) = Checks::starting();
        let front = Self {
            http: http.local_addr().map_err(Error::Address)?,
            started,
            leaving: Stop::new(),
            calls: Stop::new(),
            side: Stop::new(),
            fail: watch::channel(None).0,
        };
        let router = chassis::http::router(checks, &front.leaving);
        let (serving, fail) = (front.side.clone(), front.fail.clone());
        front.side.spawn(async move {
            if let Err(error) = chassis::http::serve(http, router, &serving).await {
                fail.send_replace(Some(format!("HTTP cannot be served any longer: {error}")));
            }
        });
        Ok(front)
    }

    /// Opens the doors; where they are. From now on the process is ready when the checks pass.
    ///
    /// # Errors
    /// A listener without an address.
    pub(crate) fn open(
        &self,
        routes: RoutesBuilder,
        names: Vec<&'static str>,
        checks: Checks,
        grpc: TcpListener,
    ) -> Result<SocketAddr, Error> {
        let address = grpc.local_addr().map_err(Error::Address)?;
        let (leaving, serving, fail) = (self.leaving.clone(), self.calls.clone(), self.fail.clone());
        self.calls.spawn(async move {
            let served =
                grpc::serve_leaving(routes, proto::DESCRIPTORS, &names, grpc, [&leaving, &serving]).await;
            if let Err(error) = served {
                fail.send_replace(Some(format!("gRPC cannot be served any longer: {error}")));
            }
        });
        self.started.with(checks);
        Ok(address)
    }

    /// Resolves, with the reason, when it cannot serve any longer.
    pub(crate) async fn failed(&self) -> String {
        let mut failure = self.fail.subscribe();
        match failure.wait_for(Option::is_some).await {
            Ok(reason) => reason.clone().unwrap_or_default(),
            Err(_) => std::future::pending().await,
        }
    }

    /// Says that it leaves, and goes on taking calls for `notice`; then stops accepting, gives calls under way a quarter
    /// of the grace, and stops the services with what is left. False when something was still at work at the end.
    pub(crate) async fn close(self, services: &Stop, notice: Duration, grace: Duration) -> bool {
        self.leaving.request();
        tokio::time::sleep(notice).await;
        let begin = Instant::now();
        self.calls.request();
        // Whoever waits for an order, or watches one, is answered when the services stop; nothing else takes this long.
        self.calls.finish(grace / 4).await;
        services.request();
        let calls = self.calls.finish(grace.saturating_sub(begin.elapsed())).await;
        let services = services.finish(grace.saturating_sub(begin.elapsed())).await;
        self.side.request();
        self.side.finish(Duration::from_secs(1)).await;
        calls && services
    }

    /// For a process that never opened.
    pub(crate) async fn shut(self) {
        self.leaving.request();
        self.side.request();
        self.side.finish(Duration::from_secs(1)).await;
    }
}
