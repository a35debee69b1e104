//! Every metric of the auditor, once. Labels are invariants, currencies and results: closed sets, never ids.

use std::{collections::BTreeSet, sync::Mutex, time::Duration};

use metrics::{counter, gauge};

use crate::audit::{Invariant, Report};

/// Currencies that were shown: one with nothing at risk any more goes back to zero.
static SHOWN: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());

/// Whether this is the auditor at work, or one that stands by.
pub(super) fn turn(is_mine: bool) {
    gauge!("amends_audit_at_work").set(if is_mine { 1.0 } else { 0.0 });
}

/// A run ended like this.
pub(super) fn ran(result: &'static str) {
    counter!("amends_audit_runs_total", "result" => result).increment(1);
}

/// What a report found.
pub(super) fn show(report: &Report, is_whole: bool, took: Duration) {
    let is_judged = |id: &str| is_whole || id != Invariant::I11.id();
    for judged in report.invariants.iter().filter(|judged| is_judged(judged.id)) {
        gauge!("amends_audit_violations", "invariant" => judged.id)
            .set(number(judged.violations.total.into()));
    }
    let figures = &report.figures;
    gauge!("amends_audit_units_held").set(number(figures.units_held.into()));
    gauge!("amends_audit_open_sagas").set(number(figures.open_sagas.into()));
    gauge!("amends_audit_oldest_open_saga_seconds").set(number(figures.oldest_open_saga_seconds.into()));
    let mut shown = SHOWN.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    shown.extend(figures.money_at_risk_minor_units.keys().cloned());
    for currency in shown.iter() {
        let money = figures.money_at_risk_minor_units.get(currency).copied().unwrap_or_default();
        gauge!("amends_audit_money_at_risk_minor_units", "currency" => currency.clone()).set(number(money));
    }
    gauge!("amends_audit_last_run_duration_seconds").set(took.as_secs_f64());
    gauge!("amends_audit_last_run_time_seconds").set(number(chassis::clock::now().timestamp().into()));
}

/// What was shown is another's to say now.
pub(super) fn forget() {
    for invariant in Invariant::ALL {
        gauge!("amends_audit_violations", "invariant" => invariant.id()).set(0.0);
    }
    for name in
        ["amends_audit_units_held", "amends_audit_open_sagas", "amends_audit_oldest_open_saga_seconds"]
    {
        gauge!(name).set(0.0);
    }
    for currency in SHOWN.lock().unwrap_or_else(std::sync::PoisonError::into_inner).iter() {
        gauge!("amends_audit_money_at_risk_minor_units", "currency" => currency.clone()).set(0.0);
    }
}

#[expect(clippy::cast_precision_loss, reason = "as metrics are")]
const fn number(number: i128) -> f64 {
    number as f64
}
