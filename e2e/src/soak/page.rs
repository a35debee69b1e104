//! The report as a page that needs nothing else: what a person reads first, and the picture of the run.

use std::fmt::Write as _;

use super::{
    outage,
    report::{Point, Promise, Report, Verdict},
};

const STYLE: &str = "body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#222}\
table{border-collapse:collapse;width:100%;margin:.5rem 0 1.5rem}td,th{text-align:left;padding:.2rem .6rem;\
border-bottom:1px solid #ddd;vertical-align:top}.n{text-align:right;font-variant-numeric:tabular-nums}\
.kept{color:#176b2c}.missed{color:#a31515;font-weight:bold}.void{color:#8a6d00}svg{width:100%;height:auto}\
small{color:#666}";

const WIDTH: f64 = 1000.0;
const HEIGHT: f64 = 220.0;

/// The page.
pub(super) fn of(report: &Report) -> String {
    let mut page = format!(
        "<!doctype html><html lang=en><meta charset=utf-8><title>Amends: soak</title><style>{STYLE}</style>\
         <h1>Soak, {:.0} minutes, seed {}</h1>",
        report.minutes, report.seed
    );
    let verdict = if report.passed() {
        "<p class=kept>Nothing lost, nothing doubled; every promise that was measured was kept."
    } else {
        "<p class=missed>Failed:"
    };
    page.push_str(verdict);
    list(&mut page, &report.failures);
    let _ = write!(
        page,
        "<p>{} orders acknowledged, {} a second of {} that were sent, in a {} build. Times of plain orders: half within \
         {} ms, 99 % within {} ms, 99.9 % within {} ms, with everything that broke meanwhile.",
        report.acknowledged,
        report.orders_per_second_held,
        report.orders_per_second_planned,
        report.build,
        report.plain_ms[0],
        report.plain_ms[1],
        report.plain_ms[2]
    );
    promises(&mut page, &report.promises);
    picture(&mut page, report);
    audit(&mut page, report);
    page.push_str("<h2>What was broken</h2><table><tr><th>fault<th class=n>occurred<th class=n>needed");
    for faults in &report.faults {
        row(&mut page, faults.words, &[faults.occurred.to_string(), faults.needed.to_string()]);
    }
    page.push_str("</table><h2>What orders came to</h2><table><tr><th>kind and end<th class=n>orders");
    counts(&mut page, &report.ends);
    page.push_str(
        "</table><h2>Kills</h2><table><tr><th>process<th class=n>kills<th class=n>serving again after, half \
                   of them<th class=n>longest",
    );
    for (member, kills) in &report.kills {
        let [half, longest] = report.serving_ms.get(member).copied().unwrap_or_default();
        row(&mut page, member, &[kills.to_string(), format!("{half} ms"), format!("{longest} ms")]);
    }
    page.push_str("</table><h2>Calls that customers repeated</h2><table>");
    counts(&mut page, &report.calls_repeated);
    page.push_str("</table><h2>Where</h2><table>");
    for (name, value) in report.versions.iter().chain(&report.machine) {
        row(&mut page, name, &[escape(value)]);
    }
    page.push_str("</table></html>\n");
    page
}

/// The page of an outage.
pub(super) fn of_outage(report: &outage::Report) -> String {
    let mut page = format!(
        "<!doctype html><html lang=en><meta charset=utf-8><title>Amends: an outage</title><style>{STYLE}</style>\
         <h1>payment-svc away for {:.1} minutes</h1><p>{} orders a second; {} waited when it came back ({} build). \
         {:.3} calls for each that was concluded before, {:.3} while the backlog drained, which took {}.",
        report.minutes_away,
        report.orders_per_second,
        report.waiting,
        report.build,
        report.calls_before,
        report.calls_after,
        report.drained_s.map_or_else(|| "too long".to_owned(), |s| format!("{s:.0} s"))
    );
    list(&mut page, &report.failures);
    promises(&mut page, &report.promises);
    page.push_str("</html>\n");
    page
}

fn list(page: &mut String, lines: &[String]) {
    if lines.is_empty() {
        return;
    }
    page.push_str("<ul>");
    for line in lines {
        let _ = write!(page, "<li>{}", escape(line));
    }
    page.push_str("</ul>");
}

