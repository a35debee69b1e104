//! The table as a page that people read, with the latencies of each run drawn.

use std::fmt::Write as _;

use crate::{report::Figures, table::Table};

const STYLE: &str = "body{font:15px/1.5 system-ui,sans-serif;max-width:72rem;margin:2rem auto;padding:0 1rem;color:#1b1b1b}\
table{border-collapse:collapse;width:100%}td,th{text-align:left;padding:.3rem .6rem;border-bottom:1px solid #ddd}\
td.met{color:#12723a}td.missed{color:#b3261e;font-weight:600}figure{display:inline-block;margin:1rem 1rem 0 0}\
figcaption{font-size:13px;color:#555}svg{background:#fafafa;border:1px solid #ddd}";

/// The whole page.
#[must_use]
pub fn of(table: &Table) -> String {
    let mut page = String::new();
    let _ = write!(
        page,
        "<!doctype html><meta charset=utf-8><title>Amends, measured</title><style>{STYLE}</style>\
         <h1>Amends, measured</h1><p>{}</p><p>{}</p><table><tr><th>measure<th>goal<th>measured<th></tr>",
        escaped(&table.comparison.machine),
        escaped(table.runs.first().map_or("", |(_, figures)| &figures.server)),
    );
    for row in &table.rows {
        let verdict = serde_json::to_value(row.verdict).ok();
        let verdict = verdict.as_ref().and_then(|verdict| verdict.as_str()).unwrap_or_default();
        let _ = write!(
            page,
            "<tr><td>{}<td>{}<td>{}<td class={verdict}>{}</tr>",
            escaped(row.measure),
            escaped(row.goal),
            escaped(&row.measured),
            if verdict == "reported" { "" } else { verdict },
        );
    }
    page.push_str("</table><h2>Latency by share of orders</h2>");
    let compared = table.comparison.amends.runs.iter().map(|figures| ("512 in flight", figures));
    let baseline = table.comparison.baseline.runs.iter().map(|figures| ("baseline", figures));
    let runs = table.runs.iter().map(|(name, figures)| (*name, figures));
    for (name, figures) in baseline.chain(compared).chain(runs) {
        let _ = write!(
            page,
            "<figure>{}<figcaption>{}: {}, {:.0}/s</figcaption></figure>",
            drawn(figures),
            escaped(name),
            escaped(&figures.answers.pace),
            figures.answers.per_second
        );
    }
    page
}

const WIDTH: f64 = 340.0;
const HEIGHT: f64 = 170.0;

/// Milliseconds (logarithmic, 0.5 ms to 5 s) over 1 − share (logarithmic, to one in ten thousand).
fn drawn(figures: &Figures) -> String {
    let x = |quantile: f64| (1.0 - quantile).max(1e-4).log10() / -4.0 * (WIDTH - 50.0) + 40.0;
    let y = |ms: f64| HEIGHT - 20.0 - (ms.clamp(0.5, 5000.0) / 0.5).log10() / 4.0 * (HEIGHT - 30.0);
    let mut svg = format!("<svg width={WIDTH} height={HEIGHT} role=img>");
    for ms in [1.0, 10.0, 100.0, 1000.0] {
        let at = y(ms);
        let _ = write!(
            svg,
            "<line x1=40 x2={WIDTH} y1={at:.1} y2={at:.1} stroke=#ddd /><text x=4 y={:.1} font-size=10>{ms} ms</text>",
            at + 3.0
        );
    }
    for (quantile, name) in [(0.0, "0"), (0.9, "90 %"), (0.99, "99 %"), (0.999, "99.9 %")] {
        let _ = write!(svg, "<text x={:.1} y={} font-size=10>{name}</text>", x(quantile), HEIGHT - 5.0);
    }
    let points: Vec<String> =
        figures.answers.curve.iter().map(|(q, ms)| format!("{:.1},{:.1}", x(*q), y(*ms))).collect();
    let _ = write!(
        svg,
        "<polyline points=\"{}\" fill=none stroke=#2457a6 stroke-width=1.6 /></svg>",
        points.join(" ")
    );
    svg
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
