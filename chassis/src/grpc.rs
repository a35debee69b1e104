//! A gRPC server as every process of Amends has it, and the two ways to call one.
//!
//! Reflection (v1 and v1alpha), health, size and stream limits, draining. A callee is either a [`Channel`] to another
//! process or the [`Routes`] of a service in this one; callers see no difference ([`Callee`]). Steps within one process
//! need neither: their handlers are called (`orchestrator`'s `Peer`). A trace goes along in the
//! metadata, and every call that is served is a span of it (`traced`).

mod traced;

use std::time::Duration;

use http::{Request, Response};
use tokio::net::TcpListener;
use tonic::{
    Code, Status,
    body::Body,
    service::{Routes, RoutesBuilder},
    transport::{Channel, Endpoint, Server, server::TcpIncoming},
};
use tonic_types::{ErrorDetails, StatusExt as _};
use tower::{
    BoxError, Layer as _, ServiceExt,
    util::{BoxCloneSyncService, MapResponseLayer},
};

use self::traced::{Traced, TracedLayer};
use crate::stop::Stop;

/// The largest message taken at any door, in bytes.
pub const MAX_MESSAGE: usize = 1024 * 1024;

/// The largest message of a step exchange (slices), in bytes.
pub const MAX_SLICE_MESSAGE: usize = 16 * 1024 * 1024;

/// Metadata of a call whose items each carry a trace of their own: the call itself is no part of any.
pub const TRACED_BY_ITEM: &str = "amends-traced-by-item";

/// Somebody to call: in another process or in this one.
pub type Callee = BoxCloneSyncService<Request<Body>, Response<Body>, CallError>;

/// A call that brought no response at all. tonic reads its source.
#[derive(Debug, thiserror::Error)]
#[error("the callee could not be called")]
pub struct CallError(#[source] BoxError);

/// A callee in another process, connected when first called and again whenever the connection is lost.
///
/// # Errors
/// When the address is not a URI like `http://host:port`.
pub fn remote(address: &str) -> Result<Callee, tonic::transport::Error> {
    let channel: Channel = Endpoint::from_shared(address.to_owned())?
        .connect_timeout(Duration::from_secs(2))
        .tcp_nodelay(true)
        .http2_keep_alive_interval(Duration::from_secs(10))
        .keep_alive_timeout(Duration::from_secs(5))
        .connect_lazy();
    let channel = ServiceExt::<Request<Body>>::map_err(channel, |e| CallError(e.into()));
    Ok(BoxCloneSyncService::new(ServiceExt::<Request<Body>>::map_request(channel, traced::tell)))
}

/// A callee in this process: no socket, no HTTP/2.
#[must_use]
pub fn local(routes: Routes) -> Callee {
    let routes = ServiceExt::<Request<Body>>::map_err(routes.prepare(), |e| CallError(e.into()));
    let served: Traced<_> = TracedLayer::new(None).layer(routes);
    BoxCloneSyncService::new(ServiceExt::<Request<Body>>::map_request(served, traced::tell))
}

/// Serves routes on a bound listener until it is asked to stop; then lets running calls end.
///
/// # Errors
/// When the transport fails, or the descriptors cannot be read.
pub async fn serve(
    routes: RoutesBuilder,
    descriptors: &'static [u8],
    services: &[&'static str],
    listener: TcpListener,
    stop: &Stop,
) -> Result<(), BoxError> {
    serve_leaving(routes, descriptors, services, listener, [stop, stop]).await
}

/// As [`serve`]; the first stop only says NOT_SERVING, so that whoever watches health goes elsewhere while every call is
/// still taken, the second stops.
///
/// # Errors
/// As there.
pub async fn serve_leaving(
    mut routes: RoutesBuilder,
    descriptors: &'static [u8],
    services: &[&'static str],
    listener: TcpListener,
    [leaving, stop]: [&Stop; 2],
) -> Result<(), BoxError> {
    let (health, health_service) = tonic_health::server::health_reporter();
    for service in services {
        health.set_service_status(*service, tonic_health::ServingStatus::Serving).await;
    }
    let reflection = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(descriptors)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    routes.add_service(health_service);
    routes.add_service(reflection().build_v1()?);
    routes.add_service(reflection().build_v1alpha()?);
    listener.local_addr()?;
    let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
    let (leaving, stopping) = (leaving.clone(), stop.clone());
    let names: Vec<&'static str> = services.to_vec();
    Server::builder()
        .layer(TracedLayer::new(Some(services)))
        .layer(MapResponseLayer::new(name_unreadable))
        .max_concurrent_streams(1024)
        .http2_max_pending_accept_reset_streams(Some(64))
        .http2_keepalive_interval(Some(Duration::from_secs(20)))
        .add_routes(routes.routes())
        .serve_with_incoming_shutdown(incoming, async move {
            tokio::select! {
                () = leaving.wanted() => {}
                () = stopping.wanted() => {}
            }
            for service in names {
                health.set_service_status(service, tonic_health::ServingStatus::NotServing).await;
            }
            stopping.wanted().await;
        })
        .await?;
    Ok(())
}

/// How tonic begins to say that a request cannot be read.
const UNREADABLE: [&str; 5] = [
    "failed to decode Protobuf message",
    "protocol error: received message with",
    "Missing request message",
    "Unexpected EOF decoding stream",
    "Error decompressing",
];

/// What tonic says of a request that it could not even hand over, as gRPC has it: OUT_OF_RANGE above the limit, INTERNAL
/// for what cannot be decoded. To whoever sent it, both are an invalid argument; to whoever watches us, no failure of ours.
fn name_unreadable(response: Response<Body>) -> Response<Body> {
    let Some(status) = Status::from_header_map(response.headers()) else { return response };
    let says = status.message();
    let reason = match status.code() {
        Code::OutOfRange if says.contains("message length too large") => "MESSAGE_TOO_LARGE",
        // A handler's own INTERNAL has details.
        Code::Internal if status.details().is_empty() && UNREADABLE.iter().any(|u| says.starts_with(u)) => {
            "MALFORMED_MESSAGE"
        }
        _ => return response,
    };
    let mut details = ErrorDetails::with_error_info(reason, "amends", std::collections::HashMap::new());
    details.add_bad_request_violation("(message)", says);
    Status::with_error_details(Code::InvalidArgument, says, details).into_http()
}
