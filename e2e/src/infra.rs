//! Servers of a scenario's own, which it may stop, kill and start again on the port they had.
//!
//! The ones that all tests share must stay up. Each lives in a folder of its own, as an unprivileged user where we are
//! root, listens on 127.0.0.1 only, and ends with its guard. `cargo xtask test` sees to it that the programs are there.

use std::{
    net::{SocketAddr, TcpListener},
    os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown},
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use chassis::testbed::variable;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    process::{Child, Command},
};

use crate::{eventually_within, process::folder};

/// Where Debian and others keep the scripts that start a node without changing user and folders.
const RABBIT_FOLDERS: [&str; 2] = ["/usr/lib/rabbitmq/bin", "/usr/local/sbin"];

/// Where Debian and others keep the program that asks an Erlang node without being one.
const ERL_CALLS: [&str; 2] = ["/usr/lib/erlang/bin/erl_call", "/usr/local/lib/erlang/bin/erl_call"];

const COOKIE: &str = "AMENDSPRIVATENODE";

const RABBIT_CONFIG: &str = "\
disk_free_limit.absolute = 50MB
vm_memory_high_watermark.relative = 0.6
raft.wal_max_size_bytes = 67108864
log.file.level = warning
";

const RABBIT_ERLANG: &str =
    "+sbwt none +sbwtdcpu none +sbwtdio none -kernel inet_dist_use_interface {127,0,0,1} -start_epmd false";

/// How a server is asked to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// In order: Postgres' fast shutdown.
    Gently,
    /// `kill -9`; for Postgres its immediate shutdown, which is the same to its clients and its data.
    AtOnce,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Postgres,
    Redis,
    Rabbit,
}

/// A private server.
pub struct Server {
    kind: Kind,
    home: PathBuf,
    /// Where it listens whenever it runs.
    pub address: SocketAddr,
    /// RabbitMQ's second port, and epmd's.
    more_ports: [u16; 2],
    companion: Option<Child>,
    child: Option<Child>,
}

impl Server {
    /// A Postgres cluster, durable like a real one.
    pub async fn postgres() -> Self {
        let server = Self::made(Kind::Postgres, "pg", &["postgres", "nobody"]);
        let mut initdb = server.command(&Path::new(&variable("AMENDS_TEST_POSTGRES_BIN")).join("initdb"));
        initdb.arg("-D").arg(server.home.join("data")).args(["-U", "postgres", "--auth=trust", "-E", "UTF8"]);
        initdb.args(["--locale=C.UTF-8", "--no-instructions", "--no-sync"]).stdout(Stdio::null());
        assert!(initdb.status().await.unwrap().success(), "initdb");
        server.started().await
    }

    /// A Redis that keeps nothing.
    pub async fn redis() -> Self {
        Self::made(Kind::Redis, "redis", &["redis", "nobody"]).started().await
    }

