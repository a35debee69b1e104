//! What a process shows to the outside: its gRPC server and its HTTP server, and the order in which a process stops.
//!
//! First nothing new is taken in, then what is under way may end, then the services stop: a call that was accepted is
//! answered by services that still work. Read next: `chassis::grpc`, `chassis::http`.

use std::{net::SocketAddr, time::Duration};

use chassis::{grpc, http::Checks, stop::Stop};
use tokio::{net::TcpListener, sync::watch};
use tonic::service::RoutesBuilder;

use super::ground::Error;

/// The open front of a process.
pub(crate) struct Front {
    /// Where gRPC is served.
    pub(crate) grpc: SocketAddr,
    /// Where health and metrics are served.
    pub(crate) http: SocketAddr,
    stop: Stop,
    failure: watch::Receiver<Option<String>>,
}

impl Front {
    /// Serves on both listeners.
    ///
    /// # Errors
    /// A listener without an address.
    pub(crate) fn open(
        routes: RoutesBuilder,
        names: Vec<&'static str>,
        checks: Checks,
        grpc: TcpListener,
        http: TcpListener,
    ) -> Result<Self, Error> {
        let stop = Stop::new();
        let (fail, failure) = watch::channel(None);
        let front = Self {
            grpc: grpc.local_addr().map_err(Error::Address)?,
            http: http.local_addr().map_err(Error::Address)?,
            stop: stop.clone(),
            failure,
        };
        let router = chassis::http::router(checks, &stop);
        let (serving, failed) = (stop.clone(), fail.clone());
        stop.spawn(async move {
            if let Err(error) = chassis::http::serve(http, router, &serving).await {
                failed.send_replace(Some(format!("HTTP cannot be served any longer: {error}")));
            }
        });
        let serving = stop.clone();
        stop.spawn(async move {
            if let Err(error) = grpc::serve(routes, proto::DESCRIPTORS, &names, grpc, &serving).await {
                fail.send_replace(Some(format!("gRPC cannot be served any longer: {error}")));
            }
        });
        Ok(front)
    }

    /// Resolves, with the reason, when it cannot serve any longer.
    pub(crate) async fn failed(&self) -> String {
        let mut failure = self.failure.clone();
        // When the sender is gone the servers ended well: nothing will fail any more.
        match failure.wait_for(Option::is_some).await {
            Ok(reason) => reason.clone().unwrap_or_default(),
            Err(_) => std::future::pending().await,
        }
    }

    /// Stops accepting; gives calls under way a quarter of the grace, then stops the services with what is left. False
    /// when something was still at work at the end.
    pub(crate) async fn close(self, services: &Stop, grace: Duration) -> bool {
        let begin = tokio::time::Instant::now();
        self.stop.request();
        // Watches end only with the services; nothing else takes this long.
        self.stop.finish(grace / 4).await;
        services.request();
        let servers = self.stop.finish(grace.saturating_sub(begin.elapsed())).await;
        let services = services.finish(grace.saturating_sub(begin.elapsed())).await;
        servers && services
    }
}
