//! One world: a database, a data folder, and one process after the other.
//!
//! A process that brought an order to its end serves the next one, so a death costs one start. What is at rest is asked
//! of the database: nothing is open, unsent, unread, due or in anybody's hand.

use std::{
    path::PathBuf,
    str::FromStr as _,
    time::{Duration, Instant},
};

use amends::audit;
use chassis::testbed::variable;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection, postgres::PgConnectOptions, raw_sql};

use super::{Job, Life, Options, Second};
use crate::{
    eventually,
    load::{Doors, Kind, Line, Shop},
    process::{Launch, Process, folder},
};

/// As quick as a provider in doubt allows, and as patient with it as a machine that is busy needs.
pub(super) const QUICK: [(&str, &str); 13] = [
    ("AMENDS_PAYMENT_HORIZON", "2s"),
    ("AMENDS_PAYMENT_PATIENCE", "400ms"),
    ("AMENDS_PAYMENT_CALL_TIMEOUT", "1s"),
    ("AMENDS_PAYMENT_SENDS", "20"),
    ("AMENDS_PAYMENT_LOOK", "200ms"),
    ("AMENDS_PAYMENT_POLL", "50ms"),
    ("AMENDS_SIMULATOR_SLOW", "1s"),
    ("AMENDS_ANSWER_AFTER", "3s"),
    ("AMENDS_RISK_REVIEW_DEADLINE", "3s"),
    ("AMENDS_SMTP_TIMEOUT", "300ms"),
    ("AMENDS_NOTIFICATION_MARGIN", "100ms"),
    ("AMENDS_NOTIFICATION_BACKOFF", "100ms"),
    ("AMENDS_DATABASE_CONNECTIONS", "4"),
];

/// An order that is not at its end, and a database that is not at rest, by then is a failure.
pub(super) const LONGEST: Duration = Duration::from_secs(150);

/// What would still move. A saga that is parked never will.
const RESTLESS: &str = "select coalesce(string_agg(what, ', '), '') from (values \
    ('open sagas', exists (select from orchestrator.saga where not ended)), \
    ('unread signals', exists (select from orchestrator.signal where read_time is null)), \
    ('attempts', exists (select from payments.attempt where next_look_time is not null \
        and state in ('STARTED', 'PENDING', 'IN_DOUBT', 'REFUNDING'))), \
    ('letters', exists (select from notifications.delivery where state = 'QUEUED')), \
    ('orchestrator.outbox', exists (select from orchestrator.outbox where dead_time is null)), \
    ('orders.outbox', exists (select from orders.outbox where dead_time is null)), \
    ('inventory.outbox', exists (select from inventory.outbox where dead_time is null)), \
    ('risk.outbox', exists (select from risk.outbox where dead_time is null)), \
    ('payments.outbox', exists (select from payments.outbox where dead_time is null)), \
    ('ledger.outbox', exists (select from ledger.outbox where dead_time is null)) \
    ) as v (what, is_so) where is_so";

pub(super) const PARKED: &str = "select coalesce(string_agg(saga_id::text || ': ' || reason, ', '), '') \
    from orchestrator.saga where state = 'PARKED'";

/// What all worlds are copies of: a database with prices and stock, and nothing open.
#[derive(Debug, Clone)]
pub struct Ground {
    server: String,
    template: String,
    /// The saga kinds that the binary can drive, as in `order`.
    pub sagas: Vec<String>,
}

impl Ground {
    /// Makes it, with the binary itself.
    pub async fn lay() -> Self {
        let server = variable("AMENDS_TEST_POSTGRES_URL");
        let template = format!("crash_{}", &chassis::clock::new_uuid().simple().to_string()[20..]);
        let mut ground = Self { server, template, sagas: Vec::new() };
        let name = ground.template.clone();
        ground.create(&name, "template0").await;
        let options = Options { worlds: 1, audit_every: 1, ..Options::default() };
        let mut world = World::at(&ground, name, &options).await;
        world.wake("0").await.unwrap();
        Doors::all_at(&world.process.as_ref().unwrap().callee()).prepare().await.unwrap();
        world.rest().await;
        let listed = "select definitions from orchestrator.instance";
        let (listed,): (String,) = sqlx::query_as(listed).fetch_one(&mut world.eye).await.unwrap();
        let mut sagas: Vec<String> =
            listed.split(',').map(|name| name.split(':').next().unwrap().to_owned()).collect();
        sagas.dedup();
        ground.sagas = sagas;
        world.end().await;
        ground
    }

