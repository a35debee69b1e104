//! The real program in a process of its own, on free ports over a data folder of its own.

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpStream,
    os::unix::fs::PermissionsExt as _,
    path::PathBuf,
    process::{Child, Command, Output, Stdio},
    sync::mpsc,
    time::{Duration, Instant},
};

use amends::cluster::{Cluster, Options};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

/// How long anything may take on a machine that compiles beside it.
const PATIENCE: Duration = Duration::from_secs(60);

/// A data folder; its cluster is stopped at the end, also when a test fails.
pub(crate) struct Place {
    pub(crate) data_dir: PathBuf,
    _folder: TempDir,
}

impl Place {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        // As root the cluster runs as another account, which must get here.
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o711)).unwrap();
        Self { data_dir: folder.path().join("data"), _folder: folder }
    }

    pub(crate) fn postmaster(&self) -> Option<Pid> {
        let text = fs::read_to_string(self.data_dir.join("postgres/data/postmaster.pid")).ok()?;
        Pid::from_raw(text.lines().next()?.parse().ok()?)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let options = Options { data_dir: self.data_dir.clone(), binaries: Some(binaries()) };
        if self.postmaster().is_some()
            && let Ok(cluster) = Cluster::start(&options)
        {
            let _ = cluster.stop();
        }
    }
}

pub(crate) fn binaries() -> PathBuf {
    PathBuf::from(chassis::testbed::variable("AMENDS_TEST_POSTGRES_BIN"))
}

/// The program with these words, without the variables of whoever runs the tests.
pub(crate) fn amends(words: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_amends"));
    for (name, _) in std::env::vars_os() {
        let is_ours = name.to_string_lossy().starts_with("AMENDS_");
        if is_ours {
            command.env_remove(name);
        }
    }
    command.args(words).stdin(Stdio::null());
    command
}

/// Runs it to its end.
pub(crate) fn run(words: &[&str]) -> Output {
    amends(words).output().unwrap()
}

pub(crate) fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A server that said `ready`.
pub(crate) struct Server {
    child: Child,
    ready: String,
    said: mpsc::Receiver<String>,
}

impl Server {
    /// `amends up` on free ports.
    pub(crate) fn up(place: &Place, more: &[&str]) -> Self {
        let words = ["up", "--grpc-listen", "127.0.0.1:0", "--http-listen", "127.0.0.1:0", "--postgres-bin"];
        let mut command = amends(&words);
        command.arg(binaries()).arg("--data-dir").arg(&place.data_dir).args(more);
        Self::start(command)
    }

    pub(crate) fn start(mut command: Command) -> Self {
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let (say, said) = mpsc::channel();
        let errors = BufReader::new(child.stderr.take().unwrap());
        std::thread::spawn(move || errors.lines().map_while(Result::ok).try_for_each(|line| say.send(line)));
        let mut server = Self { child, ready: String::new(), said };
        let begin = Instant::now();
        let mut before = Vec::new();
        loop {
            match server.said.recv_timeout(PATIENCE.saturating_sub(begin.elapsed())) {
                Ok(line) if line.starts_with("ready ") => {
                    server.ready = line;
                    return server;
                }
                Ok(line) => before.push(line),
                Err(why) => panic!("it never said `ready` ({why}), but:\n{}", before.join("\n")),
            }
        }
    }

    /// An address of the line `ready`.
    pub(crate) fn address(&self, name: &str) -> String {
        let found = self.ready.split(' ').find_map(|word| word.strip_prefix(&format!("{name}=")));
        found.unwrap_or_else(|| panic!("no {name} in `{}`", self.ready)).to_owned()
    }

    /// One of the operator's commands against it.
    pub(crate) fn ask(&self, words: &[&str]) -> Output {
        let server = format!("http://{}", self.address("grpc"));
        run(&[words, &["--server", &server]].concat())
    }

    /// The same, with its JSON.
    pub(crate) fn json(&self, words: &[&str]) -> serde_json::Value {
        let output = self.ask(&[words, &["--json"]].concat());
        assert!(output.status.success(), "{words:?}: {}", stderr(&output));
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// Its HTTP side door: the whole answer.
    pub(crate) fn get(&self, path: &str) -> String {
        let mut stream = TcpStream::connect(self.address("http")).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    /// What it said to standard error since it was ready, once it has ended.
    pub(crate) fn rest(&self) -> Vec<String> {
        self.said.iter().collect()
    }

    pub(crate) fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// Sends a signal and waits for the end; its exit code, if it was not killed.
    pub(crate) fn end(&mut self, signal: Signal) -> Option<i32> {
        kill_process(self.pid(), signal).unwrap();
        let begin = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code();
            }
            assert!(begin.elapsed() < PATIENCE, "{signal:?} does not end it");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Tries until it works.
pub(crate) fn eventually(what: &str, mut works: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !works() {
        assert!(begin.elapsed() < PATIENCE, "{what}: not within {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(50));
    }
}
