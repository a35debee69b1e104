//! Reads what the processes count: how many probes a half-open breaker let out at once.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::sync::watch;

use super::site::Site;

/// The most probes at once, by process and callee.
#[derive(Clone, Default)]
pub(super) struct Scrape {
    probes: Arc<Mutex<BTreeMap<String, u32>>>,
}

impl Scrape {
    /// Looks every two seconds until it is told to stop. What a process counted since, and is killed, is lost.
    #[must_use]
    pub(super) fn start(site: &Arc<Site>, mut stopped: watch::Receiver<bool>) -> Self {
        let scrape = Self::default();
        let (site, seen) = (Arc::downgrade(site), scrape.clone());
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    () = tokio::time::sleep(Duration::from_secs(2)) => {}
                    _ = stopped.wait_for(|stopped| *stopped) => return,
                }
                let Some(site) = site.upgrade() else { return };
                for member in site.members() {
                    let text = site.metrics(member).await.unwrap_or_default();
                    for (callee, most) in values(&text, "amends_breaker_probes_most", "callee") {
                        seen.note(&format!("{member} to {callee}"), most as u32);
                    }
                }
            }
        });
        scrape
    }

    fn note(&self, which: &str, most: u32) {
        let mut probes = self.probes.lock().unwrap_or_else(PoisonError::into_inner);
        let before = probes.entry(which.to_owned()).or_default();
        *before = most.max(*before);
    }

    /// What was seen.
    #[must_use]
    pub(super) fn probes(&self) -> BTreeMap<String, u32> {
        self.probes.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// The values of a metric, by one of its labels.
pub(super) fn values(text: &str, metric: &str, label: &str) -> Vec<(String, f64)> {
    text.lines()
        .filter_map(|line| {
            let rest = line.strip_prefix(metric)?.strip_prefix('{')?;
            let (labels, value) = rest.rsplit_once('}')?;
            let named = labels.split(',').find_map(|pair| pair.strip_prefix(label)?.strip_prefix('='))?;
            Some((named.trim_matches('"').to_owned(), value.trim().parse().ok()?))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::values;

    #[test]
    fn a_metric_is_read_by_its_label() {
        let text =
            "# HELP x\namends_x{callee=\"risk\",step=\"screen\"} 3\namends_x_total{callee=\"risk\"} 9\n";
        assert_eq!(values(text, "amends_x", "callee"), [("risk".to_owned(), 3.0)]);
        assert_eq!(values(text, "amends_x", "step"), [("screen".to_owned(), 3.0)]);
    }
}
