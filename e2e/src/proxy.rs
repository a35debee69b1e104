//! A proxy in front of a server, which passes, slows, refuses, swallows, cuts or resets: what a network does to a
//! connection.
//!
//! It knows two things about what it passes on, both in `proxy/talk.rs`: where a Postgres client says COMMIT, and where an
//! HTTP/2 client asks and is answered. So it can lose an answer whose question has had its effect.

mod talk;

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        TcpListener, TcpSocket, TcpStream,
        tcp::{ReadHalf, WriteHalf},
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
    /// Connecting works, and nothing that is said arrives, in either direction, until this ends.
    Swallow,
    /// Whatever is said arrives this much later.
    Slow(Duration),
}

/// What to do to the next connection on which a COMMIT passes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CutAt {
    /// The COMMIT never reaches the server.
    Before,
    /// It reaches the server and is done, and its answer is lost.
    After,
}

/// What springs the trap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Bait {
    Commit(CutAt),
    /// A call; its answer is lost.
    Call,
}

/// How connections that stand are ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Close,
    /// With RST, as if the other side had lost its memory.
    Reset,
}

/// An answer that does not come within this is not waited for: the connection is cut all the same.
const ANSWERED_WITHIN: Duration = Duration::from_secs(5);

struct Shared {
    target: SocketAddr,
    manner: watch::Sender<Manner>,
    /// Rises when all connections are to end.
    ends: watch::Sender<(u64, End)>,
    trap: Mutex<(u32, Bait)>,
    sprung: AtomicU32,
    /// Answers that came from the server, and went no further.
    lost: AtomicU32,
    standing: AtomicU32,
    passed: AtomicU64,
}

/// A running proxy.
pub struct Proxy {
    /// Where to connect.
    pub address: SocketAddr,
    shared: Arc<Shared>,
    accepting: JoinHandle<()>,
}

/// What the two directions of a connection know of each other.
#[derive(Default)]
struct Line {
    /// What the server says from now on is lost.
    deaf: AtomicBool,
    answered: Notify,
}

impl Proxy {
    /// In front of `target`.
    pub async fn to(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            target,
            manner: watch::channel(Manner::Pass).0,
            ends: watch::channel((0, End::Close)).0,
            trap: Mutex::new((0, Bait::Call)),
            sprung: AtomicU32::new(0),
            lost: AtomicU32::new(0),
            standing: AtomicU32::new(0),
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
        self.end(End::Close);
    }

    /// Resets every connection that stands.
    pub fn reset(&self) {
        self.end(End::Reset);
    }

    fn end(&self, how: End) {
        self.shared.ends.send_modify(|(times, end)| (*times, *end) = (*times + 1, how));
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
        self.lay(times, Bait::Commit(at));
    }

    /// Loses the answers of the next `times` calls over HTTP/2, each with its connection.
    pub fn lose_answers(&self, times: u32) {
        self.lay(times, Bait::Call);
    }

    fn lay(&self, times: u32, bait: Bait) {
        *self.shared.trap.lock().unwrap_or_else(PoisonError::into_inner) = (times, bait);
    }

    /// How many were cut at a COMMIT or a call so far.
    #[must_use]
    pub fn cut_so_far(&self) -> u32 {
        self.shared.sprung.load(Ordering::SeqCst)
    }

    /// Answers that the server gave, and that were lost here.
    #[must_use]
    pub fn answers_lost(&self) -> u32 {
        self.shared.lost.load(Ordering::SeqCst)
    }

