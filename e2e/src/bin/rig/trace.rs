//! `cargo xtask trace`.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    process::ExitCode,
};

use clap::Args;
use e2e::Span;

#[derive(Debug, Args)]
pub(crate) struct Trace {
    /// ord_… or saga_…
    order: String,
    /// Where the spans are
    #[arg(long, value_name = "FILE", default_value = ".amends/traces.jsonl")]
    traces: PathBuf,
}

impl Trace {
    pub(crate) fn run(self) -> ExitCode {
        let Ok(text) = std::fs::read_to_string(&self.traces) else {
            eprintln!("{} is not there: does `cargo xtask stack` run?", self.traces.display());
            return ExitCode::FAILURE;
        };
        let spans: Vec<Span> = text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
        let id = self.order.rsplit('_').next().unwrap_or_default();
        let is_of =
            |span: &&Span| !id.is_empty() && span.attributes.values().any(|value| value.ends_with(id));
        let traces: BTreeSet<&str> = spans.iter().filter(is_of).map(|span| span.trace_id.as_str()).collect();
        let Some(trace) = traces.first() else {
            eprintln!("no span names {}: spans come a second or two after their order", self.order);
            return ExitCode::FAILURE;
        };
        let mut spans: Vec<&Span> = spans.iter().filter(|span| span.trace_id == *trace).collect();
        spans.sort_by_key(|span| span.start_ns);
        let ids: BTreeSet<&str> = spans.iter().map(|span| span.span_id.as_str()).collect();
        let mut below: BTreeMap<&str, Vec<&Span>> = BTreeMap::new();
        for span in &spans {
            let parent = span.parent_span_id.as_str();
            below.entry(if ids.contains(parent) { parent } else { "" }).or_default().push(span);
        }
        let began = spans.first().map_or(0, |span| span.start_ns);
        show(&below, "", 0, began);
        let processes: BTreeSet<&str> = spans.iter().map(|span| span.service.as_str()).collect();
        let roots = below.get("").map_or(0, Vec::len);
        println!("{} spans of {} processes, {roots} root, trace {trace}", spans.len(), processes.len());
        if roots == 1 {
            return ExitCode::SUCCESS;
        }
        eprintln!("spans are missing: try again in a second");
        ExitCode::FAILURE
    }
}

fn show(below: &BTreeMap<&str, Vec<&Span>>, parent: &str, depth: usize, began: u64) {
    for span in below.get(parent).into_iter().flatten() {
        let ms = |ns: u64| ns as f64 / 1e6;
        let name = format!("{}{}", "  ".repeat(depth), span.name);
        let (at, took) = (ms(span.start_ns - began), ms(span.end_ns.saturating_sub(span.start_ns)));
        let failed = if span.is_error { "  failed" } else { "" };
        println!("{at:>9.1} ms  {took:>8.1} ms  {:<22} {name}{failed}", span.service);
        show(below, &span.span_id, depth + 1, began);
    }
}
