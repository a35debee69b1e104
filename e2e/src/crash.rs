//! The process dies at every crash point, and then at every pair of them: each order comes to an end that its kind may
//! have, and the auditor finds nothing.
//!
//! Many worlds side by side, each a database of its own on one server and one process after the other. A life is one
//! order: the process is told to die at the k-th point that is passed from then on, the order is sent, and whoever is
//! started next brings it to its end. In a pair the next one dies too, at the j-th point since its start. A kind is
//! through when its order ends, and everything is at rest, before its point is reached. Read next: `crash/world.rs` (one
//! life), `crash/board.rs` (which comes next), `crash/account.rs` (what came of it).

mod account;
mod board;
mod members;
mod survey;
mod world;

use std::{
    any::Any,
    panic::AssertUnwindSafe,
    path::PathBuf,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use futures_util::{FutureExt as _, future::join_all};

pub use self::{
    account::{Account, Life},
    board::{Board, Job, Second},
    survey::Survey,
    world::Ground,
};

use self::{members::Members, world::World};

/// How the worlds are run.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Side by side.
    pub worlds: usize,
    /// Every service is a process of its own, and one of them dies while the others live.
    pub stack: bool,
    /// The account is written here, now and then and at the end.
    pub report: PathBuf,
    /// Messages go over RabbitMQ, so that its points are passed too.
    pub amqp: Option<String>,
    /// Of the points only those after which something lasts: see [`chassis::crash::Among::Lasting`].
    pub lasting: bool,
    /// Lives of a world between two audits.
    pub audit_every: usize,
    /// No life is begun after this.
    pub limit: Option<Duration>,
}

/// Failures after which it is not worth going on.
const ENOUGH: usize = 25;

/// What the worlds share.
struct Shared {
    ground: Ground,
    options: Options,
    board: Mutex<Board>,
    account: Mutex<Account>,
    numbers: AtomicUsize,
    over: AtomicBool,
}

/// A panic of a life that failed leaves these as they were between two lives.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs every job of the board; what came of it.
pub async fn run(
    ground: &Ground,
    board: Board,
    account: Account,
    options: &Options,
    say: impl Fn(&str),
) -> Account {
    let began = Instant::now();
    let shared = Shared {
        ground: ground.clone(),
        options: options.clone(),
        board: Mutex::new(board),
        account: Mutex::new(account),
        numbers: AtomicUsize::new(0),
        over: AtomicBool::new(false),
    };
    let worlds = join_all((0..options.worlds.max(1)).map(|_| inhabit(&shared)));
    let watch = async {
        let mut told = Instant::now();
        loop {
            tokio::time::sleep(Duration::from_millis(200)).await;
            if options.limit.is_some_and(|limit| began.elapsed() > limit) {
                shared.over.store(true, Ordering::SeqCst);
            }
            if told.elapsed() > Duration::from_secs(15) {
                told = Instant::now();
                say(&progress(&shared, began));
                let mut account = lock(&shared.account).clone();
                account.close(&lock(&shared.board), began.elapsed());
                account.write(&options.report);
            }
        }
    };
    tokio::select! {
        _ = worlds => {}
        () = watch => {}
    }
    say(&progress(&shared, began));
    let mut account = lock(&shared.account).clone();
    account.close(&lock(&shared.board), began.elapsed());
    account.write(&options.report);
    account
}

fn progress(shared: &Shared, began: Instant) -> String {
    let (board, account) = (lock(&shared.board), lock(&shared.account));
    let seconds = began.elapsed().as_secs_f64();
    let (done, of) = board.progress();
    let here = account.here();
    let rate = here.deaths as f64 / seconds;
    let left = of.filter(|_| here.lives > 0).map_or_else(String::new, |of| {
        let left = of.saturating_sub(done) as f64 * seconds / here.lives as f64;
        format!(" of about {of}, about {:.0} min left", left / 60.0)
    });
    format!(
        "{seconds:>5.0} s: {done} lives{left}; {} deaths here, {rate:.1} a second; {} failures; {} audits",
        here.deaths,
        account.failures.len(),
        account.audits
    )
}

/// One world after the other: a life that fails ends its world, so that the next ones begin clean.
async fn inhabit(shared: &Shared) {
    let mut scene = None;
    loop {
        let is_over = shared.over.load(Ordering::SeqCst);
        let job = if is_over { None } else { lock(&shared.board).take() };
        let Some(job) = job else {
            // What others have in hand may have to be done again.
            if is_over || lock(&shared.board).is_done() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let number = shared.numbers.fetch_add(1, Ordering::SeqCst);
        let taken = scene.take();
        match AssertUnwindSafe(lead(shared, taken, &job, number)).catch_unwind().await {
            Ok((still, life, audit)) => {
                lock(&shared.board).note(&job, &life);
                lock(&shared.account).add(life, audit);
                scene = Some(still);
            }
            Err(panic) => {
                lock(&shared.board).give_up(&job);
                let mut account = lock(&shared.account);
                account.failures.push(format!("{job}: {}", text_of(&*panic)));
                shared.over.fetch_or(account.failures.len() >= ENOUGH, Ordering::SeqCst);
            }
        }
    }
    if let Some(mut scene) = scene {
        let end = async {
            let audit = scene.audit().await;
            scene.end().await;
            audit
        };
        let audit = AssertUnwindSafe(end).catch_unwind().await;
        lock(&shared.account).add_audit(audit.unwrap_or_else(|panic| Some(Err(text_of(&*panic)))));
    }
}

/// One life, in the world that is there or in a new one, and now and then an audit.
async fn lead(
    shared: &Shared,
    scene: Option<Scene>,
    job: &Job,
    number: usize,
) -> (Scene, Life, Option<Result<(), String>>) {
    let mut scene = match scene {
        Some(scene) => scene,
        None => Scene::begin(&shared.ground, &shared.options).await,
    };
    let life = scene.life(job, number).await;
    let audit = if scene.lives() >= shared.options.audit_every { scene.audit().await } else { None };
    (scene, life, audit)
}

/// Where lives are led.
enum Scene {
    One(Box<World>),
    Several(Box<Members>),
}

impl Scene {
    async fn begin(ground: &Ground, options: &Options) -> Self {
        if options.stack {
            Self::Several(Box::new(Members::begin().await))
        } else {
            Self::One(Box::new(World::begin(ground, options).await))
        }
    }

    async fn life(&mut self, job: &Job, number: usize) -> Life {
        match self {
            Self::One(world) => world.life(job, number).await,
            Self::Several(members) => members.life(job, number).await,
        }
    }

    fn lives(&self) -> usize {
        match self {
            Self::One(world) => world.lives(),
            Self::Several(members) => members.lives(),
        }
    }

    async fn audit(&mut self) -> Option<Result<(), String>> {
        match self {
            Self::One(world) => world.audit().await,
            Self::Several(members) => members.audit().await,
        }
    }

    async fn end(self) {
        match self {
            Self::One(world) => world.end().await,
            Self::Several(members) => members.end().await,
        }
    }
}

/// What a panic says.
fn text_of(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned())).unwrap_or_default()
}
