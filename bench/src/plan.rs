//! A run: the subject is started, loaded, judged and stopped. Read next: `compare.rs`, which does it in turn with the baseline.

use std::{collections::BTreeSet, path::Path, sync::Arc, time::Duration};

use anyhow::{Context as _, ensure};
use load::{Answers, Doors, Load, Measured, Subject};
use sqlx::{Connection as _, PgConnection};
use tokio::time::Instant;

use crate::{
    baseline::Baseline,
    flame::Flame,
    meter::{Meter, Pids, Reading},
    progress,
    report::Figures,
    store::{self, machinery::Left, reads::Reads, statements},
    subject::{self, Books, Embedded},
};

/// Flags for `amends up` that leave nothing but the machine to limit it: the provider answers at once, as the baseline's
/// does.
pub(crate) const UNLIMITED: [&str; 6] =
    ["--merchant-orders-per-second", "0", "--max-in-flight", "200000", "--simulator-latency", "0s"];

/// With so many orders ANALYZE takes too long for the warm-up.
const MANY: i64 = 5_000;

/// Warm-up.
const SHORTEST: Duration = Duration::from_secs(1);

/// What else is looked at, at some cost to the subject.
#[derive(Debug, Clone, Copy, Default)]
pub struct Look<'f> {
    /// What each statement costs in Postgres.
    pub statements: bool,
    /// Where the time goes, drawn into this file.
    pub flame: Option<&'f Path>,
    /// What people are told that is measured, while it is.
    pub name: &'f str,
}

/// What is measured, and where its traces are.
struct Scene<'s> {
    postgres: &'s str,
    /// All databases in which an order leaves something.
    databases: Vec<String>,
    pids: Pids,
    /// It leaves a journal behind, and what else an orchestrator needs.
    is_amends: bool,
}

/// One run of Amends, embedded.
///
/// # Errors
/// When it cannot be run, or is void: a violation, a wrong end, a database that is not durable.
pub async fn embedded(
    program: &Path,
    load: Load,
    flags: &[String],
    look: Look<'_>,
) -> anyhow::Result<Figures> {
    let flags: Vec<String> =
        UNLIMITED.iter().map(|&flag| flag.to_owned()).chain(flags.iter().cloned()).collect();
    let subject = match look.statements {
        true => Embedded::start_counting(program, &flags).await?,
        false => Embedded::start(program, &flags).await?,
    };
    let figures = measure_embedded(&subject, load, look).await;
    let ended = subject.end().await;
    let figures = figures?;
    ended?;
    Ok(figures)
}

async fn measure_embedded(subject: &Embedded, load: Load, look: Look<'_>) -> anyhow::Result<Figures> {
    let doors = subject.doors().await?;
    let scene = Scene {
        postgres: &subject.postgres,
        databases: vec![subject.postgres.clone()],
        pids: subject.pids()?,
        is_amends: true,
    };
    measure(Arc::new(doors), scene, load, look).await
}

/// Something that serves already, such as `cargo xtask stack -- --measured`.
#[derive(Debug, Clone)]
pub struct There {
    /// Orchestrators.
    pub servers: Vec<String>,
    /// order-svc, inventory-svc and risk-svc.
    pub services: [String; 3],
    /// Any database of its server.
    pub postgres: String,
    /// Every database, by the variable that the auditor knows it by.
    pub books: Vec<(String, String)>,
}

impl There {
    fn databases(&self) -> Vec<String> {
        let urls = self.books.iter().map(|(_, url)| url).chain([&self.postgres]);
        urls.cloned().collect::<BTreeSet<String>>().into_iter().collect()
    }

    /// Puts the goods of the benchmark on sale, and connects.
    pub(crate) async fn open(&self) -> anyhow::Result<Doors> {
        let callee = |url: &String| {
            chassis::grpc::remote(url)
                .with_context(|| format!("`{url}` is not an address such as http://127.0.0.1:50052"))
        };
        let [order, inventory, risk] = &self.services;
        let doors = Doors::at(&self.servers, callee(risk)?)?;
        load::furnish(&callee(order)?, &callee(inventory)?).await?;
        load::greet(&doors).await?;
        Ok(doors)
    }
}

/// One run of what serves there.
///
/// # Errors
/// As [`embedded`].
pub async fn there(program: &Path, place: &There, load: Load, name: &str) -> anyhow::Result<Figures> {
    let doors = place.open().await?;
    let scene = Scene {
        postgres: &place.postgres,
        databases: place.databases(),
        pids: Pids::default(),
        is_amends: true,
    };
    let figures = measure(Arc::new(doors), scene, load, Look { name, ..Look::default() }).await;
    let audit = subject::audit(program, Books::Named(&place.books)).await?;
    let figures = figures?;
    subject::ensure_clean(audit)?;
    Ok(figures)
}

/// One run of the baseline, on a Postgres as `amends up` makes it.
///
/// # Errors
/// As [`embedded`].
pub async fn baseline(program: &Path, load: Load) -> anyhow::Result<Figures> {
    // The same server with the same settings; the Amends on it does nothing meanwhile.
    let host = Embedded::start(program, &[]).await?;
    let pids = Pids { subject: None, door: None, ..host.pids()? };
    let baseline = Arc::new(Baseline::new(&host.postgres).await?);
    let scene =
        Scene { postgres: &host.postgres, databases: vec![host.postgres.clone()], pids, is_amends: false };
    let look = Look { name: "baseline", ..Look::default() };
    let figures = measure(Arc::clone(&baseline), scene, load, look).await;
    let wrong = baseline.audit().await?;
    baseline.pool().close().await;
    host.stop().await?;
    let figures = figures?;
    ensure!(wrong.is_none(), "the run is void, the baseline does not add up: {}", wrong.unwrap_or_default());
    Ok(figures)
}