fn promises(page: &mut String, promises: &[Promise]) {
    page.push_str("<h2>Promises</h2><table><tr><th>promise<th>target<th>measured<th>verdict");
    for promise in promises {
        let (class, word) = match promise.verdict {
            Verdict::Kept => ("kept", "kept"),
            Verdict::Missed => ("missed", "missed"),
            Verdict::Overloaded => ("void", "missed in a short run on an overloaded machine"),
            Verdict::Unmeasured => ("void", "not measured"),
        };
        let _ = write!(
            page,
            "<tr><td>{}<td>{}<td>{}<td class={class}>{word}",
            escape(promise.promise),
            escape(&promise.target),
            escape(&promise.measured)
        );
    }
    page.push_str("</table>");
}

fn audit(page: &mut String, report: &Report) {
    page.push_str("<h2>The auditor</h2><table><tr><th>invariant<th class=n>judged<th class=n>violations");
    for judged in report.audit.iter().flat_map(|audit| &audit.invariants) {
        let name = format!("{} {}", judged.id, judged.sentence);
        row(page, &name, &[judged.checked.to_string(), judged.violations.total.to_string()]);
    }
    page.push_str("</table>");
}

/// Orders acknowledged and ended by time, and below it a line for each kind of fault.
fn picture(page: &mut String, report: &Report) {
    let end = report.points.last().map_or(1.0, |point| f64::from(point.at_s)).max(1.0);
    let most =
        report.points.iter().flat_map(|p| [p.acknowledged, p.ended.unwrap_or(0.0)]).fold(1.0, f64::max);
    let x = |at: f64| at / end * WIDTH;
    let y = |rate: f64| HEIGHT - rate.clamp(0.0, most) / most * HEIGHT;
    let rows = report.faults.len() as f64;
    let _ = write!(
        page,
        "<h2>The run</h2><p><small>Orders a second: acknowledged (blue), ended (green; gaps where the database was away), \
         at most {most:.0}. Below: faults, a line for each kind, as in the table.</small>\
         <svg viewBox='0 0 {WIDTH} {}' role=img aria-label='orders a second, and faults'>",
        HEIGHT + rows * 9.0 + 12.0
    );
    line(page, &report.points, "#2b6cb0", |point| Some(point.acknowledged), &x, &y);
    line(page, &report.points, "#2f855a", |point| point.ended, &x, &y);
    for (place, faults) in report.faults.iter().enumerate() {
        let top = HEIGHT + 8.0 + place as f64 * 9.0;
        for (_, target, from, to, _) in report.history.iter().filter(|one| one.0 == faults.kind) {
            let _ = write!(
                page,
                "<rect x={:.1} y={top:.0} width={:.1} height=7 fill=#c05621><title>{}: {}, {from} to {to} s</title></rect>",
                x(*from),
                (x(*to) - x(*from)).max(1.5),
                faults.words,
                escape(target)
            );
        }
    }
    page.push_str("</svg>");
}

fn line(
    page: &mut String,
    points: &[Point],
    colour: &str,
    value: impl Fn(&Point) -> Option<f64>,
    x: &impl Fn(f64) -> f64,
    y: &impl Fn(f64) -> f64,
) {
    let mut path = String::new();
    let mut word = 'M';
    for point in points {
        match value(point) {
            Some(value) => {
                let _ = write!(path, "{word}{:.1} {:.1}", x(f64::from(point.at_s)), y(value));
                word = 'L';
            }
            None => word = 'M',
        }
    }
    let _ = write!(page, "<path d='{path}' fill=none stroke={colour} stroke-width=1.5 />");
}

fn counts(page: &mut String, counts: &std::collections::BTreeMap<String, usize>) {
    for (name, count) in counts {
        row(page, name, &[count.to_string()]);
    }
}

fn row(page: &mut String, name: &str, cells: &[String]) {
    let _ = write!(page, "<tr><td>{}", escape(name));
    for cell in cells {
        let _ = write!(page, "<td class=n>{cell}");
    }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('\'', "&#39;")
}
