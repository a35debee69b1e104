//! A private Postgres cluster below the data folder, from the machine's own programs.
//!
//! `<data>/postgres/` holds `data/` (the cluster), `run/` (its socket), `log` and `port`. It listens on 127.0.0.1 only,
//! because its roles need no password, and `fsync` stays on. A server that outlived its `amends up` (killed, not
//! stopped) is found and used again. Everything here blocks; async callers use `spawn_blocking`. Read next:
//! `cluster/postmaster.rs`, then `provision.rs`, which fills it.

mod account;
mod binaries;
mod control;
mod error;
mod postmaster;

use std::{
    fs,
    net::{Ipv4Addr, TcpListener},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

pub use error::Error;

use account::Account;
use binaries::Binaries;
use control::Control;
use postmaster::{Found, Postmaster};

/// The longest path of a unix socket that every system takes, in bytes.
const SOCKET_PATH: usize = 103;
/// A free port can be taken before Postgres binds it; three times in a row is something else.
const PORTS: u32 = 3;
/// A server that is on its way up or down (crash recovery reads up to `max_wal_size`) gets this long.
const PATIENCE: Duration = Duration::from_secs(120);
/// The children of a killed server get this long to notice.
const ORPHANS: Duration = Duration::from_secs(15);

/// What a cluster is started from.
#[derive(Debug, Clone)]
pub struct Options {
    /// The data folder; the cluster lives in `postgres/` below it.
    pub data_dir: PathBuf,
    /// Folder with `initdb` and `pg_ctl`; none means: look for them.
    pub binaries: Option<PathBuf>,
}

/// A running cluster. Dropping it leaves it running.
#[derive(Debug, Clone)]
pub struct Cluster {
    control: Control,
    home: PathBuf,
    port: u16,
    socket: Option<PathBuf>,
    was_running: bool,
}

impl Cluster {
    /// Makes the cluster if it is not there and starts it if it does not run.
    ///
    /// # Errors
    /// What is missing or in the way, and what to do about it.
    pub fn start(options: &Options) -> Result<Self, Error> {
        let home = home(&options.data_dir)?;
        let data = home.join("data");
        let account = Account::choose(&data)?;
        let major = major(&data)?;
        let binaries = Binaries::find(options.binaries.as_deref(), major)?;
        account::folder(&home, account)?;
        let control = Control { binaries, account, home: home.clone() };
        control.can_work()?;
        if major.is_none() {
            control.initialize()?;
        }
        if let Some(postmaster) = settled(&data)? {
            let port = postmaster.port.ok_or(Error::Unreadable { file: data.join(postmaster::FILE) })?;
            return Ok(Self { control, home, port, socket: postmaster.socket, was_running: true });
        }
        let socket = socket_folder(&home);
        if let Some(folder) = &socket {
            account::folder(folder, account)?;
        }
        let port = launch(&control, &home, socket.as_deref())?;
        Ok(Self { control, home, port, socket, was_running: false })
    }

    /// `postgres://…` for a role and a database: by the socket where there is one, else by TCP.
    #[must_use]
    pub fn url(&self, role: &str, database: &str) -> String {
        match &self.socket {
            Some(folder) => {
                format!("postgres://{role}@localhost:{}/{database}?host={}", self.port, percent(folder))
            }
            None => self.tcp_url(role, database),
        }
    }

    /// `postgres://…` by TCP, for people and other programs.
    #[must_use]
    pub fn tcp_url(&self, role: &str, database: &str) -> String {
        format!("postgres://{role}@127.0.0.1:{}/{database}", self.port)
    }

    /// On 127.0.0.1.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// Whether an earlier process had left it running.
    #[must_use]
    pub const fn was_running(&self) -> bool {
        self.was_running
    }

    /// Whether its server is alive.
    #[must_use]
    pub fn is_running(&self) -> bool {
        matches!(postmaster::look(&self.home.join("data")), Found::Alive(_))
    }

    /// Starts its server again where it was, after it died.
    ///
    /// # Errors
    /// What `pg_ctl` said.
    pub fn revive(&self) -> Result<(), Error> {
        let data = self.home.join("data");
        if settled(&data)?.is_some() {
            return Ok(());
        }
        configure(&self.control, &data, self.port, self.socket.as_deref())?;
        start(&self.control)
    }

    /// Stops it: connections are cut, what is committed is on disk.
    ///
    /// # Errors
    /// When it does not end within a minute.
    pub fn stop(&self) -> Result<(), Error> {
        if self.is_running() { self.control.stop() } else { Ok(()) }
    }
}

fn home(data_dir: &Path) -> Result<PathBuf, Error> {
    fs::create_dir_all(data_dir).map_err(Error::io("make", data_dir))?;
    let folder = fs::canonicalize(data_dir).map_err(Error::io("find", data_dir))?;
    Ok(folder.join("postgres"))
}

/// The version that made the cluster; none when there is no cluster.
fn major(data: &Path) -> Result<Option<u32>, Error> {
    let file = data.join("PG_VERSION");
    match fs::read_to_string(&file) {
        Ok(text) => text.trim().parse().map(Some).map_err(|_| Error::Unreadable { file }),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::io("read", file)(error)),
    }
}

