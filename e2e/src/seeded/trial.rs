//! Trials: one process each, some side by side; what each came to, as a table.

use std::{
    fmt::{self, Write as _},
    path::Path,
    process::Stdio,
    sync::Arc,
    time::Duration,
};

use amends::audit::Invariant;
use chassis::seeded::{self, Bug};
use tokio::{process::Command, sync::Semaphore, task::JoinSet};

use super::{CASES, Case, Provocation, scene::Found};

/// A trial takes some seconds; on a machine that is busy with others many more.
const AT_MOST: Duration = Duration::from_secs(240);

/// One provocation, with one bug or none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Trial {
    /// What is done.
    pub provocation: Provocation,
    /// What is planted.
    pub bug: Option<Bug>,
}

impl Trial {
    /// Of every bug, and of every provocation without one.
    #[must_use]
    pub fn all() -> Vec<Self> {
        let bugs = CASES.iter().map(|case| Self { provocation: case.provocation, bug: Some(case.bug) });
        let clean = Provocation::ALL.iter().map(|provocation| Self { provocation: *provocation, bug: None });
        bugs.chain(clean).collect()
    }

    fn case(&self) -> Option<&'static Case> {
        CASES.iter().find(|case| Some(case.bug) == self.bug)
    }

    /// As the arguments of `rig bug` say it.
    fn arguments(&self) -> Vec<String> {
        let place = Provocation::ALL.iter().position(|one| *one == self.provocation).unwrap();
        let planted = self.bug.map(|bug| bug.to_string());
        ["bug".to_owned(), place.to_string()].into_iter().chain(planted).collect()
    }

    /// Whether what is only on its way could be taken for what the bug has done: an end that will come, money that will
    /// be booked, a message that will be delivered.
    fn needs_rest(&self) -> bool {
        let comes_in_time = [Invariant::I2, Invariant::I5, Invariant::I9];
        self.case().is_some_and(|case| {
            comes_in_time.contains(&case.caught_by)
                || case.besides.iter().any(|one| comes_in_time.contains(one))
        })
    }

    /// Whether what was found is what has to be found.
    fn is_as_it_should(&self, found: &Found) -> bool {
        let is = |id: &str, invariant: Invariant| invariant.id() == id;
        match self.case() {
            None => found.is_empty(),
            Some(case) => {
                let allowed = |id: &String| {
                    is(id, case.caught_by) || case.besides.iter().any(|invariant| is(id, *invariant))
                };
                found.contains_key(case.caught_by.id()) && found.keys().all(allowed)
            }
        }
    }
}

/// What a trial came to.
#[derive(Debug, Clone)]
pub struct Verdict {
    /// Which.
    pub trial: Trial,
    /// What the auditor found; or why there is no saying.
    pub found: Result<Found, String>,
    /// How long it took.
    pub time: Duration,
}

impl Verdict {
    /// Whether the bug was caught by its invariant; without a bug: whether nothing was found.
    #[must_use]
    pub fn is_as_it_should(&self) -> bool {
        self.found.as_ref().is_ok_and(|found| self.trial.is_as_it_should(found))
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = self.trial.bug.map_or("no bug", Bug::name);
        let word = if self.is_as_it_should() { "ok" } else { "WRONG" };
        let seconds = self.time.as_secs_f64();
        write!(f, "{word:<5} {seconds:>5.1} s  {what}: {}: ", self.trial.provocation.text())?;
        match &self.found {
            Ok(found) if found.is_empty() => write!(f, "nothing found"),
            Ok(found) => write!(f, "{found:?}"),
            Err(why) => write!(f, "{why}"),
        }
    }
}

/// In the process of a trial: plants, provokes, judges; what was found, as JSON.
pub async fn trial(place: usize, bug: Option<Bug>) -> String {
    if let Some(bug) = bug {
        seeded::plant(bug);
    }
    let trial = Trial { provocation: Provocation::ALL[place], bug };
    let scene = trial.provocation.provoke().await;
    let found = scene.judge(trial.needs_rest(), |found| trial.is_as_it_should(found)).await;
    serde_json::to_string(&found).unwrap()
}

async fn held(rig: &Path, trial: Trial) -> Result<Found, String> {
    let mut command = Command::new(rig);
    command.args(trial.arguments()).stdin(Stdio::null()).kill_on_drop(true);
    let output = tokio::time::timeout(AT_MOST, command.output()).await;
    let output = output.map_err(|_| format!("no verdict within {AT_MOST:?}"))?.map_err(|e| e.to_string())?;
    let said = || String::from_utf8_lossy(&output.stderr).into_owned();
    if !output.status.success() {
        return Err(said());
    }
    serde_json::from_slice(&output.stdout).map_err(|error| format!("{error}: {}", said()))
}

/// Holds trials, `side_by_side` at once; `say` hears of each as it ends.
pub async fn run(
    rig: &Path,
    trials: Vec<Trial>,
    side_by_side: usize,
    say: impl Fn(&Verdict),
) -> Vec<Verdict> {
    let places = Arc::new(Semaphore::new(side_by_side));
    let mut running = JoinSet::new();
    for (at, trial) in trials.into_iter().enumerate() {
        let (places, rig) = (Arc::clone(&places), rig.to_owned());
        running.spawn(async move {
            let _place = places.acquire().await.unwrap();
            let began = std::time::Instant::now();
            let found = held(&rig, trial).await;
            (at, Verdict { trial, found, time: began.elapsed() })
        });
    }
    let mut verdicts = Vec::new();
    while let Some(one) = running.join_next().await {
        let one = one.unwrap();
        say(&one.1);
        verdicts.push(one);
    }
    verdicts.sort_by_key(|(at, _)| *at);
    verdicts.into_iter().map(|(_, verdict)| verdict).collect()
}

/// A table of the bugs: what was planted, what was done, what named it, in which words; as Markdown.
#[must_use]
pub fn table(verdicts: &[Verdict]) -> String {
    let mut text = String::from("| bug | provocation | caught by | in these words |\n|---|---|---|---|\n");
    for verdict in verdicts {
        let (Some(case), Ok(found)) = (verdict.trial.case(), &verdict.found) else { continue };
        let id = case.caught_by.id();
        let words = found.get(id).and_then(|list| list.first()).map_or("not caught", String::as_str);
        let besides: Vec<&str> = found.keys().map(String::as_str).filter(|other| *other != id).collect();
        let caught =
            if besides.is_empty() { id.to_owned() } else { format!("{id} (and {})", besides.join(", ")) };
        let text_of = case.provocation.text();
        writeln!(text, "| {} | {text_of} | {caught} | {} |", case.bug, words.replace('|', "/")).unwrap();
    }
    text
}
