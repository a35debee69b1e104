//! The table as a page that people read: what each order cost, and the latencies of each run drawn.

use std::{fmt::Write as _, path::Path};

use crate::{
    report::{Figures, Report, Summary},
    table::{Table, Verdict},
};

const STYLE: &str = "body{font:15px/1.5 system-ui,sans-serif;max-width:72rem;margin:2rem auto;padding:0 1rem;color:#1b1b1b}\
table{border-collapse:collapse;width:100%}td,th{text-align:left;padding:.3rem .6rem;border-bottom:1px solid #ddd}\
td.n,th.n{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}\
td.met{color:#12723a}td.missed{color:#b3261e;font-weight:600}figure{display:inline-block;margin:1rem 1rem 0 0}\
figcaption{font-size:13px;color:#555}svg{background:#fafafa;border:1px solid #ddd}";

/// The whole page; `flame` is the file of a flame graph, which is shown by its name beside the page.
#[must_use]
pub fn of(report: &Report<Table>, flame: Option<&Path>) -> String {
    let (table, provenance) = (&report.of, &report.provenance);
    let runs = &table.measured.runs;
    let server =
        runs.iter().find_map(|(_, summary)| summary.runs.first()).map_or("", |figures| &figures.server);
    let mut page = String::new();
    let _ = write!(
        page,
        "<!doctype html><meta charset=utf-8><title>Amends, measured</title><style>{STYLE}</style>\
         <h1>Amends, measured</h1><p>{}; {}<br>{}, commit {}: <code>bench {}</code></p>\
         <table><tr><th>measure<th>goal<th>measured<th></tr>",
        escaped(&provenance.machine),
        escaped(server),
        escaped(&provenance.date),
        escaped(&provenance.commit),
        escaped(&provenance.command.join(" ")),
    );
    for row in &table.rows {
        let class = if row.verdict == Verdict::Missed { "missed" } else { "met" };
        let _ = write!(
            page,
            "<tr><td>{}<td>{}<td>{}<td class={class}>{}</tr>",
            escaped(row.measure),
            escaped(row.goal),
            escaped(&row.measured),
            row.verdict.as_str(),
        );
    }
    page.push_str("</table><p>The auditor found 0 violations after each run.</p><h2>What an order cost</h2>");
    costs(&mut page, runs);
    if let Some(name) = flame.and_then(Path::file_name) {
        let name = escaped(&name.to_string_lossy());
        let _ = write!(
            page,
            "<h2>Where the time goes</h2><object data=\"{name}\" type=image/svg+xml width=1200></object>"
        );
    }
    page.push_str("<h2>Latency by share of orders</h2>");
    let longest = longest(runs);
    for (name, summary) in runs {
        for figures in &summary.runs {
            let _ = write!(
                page,
                "<figure>{}<figcaption>{}: {}, {:.0}/s</figcaption></figure>",
                drawn(figures, longest),
                escaped(name),
                escaped(&figures.answers.pace),
                figures.answers.per_second
            );
        }
    }
    page
}

