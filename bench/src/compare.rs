//! The baseline and Amends in turn, under one load after the other, and what an outage and a death cost.
//!
//! Each run starts an `amends up` of its own on an empty folder, ends with the auditor, and is void if it finds anything. A
//! round has every load once, so that a slow minute of the machine meets all of them alike. A stack is measured first, a
//! new one in each round, beside a baseline of its own: what it needs is seen to be there before the long part, and gone when
//! that begins.

use std::path::{Path, PathBuf};

use load::{
    Load, Pace,
    mix::{Mix, Spread},
};

use crate::{
    growth, ordeal, plan,
    plan::{Look, There},
    report::{Figures, Summary},
    stack::Stack,
    subject::Embedded,
    table::{Measured, Table, run},
};

/// What is measured, and how.
#[derive(Debug)]
pub struct Plan {
    pub program: PathBuf,
    /// For `amends up`.
    pub flags: Vec<String>,
    /// Rounds.
    pub times: usize,
    /// Of the first line, 512 in flight; everything else follows from it.
    pub load: Load,
    pub baseline_in_flight: usize,
    /// How many wait at the end of the outage, and how long it takes at least; none: neither outage nor death.
    pub ordeals: Option<(usize, std::time::Duration)>,
    /// Whether a stack is built and started, too.
    pub stack: bool,
    /// Finished orders with which the tables are filled.
    pub growth: Option<i64>,
    /// Where it is drawn where the time goes, in one more run.
    pub flame: Option<PathBuf>,
}

/// Measures it all; `say` hears of every run.
///
/// # Errors
/// When a run is void.
pub async fn measure(plan: Plan, say: impl Fn(&str)) -> anyhow::Result<Table> {
    let each = loads(plan.load, 0.0).len() + 3 + if plan.stack { 4 } else { 0 };
    let mut rounds = Rounds { plan: &plan, say: &say, all: plan.times * each, done: 0, runs: Vec::new() };
    if plan.stack {
        rounds.on_a_stack().await?;
    }
    for _ in 0..plan.times {
        rounds.once().await?;
    }
    let runs = rounds.runs.into_iter().map(|(name, runs)| (name, Summary::of(runs))).collect();
    let Plan { program, flags, load, .. } = &plan;
    if let Some(flame) = &plan.flame {
        let look = Look { flame: Some(flame), name: "flame graph", ..Look::default() };
        let figures = plan::embedded(program, *load, flags, look).await?;
        say(&format!("with perf: {}", figures.line()));
    }
    let start_s = start_again(program, flags).await?;
    say(&format!("start on an existing folder: {start_s:.2} s"));
    let (mut outage, mut take_over) = (None, None);
    if let Some((orders, away)) = plan.ordeals {
        let measured = ordeal::take_over(program, 10_000, flags, &say).await?;
        say(&format!("{}; {CLEAN}", measured.line()));
        take_over = Some(measured);
        let measured = ordeal::outage(program, orders, away, flags, &say).await?;
        say(&format!("{}; {CLEAN}", measured.line()));
        outage = Some(measured);
    }
    let mut grown = None;
    if let Some(orders) = plan.growth {
        let size = growth::Size { orders, times: plan.times };
        let measured = growth::measure(program, size, *load, flags, &say).await?;
        say(&format!("{}; {CLEAN}", measured.line()));
        grown = Some(measured);
    }
    Ok(Table::of(Measured { runs, start_s, outage, take_over, growth: grown }))
}

/// A run with anything else is void, and ends the comparison.
const CLEAN: &str = "auditor: 0 violations";

