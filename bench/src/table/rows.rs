//! Line by line: what is asked, and what was measured.

use super::{Measured, Row, Verdict, run};
use crate::report::Summary;

/// What the goals of an outage are about; with fewer it is only reported.
const CROWD: usize = 100_000;

/// What the goal of growing tables is about; fewer can miss it, not meet it.
const MANY: i64 = 10_000_000;

/// MiB to MB.
const MB: f64 = 1.048_576;

/// Every line of the goals, also where nothing was measured.
pub(super) fn of(measured: &Measured) -> Vec<Row> {
    let mut rows = Vec::new();
    if let Some(baseline) = measured.of(run::BASELINE) {
        rows.push(Row::reported("hand-written baseline", rate(baseline)));
    }
    if let Some(single) = measured.of(run::BASELINE_ALONE) {
        let text = format!("p50 {}, p99 {}", ms(single.p50_ms), ms(single.p99_ms));
        rows.push(Row::reported("hand-written baseline, one order alone", text));
    }
    rows.extend(by_baseline(
        measured,
        "embedded, 512 in flight, 2 % declined",
        "4 × the baseline (2.5 ×)",
        (run::EMBEDDED, run::BASELINE),
        (4.0, 2.5),
    ));
    rows.extend(stack(measured));
    rows.extend(alone(
        measured,
        "one order alone, embedded",
        "p50 3 ms (4), p99 10 ms",
        run::ALONE,
        [3.0, 4.0, 10.0],
    ));
    rows.extend(half(measured));
    rows.extend(by_baseline(
        measured,
        "all declined: every saga compensates",
        "1 × the baseline completing",
        (run::DECLINED, run::BASELINE),
        (1.0, 1.0),
    ));
    rows.extend(spreads(measured));
    rows.extend(outage(measured));
    rows.extend(take_over(measured));
    rows.extend(costs(measured));
    rows.push(growth(measured));
    rows.push(Row::new(
        "start of `amends up` on an existing folder",
        "1.5 s",
        format!("{:.2} s", measured.start_s),
        Verdict::below(measured.start_s, 1.5, 1.5),
    ));
    rows
}

/// The middle, and from where to where.
fn rate(summary: &Summary) -> String {
    let (least, middle, most) = summary.per_second;
    match summary.runs.len() {
        1 => format!("{middle:.0}/s"),
        _ => format!("{middle:.0}/s ({least:.0} to {most:.0})"),
    }
}

fn ms((least, middle, most): (f64, f64, f64)) -> String {
    if least < most { format!("{middle:.1} ms ({least:.1} to {most:.1})") } else { format!("{middle:.1} ms") }
}

fn by_baseline(
    measured: &Measured,
    measure: &'static str,
    goal: &'static str,
    (name, baseline): (&str, &str),
    (whole, least): (f64, f64),
) -> Option<Row> {
    let ratio = measured.ratio(name, baseline)?;
    let text = format!("{}, {ratio:.2} ×", rate(measured.of(name)?));
    Some(Row::new(measure, goal, text, Verdict::above(ratio, whole, least)))
}

fn alone(
    measured: &Measured,
    measure: &'static str,
    goal: &'static str,
    name: &str,
    [p50, at_least, p99]: [f64; 3],
) -> Option<Row> {
    let alone = measured.of(name)?;
    let text = format!("p50 {}, p99 {}", ms(alone.p50_ms), ms(alone.p99_ms));
    let verdict =
        Verdict::below(alone.p50_ms.1, p50, at_least).worse(Verdict::below(alone.p99_ms.1, p99, p99));
    Some(Row::new(measure, goal, text, verdict))
}

fn stack(measured: &Measured) -> Vec<Row> {
    let by_hand = "hand-written baseline, beside an idle stack";
    let many = ("a stack: processes, TCP, RabbitMQ, Redis", "2 × that baseline (1.3 ×)");
    let single = ("one order alone, stack", "p50 5 ms (7), p99 15 ms");
    let two = ("two orchestrators against one", "0.85 ×");
    let rows = || {
        let of_two = measured.of(run::STACK_TWO)?;
        let ratio = measured.ratio(run::STACK_TWO, run::STACK)?;
        Some(vec![
            Row::reported(by_hand, rate(measured.of(run::STACK_BASELINE)?)),
            by_baseline(measured, many.0, many.1, (run::STACK, run::STACK_BASELINE), (2.0, 1.3))?,
            alone(measured, single.0, single.1, run::STACK_ALONE, [5.0, 7.0, 15.0])?,
            Row::new(
                two.0,
                two.1,
                format!("{}, {ratio:.2} ×", rate(of_two)),
                Verdict::above(ratio, 0.85, 0.85),
            ),
        ])
    };
    let none = |(measure, goal)| Row::not_measured(measure, goal, "without --quick and --no-stack");
    rows().unwrap_or_else(|| [many, single, two].map(none).to_vec())
}