/// Middle of each figure, and the rate's least and most.
fn costs(page: &mut String, runs: &[(&str, Summary)]) {
    page.push_str("<table><tr><th>run");
    for head in [
        "orders/s",
        "least",
        "most",
        "p50 ms",
        "p99 ms",
        "p99.9 ms",
        "CPU µs: load",
        "Amends",
        "Postgres",
        "commits",
        "that write",
        "rows inserted",
        "updated",
        "deleted",
        "WAL KB",
        "messages",
        "exchanges",
        "MiB",
    ] {
        let _ = write!(page, "<th class=n>{head}");
    }
    for (name, summary) in runs {
        let _ = write!(page, "</tr><tr><td>{}", escaped(name));
        let (least, middle, most) = summary.per_second;
        let cost = |what: fn(&Figures) -> f64| summary.range(what).1;
        for (figure, digits) in [
            (middle, 0),
            (least, 0),
            (most, 0),
            (summary.p50_ms.1, 1),
            (summary.p99_ms.1, 1),
            (summary.p999_ms.1, 1),
            (cost(|figures| figures.cost.load_us), 0),
            (cost(|figures| figures.cost.subject_us), 0),
            (cost(|figures| figures.cost.postgres_us), 0),
            (cost(|figures| figures.cost.commits), 2),
            (cost(|figures| figures.cost.durable_commits), 2),
            (cost(|figures| figures.cost.rows_inserted), 1),
            (cost(|figures| figures.cost.rows_updated), 1),
            (cost(|figures| figures.cost.rows_deleted), 1),
            (cost(|figures| figures.cost.wal_bytes / 1024.0), 1),
            (cost(|figures| figures.cost.messages), 2),
            (cost(|figures| figures.cost.exchanges.unwrap_or_default()), 2),
            (cost(|figures| figures.cost.subject_mib), 0),
        ] {
            let _ = write!(page, "<td class=n>{figure:.digits$}");
        }
    }
    page.push_str("</tr></table>");
}

const WIDTH: f64 = 340.0;
const HEIGHT: f64 = 170.0;
/// Where the scale of latencies begins, milliseconds.
const SHORTEST: f64 = 0.5;

/// A power of ten that no latency is above, milliseconds: the same scale for all, so that they can be compared.
fn longest(runs: &[(&str, Summary)]) -> f64 {
    let all = runs.iter().flat_map(|(_, summary)| &summary.runs);
    let longest = all.flat_map(|figures| &figures.answers.curve).map(|(_, ms)| *ms).fold(10.0, f64::max);
    10_f64.powf(longest.log10().ceil())
}

/// Milliseconds (logarithmic) over 1 − share (logarithmic, to one in ten thousand).
fn drawn(figures: &Figures, longest: f64) -> String {
    let x = |quantile: f64| (1.0 - quantile).max(1e-4).log10() / -4.0 * (WIDTH - 50.0) + 40.0;
    let decades = (longest / SHORTEST).log10();
    let y = |ms: f64| {
        HEIGHT - 20.0 - (ms.clamp(SHORTEST, longest) / SHORTEST).log10() / decades * (HEIGHT - 30.0)
    };
    let mut svg = format!("<svg width={WIDTH} height={HEIGHT} role=img>");
    for ms in std::iter::successors(Some(1.0), |ms| Some(ms * 10.0)).take_while(|ms| *ms <= longest) {
        let at = y(ms);
        let _ = write!(
            svg,
            "<line x1=40 x2={WIDTH} y1={at:.1} y2={at:.1} stroke=#ddd /><text x=2 y={:.1} font-size=9>{ms} ms</text>",
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        report::{Provenance, tests::figures},
        table::Measured,
    };

    #[test]
    fn the_page_has_every_row_every_run_and_no_latency_beyond_its_scale() {
        let mut run = figures(1234.0, 7000.0);
        run.answers.curve = vec![(0.5, 3.0), (0.999, 7000.0)];
        run.answers.pace = "closed, 1 <in> flight".into();
        let runs = vec![("embedded", Summary::of(vec![run.clone(), run]))];
        assert!((longest(&runs) - 10_000.0).abs() < 1e-6);
        let measured = Measured { runs, start_s: 0.3, outage: None, take_over: None, growth: None };
        let report = Report { provenance: Provenance::now(), of: Table::of(measured) };
        let page = of(&report, Some(Path::new("docs/flame.svg")));
        assert_eq!(page.matches("<figure>").count(), 2);
        assert!(page.contains("<td class=n>1234<td class=n>1234"), "{page}");
        assert!(page.contains("10000 ms") && page.contains("data=\"flame.svg\""));
        assert!(page.contains("1 &lt;in&gt; flight"));
        assert!(report.of.rows.iter().all(|row| page.contains(&escaped(row.measure))));
    }
}
