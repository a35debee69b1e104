//! A world of processes: every service is one, over RabbitMQ, and one of them dies while the others live.
//!
//! Where everything is one process the caller always dies with whom it called. Here the caller sees a stream break, the
//! broker hands messages out again, and nobody but the dead has forgotten anything. Read next: `world.rs`.

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use sqlx::PgConnection;

use super::{
    Job, Life,
    world::{LONGEST, PARKED, QUICK, judge, pause},
};
use crate::{
    eventually,
    load::{Line, Shop},
    process::folder,
    stack::{Options, Ports, Stack},
};

/// What would still move in each database.
const RESTLESS: [&str; 7] = [
    "select exists (select from orchestrator.saga where not ended) \
     or exists (select from orchestrator.signal where read_time is null) \
     or exists (select from orchestrator.outbox where dead_time is null)",
    "select exists (select from orders.outbox where dead_time is null)",
    "select exists (select from inventory.outbox where dead_time is null)",
    "select exists (select from risk.outbox where dead_time is null)",
    "select exists (select from payments.outbox where dead_time is null) \
     or exists (select from payments.attempt where next_look_time is not null \
       and state in ('STARTED', 'PENDING', 'IN_DOUBT', 'REFUNDING'))",
    "select exists (select from ledger.outbox where dead_time is null)",
    "select exists (select from notifications.delivery where state = 'QUEUED')",
];

/// What is in a broker's queue is in no database: everything has to be still for so long.
const STILL: Duration = Duration::from_millis(600);

pub(super) struct Members {
    stack: Stack,
    /// They look at the databases, in the order of [`RESTLESS`].
    eyes: Vec<PgConnection>,
    folder: PathBuf,
    lives: Vec<Life>,
    acknowledged: String,
}

impl Members {
    pub(super) async fn begin() -> Self {
        let folder = folder("crash");
        let environment = QUICK.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let options = Options {
            orchestrators: 1,
            ports: Ports::Any,
            tail: false,
            environment: environment.collect(),
            folder: folder.clone(),
        };
        let stack = Stack::start_obeying(options).await;
        let schemas = [
            orchestrator::SCHEMA,
            order_svc::SCHEMA,
            inventory_svc::SCHEMA,
            risk_svc::SCHEMA,
            payment_svc::SCHEMA,
            ledger_svc::SCHEMA,
            notification_svc::SCHEMA,
        ];
        let mut eyes = Vec::new();
        for schema in &schemas {
            eyes.push(stack.databases.connect(schema).await);
        }
        // The first calls may come before everything is warm.
        eventually("the load is prepared", || async { stack.doors().prepare().await.ok() }).await;
        let mut members = Self { stack, eyes, folder, lives: Vec::new(), acknowledged: String::new() };
        rest(&mut members.eyes, || true, &members.folder).await;
        members
    }

    pub(super) const fn lives(&self) -> usize {
        self.lives.len()
    }

    /// One order, and the death of the member that is asked for, if it comes to it; then everything is at rest.
    pub(super) async fn life(&mut self, job: &Job, number: usize) -> Life {
        let member = job.member.expect("somebody has to die");
        let began = Instant::now();
        let mut process = self.stack.take(member);
        process.tell(&job.first.to_string()).await.unwrap();
        let shop = Shop::at(&Line::to(self.stack.doors()));
        let selling = tokio::spawn({
            let (shop, kind) = (shop.clone(), job.kind);
            async move { shop.sell_one(kind, number).await }
        });
        let mut life = Life::of(job);
        let died = tokio::select! {
            how = process.wait() => Some(how),
            () = rest(&mut self.eyes, || selling.is_finished(), &self.folder) => None,
        };
        let point = match died {
            Some(how) => {
                assert!(
                    how.contains("SIGABRT"),
                    "{member} ended otherwise: {how}; see {}",
                    self.folder.display()
                );
                Some(process.last_word().await)
            }
            None => process.tell("0").await.err(),
        };
        match point {
            None => self.stack.give(member, process),
            Some(point) => {
                life.died.push(format!("{member}: {point}"));
                self.stack.restart(member).await;
                rest(&mut self.eyes, || selling.is_finished(), &self.folder).await;
            }
        }
        selling.await.unwrap();
        life.came_to(&shop, began).await;
        self.acknowledged.push_str(&shop.acknowledgements());
        self.lives.push(life.clone());
        life
    }

    pub(super) async fn audit(&mut self) -> Option<Result<(), String>> {
        let lives = std::mem::take(&mut self.lives);
        if lives.is_empty() {
            return None;
        }
        let file = self.folder.join("acknowledged.jsonl");
        std::fs::write(&file, &self.acknowledged).unwrap();
        Some(self.stack.audit(Some(file)).await.map_err(|report| judge(&report, &lives)))
    }

    pub(super) async fn end(self) {
        self.stack.stop().await;
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// Waits until nothing moves any more and the client is `done`.
async fn rest(eyes: &mut [PgConnection], done: impl Fn() -> bool, folder: &std::path::Path) {
    let until = Instant::now() + LONGEST;
    let mut since = Instant::now();
    while since.elapsed() < STILL {
        let mut restless = if done() { None } else { Some("the client") };
        for (eye, sql) in eyes.iter_mut().zip(RESTLESS) {
            if restless.is_none() && sqlx::query_scalar::<_, bool>(sql).fetch_one(eye).await.unwrap() {
                restless = Some(sql);
            }
        }
        if let Some(restless) = restless {
            since = Instant::now();
            let parked: String = sqlx::query_scalar(PARKED).fetch_one(&mut eyes[0]).await.unwrap();
            assert!(parked.is_empty(), "it parks: {parked}; see {}", folder.display());
            assert!(since < until, "not at rest after {LONGEST:?}: {restless}; see {}", folder.display());
        }
        pause().await;
    }
}