fn half(measured: &Measured) -> Option<Row> {
    let half = measured.of(run::HALF)?;
    let (p99, p999) = (half.p99_ms.1, half.p999_ms.1);
    let dropped: u64 = half.runs.iter().map(|run| run.answers.dropped).sum();
    Some(Row::new(
        "half the rate, open loop",
        "p99 50 ms, p99.9 150 ms",
        format!("{:.0}/s: p99 {}, p99.9 {p999:.1} ms, {dropped} dropped", half.per_second.1, ms(half.p99_ms)),
        Verdict::below(p99, 50.0, 50.0).worse(Verdict::below(p999, 150.0, 150.0)),
    ))
}

fn spreads(measured: &Measured) -> Vec<Row> {
    let rows = [
        (run::HOT, "one good, one merchant", "0.8 × the uniform rate"),
        (run::ZIPF_1, "goods and merchants by Zipf 1.0", ""),
        (run::ZIPF_2, "goods and merchants by Zipf 2.0", ""),
    ];
    let row = |(name, measure, goal): (&str, &'static str, &'static str)| {
        let share = measured.ratio(name, run::EMBEDDED)?;
        let verdict = if goal.is_empty() { Verdict::Reported } else { Verdict::above(share, 0.8, 0.8) };
        Some(Row::new(measure, goal, format!("{}, {share:.2} ×", rate(measured.of(name)?)), verdict))
    };
    rows.into_iter().filter_map(row).collect()
}

fn outage(measured: &Measured) -> Vec<Row> {
    let caught = ("100,000 due after an outage: caught up", "0.7 × the uniform rate");
    let fresh = ("fresh orders' p99 meanwhile", "within 3 ×");
    let memory = ("memory with 100,000 waiting sagas", "300 MB");
    let (Some(outage), Some(usual)) = (&measured.outage, measured.of(run::EMBEDDED)) else {
        return [caught, fresh, memory]
            .map(|(measure, goal)| Row::not_measured(measure, goal, "without --quick"))
            .to_vec();
    };
    let share = outage.caught_up_per_second / usual.per_second.1.max(f64::EPSILON);
    let by_rate = outage.fresh_p99_ms / usual.p99_ms.1.max(f64::EPSILON);
    let by_idle = outage.fresh_p99_ms / outage.usual_p99_ms.max(f64::EPSILON);
    let mb = outage.waiting_mib * MB;
    let of_a_crowd = |verdict| if outage.orders < CROWD { Verdict::Reported } else { verdict };
    vec![
        Row::new(
            caught.0,
            caught.1,
            format!(
                "{} in {:.1} s, {:.0}/s, {share:.2} × (away {:.0} s, went on {:.1} s later)",
                outage.orders,
                outage.caught_up_s,
                outage.caught_up_per_second,
                outage.away_s,
                outage.went_on_s
            ),
            of_a_crowd(Verdict::above(share, 0.7, 0.7)),
        ),
        Row::new(
            fresh.0,
            fresh.1,
            format!(
                "{:.0} ms: {by_rate:.1} × that at full rate, {by_idle:.1} × that of 50/s",
                outage.fresh_p99_ms
            ),
            of_a_crowd(Verdict::below(by_rate, 3.0, 3.0)),
        ),
        Row::new(
            memory.0,
            memory.1,
            format!("{mb:.0} MB with {}", outage.orders),
            of_a_crowd(Verdict::below(mb, 300.0, 300.0)),
        ),
    ]
}

fn take_over(measured: &Measured) -> Vec<Row> {
    let moving = ("taking over the sagas of a killed process", "all moving within 2 s");
    let ready = ("start with 10,000 unfinished sagas", "4 s");
    let Some(taken) = &measured.take_over else {
        return [moving, ready]
            .map(|(measure, goal)| Row::not_measured(measure, goal, "without --quick"))
            .to_vec();
    };
    vec![
        Row::new(
            moving.0,
            moving.1,
            format!(
                "{}: the first after {:.2} s, the last {:.2} s",
                taken.orders, taken.first_s, taken.last_s
            ),
            Verdict::below(taken.last_s, 2.0, 2.0),
        ),
        Row::new(
            ready.0,
            ready.1,
            format!("{:.2} s", taken.ready_s),
            Verdict::below(taken.ready_s, 4.0, 4.0),
        ),
    ]
}

