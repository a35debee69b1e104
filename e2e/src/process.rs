//! The real binary as a process of its own: started, killed, stopped, woken.

use std::{
    collections::HashMap,
    io::Write as _,
    path::{Path, PathBuf},
    process::Stdio,
    sync::{Arc, Mutex},
    time::Duration,
};

use chassis::{
    grpc::{self, Callee},
    testbed::variable,
};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    process::{Child, ChildStdin, Command},
    sync::{mpsc, oneshot},
};

/// A folder that another user may look through, since the private Postgres runs as one.
#[must_use]
pub fn folder(name: &str) -> PathBuf {
    let path = std::env::temp_dir().join(format!("amends-{name}-{}", chassis::clock::new_uuid().simple()));
    std::fs::create_dir_all(&path).unwrap();
    path
}

/// How a binary is started.
#[derive(Debug, Clone, Default)]
pub struct Launch {
    pub arguments: Vec<String>,
    pub environment: Vec<(String, String)>,
    /// Its lines go to our standard error behind this; without it they are kept for the day it does not start.
    pub label: Option<String>,
    /// Its lines are written here as well.
    pub log: Option<PathBuf>,
    /// It reads crash points from its standard input (`--crash-at`).
    pub obeys: bool,
}

/// Among a launch's variables it names another program than the one under test: an older build of it.
pub const PROGRAM: &str = "AMENDS_TEST_BINARY";

impl Launch {
    fn program(&self) -> String {
        let named = self.environment.iter().rev().find(|(name, _)| name == PROGRAM);
        named.map_or_else(|| variable(PROGRAM), |(_, path)| path.clone())
    }
}

/// A running binary.
pub struct Process {
    child: Child,
    /// Apart from the child, which closes it when its end is waited for.
    stdin: Option<ChildStdin>,
    /// What it said in its line `ready`.
    pub addresses: HashMap<String, String>,
    /// What it says of crash points.
    words: mpsc::UnboundedReceiver<String>,
}

impl Process {
    /// Starts `amends` with these arguments and waits for its line `ready`.
    pub async fn start(arguments: &[&str], environment: &[(&str, String)]) -> Self {
        let launch = Launch {
            arguments: arguments.iter().map(|&a| a.to_owned()).collect(),
            environment: environment.iter().map(|(k, v)| ((*k).to_owned(), v.clone())).collect(),
            label: std::env::var("AMENDS_TEST_VERBOSE").ok().map(|_| String::new()),
            ..Launch::default()
        };
        Self::launch(&launch).await.unwrap_or_else(|said| panic!("it did not start:\n{said}"))
    }

