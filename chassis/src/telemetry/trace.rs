//! How a trace goes on: from a call's metadata, a message's header or a row's text to a span, and back to text.
//!
//! The text is W3C's `traceparent`, empty where there is no trace: then no span is made. Spans name what is done, to
//! which saga, and what came of it; never what it is about.

use std::{
    fmt,
    sync::atomic::{AtomicBool, Ordering},
};

use opentelemetry::{
    propagation::{Extractor, TextMapPropagator as _},
    trace::TraceContextExt as _,
};
use opentelemetry_sdk::propagation::TraceContextPropagator;
use tracing::{Span, field::Empty};
use tracing_opentelemetry::OpenTelemetrySpanExt as _;
use types::{SagaId, StepKey};

/// Whether this process has a collector.
static TRACED: AtomicBool = AtomicBool::new(false);

pub(super) fn begin(is_traced: bool) {
    TRACED.store(is_traced, Ordering::Relaxed);
}

/// Whether this process has a collector: where it has none, no span is worth making.
#[must_use]
pub fn is_traced() -> bool {
    TRACED.load(Ordering::Relaxed)
}

/// The current trace as W3C text (`traceparent`), for a message or a step; empty when there is none.
#[must_use]
pub fn traceparent() -> String {
    text_of(&Span::current())
}

/// Asked, not entered: a span that is left ends there, as far as its trace is concerned.
fn text_of(span: &Span) -> String {
    let context = span.context();
    let span = context.span();
    let span = span.span_context();
    if !span.is_valid() {
        return String::new();
    }
    format!("00-{}-{}-{:02x}", span.trace_id(), span.span_id(), span.trace_flags().to_u8())
}

/// Makes `span` part of the trace that a message or a step came with. What is not a traceparent changes nothing.
pub fn set_parent(span: &Span, traceparent: &str) {
    struct Header<'a>(&'a str);

    impl Extractor for Header<'_> {
        fn get(&self, key: &str) -> Option<&str> {
            (key == "traceparent").then_some(self.0)
        }

        fn keys(&self) -> Vec<&str> {
            vec!["traceparent"]
        }
    }

    if !traceparent.is_empty() {
        let parent = TraceContextPropagator::new().extract(&Header(traceparent));
        // It fails for a span that is not traced or has ended: then there is nothing to do.
        let _ = span.set_parent(parent);
    }
}

/// A span with this parent; none where there is no trace, or nobody to send it to.
fn part_of(trace: &str, make: impl FnOnce() -> Span) -> Span {
    if trace.is_empty() || !is_traced() {
        return Span::none();
    }
    let span = make();
    set_parent(&span, trace);
    span
}

/// A participant works on one item of a slice; `rpc` as in `x.v1.XSteps/Do`.
#[must_use]
pub fn step_span(rpc: &'static str, key: &StepKey, attempt: u32, trace: &str) -> Span {
    let (service, method) = rpc.split_once('/').unwrap_or((rpc, ""));
    part_of(trace, || {
        tracing::info_span!("step", otel.name = rpc, otel.kind = "server", rpc.system = "grpc", rpc.service = service,
            rpc.method = method, saga.id = %key.saga, step.name = %key.step, step.attempt = attempt)
    })
}

/// A saga calls a step. `step.outcome` is recorded when it is known.
#[must_use]
pub fn call_span(saga: SagaId, participant: &str, step: &str, attempt: u32, trace: &str) -> Span {
    part_of(trace, || {
        tracing::info_span!("call", otel.name = format!("call {step}"), otel.kind = "client", rpc.system = "grpc",
            peer.service = participant, saga.id = %saga, step.name = step, step.attempt = attempt,
            step.outcome = Empty, otel.status_code = Empty)
    })
}

/// A saga's facts become durable; `facts` names them.
#[must_use]
pub fn commit_span(
    saga: SagaId,
    version: i64,
    state: &str,
    facts: impl FnOnce() -> String,
    trace: &str,
) -> Span {
    part_of(trace, || {
        tracing::info_span!("commit", db.system.name = "postgresql", saga.id = %saga, saga.version = version,
            saga.state = state, saga.events = facts())
    })
}

/// What was written down under a trace goes on, as in `send letter`; `kind` as OpenTelemetry names it.
#[must_use]
pub fn resumed_span(name: &'static str, kind: &'static str, trace: &str) -> Span {
    part_of(trace, || tracing::info_span!("resumed", otel.name = name, otel.kind = kind, outcome = Empty))
}

/// A part of what is under way, as in `provider charge`; `kind` as OpenTelemetry names it.
#[must_use]
pub fn part_span(name: fmt::Arguments<'_>, kind: &'static str) -> Span {
    if !is_traced() || Span::current().is_none() {
        return Span::none();
    }
    tracing::info_span!("part", otel.name = %name, otel.kind = kind, outcome = Empty)
}

/// The text of the trace that goes on below `span`; where nothing is traced, the trace itself goes on, if it is one.
#[must_use]
pub fn below(span: &Span, trace: &str) -> String {
    let text = text_of(span);
    if text.is_empty() { types::traceparent(trace).to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use opentelemetry::trace::TracerProvider as _;
    use opentelemetry_sdk::trace::SdkTracerProvider;
    use tracing_subscriber::{layer::SubscriberExt as _, registry::Registry};

    use super::*;

    #[test]
    fn a_trace_goes_on_from_its_text() {
        let provider = SdkTracerProvider::builder().build();
        let traces = tracing_opentelemetry::layer().with_tracer(provider.tracer("test"));
        tracing::subscriber::with_default(Registry::default().with(traces), || {
            assert_eq!(traceparent(), "", "outside any span");
            let span = tracing::info_span!("here");
            set_parent(&span, "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01");
            let text = span.in_scope(traceparent);
            assert!(text.starts_with("00-0af7651916cd43dd8448eb211c80319c-"), "{text}");
            assert!(text.ends_with("-01") && !text.contains("b7ad6b7169203331"), "{text}");

            for bad in ["", "00", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331", "\u{0}é"] {
                let span = tracing::info_span!("alone");
                set_parent(&span, bad);
                let text = span.in_scope(traceparent);
                assert!(text.len() == 55 && !text.contains("0af7651916cd43dd"), "{bad}: {text}");
            }
        });
    }

    #[test]
    fn without_a_collector_there_is_no_trace() {
        let span = tracing::info_span!("here");
        set_parent(&span, "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01");
        assert_eq!(span.in_scope(traceparent), "");
    }
}