fn costs(measured: &Measured) -> Vec<Row> {
    let mut rows = Vec::new();
    if let Some(happy) = measured.of(run::HAPPY_512) {
        let middle = |what: fn(&crate::meter::Cost) -> f64| happy.range(|figures| what(&figures.cost)).1;
        let (inserted, updated) = (middle(|cost| cost.rows_inserted), middle(|cost| cost.rows_updated));
        let written = middle(|cost| cost.rows_inserted + cost.rows_updated);
        rows.push(Row::new(
            "rows written for a happy order",
            "22",
            format!(
                "{written:.1} ({inserted:.1} inserted, {updated:.1} updated), {:.1} deleted",
                middle(|cost| cost.rows_deleted)
            ),
            Verdict::below(written, 22.0, 22.0),
        ));
        let durable = middle(|cost| cost.durable_commits);
        rows.push(Row::new(
            "durable commits for a happy order, 512",
            "0.3",
            format!("{durable:.2} ({:.2} with what only reads)", middle(|cost| cost.commits)),
            Verdict::below(durable, 0.3, 0.3),
        ));
        rows.push(Row::reported(
            "CPU, WAL, messages, exchanges, memory",
            format!(
                "{:.0} + {:.0} + {:.0} µs (load, Amends, Postgres), {:.1} KB, {:.2}, {:.2}, {:.0} MiB",
                middle(|cost| cost.load_us),
                middle(|cost| cost.subject_us),
                middle(|cost| cost.postgres_us),
                middle(|cost| cost.wal_bytes) / 1024.0,
                middle(|cost| cost.messages),
                middle(|cost| cost.exchanges.unwrap_or_default()),
                middle(|cost| cost.subject_mib)
            ),
        ));
    }
    if let Some(happy) = measured.of(run::HAPPY_256) {
        let durable = happy.range(|figures| figures.cost.durable_commits).1;
        rows.push(Row::new(
            "durable commits for a happy order, 256",
            "0.6",
            format!(
                "{durable:.2} ({:.2} with what only reads)",
                happy.range(|figures| figures.cost.commits).1
            ),
            Verdict::below(durable, 0.6, 0.6),
        ));
    }
    rows
}