    /// The same.
    ///
    /// # Errors
    /// What it said before it ended.
    pub async fn launch(launch: &Launch) -> Result<Self, String> {
        let mut command = program(launch.program());
        command.args(&launch.arguments).envs(launch.environment.iter().map(|(k, v)| (k, v)));
        command.stdin(if launch.obeys { Stdio::piped() } else { Stdio::null() });
        command.stdout(Stdio::null()).stderr(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let (tell, told) = oneshot::channel();
        let (speak, words) = mpsc::unbounded_channel();
        let label = launch.label.clone();
        let said = Arc::new(Mutex::new(Vec::new()));
        let heard = Arc::clone(&said);
        let mut log = launch.log.as_ref().map(|path| std::fs::File::create(path).unwrap());
        // Read to its end, or the process would block on a full pipe.
        tokio::spawn(async move {
            let mut tell = Some(tell);
            while let Ok(Some(line)) = lines.next_line().await {
                if let Some(label) = &label {
                    eprintln!("{label}| {line}");
                }
                if let Some(log) = &mut log {
                    writeln!(log, "{line}").unwrap();
                }
                if line.starts_with("crash point") {
                    let _ = speak.send(line.clone());
                }
                if let Some(rest) = line.strip_prefix("ready ") {
                    let pairs = rest.split_whitespace().filter_map(|pair| pair.split_once('='));
                    let addresses = pairs.map(|(k, v)| (k.to_owned(), v.to_owned())).collect();
                    tell.take().map(|tell: oneshot::Sender<_>| tell.send(Ok(addresses)));
                }
                if tell.is_some() {
                    said.lock().unwrap().push(line);
                }
            }
            tell.map(|tell| tell.send(Err(said.lock().unwrap().join("\n"))));
        });
        let told = tokio::time::timeout(Duration::from_secs(90), told).await;
        let addresses = told.map_err(|_| {
            format!("it is not ready after 90 s, and said:\n{}", heard.lock().unwrap().join("\n"))
        })?;
        let addresses = match addresses.unwrap() {
            Ok(addresses) => addresses,
            // Its last descriptor closes a moment after its standard error: whoever starts it again may not find it holding
            // anything.
            Err(said) => {
                let _ = child.kill().await;
                return Err(said);
            }
        };
        Ok(Self { stdin: child.stdin.take(), child, addresses, words })
    }

    /// Its number.
    #[must_use]
    pub fn id(&self) -> Option<u32> {
        self.child.id()
    }

    /// Its exit code, or the signal's name, if it has ended by itself.
    pub fn ended(&mut self) -> Option<String> {
        self.child.try_wait().unwrap().map(|status| status.to_string())
    }

    /// `amends up` over a folder.
    pub async fn up(folder: &Path, more: &[&str]) -> Self {
        let folder = folder.to_str().unwrap().to_owned();
        let bin = variable("AMENDS_TEST_POSTGRES_BIN");
        let fixed =
            ["up", "--data-dir", &folder, "--grpc-listen", "127.0.0.1:0", "--http-listen", "127.0.0.1:0"];
        let arguments: Vec<&str> = [&fixed[..], &["--postgres-bin", &bin], more].concat();
        Self::start(&arguments, &[]).await
    }

    /// Its gRPC doors.
    #[must_use]
    pub fn callee(&self) -> Callee {
        grpc::remote(&format!("http://{}", self.addresses["grpc"])).unwrap()
    }

    /// `kill -9`.
    pub async fn kill(mut self) {
        self.child.kill().await.unwrap();
    }

    /// SIGTERM, and waits for its end; its exit code.
    pub async fn terminate(mut self) -> Option<i32> {
        self.signal("TERM").await;
        let ended = tokio::time::timeout(Duration::from_secs(40), self.child.wait()).await;
        ended.expect("it stops in time").unwrap().code()
    }

    /// SIGSTOP.
    pub async fn pause(&self) {
        self.signal("STOP").await;
    }

    /// SIGCONT.
    pub async fn wake(&self) {
        self.signal("CONT").await;
    }

    /// Tells it at which crash point to die, as in `7`, and waits until it heard; how many it passed since the last time.
    ///
    /// # Errors
    /// The point at which it died before it heard.
    pub async fn tell(&mut self, at: &str) -> Result<u64, String> {
        let stdin = self.stdin.as_mut().expect("it obeys");
        // It may be dead: then its last word says at which point.
        let _ = stdin.write_all(format!("{at}\n").as_bytes()).await;
        let _ = stdin.flush().await;
        self.word().await
    }

    /// The point at which it died.
    pub async fn last_word(&mut self) -> String {
        self.word().await.expect_err("it died")
    }

    /// The next thing that it says of crash points; it says it within a moment.
    async fn word(&mut self) -> Result<u64, String> {
        let word = tokio::time::timeout(Duration::from_secs(60), self.words.recv()).await;
        let word = word.expect("it says it in time").expect("it says something");
        if let Some(point) = word.strip_prefix("crash point: ") {
            return Err(point.to_owned());
        }
        let passed =
            word.rsplit_once("passed ").unwrap_or_else(|| panic!("it understands nothing: {word}")).1;
        Ok(passed.parse().unwrap())
    }

    /// SIGUSR2.
    pub async fn jump(&self) {
        self.signal("USR2").await;
    }

    /// Its end, by itself, and how.
    pub async fn wait(&mut self) -> String {
        self.child.wait().await.unwrap().to_string()
    }

    async fn signal(&self, name: &str) {
        let pid = self.child.id().unwrap().to_string();
        let done = Command::new("kill").args([&format!("-{name}"), &pid]).status().await.unwrap();
        assert!(done.success());
    }
}

/// The binary, with nothing of what a shell may have set for another.
fn program(path: String) -> Command {
    let mut command = Command::new(path);
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("AMENDS_") || text.starts_with("OTEL_") || text == "TRACEPARENT" {
            command.env_remove(name);
        }
    }
    command
}

/// Runs the binary to its end; exit code and standard output.
pub async fn run(arguments: &[&str], environment: &[(&str, String)]) -> (Option<i32>, String) {
    let mut command = program(variable(PROGRAM));
    command.args(arguments).envs(environment.iter().map(|(k, v)| (k, v))).stdin(Stdio::null());
    let output = command.output().await.unwrap();
    let text =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    (output.status.code(), text)
}