    /// The saga kinds that no kind of order exercises.
    #[must_use]
    pub fn not_exercised(&self, kinds: &[Kind]) -> Vec<String> {
        let exercised = |saga: &&String| kinds.iter().any(|kind| kind.saga() == saga.as_str());
        self.sagas.iter().filter(|saga| !exercised(saga)).cloned().collect()
    }

    fn url(&self, name: &str) -> String {
        format!("{}/{name}", self.server.rsplit_once('/').unwrap().0)
    }

    async fn create(&self, name: &str, template: &str) {
        // Who was connected to the template is gone a moment later; and two cannot be copied from it at once.
        eventually("the world's database is made", || async {
            let mut server = PgConnection::connect(&self.server).await.unwrap();
            let create = format!("create database {name} template {template}");
            let made = sqlx::Executor::execute(&mut server, raw_sql(AssertSqlSafe(create))).await;
            server.close().await.unwrap();
            made.ok()
        })
        .await;
    }
}

/// A world.
pub(super) struct World {
    url: String,
    data: PathBuf,
    amqp: Option<(String, String)>,
    /// Before a number, for the process: which points count.
    among: &'static str,
    process: Option<Process>,
    /// Looks at the database.
    eye: PgConnection,
    /// Since the last audit.
    lives: Vec<Life>,
    acknowledged: String,
    starts: usize,
    /// Points in the last life, since the last start or the arming.
    passed: u64,
}

impl World {
    /// A new one, at rest.
    pub(super) async fn begin(ground: &Ground, options: &Options) -> Self {
        let name = format!("{}_{}", ground.template, &chassis::clock::new_uuid().simple().to_string()[20..]);
        ground.create(&name, &ground.template).await;
        Self::at(ground, name, options).await
    }

    async fn at(ground: &Ground, name: String, options: &Options) -> Self {
        let url = ground.url(&name);
        let connect = PgConnectOptions::from_str(&url).unwrap().application_name("crash");
        let eye = PgConnection::connect_with(&connect).await.unwrap();
        let amqp = options.amqp.clone().map(|amqp| (amqp, format!("{name}.")));
        let (lives, acknowledged) = (Vec::new(), String::new());
        Self {
            url,
            data: folder("crash"),
            amqp,
            among: if options.lasting { "lasting " } else { "" },
            process: None,
            eye,
            lives,
            acknowledged,
            starts: 0,
            passed: 0,
        }
    }

    pub(super) const fn lives(&self) -> usize {
        self.lives.len()
    }

    /// One order, and the deaths that are asked for, if it comes to them; then everything is at rest.
    pub(super) async fn life(&mut self, job: &Job, number: usize) -> Life {
        if self.process.is_none() {
            self.wake("0").await.unwrap();
        }
        let began = Instant::now();
        let process = self.process.as_mut().unwrap();
        process.tell(&format!("{}{}", self.among, job.first)).await.unwrap();
        let line = Line::to(Doors::all_at(&process.callee()));
        let shop = Shop::at(&line);
        let selling = tokio::spawn({
            let (shop, kind) = (shop.clone(), job.kind);
            async move { shop.sell_one(kind, number).await }
        });
        let mut life = Life::of(job);
        let second = job.second.map(|second| match second {
            Second::Work(at) => format!("{}{at}", self.among),
            Second::Clock(at) => format!("clock {at}"),
        });
        let mut deaths = [second, None].into_iter();
        self.passed = loop {
            let point = match self.until_rest(|| selling.is_finished()).await {
                Ok(passed) => break passed,
                Err(point) => point,
            };
            life.died.push(point);
            // As often as it is asked to die, and once more.
            let mut next = deaths.next().expect("it dies only when it is asked to");
            while let Err(point) = self.wake(next.as_deref().unwrap_or("0")).await {
                life.died.push(point);
                next = deaths.next().expect("it dies only when it is asked to");
            }
            line.moved(Doors::all_at(&self.process.as_ref().unwrap().callee()));
        };
        selling.await.unwrap();
        life.came_to(&shop, began).await;
        self.acknowledged.push_str(&shop.acknowledgements());
        self.lives.push(life.clone());
        life
    }

    /// Leads a life and counts: the points that the order passes, or, when the process dies at `first`, those of the
    /// recovery; none if it does not come to that.
    pub(super) async fn measure(&mut self, kind: Kind, first: Option<u64>) -> (u64, Option<u64>) {
        const FAR: u64 = 1_000_000;
        let job = Job::new(kind, first.unwrap_or(FAR), first.map(|_| Second::Work(FAR)));
        let life = self.life(&job, 0).await;
        let passed = self.passed;
        (passed, (life.died.len() == 1).then_some(passed))
    }