fn growth(measured: &Measured) -> Row {
    let (measure, goal) = ("cost as data grows, to 10,000,000 orders", "rate and p99 within 1.15 ×");
    let Some(growth) = &measured.growth else {
        return Row::not_measured(measure, goal, "without --quick");
    };
    let slower = growth.empty.0 / growth.full.0.max(f64::EPSILON);
    let later = growth.full.1 / growth.empty.1.max(f64::EPSILON);
    let verdict = match Verdict::below(slower.max(later), 1.15, 1.15) {
        // What more would cost it does not say.
        Verdict::Met if growth.orders < MANY => Verdict::Reported,
        verdict => verdict,
    };
    Row::new(
        measure,
        goal,
        format!(
            "{} finished, not {}: {:.0}/s, not {:.0} ({:.2} ×), p99 {:.0} ms, not {:.0} ({later:.2} ×)",
            growth.orders,
            growth.first,
            growth.full.0,
            growth.empty.0,
            1.0 / slower.max(f64::EPSILON),
            growth.full.1,
            growth.empty.1
        ),
        verdict,
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        growth::Growth,
        ordeal::{Outage, TakeOver},
        report::{Figures, tests::figures},
    };

    fn summary(runs: [(f64, f64); 3]) -> Summary {
        Summary::of(runs.map(|(per_second, p99_ms)| figures(per_second, p99_ms)).to_vec())
    }

    fn measured() -> Measured {
        let alone = |p50_ms| {
            let run = figures(100.0, 9.0);
            Figures { answers: load::Answers { p50_ms, ..run.answers }, ..run }
        };
        Measured {
            runs: vec![
                (run::BASELINE, summary([(1000.0, 90.0), (900.0, 90.0), (1100.0, 90.0)])),
                (run::EMBEDDED, summary([(3000.0, 200.0), (2000.0, 210.0), (2600.0, 190.0)])),
                (run::ALONE, Summary::of(vec![alone(3.5)])),
                (run::HOT, summary([(2000.0, 1.0), (2000.0, 1.0), (2000.0, 1.0)])),
            ],
            start_s: 0.3,
            outage: None,
            take_over: None,
            growth: None,
        }
    }

    fn row(measured: &Measured, measure: &str) -> (String, Verdict) {
        let rows = of(measured);
        let row = rows.iter().find(|row| row.measure.starts_with(measure)).unwrap();
        (row.measured.clone(), row.verdict)
    }

    #[test]
    fn a_row_has_the_middle_of_its_runs_and_the_ratio_to_what_ran_in_turn() {
        let measured = measured();
        assert_eq!(row(&measured, "embedded"), ("2600/s (2000 to 3000), 2.60 ×".into(), Verdict::AtLeast));
        assert_eq!(row(&measured, "one good"), ("2000/s (2000 to 2000), 0.77 ×".into(), Verdict::Missed));
        assert_eq!(
            row(&measured, "one order alone, embedded"),
            ("p50 3.5 ms, p99 9.0 ms".into(), Verdict::AtLeast)
        );
    }

    #[test]
    fn what_was_not_measured_says_what_would() {
        let measured = measured();
        for (measure, by) in [
            ("a stack", "--no-stack"),
            ("one order alone, stack", "--no-stack"),
            ("two orchestrators", "--no-stack"),
            ("100,000 due after an outage", "--quick"),
            ("memory", "--quick"),
            ("taking over", "--quick"),
            ("cost as data grows", "--quick"),
        ] {
            let (text, verdict) = row(&measured, measure);
            assert!(text.starts_with("not measured") && text.contains(by), "{measure}: {text}");
            assert_eq!(verdict, Verdict::Reported);
        }
    }

    #[test]
    fn an_outage_is_held_against_the_usual_rate() {
        let outage = Outage {
            orders: 100_000,
            away_s: 600.0,
            created_per_second: 2500.0,
            waiting_mib: 290.0,
            waiting_cores: 0.1,
            went_on_s: 8.0,
            caught_up_s: 40.0,
            caught_up_per_second: 2500.0,
            usual_p99_ms: 20.0,
            fresh_p99_ms: 500.0,
        };
        let take_over = TakeOver { orders: 10_000, ready_s: 0.2, first_s: 0.4, last_s: 2.2, ended_s: 4.0 };
        let fewer = Outage { orders: 99_999, ..outage.clone() };
        let fewer = Measured { outage: Some(fewer), ..measured() };
        assert_eq!(row(&fewer, "memory").1, Verdict::Reported);
        let measured = Measured { outage: Some(outage), take_over: Some(take_over), ..measured() };
        assert_eq!(row(&measured, "100,000 due").1, Verdict::Met);
        let (text, verdict) = row(&measured, "fresh orders");
        assert_eq!(
            (text.as_str(), verdict),
            ("500 ms: 2.5 × that at full rate, 25.0 × that of 50/s", Verdict::Met)
        );
        assert_eq!(row(&measured, "memory"), ("304 MB with 100000".into(), Verdict::Missed));
        assert_eq!(row(&measured, "taking over").1, Verdict::Missed);
        assert_eq!(row(&measured, "start with").1, Verdict::Met);
    }

    #[test]
    fn a_stack_is_held_against_the_baseline_beside_it() {
        let mut measured = measured();
        measured.runs.extend([
            (run::STACK_BASELINE, summary([(800.0, 90.0), (900.0, 90.0), (850.0, 90.0)])),
            (run::STACK, summary([(1275.0, 300.0), (1200.0, 300.0), (1300.0, 300.0)])),
            (run::STACK_ALONE, summary([(90.0, 14.0), (90.0, 14.0), (90.0, 14.0)])),
            (run::STACK_TWO, summary([(1000.0, 300.0), (1000.0, 300.0), (1000.0, 300.0)])),
        ]);
        assert_eq!(row(&measured, "a stack"), ("1275/s (1200 to 1300), 1.50 ×".into(), Verdict::AtLeast));
        assert_eq!(
            row(&measured, "two orchestrators"),
            ("1000/s (1000 to 1000), 0.78 ×".into(), Verdict::Missed)
        );
        assert_eq!(row(&measured, "hand-written baseline, beside").0, "850/s (800 to 900)");
        assert_eq!(of(&measured).iter().filter(|row| row.measured.contains("--no-stack")).count(), 0);
    }

    #[test]
    fn fewer_orders_than_the_goal_names_can_only_miss_it() {
        let grown = |orders, rate, p99_ms| {
            let growth = Growth {
                first: 5_000,
                orders,
                empty: (2000.0, 300.0),
                full: (rate, p99_ms),
                wal_kb: (11.0, 11.0),
                disk_kb: 9.0,
            };
            row(&Measured { growth: Some(growth), ..measured() }, "cost as data grows")
        };
        let (text, verdict) = grown(100_000, 1900.0, 310.0);
        assert_eq!(
            text,
            "100000 finished, not 5000: 1900/s, not 2000 (0.95 ×), p99 310 ms, not 300 (1.03 ×)"
        );
        assert_eq!(verdict, Verdict::Reported);
        assert_eq!(grown(10_000_000, 1900.0, 310.0).1, Verdict::Met);
        assert_eq!(grown(100_000, 1700.0, 310.0).1, Verdict::Missed);
        assert_eq!(grown(100_000, 1900.0, 350.0).1, Verdict::Missed);
    }
}
