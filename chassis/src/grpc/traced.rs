//! Calls as spans: a server takes up the trace that a caller sent, a client sends the one it is in.
//!
//! Nothing of a message's content becomes part of a span. Without a collector a call passes through untouched.

use std::{
    sync::Arc,
    task::{Context, Poll},
};

use futures_util::future::{BoxFuture, Either};
use http::{HeaderValue, Request, Response};
use tonic::{Code, Status, body::Body};
use tower::{Layer, Service};
use tracing::{Instrument as _, Span, field::Empty};

use super::TRACED_BY_ITEM;
use crate::telemetry;

const TRACEPARENT: &str = "traceparent";

/// Adds the trace that the caller is in.
pub(super) fn tell(mut request: Request<Body>) -> Request<Body> {
    if telemetry::is_traced()
        && let Ok(trace) = HeaderValue::try_from(telemetry::traceparent())
        && !trace.is_empty()
    {
        request.headers_mut().insert(TRACEPARENT, trace);
    }
    request
}

/// Makes a span of each call.
#[derive(Debug, Clone)]
pub(super) struct TracedLayer {
    /// The services whose calls are; all where there is none.
    services: Option<Arc<[&'static str]>>,
}

impl TracedLayer {
    pub(super) fn new(services: Option<&[&'static str]>) -> Self {
        Self { services: services.map(Arc::from) }
    }
}

impl<S> Layer<S> for TracedLayer {
    type Service = Traced<S>;

    fn layer(&self, inner: S) -> Traced<S> {
        Traced { inner, services: self.services.clone() }
    }
}

/// See [`TracedLayer`].
#[derive(Debug, Clone)]
pub(super) struct Traced<S> {
    inner: S,
    services: Option<Arc<[&'static str]>>,
}

impl<S> Traced<S> {
    /// Health, reflection, and what nobody serves are nothing to look at; nor is a slice, whose items are.
    fn span(&self, request: &Request<Body>) -> Option<Span> {
        if !telemetry::is_traced() || request.headers().contains_key(TRACED_BY_ITEM) {
            return None;
        }
        let (service, method) = request.uri().path().strip_prefix('/')?.split_once('/')?;
        let known = self.services.as_ref().is_none_or(|services| services.contains(&service));
        // The method is the caller's word: only what can be one is written down.
        let is_name = method.len() <= 64 && method.bytes().all(|b| b.is_ascii_alphanumeric());
        if !known || !is_name {
            return None;
        }
        let span = tracing::info_span!(
            "rpc",
            otel.name = format!("{service}/{method}"),
            otel.kind = "server",
            rpc.system = "grpc",
            rpc.service = service,
            rpc.method = method,
            rpc.grpc.status_code = Empty,
            saga.id = Empty,
            otel.status_code = Empty,
        );
        let trace = request.headers().get(TRACEPARENT).and_then(|value| value.to_str().ok());
        telemetry::set_parent(&span, trace.unwrap_or_default());
        Some(span)
    }
}

impl<S, E> Service<Request<Body>> for Traced<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = E>,
    S::Future: Send + 'static,
    E: 'static,
{
    type Response = Response<Body>;
    type Error = E;
    type Future = Either<S::Future, BoxFuture<'static, Result<Response<Body>, E>>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), E>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let Some(span) = self.span(&request) else { return Either::Left(self.inner.call(request)) };
        let answer = span.in_scope(|| self.inner.call(request));
        let answered = async move {
            let answer = answer.await;
            if let Ok(response) = &answer {
                record(response);
            }
            answer
        };
        Either::Right(Box::pin(answered.instrument(span)))
    }
}

/// A call that fails says so in the head of its response; a stream's end is not waited for.
fn record(response: &Response<Body>) {
    let code = Status::from_header_map(response.headers()).map_or(Code::Ok, |status| status.code());
    let span = Span::current();
    span.record("rpc.grpc.status_code", i32::from(code));
    let is_ours = matches!(
        code,
        Code::Unknown
            | Code::DeadlineExceeded
            | Code::Unimplemented
            | Code::Internal
            | Code::Unavailable
            | Code::DataLoss
    );
    if is_ours {
        span.record("otel.status_code", "ERROR");
    }
}