/// What is put on Amends beside the first load; half of `rate` is due per second in the open loop.
fn loads(load: Load, rate: f64) -> [(&'static str, Load); 8] {
    let happy = Load { mix: Mix::Happy, ..load };
    [
        (run::ALONE, single(load)),
        (run::HALF, Load { pace: Pace::Open(rate / 2.0), ..load }),
        (run::DECLINED, Load { mix: Mix::Declined, ..load }),
        (run::HOT, Load { spread: Spread::Hot, ..load }),
        (run::ZIPF_1, Load { spread: Spread::Zipf(1.0), ..load }),
        (run::ZIPF_2, Load { spread: Spread::Zipf(2.0), ..load }),
        (run::HAPPY_512, Load { pace: Pace::Closed(512), ..happy }),
        (run::HAPPY_256, Load { pace: Pace::Closed(256), ..happy }),
    ]
}

/// One order at a time.
fn single(load: Load) -> Load {
    Load { pace: Pace::Closed(1), mix: Mix::Happy, ..load }
}

struct Rounds<'p, S> {
    plan: &'p Plan,
    say: S,
    all: usize,
    done: usize,
    runs: Vec<(&'static str, Vec<Figures>)>,
}

impl<S: Fn(&str)> Rounds<'_, S> {
    /// All rounds of a stack.
    async fn on_a_stack(&mut self) -> anyhow::Result<()> {
        (self.say)("a stack with two orchestrators is made ready");
        let load = self.plan.load;
        for _ in 0..self.plan.times {
            let stack = Stack::start(&self.plan.program, &self.say).await?;
            self.baseline(run::STACK_BASELINE, self.of_baseline()).await?;
            self.there(run::STACK, &stack, &stack.one(), load).await?;
            self.there(run::STACK_ALONE, &stack, &stack.one(), single(load)).await?;
            self.there(run::STACK_TWO, &stack, &stack.both, load).await?;
            stack.stop().await?;
        }
        Ok(())
    }

    async fn once(&mut self) -> anyhow::Result<()> {
        let load = &self.plan.load;
        self.baseline(run::BASELINE, self.of_baseline()).await?;
        self.baseline(run::BASELINE_ALONE, single(*load)).await?;
        self.embedded(run::EMBEDDED, *load).await?;
        let rate = Summary::of(self.of(run::EMBEDDED).to_vec()).per_second.1;
        for (name, load) in loads(*load, rate) {
            self.embedded(name, load).await?;
        }
        Ok(())
    }

    fn of_baseline(&self) -> Load {
        Load { pace: Pace::Closed(self.plan.baseline_in_flight), ..self.plan.load }
    }

    async fn baseline(&mut self, name: &'static str, load: Load) -> anyhow::Result<()> {
        let figures = plan::baseline(&self.plan.program, load).await?;
        self.note(name, figures);
        Ok(())
    }

    async fn embedded(&mut self, name: &'static str, load: Load) -> anyhow::Result<()> {
        let look = Look { name, ..Look::default() };
        let figures = plan::embedded(&self.plan.program, load, &self.plan.flags, look).await?;
        self.note(name, figures);
        Ok(())
    }

    async fn there(
        &mut self,
        name: &'static str,
        stack: &Stack,
        place: &There,
        load: Load,
    ) -> anyhow::Result<()> {
        let figures = plan::there(&self.plan.program, place, load, name).await;
        stack.ensure_whole()?;
        let figures = figures?;
        self.note(name, figures);
        Ok(())
    }

    fn of(&self, name: &str) -> &[Figures] {
        self.runs.iter().find(|(known, _)| *known == name).map_or(&[], |(_, runs)| runs)
    }

    fn note(&mut self, name: &'static str, figures: Figures) {
        self.done += 1;
        (self.say)(&format!("[{} of {}] {name}: {}; {CLEAN}", self.done, self.all, figures.line()));
        match self.runs.iter_mut().find(|(known, _)| *known == name) {
            Some((_, runs)) => runs.push(figures),
            None => self.runs.push((name, vec![figures])),
        }
    }
}

/// Seconds until a second start on the same folder says that it is ready.
async fn start_again(program: &Path, flags: &[String]) -> anyhow::Result<f64> {
    let data = Embedded::start(program, flags).await?.stop().await?;
    let began = std::time::Instant::now();
    let again = Embedded::start_in(data, program, flags).await?;
    let took = began.elapsed();
    again.stop().await?;
    Ok(took.as_secs_f64())
}
