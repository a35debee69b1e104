//! How a line of the log looks: for people, or one JSON object that says its trace.
//!
//! It is written to standard error, and nothing here decides what is logged.

use std::{
    fmt,
    io::{IsTerminal as _, stderr},
};

use tracing::{Event, Subscriber};
use tracing_subscriber::{
    Layer,
    fmt::{
        FmtContext, FormatEvent, FormatFields,
        format::{self, JsonFields, Writer},
    },
    registry::LookupSpan,
};

use super::{Format, traceparent};

/// The layer that writes lines.
pub(super) fn layer<S>(format: Format) -> Box<dyn Layer<S> + Send + Sync>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    let lines = tracing_subscriber::fmt::layer().with_writer(stderr);
    match format {
        Format::Human => Box::new(lines.with_ansi(stderr().is_terminal())),
        Format::Json => Box::new(lines.fmt_fields(JsonFields::new()).event_format(json())),
    }
}

fn json() -> WithTrace<format::Format<format::Json>> {
    WithTrace(format::format().json().flatten_event(true).with_span_list(false))
}

/// JSON lines that begin with `trace_id` and `span_id` where there is a trace: what a log and a trace are joined by.
struct WithTrace<F>(F);

impl<S, N, F> FormatEvent<S, N> for WithTrace<F>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
    F: FormatEvent<S, N>,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let trace = traceparent();
        let mut parts = trace.split('-').skip(1);
        let (Some(trace), Some(span)) = (parts.next(), parts.next()) else {
            return self.0.format_event(context, writer, event);
        };
        let mut line = String::new();
        self.0.format_event(context, Writer::new(&mut line), event)?;
        match line.strip_prefix('{') {
            Some(rest) => write!(writer, r#"{{"trace_id":"{trace}","span_id":"{span}",{rest}"#),
            None => writer.write_str(&line),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use opentelemetry::trace::TracerProvider as _;
    use opentelemetry_sdk::trace::SdkTracerProvider;
    use tracing_subscriber::{fmt::MakeWriter, layer::SubscriberExt as _, registry::Registry};

    use super::*;

    #[derive(Clone, Default)]
    struct Page(Arc<Mutex<Vec<u8>>>);

    impl std::io::Write for Page {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    impl MakeWriter<'_> for Page {
        type Writer = Self;

        fn make_writer(&self) -> Self {
            self.clone()
        }
    }

    /// A process of its own would set the subscriber for good; a test sets it for a closure, where formatting cannot
    /// see it. So the span is looked up by hand here.
    #[test]
    fn a_json_line_holds_its_fields_and_without_a_trace_no_trace_id() {
        let page = Page::default();
        let lines = tracing_subscriber::fmt::layer()
            .with_writer(page.clone())
            .fmt_fields(JsonFields::new())
            .event_format(json());
        let provider = SdkTracerProvider::builder().build();
        let traces = tracing_opentelemetry::layer().with_tracer(provider.tracer("test"));
        tracing::subscriber::with_default(Registry::default().with(traces).with(lines), || {
            tracing::info!(saga.id = "saga_1", "alone");
            let _in = tracing::info_span!("consume", message.id = 7).entered();
            tracing::warn!(saga.id = "saga_2", "within");
        });
        let text = String::from_utf8(page.0.lock().unwrap().clone()).unwrap();
        let lines: Vec<serde_json::Value> =
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!((&lines[0]["saga.id"], &lines[0]["message"]), (&"saga_1".into(), &"alone".into()));
        assert!(lines[0].get("trace_id").is_none(), "{text}");
        assert_eq!((&lines[1]["saga.id"], &lines[1]["span"]["message.id"]), (&"saga_2".into(), &7.into()));
    }
}
