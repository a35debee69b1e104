//! The process dies at every crash point: one order for each, and each order comes to the end that its kind may have.
//!
//! One data folder, one process after the other: while it recovers nothing is counted; then it is told to count (SIGUSR1),
//! an order is sent, and at the k-th point it aborts. A kind is through when an order ends before its point is reached.

use std::{path::Path, time::Duration};

use crate::{
    load::{Doors, Kind, Line, Shop},
    process::{self, Launch, Process, folder},
};

/// Which points.
#[derive(Debug, Clone)]
pub struct Run {
    /// Every so many.
    pub every: u64,
    /// From this one on.
    pub from: u64,
    pub kinds: Vec<Kind>,
}

/// As quick as a provider in doubt allows.
const FLAGS: [&str; 16] = [
    "--no-demo",
    "--payment-horizon",
    "2s",
    "--payment-patience",
    "400ms",
    "--payment-call-timeout",
    "700ms",
    "--payment-look",
    "200ms",
    "--simulator-slow",
    "1s",
    "--answer-after",
    "5s",
    "--risk-review-deadline",
    "5s",
    "--crash-at",
];

/// After the end of an order nothing of it is on its way any more.
const QUIET: Duration = Duration::from_millis(700);

async fn up(data: &Path, at: u64) -> (Process, std::path::PathBuf) {
    let bin = chassis::testbed::variable("AMENDS_TEST_POSTGRES_BIN");
    let (data_dir, at) = (data.display().to_string(), at.to_string());
    let fixed = ["up", "--grpc-listen", "127.0.0.1:0", "--http-listen", "127.0.0.1:0"];
    let places = ["--data-dir", &data_dir, "--postgres-bin", &bin];
    let arguments = [&fixed[..], &places, &FLAGS, &[at.as_str()]].concat();
    let log = data.join("said.log");
    let launch = Launch {
        arguments: arguments.into_iter().map(str::to_owned).collect(),
        log: Some(log.clone()),
        ..Launch::default()
    };
    (Process::launch(&launch).await.unwrap_or_else(|said| panic!("it does not start again:\n{said}")), log)
}

/// Runs it; the names of the points at which the process died, in their order.
///
/// # Panics
/// When a process ends otherwise, an order ends as its kind never may, or the auditor finds something.
pub async fn run(run: &Run, say: impl Fn(&str)) -> Vec<String> {
    let data = folder("crash");
    let (first, _) = up(&data, 0).await;
    Doors::all_at(&first.callee()).prepare().await.unwrap();
    first.terminate().await;
    let mut died = Vec::new();
    for kind in &run.kinds {
        let mut at = run.from;
        loop {
            let Some(point) = once(&data, *kind, at).await else { break };
            say(&format!("{kind:?} {at:>3}: {point}"));
            died.push(point);
            at += run.every;
        }
        assert!(at > run.from, "the run is void: {kind:?} passed no crash point from {at} on");
        say(&format!("{kind:?}: an order ends before it passes {at} points"));
        audit(&data).await;
    }
    died
}

/// One order and one death, if it comes to it: the point's name. The order of the death before ends here.
async fn once(data: &Path, kind: Kind, at: u64) -> Option<String> {
    let (process, log) = up(data, at).await;
    let line = Line::to(Doors::all_at(&process.callee()));
    let shop = Shop::at(&line);
    process.tell().await;
    let selling = tokio::spawn({
        let shop = shop.clone();
        async move { shop.sell_one(kind, usize::try_from(at).unwrap()).await }
    });
    let mut process = process;
    let through = async {
        while shop.acknowledged() == 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        shop.all_end(Duration::from_secs(120)).await;
        tokio::time::sleep(QUIET).await;
    };
    let died = tokio::select! {
        () = through => None,
        how = process.wait() => Some(how),
    };
    let Some(how) = died else {
        selling.await.unwrap();
        process.terminate().await;
        return None;
    };
    assert!(how.contains("SIGABRT"), "{kind:?} {at}: it ended otherwise: {how}");
    // Its standard error is read by another task, which comes to its end a moment later.
    let point = crate::eventually("the point is named", || async {
        let said = std::fs::read_to_string(&log).ok()?;
        said.lines().rev().find_map(|line| line.strip_prefix("crash point: ")).map(str::to_owned)
    })
    .await;
    // Alive again, and nothing is counted: the client goes on, the order ends.
    let (again, _) = up(data, 0).await;
    line.moved(Doors::all_at(&again.callee()));
    selling.await.unwrap();
    shop.all_end(Duration::from_secs(120)).await;
    again.terminate().await;
    Some(point)
}

async fn audit(data: &Path) {
    let (process, _) = up(data, 0).await;
    let arguments = ["audit", "--data-dir", data.to_str().unwrap(), "--quiescent"];
    // A message may be on its way still: what counts is what it says in the end.
    let until = tokio::time::Instant::now() + Duration::from_secs(60);
    loop {
        let (code, text) = process::run(&arguments, &[]).await;
        if code == Some(0) {
            break;
        }
        assert!(tokio::time::Instant::now() < until, "the auditor finds something:\n{text}");
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    process.terminate().await;
}
