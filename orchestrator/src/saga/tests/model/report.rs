//! What a run says: how much it saw, and how it came to anything that it should not have seen.

use std::{collections::BTreeMap, time::Duration};

use stateright::{
    Checker, Expectation, HasDiscoveries, Model as _,
    report::{ReportData, ReportDiscovery, Reporter},
};

use super::bounds::Model;

/// Between two lines about a run that goes on.
const PAUSE: Duration = Duration::from_secs(30);

/// One line every so often, and one at the end.
struct Line {
    name: &'static str,
    /// When the next is due.
    due: Duration,
}

impl Reporter<Model> for Line {
    fn report_checking(&mut self, data: ReportData) {
        let ReportData { total_states, unique_states, max_depth, duration, done } = data;
        if !done && duration < self.due {
            return;
        }
        self.due = duration + PAUSE;
        let (name, seconds) = (self.name, duration.as_secs());
        let verb = if done { "explored" } else { "exploring" };
        eprintln!(
            "model {name}: {verb} {unique_states} states, {total_states} transitions, depth {max_depth}, {seconds} s"
        );
    }

    fn report_discoveries(&mut self, _: &Model, _: BTreeMap<&'static str, ReportDiscovery<Model>>) {}

    fn delay(&self) -> Duration {
        Duration::from_millis(100)
    }
}

/// Explores everything within its bounds. Every law holds, and every sight is seen.
pub(super) fn holds(model: Model, threads: usize) {
    let (name, budget) = (model.name, model.budget);
    // Depth first holds fewer worlds at a time. It ends early only when a law is broken.
    let checker = model.checker().threads(threads).finish_when(HasDiscoveries::AnyFailures);
    let checker = checker.spawn_dfs().join_and_report(&mut Line { name, due: PAUSE });
    let mut missing = Vec::new();
    for property in checker.model().properties() {
        match (property.expectation, checker.discovery(property.name)) {
            (Expectation::Always | Expectation::Eventually, Some(path)) => {
                panic!("{name}: not so: {}\n{:#?}", property.name, path.into_actions());
            }
            (Expectation::Sometimes, None) => missing.push(property.name),
            (Expectation::Always | Expectation::Eventually, None) | (Expectation::Sometimes, Some(_)) => {}
        }
    }
    assert!(missing.is_empty(), "{name}: never seen within {budget:?}: {missing:#?}");
}

/// The shortest way to break a law; none when all hold.
pub(super) fn broken(model: Model) -> Option<(&'static str, usize)> {
    let checker = model.checker().finish_when(HasDiscoveries::AnyFailures).spawn_bfs().join();
    let laws = checker.model().properties().into_iter().filter(|law| law.expectation == Expectation::Always);
    let mut broken = laws.filter_map(|law| {
        let path = checker.discovery(law.name)?;
        Some((law.name, path.into_actions().len()))
    });
    broken.next()
}
