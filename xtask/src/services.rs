//! The three private services that tests run against, and `cargo xtask services`.
//!
//! Everything lives in one fresh temporary folder and on free ports, so any number of these run side by side. It must
//! never use or stop a service that was there before. Read next: `postgres.rs`, `rabbitmq.rs`, `redis.rs`.
#![expect(clippy::print_stderr, reason = "a tool for people: its progress goes to standard error")]

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use tempfile::TempDir;

use crate::machine::Machine;
use crate::service::Service;
use crate::stop::Stop;
use crate::{postgres, rabbitmq, redis};

/// RabbitMQ takes eight seconds on two idle cores, and these are seldom idle while a workspace compiles.
const PATIENCE: Duration = Duration::from_secs(180);
/// A free port can be taken before its service binds it; three clashes in a row are something else.
const ATTEMPTS: u32 = 3;

type Probe = Box<dyn Fn(&Service) -> bool>;

/// A service that was started and may or may not serve yet.
pub(crate) struct Launched {
    name: &'static str,
    begin: Instant,
    service: Service,
    companion: Option<Service>,
    url: String,
    probe: Probe,
}

impl Launched {
    pub(crate) fn new(
        name: &'static str,
        begin: Instant,
        service: Service,
        url: String,
        probe: impl Fn(&Service) -> bool + 'static,
    ) -> Self {
        Self { name, begin, service, companion: None, url, probe: Box::new(probe) }
    }

    /// A process that the service needs and that ends after it.
    pub(crate) fn with_companion(self, companion: Service) -> Self {
        Self { companion: Some(companion), ..self }
    }

    fn wait(&self, stop: &Stop) -> Result<()> {
        self.service.wait(PATIENCE, stop, &self.probe)?;
        eprintln!("{:<9} ready in {:>4.1} s  {}", self.name, self.begin.elapsed().as_secs_f64(), self.url);
        Ok(())
    }

    fn has_ended(&self) -> bool {
        self.service.has_ended() || self.companion.as_ref().is_some_and(Service::has_ended)
    }
}

/// Fields drop in this order: the services end before their folder goes.
pub(crate) struct Services {
    postgres: Launched,
    rabbitmq: Launched,
    redis: Launched,
    postgres_binaries: PathBuf,
    home: Home,
}

/// Where they live. Each test made databases of hundreds of files, and a disk takes its time to remove one: so they are
/// removed side by side.
struct Home(TempDir);

impl Home {
    const AT_ONCE: usize = 8;

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn databases(&self) -> Vec<PathBuf> {
        let inside =
            |folder: PathBuf| fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
        inside(self.path().to_owned()).flat_map(|service| inside(service.join("data/base"))).collect()
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        let databases = Mutex::new(self.databases().into_iter());
        let next = || databases.lock().ok()?.next();
        thread::scope(|scope| {
            for _ in 0..Self::AT_ONCE {
                scope.spawn(|| {
                    while let Some(folder) = next() {
                        // The temporary folder takes what is left.
                        let _ = fs::remove_dir_all(folder);
                    }
                });
            }
        });
    }
}

impl Services {
    pub(crate) fn start(machine: &Machine, stop: &Stop) -> Result<Self> {
        Self::start_with(machine, stop, postgres::Manner::Tests)
    }

    /// With a Postgres as `amends up` sets up its own, so that both can be measured.
    pub(crate) fn start_as_up(machine: &Machine, stop: &Stop) -> Result<Self> {
        Self::start_with(machine, stop, postgres::Manner::Up)
    }

    fn start_with(machine: &Machine, stop: &Stop, manner: postgres::Manner) -> Result<Self> {
        let home = tempfile::Builder::new().prefix("amends-test-").tempdir();
        let home = Home(home.context("cannot make a temporary folder")?);
        // The accounts of the services have to pass through; each has a closed folder of its own inside.
        fs::set_permissions(home.path(), fs::Permissions::from_mode(0o711))
            .context("cannot open the folder")?;

        // RabbitMQ is the slow one: it boots while the others come up.
        let mut booting = Some(rabbitmq::launch(&machine.rabbitmq, home.path())?);
        let redis = until_ready(stop, || redis::launch(&machine.redis, home.path()))?;
        let postgres = until_ready(stop, || postgres::launch(&machine.postgres, home.path(), manner))?;
        let rabbitmq = until_ready(stop, || match booting.take() {
            Some(launched) => Ok(launched),
            None => rabbitmq::launch(&machine.rabbitmq, home.path()),
        })?;
        Ok(Self { postgres, rabbitmq, redis, postgres_binaries: machine.postgres.folder.clone(), home })
    }

    /// A folder for what tests write; it goes with the services, so nobody has to tidy up after a test that failed.
    pub(crate) fn scratch(&self) -> Result<PathBuf> {
        let scratch = self.home.path().join("t");
        fs::create_dir_all(&scratch).context("cannot make a folder for the tests")?;
        // A private Postgres of a test runs as another account.
        fs::set_permissions(&scratch, fs::Permissions::from_mode(0o1777)).context("cannot open it")?;
        Ok(scratch)
    }

    /// What the tests read. The Postgres url is a superuser's: tests make databases and roles of their own.
    pub(crate) fn environment(&self) -> [(&'static str, String); 4] {
        [
            ("AMENDS_TEST_POSTGRES_URL", self.postgres.url.clone()),
            ("AMENDS_TEST_AMQP_URL", self.rabbitmq.url.clone()),
            ("AMENDS_TEST_REDIS_URL", self.redis.url.clone()),
            ("AMENDS_TEST_POSTGRES_BIN", self.postgres_binaries.display().to_string()),
        ]
    }

    /// Fails as soon as one of them is gone; nobody else would say why the tests hang.
    pub(crate) fn check(&self) -> Result<()> {
        for launched in [&self.postgres, &self.rabbitmq, &self.redis] {
            if launched.has_ended() {
                let log = launched.service.log_end();
                bail!("{} ended by itself; the end of its log:\n{log}", launched.name);
            }
        }
        Ok(())
    }
}

/// A folder for servers that somebody else starts: their accounts may pass through, and it goes with its guard.
pub(crate) fn folder() -> Result<TempDir> {
    let home = tempfile::Builder::new().prefix("amends-test-").tempdir();
    let home = home.context("cannot make a temporary folder")?;
    fs::set_permissions(home.path(), fs::Permissions::from_mode(0o1777)).context("cannot open the folder")?;
    Ok(home)
}

/// `cargo xtask services`.
pub(crate) fn stay() -> Result<ExitCode> {
    let stop = Stop::listen()?;
    let machine = Machine::prepare(&stop)?;
    let services = Services::start(&machine, &stop)?;

    let mut output = std::io::stdout().lock();
    for (name, value) in services.environment() {
        writeln!(output, "export {name}='{value}'").context("cannot write to standard output")?;
    }
    output.flush().context("cannot write to standard output")?;
    drop(output);
    eprintln!("Ctrl-C stops them.");

    while !stop.asked() {
        services.check()?;
        std::thread::sleep(Duration::from_millis(100));
    }
    eprintln!("stopping");
    Ok(ExitCode::SUCCESS)
}

fn until_ready(stop: &Stop, mut launch: impl FnMut() -> Result<Launched>) -> Result<Launched> {
    let mut attempt = 1;
    loop {
        let launched = launch()?;
        match launched.wait(stop) {
            Ok(()) => return Ok(launched),
            Err(error) if attempt == ATTEMPTS || stop.asked() => return Err(error),
            Err(error) => eprintln!("{} again, on other ports: {error:#}", launched.name),
        }
        attempt += 1;
    }
}
