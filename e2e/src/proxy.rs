//! A proxy in front of a server, which passes, refuses, swallows or cuts: what a network does to a connection.
//!
//! It knows one thing about what it passes on: where a Postgres client says COMMIT.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
    },
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        TcpListener, TcpSocket, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::{Notify, watch},
    task::JoinHandle,
};

/// What it does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    Pass,
    /// Nobody listens: connecting is refused.
    Refuse,
    /// Connecting works, and nothing that is said arrives, in either direction.
    Swallow,
}

/// What to do to the next connection on which a COMMIT passes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CutAt {
    /// The COMMIT never reaches the server.
    Before,
    /// It reaches the server, and its answer is lost.
    After,
}

/// How long the answer to a COMMIT is waited for that is then lost.
const ANSWERS_WITHIN: std::time::Duration = std::time::Duration::from_secs(2);

/// What a connection's client is to hear of its COMMIT.
#[derive(Default)]
struct Answer {
    is_lost: AtomicBool,
    came: Notify,
}

struct Shared {
    target: SocketAddr,
    manner: watch::Sender<Manner>,
    /// Rises when all connections are to be cut.
    cuts: watch::Sender<u64>,
    commits: Mutex<(u32, CutAt)>,
    /// What counts as a COMMIT, in what a client says.
    marks: &'static [&'static [u8]],
    cut_at_commit: AtomicU32,
    passed: AtomicU64,
}

/// A running proxy.
pub struct Proxy {
    /// Where to connect.
    pub address: SocketAddr,
    shared: Arc<Shared>,
    accepting: JoinHandle<()>,
}

/// How the orchestrator's commits look on the wire: the transaction's word, and its one-statement group commit, which is
/// prepared once and then named by a Bind; there the parameters tell it from a read.
const MARKS: &[&[u8]] =
    &[b"COMMIT\0", b"PivotPassed", b"StepDone", b"TurnedRound", b"Finished", b"CommandSent"];

impl Proxy {
    /// In front of `target`.
    pub async fn to(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            target,
            manner: watch::channel(Manner::Pass).0,
            cuts: watch::channel(0).0,
            commits: Mutex::new((0, CutAt::Before)),
            marks: MARKS,
            cut_at_commit: AtomicU32::new(0),
            passed: AtomicU64::new(0),
        });
        let accepting = tokio::spawn(accept(Some(listener), address, Arc::clone(&shared)));
        Self { address, shared, accepting }
    }

    /// In front of the server of a URL; the URL that leads here.
    pub async fn in_front_of(url: &str) -> (Self, String) {
        let after = url.split_once("://").unwrap().1;
        let authority = after.split(['/', '?']).next().unwrap();
        let address = authority.rsplit_once('@').map_or(authority, |(_, address)| address);
        let proxy = Self::to(address.parse().unwrap()).await;
        let leads_here = url.replace(address, &proxy.address.to_string());
        (proxy, leads_here)
    }

    /// From now on.
    pub fn set(&self, manner: Manner) {
        self.shared.manner.send_replace(manner);
    }

    /// Cuts every connection that stands.
    pub fn cut(&self) {
        self.shared.cuts.send_modify(|cuts| *cuts += 1);
    }

    /// As if the server were gone: what stands is cut, and connecting is refused.
    pub fn take_down(&self) {
        self.set(Manner::Refuse);
        self.cut();
    }

    /// It is there again.
    pub fn bring_back(&self) {
        self.set(Manner::Pass);
    }

    /// Cuts the next `times` connections on which a COMMIT passes.
    pub fn cut_at_commit(&self, times: u32, at: CutAt) {
        *self.shared.commits.lock().unwrap_or_else(PoisonError::into_inner) = (times, at);
    }

    /// How many were cut at a COMMIT so far.
    #[must_use]
    pub fn cut_so_far(&self) -> u32 {
        self.shared.cut_at_commit.load(Ordering::SeqCst)
    }

    /// Bytes that passed, both ways.
    #[must_use]
    pub fn passed(&self) -> u64 {
        self.shared.passed.load(Ordering::SeqCst)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.cut();
        self.accepting.abort();
    }
}