    /// A RabbitMQ node, with an epmd of its own. Takes about ten seconds.
    pub async fn rabbit() -> Self {
        let mut server = Self::made(Kind::Rabbit, "rabbit", &["rabbitmq", "nobody"]);
        for (name, text, mode) in [
            ("rabbitmq.conf", RABBIT_CONFIG, 0o600),
            ("enabled_plugins", "[].\n", 0o600),
            (".erlang.cookie", COOKIE, 0o400),
        ] {
            let file = server.home.join(name);
            std::fs::write(&file, text).unwrap();
            std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).unwrap();
            server.give(&file);
        }
        let mut epmd = server.command(Path::new("epmd"));
        epmd.args(["-port", &server.more_ports[1].to_string(), "-address", "127.0.0.1"]);
        server.companion = Some(epmd.spawn().unwrap());
        server.started().await
    }

    /// For Postgres the superuser's.
    #[must_use]
    pub fn url(&self) -> String {
        match self.kind {
            Kind::Postgres => format!("postgres://postgres@{}/postgres", self.address),
            Kind::Redis => format!("redis://{}/", self.address),
            Kind::Rabbit => format!("amqp://guest:guest@{}/%2f", self.address),
        }
    }

    /// Ends it; returns when it has ended.
    pub async fn stop(&mut self, end: End) {
        let mut child = self.child.take().expect("it runs");
        let signal = match (self.kind, end) {
            (Kind::Postgres, End::Gently) => "INT",
            (Kind::Postgres, End::AtOnce) => "QUIT",
            (_, End::Gently) => "TERM",
            (_, End::AtOnce) => "KILL",
        };
        // RabbitMQ's start script runs the node beside itself: its own number is in a file.
        if self.kind == Kind::Rabbit && end == End::AtOnce {
            self.kill_node();
        }
        let pid = child.id().unwrap().to_string();
        assert!(Command::new("kill").args([&format!("-{signal}"), &pid]).status().await.unwrap().success());
        let ended = tokio::time::timeout(Duration::from_secs(30), child.wait()).await;
        ended.expect("it ends in time").unwrap();
        // Or what comes next is no restart.
        eventually_within(Duration::from_secs(30), "nobody serves there any more", || async {
            TcpStream::connect(self.address).await.is_err().then_some(())
        })
        .await;
    }

    fn kill_node(&self) {
        let Ok(pid) = std::fs::read_to_string(self.home.join("rabbit.pid")) else { return };
        let _ = std::process::Command::new("kill").args(["-KILL", pid.trim()]).status();
    }

    /// Starts it again, with what it had; returns when it serves.
    pub async fn start(&mut self) {
        // Its port may be somebody's for a moment, as the near end of a connection: then it ends at once, and is tried again.
        for _ in 0..10 {
            self.spawn();
            let mut child = self.child.take().expect("it was just started");
            let serves = serves(self.kind, self.address, self.home.clone());
            let ended = tokio::select! {
                () = serves => None,
                ended = child.wait() => Some(ended),
            };
            let Some(ended) = ended else {
                self.child = Some(child);
                return;
            };
            eprintln!("{:?} ended while it started ({ended:?}); once more", self.kind);
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        let log = std::fs::read_to_string(self.home.join("log")).unwrap_or_default();
        panic!("{:?} does not start: {log}", self.kind);
    }

    fn made(kind: Kind, name: &str, accounts: &[&str]) -> Self {
        let home = folder(name);
        let [port, second, third] = free_ports();
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        let server = Self { kind, home, address, more_ports: [second, third], companion: None, child: None };
        if let Some((uid, gid)) = account(accounts) {
            chown(&server.home, Some(uid), Some(gid)).unwrap();
        }
        server
    }

    /// As whoever owns its folder, and with its guard's life.
    fn command(&self, program: &Path) -> Command {
        let owner = std::fs::metadata(&self.home).unwrap();
        // The death signal is set after the user changes, or the kernel forgets it.
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--"]).arg(program);
        if is_root() {
            command.uid(owner.uid()).gid(owner.gid());
        }
        command.current_dir(&self.home).env("HOME", &self.home).stdin(Stdio::null()).kill_on_drop(true);
        let log = std::fs::OpenOptions::new().create(true).append(true).open(self.home.join("log")).unwrap();
        command.stdout(log.try_clone().unwrap()).stderr(log);
        command
    }

    fn give(&self, file: &Path) {
        if is_root() {
            let owner = std::fs::metadata(&self.home).unwrap();
            chown(file, Some(owner.uid()), Some(owner.gid())).unwrap();
        }
    }

    async fn started(mut self) -> Self {
        self.start().await;
        self
    }

    fn spawn(&mut self) {
        let port = self.address.port().to_string();
        let mut command = match self.kind {
            Kind::Postgres => {
                let mut command =
                    self.command(&Path::new(&variable("AMENDS_TEST_POSTGRES_BIN")).join("postgres"));
                command.arg("-D").arg(self.home.join("data")).args(["-p", &port]);
                for setting in ["listen_addresses=127.0.0.1", "unix_socket_directories=", "timezone=UTC"] {
                    command.args(["-c", setting]);
                }
                command.args(["-c", "max_connections=200"]);
                command
            }
            Kind::Redis => {
                let mut command = self.command(Path::new("redis-server"));
                command.args(["--port", &port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]);
                command
            }
            Kind::Rabbit => self.rabbit_command("rabbitmq-server", &port),
        };
        self.child = Some(command.spawn().unwrap());
    }

    /// What the node of RabbitMQ says to an Erlang expression, which ends with a full stop.
    ///
    /// # Errors
    /// The same, when it failed.
    pub async fn evaluate(&self, expression: &str) -> Result<String, String> {
        let port = self.address.port().to_string();
        let node = format!("amends-{port}@localhost");
        // `rabbitmqctl` starts a virtual machine of its own for every word, which on a busy machine takes a minute.
        let mut command = match ERL_CALLS.iter().map(Path::new).find(|path| path.exists()) {
            Some(erl_call) => {
                let mut command = self.command(erl_call);
                command.env("ERL_EPMD_PORT", self.more_ports[1].to_string());
                command.args(["-sname", &node, "-c", COOKIE, "-timeout", "30", "-e"]).stdin(Stdio::piped());
                command
            }
            None => {
                let mut command = self.rabbit_command("rabbitmqctl", &port);
                command.args(["--quiet", "-n", &node, "eval", expression]);
                command
            }
        };
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(|error| error.to_string())?;
        if let Some(mut says) = child.stdin.take() {
            says.write_all(format!("{expression}\n").as_bytes()).await.map_err(|error| error.to_string())?;
        }
        let output = child.wait_with_output().await.map_err(|error| error.to_string())?;
        let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
        let text = said(&output.stdout);
        if output.status.success() && !text.starts_with("{error") {
            Ok(text)
        } else {
            Err(format!("{text} {}", said(&output.stderr)))
        }
    }

    fn rabbit_command(&self, script: &str, port: &str) -> Command {
        let scripts = RABBIT_FOLDERS.iter().map(Path::new).find(|f| f.join("rabbitmq-server").exists());
        let mut command = self.command(&scripts.expect("RabbitMQ is installed").join(script));
        command.env_clear().env("PATH", std::env::var("PATH").unwrap_or_default()).env("HOME", &self.home);
        command.env("LANG", "C.UTF-8").env("ERL_EPMD_ADDRESS", "127.0.0.1");
        for (variable, value) in [
            ("RABBITMQ_NODENAME", format!("amends-{port}@localhost")),
            ("RABBITMQ_NODE_IP_ADDRESS", "127.0.0.1".into()),
            ("RABBITMQ_NODE_PORT", port.to_owned()),
            ("RABBITMQ_DIST_PORT", self.more_ports[0].to_string()),
            ("ERL_EPMD_PORT", self.more_ports[1].to_string()),
            ("RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS", RABBIT_ERLANG.into()),
        ] {
            command.env(variable, value);
        }
        for (variable, file) in [
            ("RABBITMQ_MNESIA_BASE", "mnesia"),
            ("RABBITMQ_LOG_BASE", "logs"),
            ("RABBITMQ_PID_FILE", "rabbit.pid"),
            ("RABBITMQ_CONFIG_FILE", "rabbitmq"),
            ("RABBITMQ_CONF_ENV_FILE", "none"),
            ("RABBITMQ_ADVANCED_CONFIG_FILE", "advanced.config"),
            ("RABBITMQ_ENABLED_PLUGINS_FILE", "enabled_plugins"),
        ] {
            command.env(variable, self.home.join(file));
        }
        command
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            if self.kind == Kind::Rabbit {
                self.kill_node();
            }
            if self.kind == Kind::Postgres {
                // It has children of its own; its immediate shutdown ends them.
                let pid = child.id().unwrap_or_default().to_string();
                let _ = std::process::Command::new("kill").args(["-QUIT", &pid]).status();
                for _ in 0..100 {
                    if child.try_wait().ok().flatten().is_some() {
                        break;
                    }
                    std::thread::sleep(Duration::from_millis(20));
                }
            }
            let _ = child.start_kill();
        }
        let _ = std::fs::remove_dir_all(&self.home);
    }
}

