//! What people see: logs, traces, metrics. The only set-up of any of them.
//!
//! Logs go to standard error, for people or as JSON. Traces go to an OTLP collector if there is one, from a thread of
//! their own that drops what it cannot send: nothing in the house ever waits for a collector. Metrics are kept in this
//! process and shown by [`http`](crate::http). Without a collector there are no trace ids, and nothing is paid for them.

use std::{
    io::{IsTerminal as _, stderr},
    sync::OnceLock,
    time::Duration,
};

use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use opentelemetry::{
    propagation::{Extractor, TextMapPropagator as _},
    trace::{TraceContextExt as _, TracerProvider as _},
};
use opentelemetry_otlp::{SpanExporter, WithExportConfig as _};
use opentelemetry_sdk::{Resource, propagation::TraceContextPropagator, trace::SdkTracerProvider};
use tracing::{Span, Subscriber, level_filters::LevelFilter};
use tracing_opentelemetry::OpenTelemetrySpanExt as _;
use tracing_subscriber::{
    EnvFilter, Layer,
    filter::Targets,
    layer::SubscriberExt as _,
    registry::{LookupSpan, Registry},
};

/// What is not logged unless it is asked for by name. lapin logs returned messages with their bodies, and every broken
/// connection as an error; the exporter logs every batch it cannot send.
const QUIET: &str = "lapin=off,opentelemetry=off,opentelemetry_sdk=off,opentelemetry_otlp=off,sqlx=warn,\
                     tonic=warn,h2=warn,hyper=warn,hyper_util=warn,tower=warn,rustls=warn";

/// The exporter must not trace itself.
const UNTRACED: [&str; 7] = ["h2", "hyper", "hyper_util", "tonic", "tower", "lapin", "sqlx"];

/// For one export; a collector that takes longer gets the next batch.
const EXPORT_WITHIN: Duration = Duration::from_secs(2);

/// How lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Format {
    /// For people.
    #[default]
    Human,
    /// One JSON object per line.
    Json,
}

/// What to set up.
#[derive(Debug, Clone)]
pub struct Options {
    /// The process, as traces name it, e.g. `amends` or `amends-inventory`.
    pub service: String,
    /// What is logged, as in `info,chassis=debug` (tracing's `EnvFilter`).
    pub filter: String,
    /// How it looks.
    pub format: Format,
    /// The collector, as in `http://localhost:4317`.
    pub otlp_endpoint: Option<String>,
}

/// Why telemetry could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The filter cannot be read.
    #[error("`{filter}` is not a log filter like `info` or `info,chassis=debug`")]
    Filter {
        /// What was given.
        filter: String,
        /// What is wrong.
        #[source]
        source: tracing_subscriber::filter::ParseError,
    },
    /// The collector's address cannot be used.
    #[error("`{endpoint}` is not an OTLP endpoint like http://localhost:4317")]
    Endpoint {
        /// What was given.
        endpoint: String,
        /// What is wrong.
        #[source]
        source: opentelemetry_otlp::ExporterBuildError,
    },
    /// It was set up before.
    #[error("telemetry is set up already in this process")]
    Twice(#[from] tracing::subscriber::SetGlobalDefaultError),
}

/// The set-up; to be ended with [`Telemetry::finish`].
#[derive(Debug)]
#[must_use = "what was not exported yet is lost unless this is finished"]
pub struct Telemetry {
    provider: Option<SdkTracerProvider>,
}

impl Telemetry {
    /// Sets up logs and traces for this process, once. Inside a tokio runtime.
    ///
    /// # Errors
    /// A filter or an endpoint that cannot be read; a second call.
    pub fn start(options: &Options) -> Result<Self, Error> {
        let filter = EnvFilter::builder()
            .parse(format!("{QUIET},{}", options.filter))
            .map_err(|source| Error::Filter { filter: options.filter.clone(), source })?;
        let provider = options.otlp_endpoint.as_deref().filter(|endpoint| !endpoint.is_empty());
        let provider = provider.map(|endpoint| exporting(endpoint, &options.service)).transpose()?;
        let traces = provider.as_ref().map(|provider| {
            let targets = Targets::new()
                .with_default(LevelFilter::INFO)
                .with_targets(UNTRACED.map(|target| (target, LevelFilter::OFF)));
            tracing_opentelemetry::layer().with_tracer(provider.tracer("amends")).with_filter(targets)
        });
        let subscriber = Registry::default().with(traces).with(lines(options.format).with_filter(filter));
        tracing::subscriber::set_global_default(subscriber)?;
        Ok(Self { provider })
    }

    /// Sends what is left to the collector, for at most two seconds.
    pub async fn finish(self) {
        if let Some(provider) = self.provider {
            // It blocks its thread; the exporter needs the runtime meanwhile.
            let shutdown = move || provider.shutdown_with_timeout(EXPORT_WITHIN);
            if let Ok(Err(error)) = tokio::task::spawn_blocking(shutdown).await {
                tracing::debug!(%error, "some traces were not exported");
            }
        }
    }
}

fn lines<S>(format: Format) -> Box<dyn Layer<S> + Send + Sync>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    let lines = tracing_subscriber::fmt::layer().with_writer(stderr);
    match format {
        Format::Human => Box::new(lines.with_ansi(stderr().is_terminal())),
        Format::Json => Box::new(lines.json().flatten_event(true).with_span_list(false)),
    }
}

fn exporting(endpoint: &str, service: &str) -> Result<SdkTracerProvider, Error> {
    let exporter = SpanExporter::builder()
        .with_tonic()
        .with_endpoint(endpoint)
        .with_timeout(EXPORT_WITHIN)
        .build()
        .map_err(|source| Error::Endpoint { endpoint: endpoint.to_owned(), source })?;
    let resource = Resource::builder().with_service_name(service.to_owned()).build();
    // A thread of its own and a bounded queue that drops: no caller waits.
    Ok(SdkTracerProvider::builder().with_batch_exporter(exporter).with_resource(resource).build())
}

/// The current trace as W3C text (`traceparent`), for a message or a step; empty when there is none.
#[must_use]
pub fn traceparent() -> String {
    let context = Span::current().context();
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

/// The metrics of this process; keeps them from the first call on.
#[must_use]
pub fn metrics() -> PrometheusHandle {
    static HANDLE: OnceLock<PrometheusHandle> = OnceLock::new();
    const SECONDS: &[f64] =
        &[0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];
    const SIZES: &[f64] = &[1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0];
    HANDLE
        .get_or_init(|| {
            // Only a list without buckets is refused.
            let recorder = PrometheusBuilder::new()
                .set_buckets_for_metric(Matcher::Suffix("_seconds".into()), SECONDS)
                .and_then(|builder| builder.set_buckets_for_metric(Matcher::Suffix("_size".into()), SIZES))
                .unwrap_or_default()
                .build_recorder();
            let handle = recorder.handle();
            if metrics::set_global_recorder(recorder).is_err() {
                tracing::error!("metrics are recorded elsewhere in this process and not shown here");
            }
            handle
        })
        .clone()
}

#[cfg(test)]
mod tests {
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