async fn accept(mut listener: Option<TcpListener>, address: SocketAddr, shared: Arc<Shared>) {
    let mut manner = shared.manner.subscribe();
    loop {
        let refuses = *manner.borrow_and_update() == Manner::Refuse;
        match (refuses, listener.is_some()) {
            (true, true) => listener = None,
            (false, false) => listener = listen(address),
            _ => {}
        }
        let Some(open) = &listener else {
            let _ = tokio::time::timeout(std::time::Duration::from_millis(20), manner.changed()).await;
            continue;
        };
        tokio::select! {
            accepted = open.accept() => {
                if let Ok((client, _)) = accepted {
                    tokio::spawn(carry(client, Arc::clone(&shared)));
                }
            }
            _ = manner.changed() => {}
        }
    }
}

fn listen(address: SocketAddr) -> Option<TcpListener> {
    let socket = TcpSocket::new_v4().ok()?;
    socket.set_reuseaddr(true).ok()?;
    socket.bind(address).ok()?;
    socket.listen(1024).ok()
}

/// Ends when either side does, or when it is cut; both ends are then reset.
async fn carry(client: TcpStream, shared: Arc<Shared>) {
    let mut cuts = shared.cuts.subscribe();
    cuts.borrow_and_update();
    let work = async {
        let mut manner = shared.manner.subscribe();
        // Whoever connects while everything is swallowed waits for it to end.
        let _ = manner.wait_for(|manner| *manner != Manner::Swallow).await;
        let Ok(server) = TcpStream::connect(shared.target).await else { return };
        let _ = (client.set_nodelay(true), server.set_nodelay(true));
        let (from_client, to_client) = client.into_split();
        let (from_server, to_server) = server.into_split();
        let answer = Answer::default();
        tokio::select! {
            () = pass(from_client, to_server, &shared, &answer) => {}
            () = pass_back(from_server, to_client, &shared, &answer) => {}
        }
    };
    tokio::select! {
        () = work => {}
        _ = cuts.changed() => {}
    }
}

/// From the client to the server, where a COMMIT may be cut.
async fn pass(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, shared: &Shared, answer: &Answer) {
    let mut manner = shared.manner.subscribe();
    let mut bytes = vec![0; 64 * 1024];
    loop {
        let Ok(read @ 1..) = from.read(&mut bytes).await else { return };
        let _ = manner.wait_for(|manner| *manner != Manner::Swallow).await;
        let said = &bytes[..read];
        let cut = if shared.marks.iter().any(|mark| contains(said, mark)) { take_cut(shared) } else { None };
        if cut == Some(CutAt::Before) {
            return;
        }
        if cut == Some(CutAt::After) {
            answer.is_lost.store(true, Ordering::SeqCst);
        }
        if to.write_all(said).await.is_err() {
            return;
        }
        shared.passed.fetch_add(read as u64, Ordering::SeqCst);
        if cut == Some(CutAt::After) {
            // The server has done it when it answers; if it hangs, it works on while its client is gone.
            let _ = tokio::time::timeout(ANSWERS_WITHIN, answer.came.notified()).await;
            return;
        }
    }
}

/// From the server to the client.
async fn pass_back(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, shared: &Shared, answer: &Answer) {
    let mut manner = shared.manner.subscribe();
    let mut bytes = vec![0; 64 * 1024];
    loop {
        let Ok(read @ 1..) = from.read(&mut bytes).await else { return };
        let _ = manner.wait_for(|manner| *manner != Manner::Swallow).await;
        if answer.is_lost.load(Ordering::SeqCst) {
            answer.came.notify_one();
            continue;
        }
        if to.write_all(&bytes[..read]).await.is_err() {
            return;
        }
        shared.passed.fetch_add(read as u64, Ordering::SeqCst);
    }
}

fn take_cut(shared: &Shared) -> Option<CutAt> {
    let mut commits = shared.commits.lock().unwrap_or_else(PoisonError::into_inner);
    if commits.0 == 0 {
        return None;
    }
    commits.0 -= 1;
    shared.cut_at_commit.fetch_add(1, Ordering::SeqCst);
    Some(commits.1)
}

fn contains(bytes: &[u8], mark: &[u8]) -> bool {
    bytes.windows(mark.len()).any(|part| part == mark)
}