    /// Starts the next process; the point, if it dies before it serves.
    async fn wake(&mut self, at: &str) -> Result<(), String> {
        self.starts += 1;
        let data = self.data.display().to_string();
        let fixed = ["up", "--no-demo", "--grpc-listen", "127.0.0.1:0", "--http-listen", "127.0.0.1:0"];
        let places = ["--data-dir", &data, "--database-url", &self.url, "--crash-at", at];
        let mut arguments = [&fixed[..], &places].concat();
        if let Some((url, prefix)) = &self.amqp {
            arguments.extend(["--amqp-url", url, "--amqp-prefix", prefix]);
        }
        let launch = Launch {
            arguments: arguments.into_iter().map(str::to_owned).collect(),
            environment: QUICK.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec(),
            log: Some(self.data.join(format!("{}.log", self.starts % 4))),
            obeys: true,
            ..Launch::default()
        };
        match Process::launch(&launch).await {
            Ok(process) => {
                self.process = Some(process);
                Ok(())
            }
            Err(said) => {
                let last = said.lines().rev().find_map(|line| line.strip_prefix("crash point: "));
                Err(last.unwrap_or_else(|| panic!("it does not start again:\n{said}")).to_owned())
            }
        }
    }

    /// Waits until everything is at rest and the client is `done`, and has nothing counted any more: how many points were
    /// passed. Or until the process dies, were it in that very moment: the point.
    async fn until_rest(&mut self, done: impl Fn() -> bool) -> Result<u64, String> {
        let mut process = self.process.take().unwrap();
        let died = tokio::select! {
            how = process.wait() => Some(how),
            () = async { while !done() { pause().await; } self.rest().await } => None,
        };
        if let Some(how) = died {
            assert!(how.contains("SIGABRT"), "it ended otherwise: {how}; see {}", self.data.display());
            return Err(process.last_word().await);
        }
        match process.tell("0").await {
            Ok(passed) => {
                self.process = Some(process);
                Ok(passed)
            }
            Err(point) => {
                process.wait().await;
                Err(point)
            }
        }
    }

    async fn rest(&mut self) {
        let until = Instant::now() + LONGEST;
        // What is in a broker's queue is in no database: there it has to be still for a while.
        let still = if self.amqp.is_some() { Duration::from_millis(500) } else { Duration::ZERO };
        let mut since = None;
        loop {
            let restless = self.ask(RESTLESS).await;
            if restless.is_empty() {
                let since = *since.get_or_insert_with(Instant::now);
                if since.elapsed() >= still {
                    return;
                }
            } else {
                since = None;
                let parked = self.ask(PARKED).await;
                assert!(parked.is_empty(), "it parks: {parked}; see {}", self.data.display());
                assert!(
                    Instant::now() < until,
                    "not at rest after {LONGEST:?}: {restless}; see {} and {}",
                    self.url,
                    self.data.display()
                );
            }
            pause().await;
        }
    }

    async fn ask(&mut self, sql: &'static str) -> String {
        sqlx::query_as::<_, (String,)>(sql).fetch_one(&mut self.eye).await.unwrap().0
    }

    /// Everything is at rest: the auditor finds nothing; or what it finds, and in which lives.
    pub(super) async fn audit(&mut self) -> Option<Result<(), String>> {
        if self.lives.is_empty() {
            return None;
        }
        let file = self.data.join("acknowledged.jsonl");
        std::fs::write(&file, &self.acknowledged).unwrap();
        let sources = audit::Sources::one(&self.url);
        let options =
            audit::Options { quiescent: true, acknowledged: Some(file), ..audit::Options::default() };
        let report = audit::run(&sources, &options).await.unwrap();
        let lives = std::mem::take(&mut self.lives);
        if report.is_clean() {
            return Some(Ok(()));
        }
        Some(Err(judge(&format!("{report:#?}"), &lives)))
    }

    /// Stops its process and leaves nothing.
    pub(super) async fn end(self) {
        if let Some(process) = self.process {
            process.terminate().await;
        }
        self.eye.close().await.unwrap();
        let _ = std::fs::remove_dir_all(&self.data);
    }
}

/// What the auditor finds, and the lives whose orders it names; all since the last audit, if it names none.
pub(super) fn judge(report: &str, lives: &[Life]) -> String {
    let named = |life: &&Life| life.order.split_once('_').is_some_and(|(_, id)| report.contains(id));
    let concerned: Vec<_> = lives.iter().filter(named).collect();
    let concerned = if concerned.is_empty() { lives.iter().collect() } else { concerned };
    format!("the auditor finds:\n{report}\nin one of: {concerned:#?}")
}

pub(super) async fn pause() {
    tokio::time::sleep(Duration::from_millis(30)).await;
}
