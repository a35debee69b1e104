//! What people see: logs, traces, metrics. The only set-up of any of them.
//!
//! Logs go to standard error, for people or as JSON (`lines`). Traces go to an OTLP collector if there is one, from a
//! thread of their own that drops what it cannot send: nothing in the house ever waits for a collector. How a trace goes
//! from process to process is in `trace`. Metrics are kept in this process and shown by [`http`](crate::http). Without
//! a collector there are no trace ids, and nothing is paid for them.

mod lines;
mod trace;

use std::{sync::OnceLock, time::Duration};

use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use opentelemetry::trace::TracerProvider as _;
use opentelemetry_otlp::{SpanExporter, WithExportConfig as _};
use opentelemetry_sdk::{
    Resource,
    trace::{BatchConfigBuilder, BatchSpanProcessor, Sampler, SdkTracerProvider},
};
use tracing::level_filters::LevelFilter;
use tracing_subscriber::{
    EnvFilter, Layer as _, filter::Targets, layer::SubscriberExt as _, registry::Registry,
};

pub use self::trace::{
    below, call_span, commit_span, is_traced, part_span, resumed_span, set_parent, step_span, traceparent,
};

/// What is not logged unless it is asked for by name. lapin logs returned messages with their bodies, and every broken
/// connection as an error; the exporter logs every batch it cannot send.
const QUIET: &str = "lapin=off,opentelemetry=off,opentelemetry_sdk=off,opentelemetry_otlp=off,sqlx=warn,\
                     tonic=warn,h2=warn,hyper=warn,hyper_util=warn,tower=warn,rustls=warn";

/// The exporter must not trace itself.
const UNTRACED: [&str; 7] = ["h2", "hyper", "hyper_util", "tonic", "tower", "lapin", "sqlx"];

/// For one export; a collector that takes longer gets the next batch.
const EXPORT_WITHIN: Duration = Duration::from_secs(2);

/// How long a span waits for others to be sent with: what a process that is killed takes with it.
const EXPORT_EVERY: Duration = Duration::from_secs(1);

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
    /// Which part of the traces that begin here is kept, 0 to 1.
    pub trace_ratio: f64,
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
        let provider = provider.map(|endpoint| exporting(endpoint, options)).transpose()?;
        let traces = provider.as_ref().map(|provider| {
            let targets = Targets::new()
                .with_default(LevelFilter::INFO)
                .with_targets(UNTRACED.map(|target| (target, LevelFilter::OFF)));
            // Where a span was made, and on which thread, is not worth its bytes.
            tracing_opentelemetry::layer()
                .with_location(false)
                .with_threads(false)
                .with_target(false)
                .with_tracked_inactivity(false)
                .with_context_activation(false)
                .with_tracer(provider.tracer("amends"))
                .with_filter(targets)
        });
        let lines = lines::layer(options.format).with_filter(filter);
        let is_traced = traces.is_some();
        tracing::subscriber::set_global_default(Registry::default().with(traces).with(lines))?;
        trace::begin(is_traced);
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

fn exporting(endpoint: &str, options: &Options) -> Result<SdkTracerProvider, Error> {
    let exporter = SpanExporter::builder()
        .with_tonic()
        .with_endpoint(endpoint)
        .with_timeout(EXPORT_WITHIN)
        .build()
        .map_err(|source| Error::Endpoint { endpoint: endpoint.to_owned(), source })?;
    let resource = Resource::builder().with_service_name(options.service.clone()).build();
    // A thread of its own and a bounded queue that drops: no caller waits.
    let batches = BatchConfigBuilder::default().with_scheduled_delay(EXPORT_EVERY).build();
    let processor = BatchSpanProcessor::builder(exporter).with_batch_config(batches).build();
    // A part of a trace is worth nothing: whoever begins it decides for all.
    let sampler = Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(options.trace_ratio)));
    Ok(SdkTracerProvider::builder()
        .with_span_processor(processor)
        .with_sampler(sampler)
        .with_resource(resource)
        .build())
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
