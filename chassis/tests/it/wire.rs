//! A wire that can be cut: a TCP proxy in front of a real server.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
    time::Duration,
};

use chassis::stop::Stop;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

const WHOLE: u8 = 0;
const CUT: u8 = 1;
const SILENT: u8 = 2;
const FAR: u8 = 3;

/// A proxy on a port of its own.
pub(crate) struct Wire {
    pub(crate) address: SocketAddr,
    state: Arc<AtomicU8>,
    stop: Stop,
}

impl Wire {
    /// A wire to `host:port`, whole.
    pub(crate) async fn to(target: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let wire = Self {
            address: listener.local_addr().unwrap(),
            state: Arc::new(AtomicU8::new(WHOLE)),
            stop: Stop::new(),
        };
        let (target, state, stop) = (target.to_owned(), Arc::clone(&wire.state), wire.stop.clone());
        wire.stop.clone().spawn(async move {
            loop {
                let client = tokio::select! {
                    client = listener.accept() => client.unwrap().0,
                    () = stop.wanted() => return,
                };
                // While it is cut, whoever comes is hung up on at once.
                if state.load(Ordering::SeqCst) != CUT {
                    let server = TcpStream::connect(&target).await.unwrap();
                    carry(client, server, &state, &stop);
                }
            }
        });
        wire
    }

    /// Ends every connection and takes no new one.
    pub(crate) fn cut(&self) {
        self.state.store(CUT, Ordering::SeqCst);
    }

    /// Keeps connections but carries nothing (what comes meanwhile is lost).
    pub(crate) fn silence(&self) {
        self.state.store(SILENT, Ordering::SeqCst);
    }

    /// Carries everything, and later: whoever asks waits for the answer.
    pub(crate) fn lengthen(&self) {
        self.state.store(FAR, Ordering::SeqCst);
    }

    /// As new; connections that were cut stay so.
    pub(crate) fn mend(&self) {
        self.state.store(WHOLE, Ordering::SeqCst);
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.stop.request();
    }
}

fn carry(client: TcpStream, server: TcpStream, state: &Arc<AtomicU8>, stop: &Stop) {
    let (client_read, client_write) = client.into_split();
    let (server_read, server_write) = server.into_split();
    let (up, down) = (Arc::clone(state), Arc::clone(state));
    let running = stop.clone();
    stop.spawn(async move {
        tokio::select! {
            () = one_way(client_read, server_write, up) => {}
            () = one_way(server_read, client_write, down) => {}
            () = running.wanted() => {}
        }
    });
}

async fn one_way(
    mut from: tokio::net::tcp::OwnedReadHalf,
    mut to: tokio::net::tcp::OwnedWriteHalf,
    state: Arc<AtomicU8>,
) {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let read = tokio::select! {
            read = from.read(&mut buffer) => read,
            () = tokio::time::sleep(Duration::from_millis(5)) => {
                if state.load(Ordering::SeqCst) == CUT { return }
                continue;
            }
        };
        match read {
            Ok(0) | Err(_) => return,
            Ok(_) if state.load(Ordering::SeqCst) == CUT => return,
            Ok(_) if state.load(Ordering::SeqCst) == SILENT => {}
            Ok(n) => {
                if state.load(Ordering::SeqCst) == FAR {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                if to.write_all(&buffer[..n]).await.is_err() {
                    return;
                }
            }
        }
    }
}