    /// Connections that stand.
    #[must_use]
    pub fn standing(&self) -> u32 {
        self.shared.standing.load(Ordering::SeqCst)
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
            let _ = tokio::time::timeout(Duration::from_millis(20), manner.changed()).await;
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

/// Ends when either side does, or when it is ended.
async fn carry(mut client: TcpStream, shared: Arc<Shared>) {
    let mut ends = shared.ends.subscribe();
    ends.borrow_and_update();
    // Accepted just before it was taken down, and too late for that end.
    if *shared.manner.borrow() == Manner::Refuse {
        return;
    }
    let connect = async {
        let mut manner = shared.manner.subscribe();
        // Whoever connects while everything is swallowed waits for it to end.
        let _ = manner.wait_for(|manner| *manner != Manner::Swallow).await;
        TcpStream::connect(shared.target).await.ok()
    };
    let server = tokio::select! {
        server = connect => server,
        _ = ends.changed() => None,
    };
    let Some(mut server) = server else { return };
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    shared.standing.fetch_add(1, Ordering::SeqCst);
    let is_ended = {
        let line = Line::default();
        let (from_client, to_client) = client.split();
        let (from_server, to_server) = server.split();
        tokio::select! {
            () = asking(from_client, to_server, &shared, &line) => false,
            () = answering(from_server, to_client, &shared, &line) => false,
            _ = ends.changed() => true,
        }
    };
    shared.standing.fetch_sub(1, Ordering::SeqCst);
    if is_ended && ends.borrow().1 == End::Reset {
        let _ = (client.set_zero_linger(), server.set_zero_linger());
    }
}

/// From the client to the server.
async fn asking(mut from: ReadHalf<'_>, mut to: WriteHalf<'_>, shared: &Shared, line: &Line) {
    let mut manner = shared.manner.subscribe();
    let mut bytes = vec![0; 64 * 1024];
    loop {
        let Ok(read @ 1..) = from.read(&mut bytes).await else { return };
        held_up(&mut manner).await;
        let said = &bytes[..read];
        let sprung = take_bait(shared, said);
        if sprung == Some(Bait::Commit(CutAt::Before)) {
            return;
        }
        if sprung.is_some() {
            line.deaf.store(true, Ordering::SeqCst);
        }
        if to.write_all(said).await.is_err() {
            return;
        }
        shared.passed.fetch_add(read as u64, Ordering::SeqCst);
        if sprung.is_some() {
            // The server has it and answers; only then is it sure that the question had its effect.
            let _ = tokio::time::timeout(ANSWERED_WITHIN, line.answered.notified()).await;
            return;
        }
    }
}

/// From the server to the client.
async fn answering(mut from: ReadHalf<'_>, mut to: WriteHalf<'_>, shared: &Shared, line: &Line) {
    let mut manner = shared.manner.subscribe();
    let mut bytes = vec![0; 64 * 1024];
    loop {
        let Ok(read @ 1..) = from.read(&mut bytes).await else { return };
        held_up(&mut manner).await;
        let said = &bytes[..read];
        if line.deaf.load(Ordering::SeqCst) {
            let bait = shared.trap.lock().unwrap_or_else(PoisonError::into_inner).1;
            if bait != Bait::Call || talk::answers(said) {
                shared.lost.fetch_add(1, Ordering::SeqCst);
                line.answered.notify_one();
            }
            continue;
        }
        if to.write_all(said).await.is_err() {
            return;
        }
        shared.passed.fetch_add(read as u64, Ordering::SeqCst);
    }
}

async fn held_up(manner: &mut watch::Receiver<Manner>) {
    let now = manner.wait_for(|manner| *manner != Manner::Swallow).await.map(|manner| *manner);
    if let Ok(Manner::Slow(by)) = now {
        tokio::time::sleep(by).await;
    }
}

fn take_bait(shared: &Shared, said: &[u8]) -> Option<Bait> {
    let mut trap = shared.trap.lock().unwrap_or_else(PoisonError::into_inner);
    if trap.0 == 0 {
        return None;
    }
    let taken = match trap.1 {
        Bait::Commit(_) => talk::commits(said),
        Bait::Call => talk::asks(said),
    };
    if !taken {
        return None;
    }
    trap.0 -= 1;
    shared.sprung.fetch_add(1, Ordering::SeqCst);
    Some(trap.1)
}