/// Waits until a server that is there takes queries or is gone. What is stale is taken away, because Postgres would
/// take the other process for itself and refuse to start.
fn settled(data: &Path) -> Result<Option<Postmaster>, Error> {
    let begin = Instant::now();
    loop {
        match postmaster::look(data) {
            Found::Nothing => return Ok(None),
            Found::Stale => {
                let file = data.join(postmaster::FILE);
                fs::remove_file(&file).map_err(Error::io("remove", file))?;
                return Ok(None);
            }
            Found::Alive(postmaster) if postmaster.is_ready => return Ok(Some(postmaster)),
            Found::Alive(postmaster) if begin.elapsed() > PATIENCE => {
                return Err(Error::Stuck { pid: postmaster.pid, folder: data.to_owned() });
            }
            Found::Alive(_) => std::thread::sleep(Duration::from_millis(50)),
        }
    }
}

fn socket_folder(home: &Path) -> Option<PathBuf> {
    let folder = home.join("run");
    let path = folder.join(".s.PGSQL.65535");
    // In the configuration file a comma would separate two folders.
    let is_plain = folder.to_str().is_some_and(|text| !text.contains([',', '\'', '"', '\\', '\n']));
    (is_plain && path.as_os_str().len() <= SOCKET_PATH).then_some(folder)
}

/// Starts the server on the port it had, or on a free one; remembers it in `port`.
fn launch(control: &Control, home: &Path, socket: Option<&Path>) -> Result<u16, Error> {
    let data = home.join("data");
    let file = home.join("port");
    let remembered = fs::read_to_string(&file).ok().and_then(|text| text.trim().parse().ok());
    let mut port = free_port(remembered)?;
    for attempt in 1.. {
        configure(control, &data, port, socket)?;
        match start(control) {
            Err(error) if attempt < PORTS && error.is_port_taken() => port = free_port(None)?,
            Err(error) => return Err(error),
            Ok(()) => break,
        }
    }
    fs::write(&file, format!("{port}\n")).map_err(Error::io("write", file))?;
    Ok(port)
}

/// Starts the server. The children of one that was killed notice within moments; until then Postgres refuses.
fn start(control: &Control) -> Result<(), Error> {
    let begin = Instant::now();
    loop {
        match control.start() {
            Err(error) if error.has_orphans() && begin.elapsed() < ORPHANS => {
                std::thread::sleep(Duration::from_millis(100));
            }
            ended => return ended,
        }
    }
}

fn free_port(wanted: Option<u16>) -> Result<u16, Error> {
    let bind = |port: u16| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).and_then(|l| l.local_addr());
    let address = match wanted.map(bind) {
        Some(Ok(address)) => address,
        Some(Err(_)) | None => bind(0).map_err(Error::NoPort)?,
    };
    Ok(address.port())
}

/// Our part of the configuration, written at each start. Sizes fit a laptop; `field/hotpath.md` found that no setting
/// beyond these helps, while tables are small. With a million orders in them a third of the WAL is whole pages, which
/// compress well. 200 connections: eight services with at most 12, and room for people.
fn configure(control: &Control, data: &Path, port: u16, socket: Option<&Path>) -> Result<(), Error> {
    let socket = socket.map(|folder| folder.display().to_string()).unwrap_or_default();
    let compression = if control.knows("wal_compression", "lz4") { "lz4" } else { "off" };
    let text = format!(
        "# Written by amends at each start. Your own settings belong below the `include` in postgresql.conf.\n\
         listen_addresses = '127.0.0.1'\n\
         port = {port}\n\
         unix_socket_directories = '{socket}'\n\
         max_connections = 200\n\
         shared_buffers = '256MB'\n\
         max_wal_size = '4GB'\n\
         wal_compression = {compression}\n\
         fsync = on\n\
         synchronous_commit = on\n\
         autovacuum_naptime = '10s'\n\
         log_line_prefix = '%m [%p] %a '\n\
         log_checkpoints = off\n\
         timezone = 'UTC'\n\
         log_timezone = 'UTC'\n"
    );
    let file = data.join(control::SETTINGS);
    fs::write(&file, text).map_err(Error::io("write", &file))?;
    account::give(&file, control.account)
}

/// A path as the value of a URL's parameter.
fn percent(path: &Path) -> String {
    path.as_os_str().as_encoded_bytes().iter().fold(String::new(), |mut text, byte| {
        match byte {
            b'/' | b'.' | b'-' | b'_' | b'~' => text.push(char::from(*byte)),
            byte if byte.is_ascii_alphanumeric() => text.push(char::from(*byte)),
            byte => text.push_str(&format!("%{byte:02X}")),
        }
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_path_has_no_socket() {
        assert_eq!(socket_folder(Path::new("/srv/amends/postgres")), Some("/srv/amends/postgres/run".into()));
        let long = PathBuf::from("/x".repeat(60));
        assert_eq!(socket_folder(&long), None);
        assert_eq!(socket_folder(Path::new("/it's/here")), None);
    }

    #[test]
    fn a_socket_path_survives_a_url() {
        assert_eq!(percent(Path::new("/a b/ü&c")), "/a%20b/%C3%BC%26c");
    }

    #[test]
    fn the_remembered_port_is_used_only_while_it_is_free() {
        let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = taken.local_addr().unwrap().port();
        assert_ne!(free_port(Some(port)).unwrap(), port);
        drop(taken);
        assert_eq!(free_port(Some(port)).unwrap(), port);
    }
}
