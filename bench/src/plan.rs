//! A run: the subject is started, loaded, judged and stopped; and the comparison, which does it in turn with the baseline.

use std::{path::Path, sync::Arc};

use anyhow::{Context as _, ensure};
use load::{Answers, Doors, Load, Subject};
use sqlx::{Connection as _, PgConnection};

use crate::{
    baseline::Baseline,
    flame::Flame,
    meter::{Meter, Pids, Reading},
    report::{Figures, Summary},
    store::{self, reads::Reads, statements},
    subject::{self, Embedded},
};

/// Flags for `amends up` that leave nothing but the machine to limit it: the provider answers at once, as the baseline's
/// does.
pub(crate) const UNLIMITED: [&str; 6] =
    ["--merchant-orders-per-second", "0", "--max-in-flight", "200000", "--simulator-latency", "0s"];

/// What else is looked at, at some cost to the subject.
#[derive(Debug, Clone, Copy, Default)]
pub struct Look<'f> {
    /// What each statement costs in Postgres.
    pub statements: bool,
    /// Where the time goes, drawn into this file.
    pub flame: Option<&'f Path>,
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
    measure(Arc::new(doors), &subject.postgres, subject.pids()?, load, look).await
}

/// Something that serves already, such as `cargo xtask stack -- --measured`.
#[derive(Debug)]
pub struct There {
    /// Orchestrators.
    pub servers: Vec<String>,
    /// order-svc and inventory-svc.
    pub services: (String, String),
    /// Any database of its server.
    pub postgres: String,
}

impl There {
    /// Puts the goods of the benchmark on sale, and connects.
    pub(crate) async fn open(&self, doors: &Doors) -> anyhow::Result<()> {
        let callee =
            |url: &str| chassis::grpc::remote(url).with_context(|| format!("`{url}` is not an address"));
        load::furnish(&callee(&self.services.0)?, &callee(&self.services.1)?).await?;
        load::greet(doors).await
    }
}

/// One run of what serves there. The auditor looks where the environment says.
///
/// # Errors
/// As [`embedded`].
pub async fn there(program: &Path, place: &There, load: Load) -> anyhow::Result<Figures> {
    let doors = Doors::at(&place.servers)?;
    place.open(&doors).await?;
    let figures = measure(Arc::new(doors), &place.postgres, Pids::default(), load, Look::default()).await;
    let audit = subject::audit(program, None).await?;
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
    let pids = Pids { subject: None, ..host.pids()? };
    let baseline = Arc::new(Baseline::new(&host.postgres).await?);
    let figures = measure(Arc::clone(&baseline), &host.postgres, pids, load, Look::default()).await;
    let wrong = baseline.audit().await?;
    baseline.pool().close().await;
    host.stop().await?;
    let figures = figures?;
    ensure!(wrong.is_none(), "the run is void, the baseline does not add up: {}", wrong.unwrap_or_default());
    Ok(figures)
}

async fn measure<S: Subject>(
    subject: Arc<S>,
    postgres: &str,
    pids: Pids,
    load: Load,
    look: Look<'_>,
) -> anyhow::Result<Figures> {
    let mut connection = PgConnection::connect(postgres).await.context("its Postgres")?;
    store::ensure_durable(&mut connection).await?;
    let server = store::describe(&mut connection).await?;
    let meter = Meter::new(postgres, pids.clone());
    let mut watched =
        Watched { connection, meter: &meter, pids, look, flame: None, before: None, after: None, read: None };
    let measured = load::put(subject, load, &mut watched).await;
    let Watched { before, after, flame, read, .. } = watched;
    let before = before.context("the measurement did not begin")??;
    let after = after.context("the measurement did not end")??;
    ensure!(
        measured.wrong == 0,
        "the run is void, {} orders came to a wrong end; the first: {}",
        measured.wrong,
        measured.first_wrong.unwrap_or_default()
    );
    if let (Some(flame), Some(file)) = (flame, look.flame) {
        flame.draw(file, "CPU of Amends and its Postgres under load")?;
    }
    let cost = meter.cost(&before, &after, measured.answered);
    let (mut statements, mut reads) = (Vec::new(), Vec::new());
    if let Some(read) = read {
        let mut connection = PgConnection::connect(postgres).await?;
        statements = statements::dearest(&mut connection, measured.answered).await?;
        reads = Reads::of(&mut connection).await?.since(&read, measured.answered);
    }
    Ok(Figures { answers: Answers::of(&load, &measured), cost, statements, reads, server })
}

/// Reads the meter at both ends.
struct Watched<'m> {
    connection: PgConnection,
    meter: &'m Meter,
    pids: Pids,
    look: Look<'m>,
    flame: Option<Flame>,
    before: Option<anyhow::Result<Reading>>,
    after: Option<anyhow::Result<Reading>>,
    /// Of indexes, when it began.
    read: Option<Reads>,
}

impl Watched<'_> {
    async fn count_statements(&mut self) -> sqlx::Result<()> {
        if self.look.statements {
            statements::reset(&mut self.connection).await?;
            self.read = Some(Reads::of(&mut self.connection).await?);
        }
        Ok(())
    }
}

impl load::Watch for Watched<'_> {
    /// There are rows now: from here plans are those of tables in use. It takes a core for a while, and every statement is
    /// planned again.
    async fn warm(&mut self) {
        if let Err(error) = store::analyze(&mut self.connection).await {
            self.before = Some(Err(error.into()));
        }
    }

    async fn begun(&mut self) {
        if self.before.is_some() {
            return;
        }
        if self.look.flame.is_some() {
            match Flame::begin(&self.pids) {
                Ok(flame) => self.flame = Some(flame),
                Err(error) => return self.before = Some(Err(error)),
            }
        }
        self.before = Some(match self.count_statements().await {
            Ok(()) => self.meter.read().await,
            Err(error) => Err(error.into()),
        });
    }

    async fn ended(&mut self) {
        self.after = Some(self.meter.read().await);
    }
}

/// Baseline and Amends in turn, `times` each.
///
/// # Errors
/// When a run is void.
pub async fn compare(
    program: &Path,
    loads: (Load, Load),
    flags: &[String],
    times: usize,
    say: impl Fn(&str),
) -> anyhow::Result<(Summary, Summary)> {
    let (mut of_baseline, mut of_amends) = (Vec::new(), Vec::new());
    for n in 1..=times.max(1) {
        let figures = baseline(program, loads.0).await?;
        say(&format!("{n} of {times}  baseline  {}", figures.line()));
        of_baseline.push(figures);
        let figures = embedded(program, loads.1, flags, Look::default()).await?;
        say(&format!("{n} of {times}  embedded  {}", figures.line()));
        of_amends.push(figures);
    }
    Ok((Summary::of(of_baseline), Summary::of(of_amends)))
}