async fn serves(kind: Kind, address: SocketAddr, home: PathBuf) {
    let what = format!("{kind:?} serves; its log is {}/log", home.display());
    eventually_within(Duration::from_secs(240), &what, || async {
        match kind {
            // The port is open before queries are taken.
            Kind::Postgres => {
                let state = std::fs::read_to_string(home.join("data/postmaster.pid")).ok()?;
                (state.lines().nth(7)?.trim() == "ready").then_some(())
            }
            Kind::Redis => says(address, b"PING\r\n").await?.starts_with(b"+PONG").then_some(()),
            // Connection.Start comes once the node serves.
            Kind::Rabbit => (says(address, b"AMQP\x00\x00\x09\x01").await?.first() == Some(&1)).then_some(()),
        }
    })
    .await;
}

/// What a server says to a greeting.
async fn says(address: SocketAddr, greeting: &[u8]) -> Option<Vec<u8>> {
    let asked = async {
        let mut stream = TcpStream::connect(address).await.ok()?;
        stream.write_all(greeting).await.ok()?;
        let mut bytes = vec![0; 512];
        let read = stream.read(&mut bytes).await.ok()?;
        bytes.truncate(read);
        Some(bytes)
    };
    tokio::time::timeout(Duration::from_secs(1), asked).await.ok()?
}

fn is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0)
}

/// An unprivileged user, for root: Postgres refuses to run as root.
fn account(names: &[&str]) -> Option<(u32, u32)> {
    if !is_root() {
        return None;
    }
    let passwd = std::fs::read_to_string("/etc/passwd").unwrap();
    let find = |name: &&str| {
        let line = passwd.lines().find(|line| line.split(':').next() == Some(name))?;
        let mut fields = line.split(':').skip(2);
        Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
    };
    Some(names.iter().find_map(find).expect("an unprivileged account"))
}

fn free_ports() -> [u16; 3] {
    let listeners = [(); 3].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    listeners.map(|listener| listener.local_addr().unwrap().port())
}