async fn measure<S: Subject>(
    subject: Arc<S>,
    scene: Scene<'_>,
    load: Load,
    look: Look<'_>,
) -> anyhow::Result<Figures> {
    let Scene { postgres, databases, pids, is_amends } = scene;
    ensure!(load.warm_up >= SHORTEST, "--warm-up: 1 or more; tables are analyzed in the middle of it");
    let mut connection = PgConnection::connect(postgres).await.context("its Postgres")?;
    store::ensure_durable(&mut connection).await?;
    let server = store::describe(&mut connection).await?;
    // Of a stack that has been loaded before, the tables are not small: while nobody else works it is quickly done.
    let is_analyzed = store::ordeal::orders(&mut connection).await? >= MANY;
    let mut tables = store::Tables::of(&databases).await?;
    if is_analyzed {
        tables.analyze().await?;
    }
    let meter = Meter::new(postgres, pids.clone());
    let warm_up = load.warm_up;
    let mut watched = Watched {
        connection,
        tables,
        meter: &meter,
        pids,
        look,
        is_analyzed,
        warm_up,
        seen: Seen::default(),
    };
    let measured = progress::shown(look.name, &load, load::put(subject, load, &mut watched)).await;
    let Seen { before, after, left, flame, read } = watched.seen;
    let before = before.context("the measurement did not begin")??;
    let after = after.context("the measurement did not end")??;
    ensure_answered(&measured)?;
    let mut connection = PgConnection::connect(postgres).await?;
    if let Some(left) = left.filter(|_| is_amends) {
        left.ensure(&mut connection, measured.answered).await?;
    }
    if let (Some(flame), Some(file)) = (flame, look.flame) {
        flame.draw(file, "CPU of Amends and its Postgres under load")?;
    }
    let cost = meter.cost(&before, &after, measured.answered);
    let (mut statements, mut reads) = (Vec::new(), Vec::new());
    if let Some(read) = read {
        statements = statements::dearest(&mut connection, measured.answered).await?;
        reads = Reads::of(&mut connection).await?.since(&read, measured.answered);
    }
    Ok(Figures { answers: Answers::of(&load, &measured), cost, statements, reads, server })
}

/// # Errors
/// When an order came to a wrong end, or none to its end within the time.
pub(crate) fn ensure_answered(measured: &Measured) -> anyhow::Result<()> {
    let Measured { wrong, answered, shed, first_wrong, .. } = measured;
    let first = first_wrong.as_deref().unwrap_or_default();
    ensure!(*wrong == 0, "the run is void, {wrong} orders came to a wrong end; the first: {first}");
    ensure!(
        *answered > 0,
        "the run is void, no order came to its end within the time ({shed} were turned away); --seconds gives more"
    );
    Ok(())
}

/// Reads the meter at both ends.
struct Watched<'m> {
    connection: PgConnection,
    tables: store::Tables,
    meter: &'m Meter,
    pids: Pids,
    look: Look<'m>,
    /// Before the load.
    is_analyzed: bool,
    warm_up: Duration,
    seen: Seen,
}

#[derive(Default)]
struct Seen {
    before: Option<anyhow::Result<Reading>>,
    after: Option<anyhow::Result<Reading>>,
    /// What orders had left behind, when it began.
    left: Option<Left>,
    flame: Option<Flame>,
    /// Of indexes, when it began.
    read: Option<Reads>,
}

impl Watched<'_> {
    async fn begin(&mut self) -> anyhow::Result<Reading> {
        if self.look.flame.is_some() {
            self.seen.flame = Some(Flame::begin(&self.pids)?);
        }
        if self.look.statements {
            statements::reset(&mut self.connection).await?;
            self.seen.read = Some(Reads::of(&mut self.connection).await?);
        }
        self.seen.left = Some(Left::so_far(&mut self.connection).await?);
        self.meter.read().await
    }
}

impl load::Watch for Watched<'_> {
    /// There are rows now: from here plans are those of tables in use. It takes a core for a while, and every statement is
    /// planned again, which must be over when the measurement begins.
    async fn warm(&mut self) {
        if self.is_analyzed {
            return;
        }
        let began = Instant::now();
        let analyzed = self.tables.analyze().await.map_err(anyhow::Error::from);
        let took = began.elapsed();
        let timely = analyzed.and_then(|()| {
            ensure!(
                took <= self.warm_up / 2,
                "the run is void: ANALYZE took {:.1} s, longer than half of the warm-up; --warm-up gives more",
                took.as_secs_f64()
            );
            Ok(())
        });
        self.seen.before = timely.err().map(Err);
    }

    async fn begun(&mut self) {
        if self.seen.before.is_none() {
            self.seen.before = Some(self.begin().await);
        }
    }

    async fn ended(&mut self) {
        self.seen.after = Some(self.meter.read().await);
    }
}
