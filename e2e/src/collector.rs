//! An OpenTelemetry collector that is a file: it takes spans by OTLP over gRPC and writes each as a line of JSON.
//!
//! For looking at traces where nothing else is installed, and for scenarios that judge them. It keeps everything and
//! decides nothing.

use std::{
    collections::BTreeMap,
    fs::{File, OpenOptions},
    io::Write as _,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

use opentelemetry_proto::tonic::{
    collector::trace::v1::{
        ExportTraceServiceRequest, ExportTraceServiceResponse,
        trace_service_server::{TraceService, TraceServiceServer},
    },
    common::v1::{AnyValue, KeyValue, any_value::Value},
    trace::v1::{ResourceSpans, Span as Wire},
};
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;
use tonic::{
    Request, Response, Status,
    transport::{Server, server::TcpIncoming},
};

/// A span, as a line of the file has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Span {
    /// 32 hex digits.
    pub trace_id: String,
    /// 16 hex digits.
    pub span_id: String,
    /// Empty in a root.
    pub parent_span_id: String,
    /// The process, as in `amends-inventory`.
    pub service: String,
    /// What was done.
    pub name: String,
    /// As OpenTelemetry names it: SERVER, CLIENT, ….
    pub kind: String,
    /// Nanoseconds since 1970.
    pub start_ns: u64,
    /// Nanoseconds since 1970.
    pub end_ns: u64,
    /// It failed.
    pub is_error: bool,
    /// Everything that is known of it.
    pub attributes: BTreeMap<String, String>,
    /// What was logged while it lasted.
    pub events: Vec<BTreeMap<String, String>>,
}

impl Span {
    /// An attribute; empty where it is not there.
    #[must_use]
    pub fn attribute(&self, name: &str) -> &str {
        self.attributes.get(name).map_or("", String::as_str)
    }
}

/// The running collector. It runs as long as the runtime that it was started in.
#[derive(Debug, Clone)]
pub struct Collector {
    /// Where it listens.
    pub address: SocketAddr,
    file: PathBuf,
}

impl Collector {
    /// Starts one on a free port of this machine; lines go to the end of `file`.
    pub async fn start(file: &Path) -> Self {
        let opened = OpenOptions::new().create(true).append(true).open(file).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let service = TraceServiceServer::new(ToFile(Arc::new(Mutex::new(opened))))
            .max_decoding_message_size(64 * 1024 * 1024);
        let serving = Server::builder().add_service(service);
        tokio::spawn(serving.serve_with_incoming(TcpIncoming::from(listener)));
        Self { address, file: file.to_owned() }
    }

    /// For `OTEL_EXPORTER_OTLP_ENDPOINT`.
    #[must_use]
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Everything that came so far, as text.
    #[must_use]
    pub fn text(&self) -> String {
        std::fs::read_to_string(&self.file).unwrap()
    }

    /// Everything that came so far.
    #[must_use]
    pub fn spans(&self) -> Vec<Span> {
        self.text().lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }
}

struct ToFile(Arc<Mutex<File>>);

#[tonic::async_trait]
impl TraceService for ToFile {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let mut lines = String::new();
        for span in request.into_inner().resource_spans.into_iter().flat_map(spans) {
            lines += &serde_json::to_string(&span).map_err(|error| Status::internal(error.to_string()))?;
            lines.push('\n');
        }
        // One write for a request, so that a line is never seen in part by another process.
        let written = self.0.lock().unwrap().write_all(lines.as_bytes());
        written.map_err(|error| Status::unavailable(error.to_string()))?;
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

fn spans(of: ResourceSpans) -> impl Iterator<Item = Span> {
    let resource = texts(of.resource.map(|resource| resource.attributes).unwrap_or_default());
    let service = resource.get("service.name").cloned().unwrap_or_default();
    let spans = of.scope_spans.into_iter().flat_map(|scope| scope.spans);
    spans.map(move |span| read(span, &service))
}

fn read(span: Wire, service: &str) -> Span {
    let kind = span.kind().as_str_name().trim_start_matches("SPAN_KIND_").to_owned();
    let events = span.events.into_iter().map(|event| {
        let mut texts = texts(event.attributes);
        texts.insert("name".into(), event.name);
        texts
    });
    Span {
        trace_id: hex(&span.trace_id),
        span_id: hex(&span.span_id),
        parent_span_id: hex(&span.parent_span_id),
        service: service.to_owned(),
        name: span.name,
        kind,
        start_ns: span.start_time_unix_nano,
        end_ns: span.end_time_unix_nano,
        is_error: span.status.is_some_and(|status| status.code == 2),
        attributes: texts(span.attributes),
        events: events.collect(),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn texts(attributes: Vec<KeyValue>) -> BTreeMap<String, String> {
    attributes.into_iter().map(|one| (one.key, text(one.value))).collect()
}

fn text(value: Option<AnyValue>) -> String {
    match value.and_then(|value| value.value) {
        None => String::new(),
        Some(Value::StringValue(text)) => text,
        Some(Value::BoolValue(flag)) => flag.to_string(),
        Some(Value::IntValue(number)) => number.to_string(),
        Some(Value::DoubleValue(number)) => number.to_string(),
        Some(other) => format!("{other:?}"),
    }
}
